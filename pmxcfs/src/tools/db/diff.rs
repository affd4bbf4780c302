//! `diff`: shows how two databases differ, and what a synchronisation of two nodes with them would do.
//!
//! People think in paths, so differences are shown by path. A synchronisation goes by inodes and digests, so its effect is
//! computed from the indexes that the nodes would exchange.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use pmxcfs_memdb::{Entry, Finding, Index, ROOT_INODE, RootState, Rules, Tree};

use super::cli::{DiffArgs, Location, Reading};
use super::source::Source;
use super::view::{Item, Place, View, kind_word};
use crate::text::{self, count};
use crate::tools::program::{CommandResult, Outcome, Output};

pub(super) fn run(args: &DiffArgs, output: &mut Output<'_>) -> CommandResult {
    let mut read = |path: &Path| {
        let reading = Reading {
            location: Location::of(path),
            options: args.read.clone(),
        };
        Source::read_with_notes(&reading, output.notes)
    };
    let (first, second) = (read(&args.first)?, read(&args.second)?);
    let sides = [Side::new("A", &first), Side::new("B", &second)];
    for (side, path) in sides.iter().zip([&args.first, &args.second]) {
        writeln!(
            output.out,
            "{}: {}: {}, {}",
            side.label,
            path.display(),
            text::root_state(side.root),
            count(side.by_place.len(), "entry")
        )?;
    }
    let differences = differences(&sides);
    for line in &differences {
        writeln!(output.out, "{line}")?;
    }
    tell_sync(&sides, output.out)?;
    let same = differences.is_empty() && sides[0].root == sides[1].root;
    Ok(if same {
        Outcome::Good
    } else {
        Outcome::Findings
    })
}

struct Side<'a> {
    label: &'static str,
    root: RootState,
    by_place: BTreeMap<Place<'a>, Item<'a>>,
    by_inode: BTreeMap<u64, Item<'a>>,
    index: Result<Index, Finding>,
}

impl<'a> Side<'a> {
    fn new(label: &'static str, source: &'a Source) -> Self {
        let examined = &source.examined;
        let items = View::new(&examined.entries).items;
        let tree = Tree::from_entries(
            examined.root,
            examined.entries.iter().cloned(),
            Rules::Replicated,
            0,
        );
        Self {
            label,
            root: examined.root,
            by_inode: items
                .iter()
                .map(|item| (item.entry.inode, item.clone()))
                .collect(),
            by_place: items
                .into_iter()
                .map(|item| (item.place.clone(), item))
                .collect(),
            index: tree.map(|tree| tree.index()),
        }
    }
}

