//! The modules of one crate with the names that each of them knows, and the resolution of paths through them.
//!
//! Names are resolved as rustc does, through `use` and `pub use`, globs and `self`, `super` and `crate`, to the file that
//! defines the item. Visibility is not looked at: rustc has done so already. Code under `cfg(test)` is left out.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use syn::spanned::Spanned;

/// Where a path leads.
#[derive(Clone, Copy)]
enum Target {
    Module(usize),
    /// A struct, function, trait, constant or another thing with a name, in this file.
    Item(usize),
}

/// One leaf of a `use` declaration.
pub(crate) struct Import {
    pub(crate) path: Vec<String>,
    pub(crate) is_public: bool,
    pub(crate) line: usize,
}

pub(crate) struct Module {
    pub(crate) file: usize,
    parent: Option<usize>,
    names: HashMap<String, Vec<Target>>,
    aliases: HashMap<String, Vec<Vec<String>>>,
    globs: Vec<Vec<String>>,
    pub(crate) imports: Vec<Import>,
    /// Everything but modules and `use` declarations.
    pub(crate) body: Vec<syn::Item>,
}

/// All modules that are compiled from one root file.
#[derive(Default)]
pub(crate) struct Modules {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) modules: Vec<Module>,
}

/// More steps than any chain of re-exports has; ends globs that lead to each other.
const MAX_STEPS: usize = 16;

impl Modules {
    pub(crate) fn of(root: &Path) -> Self {
        let mut modules = Self::default();
        let folder = root.parent().expect("a file in a folder").to_owned();
        modules.load_file(root, &folder, None);
        modules
    }

    /// Reads the module in `path`, whose child modules are in `folder`.
    fn load_file(&mut self, path: &Path, folder: &Path, parent: Option<usize>) -> usize {
        let text = std::fs::read_to_string(path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let content =
            syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.files.push(path.to_owned());
        let file = self.files.len() - 1;
        self.load_module(file, content.items, folder, parent)
    }

    fn load_module(
        &mut self,
        file: usize,
        content: Vec<syn::Item>,
        folder: &Path,
        parent: Option<usize>,
    ) -> usize {
        let id = self.modules.len();
        self.modules.push(Module {
            file,
            parent,
            names: HashMap::new(),
            aliases: HashMap::new(),
            globs: Vec::new(),
            imports: Vec::new(),
            body: Vec::new(),
        });
        for item in content {
            if is_test_only(attributes(&item)) {
                continue;
            }
            match item {
                syn::Item::Mod(declaration) => {
                    let child = self.load_child(file, &declaration, folder, id);
                    self.define(id, &declaration.ident, Target::Module(child));
                }
                syn::Item::Use(declaration) => self.import(id, &declaration),
                other => {
                    if let Some(name) = name_of(&other) {
                        let target = Target::Item(file);
                        // A macro is known in the root of the crate if it is exported, and behind its definition.
                        let home = if matches!(other, syn::Item::Macro(_)) {
                            0
                        } else {
                            id
                        };
                        self.define(home, name, target);
                    }
                    self.modules[id].body.push(other);
                }
            }
        }
        id
    }

    fn load_child(
        &mut self,
        file: usize,
        declaration: &syn::ItemMod,
        folder: &Path,
        parent: usize,
    ) -> usize {
        let name = declaration.ident.to_string();
        let below = folder.join(&name);
        if let Some((_, content)) = &declaration.content {
            return self.load_module(file, content.clone(), &below, Some(parent));
        }
        let flat = folder.join(format!("{name}.rs"));
        let path = if flat.exists() {
            flat
        } else {
            below.join("mod.rs")
        };
        self.load_file(&path, &below, Some(parent))
    }

    fn define(&mut self, module: usize, name: &syn::Ident, target: Target) {
        let names = &mut self.modules[module].names;
        names.entry(name.to_string()).or_default().push(target);
    }

    /// Makes the names of a `use` declaration known in `module`, also of one inside a function.
    pub(crate) fn import(&mut self, module: usize, declaration: &syn::ItemUse) {
        let is_public = !matches!(declaration.vis, syn::Visibility::Inherited);
        self.import_tree(module, &declaration.tree, Vec::new(), is_public);
    }

    fn import_tree(
        &mut self,
        module: usize,
        tree: &syn::UseTree,
        mut path: Vec<String>,
        is_public: bool,
    ) {
        let line = tree.span().start().line;
        let name = match tree {
            syn::UseTree::Path(step) => {
                path.push(step.ident.to_string());
                return self.import_tree(module, &step.tree, path, is_public);
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.import_tree(module, tree, path.clone(), is_public);
                }
                return;
            }
            syn::UseTree::Glob(_) => None,
            syn::UseTree::Name(leaf) if leaf.ident == "self" => path.last().cloned(),
            syn::UseTree::Name(leaf) => {
                path.push(leaf.ident.to_string());
                path.last().cloned()
            }
            syn::UseTree::Rename(leaf) => {
                if leaf.ident != "self" {
                    path.push(leaf.ident.to_string());
                }
                Some(leaf.rename.to_string())
            }
        };
        let home = &mut self.modules[module];
        match name {
            Some(name) => home.aliases.entry(name).or_default().push(path.clone()),
            None => home.globs.push(path.clone()),
        }
        home.imports.push(Import {
            path,
            is_public,
            line,
        });
    }

