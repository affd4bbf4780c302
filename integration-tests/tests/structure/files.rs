//! No two files of a crate use each other, directly or through others: each can be read with only the ones below it in
//! mind.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::circles::circles;
use crate::crates::{metadata, workspace};
use crate::modules::Modules;
use crate::uses::uses_of;

/// Libraries and programs of the workspace by their root file.
fn roots() -> Vec<String> {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("a list");
    let targets = packages
        .iter()
        .flat_map(|package| package["targets"].as_array().expect("a list"));
    let of_interest = targets.filter(|target| {
        let kinds = target["kind"].as_array().expect("a list");
        kinds.iter().any(|kind| kind == "lib" || kind == "bin")
    });
    of_interest
        .map(|target| target["src_path"].as_str().expect("a text").to_owned())
        .collect()
}

/// Files that use each other, and the lines that make it so.
struct Circle {
    members: BTreeSet<String>,
    lines: String,
}

/// The circles of the modules below the file `root`, with names of files relative to `base`.
fn describe(root: &Path, base: &Path) -> Vec<Circle> {
    let mut modules = Modules::of(root);
    let uses = uses_of(&mut modules);
    let name = |file: usize| {
        let path = &modules.files[file];
        let path = path.strip_prefix(base).unwrap_or(path);
        path.display().to_string()
    };
    let edges: BTreeSet<(usize, usize)> = uses.keys().copied().collect();
    circles(&edges)
        .into_iter()
        .map(|circle| {
            let mut text = String::new();
            for ((from, to), lines) in &uses {
                if circle.contains(from) && circle.contains(to) {
                    writeln!(text, "  {} uses {}", name(*from), name(*to)).expect("memory");
                    for (line, what) in lines {
                        writeln!(text, "      {}:{line}: {what}", name(*from)).expect("memory");
                    }
                }
            }
            Circle {
                members: circle.into_iter().map(name).collect(),
                lines: text,
            }
        })
        .collect()
}

#[test]
fn no_two_files_use_each_other() {
    let base = workspace();
    let found: Vec<Circle> = roots()
        .iter()
        .flat_map(|root| describe(Path::new(root), &base))
        .collect();
    let text: String = found
        .iter()
        .map(|circle| {
            let members: Vec<&str> = circle.members.iter().map(String::as_str).collect();
            format!("circle: {}\n{}\n", members.join(" "), circle.lines)
        })
        .collect();
    assert!(text.is_empty(), "files that use each other:\n{text}");
}

/// Writes a crate of the given files and returns the members of its circles.
fn circles_of(files: &[(&str, &str)]) -> Vec<BTreeSet<String>> {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, content) in files {
        let path: PathBuf = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("below the folder")).expect("created");
        std::fs::write(path, content).expect("written");
    }
    let found = describe(&folder.path().join("lib.rs"), folder.path());
    found.into_iter().map(|circle| circle.members).collect()
}

#[test]
fn a_use_is_found_however_it_is_written() {
    let spellings = [
        "use crate::b::{Other, inner::Thing}; fn f(_: Thing) {}",
        "use super::b::inner::Thing as Renamed; fn f(_: Renamed) {}",
        "use crate::b::inner; fn f(_: inner::Thing) {}",
        "use crate::b::inner::*; fn f(_: Thing) {}",
        "fn f() { crate::b::inner::make(); }",
        "fn f() { println!(\"{}\", crate::b::inner::make().0); }",
        "fn f() { use crate::b::inner::make; make(); }",
        "fn f(value: super::Exported) {}",
        "use super::*; fn f(value: Exported) {}",
        "mod private { use super::super::Exported; }",
        "type T = Vec<Option<crate::Exported>>;",
        "impl crate::b::inner::Trait for u8 {}",
        "fn f() -> u8 { match 1 { crate::b::inner::LIMIT => 1, _ => 2 } }",
    ];
    for a in spellings {
        let found = circles_of(&[
            (
                "lib.rs",
                "mod a; mod b; pub use b::inner::Thing as Exported;",
            ),
            ("a.rs", &format!("pub struct A; {a}")),
            ("b/mod.rs", "pub mod inner; pub struct Other;"),
            (
                "b/inner.rs",
                "pub struct Thing(pub u8); pub trait Trait {} pub const LIMIT: u8 = 1;
                 pub fn make() -> Thing { let _ = crate::a::A; Thing(1) }",
            ),
        ]);
        let expected = BTreeSet::from(["a.rs".to_owned(), "b/inner.rs".to_owned()]);
        assert_eq!(found, [expected], "{a}");
    }
}

#[test]
fn declarations_reexports_tests_and_fields_are_no_uses() {
    let found = circles_of(&[
        (
            "lib.rs",
            "mod a; mod b; pub use b::{make, Thing}; pub struct Root;",
        ),
        (
            "a.rs",
            "pub struct A { make: u8 } fn f(a: A, b: Vec<u8>) -> u8 { b.make(); a.make }",
        ),
        (
            "b.rs",
            "pub struct Thing(crate::a::A, crate::Root); pub fn make() {}
             #[cfg(test)] mod tests { use crate::c::Other; }",
        ),
    ]);
    assert!(found.is_empty(), "{found:?}");
}