/// One line for each difference, in order of paths.
fn differences([a, b]: &[Side<'_>; 2]) -> Vec<String> {
    let places: BTreeSet<&Place<'_>> = a.by_place.keys().chain(b.by_place.keys()).collect();
    let line = |place| match (a.by_place.get(place), b.by_place.get(place)) {
        (Some(item), Some(other)) => compare(item, other),
        (Some(item), None) => Some(match moved_to(item, b) {
            Some(other) => moved(item, other),
            None => only(a, item),
        }),
        (None, Some(item)) => {
            let moved = moved_to(item, a);
            let is_told = moved.is_some_and(|other| !b.by_place.contains_key(&other.place));
            (!is_told).then(|| only(b, item))
        }
        (None, None) => None,
    };
    places.into_iter().filter_map(line).collect()
}

/// The entry of the other side that was renamed or moved: the same inode, and not merely by chance.
fn moved_to<'s, 'a>(item: &Item<'_>, other: &'s Side<'a>) -> Option<&'s Item<'a>> {
    let found = other.by_inode.get(&item.entry.inode)?;
    let (a, b) = (item.entry, found.entry);
    let is_same = a.kind == b.kind && (a.name == b.name || (a.size > 0 && a.data == b.data));
    is_same.then_some(found)
}

fn only(side: &Side<'_>, item: &Item<'_>) -> String {
    format!(
        "only {}   {} ({})",
        side.label,
        item.shown_path(),
        describe(item.entry)
    )
}

fn moved(a: &Item<'_>, b: &Item<'_>) -> String {
    let mut line = format!(
        "moved    {} in A is {} in B (inode {})",
        a.shown_path(),
        b.shown_path(),
        a.entry.inode
    );
    let fields = fields(a.entry, b.entry);
    if !fields.is_empty() {
        line.push_str(": ");
        line.push_str(&fields.join(", "));
    }
    line
}

fn compare(a: &Item<'_>, b: &Item<'_>) -> Option<String> {
    let fields = fields(a.entry, b.entry);
    (!fields.is_empty()).then(|| format!("differs  {}: {}", a.shown_path(), fields.join(", ")))
}

/// The fields in which two entries differ, the first one's value before the second one's.
fn fields(a: &Entry, b: &Entry) -> Vec<String> {
    let has_new_content = a.data != b.data;
    let fields = |entry: &Entry| {
        let content = has_new_content.then(|| text::short_digest(&entry.data));
        [
            ("type", kind_word(entry.kind).to_owned()),
            ("inode", entry.inode.to_string()),
            ("version", entry.version.to_string()),
            ("writer", entry.writer.to_string()),
            ("mtime", text::time(entry.mtime)),
            ("size", entry.size.to_string()),
            ("content", content.unwrap_or_default()),
        ]
    };
    let pairs = fields(a).into_iter().zip(fields(b));
    pairs
        .filter(|((_, a), (_, b))| a != b)
        .map(|((name, a), (_, b))| format!("{name} {a} | {b}"))
        .collect()
}

fn describe(entry: &Entry) -> String {
    let mut text = format!(
        "{}, inode {}, version {}, writer {}, {}",
        kind_word(entry.kind),
        entry.inode,
        entry.version,
        entry.writer,
        text::time(entry.mtime)
    );
    if !entry.is_directory() {
        text.push_str(&format!(
            ", {} bytes, content {}",
            entry.size,
            text::short_digest(&entry.data)
        ));
    }
    text
}

/// Prints what a synchronisation of nodes with these databases does.
fn tell_sync(sides: &[Side<'_>; 2], out: &mut dyn Write) -> anyhow::Result<()> {
    let [a, b] = sides;
    for side in sides {
        if let Err(error) = &side.index {
            writeln!(
                out,
                "sync: {} cannot take part, it does not load: {error}",
                side.label
            )?;
        }
    }
    let (Ok(a_index), Ok(b_index)) = (&a.index, &b.index) else {
        return Ok(());
    };
    if a_index == b_index {
        writeln!(out, "sync: nothing to do, both are equal")?;
        return Ok(());
    }
    let rank = |side: &Side<'_>| (side.root.version, side.root.mtime);
    if rank(a) == rank(b) {
        writeln!(
            out,
            "sync: same version and same time of the last change: the node with the lower id leads"
        )?;
        for (leader, follower) in [(a, b), (b, a)] {
            writeln!(out, "if {} leads:", leader.label)?;
            tell_follower(leader, follower, out)?;
        }
        return Ok(());
    }
    let (leader, follower) = if rank(a) > rank(b) { (a, b) } else { (b, a) };
    let reason = if a.root.version == b.root.version {
        "its last change is later at the same version"
    } else {
        "its version is higher"
    };
    writeln!(out, "sync: {} leads, {reason}", leader.label)?;
    tell_follower(leader, follower, out)
}

fn tell_follower(
    leader: &Side<'_>,
    follower: &Side<'_>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let (Ok(leader_index), Ok(follower_index)) = (&leader.index, &follower.index) else {
        return Ok(());
    };
    let not_root = |inode: &u64| *inode != ROOT_INODE;
    let sent = leader_index
        .changed_against(follower_index)
        .filter(not_root);
    let removed = follower_index.absent_from(leader_index).filter(not_root);
    writeln!(
        out,
        "  {} takes over {} and loses {}",
        follower.label,
        count(sent.count(), "inode"),
        count(removed.count(), "inode")
    )?;
    tell_discarded(leader, follower, out)
}

/// Prints the entries that the follower loses, in the order of paths.
fn tell_discarded(
    leader: &Side<'_>,
    follower: &Side<'_>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let label = follower.label;
    for (place, item) in &follower.by_place {
        let (path, entry) = (item.shown_path(), item.entry);
        match leader.by_place.get(place).map(|item| item.entry) {
            None => writeln!(out, "  discarded of {label}: {path} ({})", describe(entry))?,
            Some(new) if new.kind != entry.kind || new.data != entry.data => {
                let newer = if entry.version > new.version {
                    ", although it was changed later"
                } else {
                    ""
                };
                writeln!(
                    out,
                    "  replaced in {label}: {path} version {} by version {}{newer}",
                    entry.version, new.version
                )?;
            }
            Some(_) => {}
        }
    }
    Ok(())
}