    /// The files that define what `path` means in `module`, in any namespace. What follows an item in the path are its
    /// variants and associated functions. Empty for modules, for paths into other crates and for local variables.
    pub(crate) fn files_that_define(&self, module: usize, path: &[String]) -> Vec<usize> {
        let found = self.resolve(module, path, MAX_STEPS);
        found
            .into_iter()
            .filter_map(|(target, _)| match target {
                Target::Item(file) => Some(file),
                Target::Module(_) => None,
            })
            .collect()
    }

    /// What `path` leads to, and how many of its segments that takes.
    fn resolve(&self, module: usize, path: &[String], steps: usize) -> Vec<(Target, usize)> {
        let mut found = Vec::new();
        self.resolve_within(module, path, 0, steps, &mut found);
        found
    }

    fn resolve_within(
        &self,
        module: usize,
        path: &[String],
        taken: usize,
        steps: usize,
        found: &mut Vec<(Target, usize)>,
    ) {
        if steps == 0 {
            return;
        }
        let Some(name) = path.get(taken) else {
            found.push((Target::Module(module), taken));
            return;
        };
        match name.as_str() {
            "crate" => return self.resolve_within(0, path, 1, steps, found),
            "self" => return self.resolve_within(module, path, taken + 1, steps, found),
            "super" => {
                if let Some(parent) = self.modules[module].parent {
                    self.resolve_within(parent, path, taken + 1, steps, found);
                }
                return;
            }
            _ => {}
        }
        for target in self.named(module, name, steps - 1) {
            match target {
                Target::Module(child) => {
                    self.resolve_within(child, path, taken + 1, steps - 1, found);
                }
                Target::Item(_) => found.push((target, taken + 1)),
            }
        }
    }

    /// What one name means in `module`.
    fn named(&self, module: usize, name: &str, steps: usize) -> Vec<Target> {
        let home = &self.modules[module];
        let mut targets = home.names.get(name).cloned().unwrap_or_default();
        for path in home.aliases.get(name).into_iter().flatten() {
            // `use tree::Tree` beside `mod tree`; but `use bytes` is another crate.
            if path.len() == 1 && path[0] == name {
                continue;
            }
            let found = self.resolve(module, path, steps);
            let whole = found.iter().filter(|(_, taken)| *taken == path.len());
            targets.extend(whole.map(|(target, _)| target));
        }
        if targets.is_empty() && steps > 0 {
            for path in &home.globs {
                for (target, _) in self.resolve(module, path, steps - 1) {
                    if let Target::Module(other) = target
                        && other != module
                    {
                        targets.extend(self.named(other, name, steps - 1));
                    }
                }
            }
        }
        targets
    }
}

/// `cfg(test)`, alone or together with other conditions.
fn is_test_only(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else {
            return false;
        };
        let condition: String = list.tokens.to_string().split_whitespace().collect();
        list.path.is_ident("cfg") && (condition == "test" || condition.starts_with("all(test,"))
    })
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Union(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn name_of(item: &syn::Item) -> Option<&syn::Ident> {
    match item {
        syn::Item::Const(item) => Some(&item.ident),
        syn::Item::Enum(item) => Some(&item.ident),
        syn::Item::Fn(item) => Some(&item.sig.ident),
        syn::Item::Macro(item) => item.ident.as_ref(),
        syn::Item::Static(item) => Some(&item.ident),
        syn::Item::Struct(item) => Some(&item.ident),
        syn::Item::Trait(item) => Some(&item.ident),
        syn::Item::Type(item) => Some(&item.ident),
        syn::Item::Union(item) => Some(&item.ident),
        _ => None,
    }
}
