//! Which file uses an item of which other file.
//!
//! Looked at are the private `use` declarations, and all paths and names in the code, inside of macros too. A `pub use` is
//! resolved through and is no use of its own; neither is `mod`. Methods are not looked at: the `impl` blocks of one type may be
//! spread over several files that call each other's methods.

use std::collections::BTreeMap;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;

use crate::modules::Modules;

/// From a file to another one, with what is used and in which line.
pub(crate) type Uses = BTreeMap<(usize, usize), Vec<(usize, String)>>;

pub(crate) fn uses_of(modules: &mut Modules) -> Uses {
    for module in 0..modules.modules.len() {
        for item in modules.modules[module].body.clone() {
            import_inner(modules, module, item.into_token_stream());
        }
    }
    let mut collector = Collector {
        modules,
        module: 0,
        uses: Uses::new(),
    };
    for id in 0..collector.modules.modules.len() {
        collector.module = id;
        let module = &collector.modules.modules[id];
        for import in module.imports.iter().filter(|import| !import.is_public) {
            collector.path(&import.path, import.line);
        }
        for item in &module.body {
            collector.code(item.to_token_stream());
        }
    }
    let mut uses = collector.uses;
    for lines in uses.values_mut() {
        lines.sort();
        lines.dedup();
    }
    uses
}

/// `use` declarations inside of functions count for their whole module.
fn import_inner(modules: &mut Modules, module: usize, code: TokenStream) {
    let mut tokens = code.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) => import_inner(modules, module, group.stream()),
            TokenTree::Ident(word) if word == "use" => {
                let mut declaration = TokenStream::from(TokenTree::Ident(word));
                for token in tokens.by_ref() {
                    let is_end = matches!(&token, TokenTree::Punct(mark) if mark.as_char() == ';');
                    declaration.extend([token]);
                    if is_end {
                        break;
                    }
                }
                // `impl Trait + use<'a>` is none.
                if let Ok(declaration) = syn::parse2::<syn::ItemUse>(declaration) {
                    modules.import(module, &declaration);
                }
            }
            _ => {}
        }
    }
}

struct Collector<'a> {
    modules: &'a Modules,
    module: usize,
    uses: Uses,
}

impl Collector<'_> {
    fn code(&mut self, code: TokenStream) {
        let tokens: Vec<TokenTree> = code.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.code(group.stream()),
                TokenTree::Ident(word) if !is_field(&tokens, at) && !follows_path(&tokens, at) => {
                    let path = path_at(&tokens, at);
                    at += (path.len() - 1) * 3;
                    self.path(&path, word.span().start().line);
                }
                _ => {}
            }
            at += 1;
        }
    }

    fn path(&mut self, path: &[String], line: usize) {
        let from = self.modules.modules[self.module].file;
        for to in self.modules.files_that_define(self.module, path) {
            if from != to {
                let lines = self.uses.entry((from, to)).or_default();
                lines.push((line, path.join("::")));
            }
        }
    }
}

fn mark(tokens: &[TokenTree], at: Option<usize>) -> Option<char> {
    match tokens.get(at?)? {
        TokenTree::Punct(mark) => Some(mark.as_char()),
        _ => None,
    }
}

/// `a.word`, a field or a method, but not `a..word`.
fn is_field(tokens: &[TokenTree], at: usize) -> bool {
    mark(tokens, at.checked_sub(1)) == Some('.') && mark(tokens, at.checked_sub(2)) != Some('.')
}

/// `::word`: of another crate, or behind type arguments.
fn follows_path(tokens: &[TokenTree], at: usize) -> bool {
    mark(tokens, at.checked_sub(1)) == Some(':') && mark(tokens, at.checked_sub(2)) == Some(':')
}

fn path_at(tokens: &[TokenTree], start: usize) -> Vec<String> {
    let mut path = Vec::new();
    let mut at = start;
    while let Some(TokenTree::Ident(word)) = tokens.get(at) {
        path.push(word.to_string());
        if mark(tokens, Some(at + 1)) != Some(':') || mark(tokens, Some(at + 2)) != Some(':') {
            break;
        }
        at += 3;
    }
    path
}
