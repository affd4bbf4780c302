//! Random changes by several nodes, restarts, deaths, synchronisations: the history, taken back step by step, gives the tree of
//! each version that it has records of.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use pmxcfs_memdb::{Entry, EntryKind, Operation, RootState, Rules, Stamp, Tree};
use proptest::prelude::*;

use super::super::prune::remove_up_to;
use super::super::query::{Moment, Present, Reader, State};
use super::super::schema::{HistoryFile, open_read_only};
use super::{Bench, LONG};

/// What a node or an operator does.
#[derive(Debug, Clone)]
enum Step {
    Write {
        node: u32,
        file: u8,
        byte: u8,
    },
    Replace {
        node: u32,
        file: u8,
        byte: u8,
    },
    Remove {
        node: u32,
        file: u8,
    },
    Rename {
        node: u32,
        from: u8,
        to: u8,
    },
    Mkdir {
        node: u32,
        directory: u8,
    },
    /// The leader has another content, and lacks a file.
    Synchronise {
        file: u8,
        byte: u8,
        gone: u8,
    },
    /// All is recorded up to here: the tree of this version is known.
    Look,
    Restart,
    /// The history is not told of what comes before the next start.
    Kill,
    /// The older half of the records goes.
    Prune,
}

fn step() -> impl Strategy<Value = Step> {
    let (node, file, byte) = (|| 1..4_u32, || 0..6_u8, || b'a'..b'e');
    let any_file = || 0..8_u8;
    prop_oneof![
        6 => (node(), any_file(), byte()).prop_map(|(node, file, byte)| Step::Write { node, file, byte }),
        4 => (node(), any_file(), byte()).prop_map(|(node, file, byte)| Step::Replace { node, file, byte }),
        3 => (node(), any_file()).prop_map(|(node, file)| Step::Remove { node, file }),
        2 => (node(), file(), file()).prop_map(|(node, from, to)| Step::Rename { node, from, to }),
        2 => (node(), 0..2_u8).prop_map(|(node, directory)| Step::Mkdir { node, directory }),
        1 => (any_file(), byte(), any_file()).prop_map(|(file, byte, gone)| Step::Synchronise { file, byte, gone }),
        4 => Just(Step::Look),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
        1 => Just(Step::Prune),
    ]
}

/// Only the hash of its contents is kept.
const PRIVATE: &[u8] = b"priv/x";
/// Nothing is recorded of it.
const LEFT_OUT: &[u8] = b"ha/manager_status";

/// Files 0 to 2 are in the root, the others in a directory each two.
fn path(file: u8) -> Bytes {
    match file {
        0..3 => format!("f{file}").into(),
        3..6 => format!("d{}/f{file}", file % 2).into(),
        6 => PRIVATE.into(),
        _ => LEFT_OUT.into(),
    }
}

pub(super) type Model = BTreeMap<Vec<u8>, State>;

pub(super) fn model(tree: &Tree) -> Model {
    let entries = tree.entries().skip(1).filter_map(|entry| {
        let state = match entry.kind {
            EntryKind::Directory => State::Directory,
            EntryKind::File => State::File(entry.content().to_vec()),
        };
        Some((tree.path_of(entry.inode)?.to_vec(), state))
    });
    entries.collect()
}

impl Bench {
    /// Applies what a node has sent; a refusal is none of the history's business.
    fn deliver(&self, node: u32, operation: Operation) {
        let stamp = Stamp {
            writer: node,
            mtime: 1_700_000_000,
        };
        let _refused = self.db.deliver(&operation, stamp, 0, None).result;
    }

    fn write_as(&self, node: u32, path: Bytes, byte: u8) {
        self.deliver(node, Operation::Create { path: path.clone() });
        let data = Bytes::from(vec![byte; 3]);
        let write = Operation::Write {
            path,
            offset: 0,
            data,
            truncate: true,
        };
        self.deliver(node, write);
    }

    fn synchronise(&self, file: u8, byte: u8, gone: u8) {
        let (entries, root, touched) = {
            let tree = self.db.read();
            let changed = tree.lookup(&path(file)).map(|entry| entry.inode);
            let gone = tree.lookup(&path(gone)).map(|entry| entry.inode);
            let gone = gone.filter(|gone| Some(*gone) != changed);
            let root = tree.root();
            let entries = tree
                .entries()
                .skip(1)
                .filter(|entry| Some(entry.inode) != gone);
            let entries = entries.cloned().map(|mut entry: Entry| {
                if Some(entry.inode) == changed {
                    entry.data = Bytes::from(vec![byte; 5]);
                    entry.version = root.version + 1;
                }
                entry
            });
            let touched = changed.into_iter().chain(gone).collect();
            (entries.collect::<Vec<_>>(), root, touched)
        };
        let root = RootState {
            version: root.version + 2,
            ..root
        };
        let tree = Tree::from_entries(root, entries, Rules::Local, 0).expect("a tree");
        self.db
            .replace_tree(tree, &touched, 9)
            .expect("it is stored");
    }

    fn take(&self, step: &Step) {
        match *step {
            Step::Write { node, file, byte } => self.write_as(node, path(file), byte),
            Step::Replace { node, file, byte } => {
                let new = Bytes::from([&path(file)[..], b".tmp.1"].concat());
                self.write_as(node, new.clone(), byte);
                let to = path(file);
                self.deliver(node, Operation::Rename { from: new, to });
            }
            Step::Remove { node, file } => {
                self.deliver(node, Operation::Delete { path: path(file) });
            }
            Step::Rename { node, from, to } => {
                let (from, to) = (path(from), path(to));
                self.deliver(node, Operation::Rename { from, to });
            }
            Step::Mkdir { node, directory } => {
                let path = format!("d{directory}").into();
                self.deliver(node, Operation::Mkdir { path });
            }
            Step::Synchronise { file, byte, gone } => self.synchronise(file, byte, gone),
            Step::Look | Step::Restart | Step::Kill | Step::Prune => {}
        }
    }

    /// The daemon dies: the database has all, the history what was written by then.
    fn die(self, directory: &Path) {
        let names = ["history.db", "history.db-wal"];
        let read = |name: &&str| std::fs::read(directory.join(name)).ok();
        let kept: Vec<_> = names.iter().map(|name| (*name, read(name))).collect();
        self.stop();
        for (name, content) in kept {
            let file = directory.join(name);
            match content {
                Some(content) => std::fs::write(file, content).expect("it can be written"),
                None => drop(std::fs::remove_file(file)),
            }
        }
    }
}

/// Removes the older half of the records. Returns the version that is the oldest one from now on.
fn prune(directory: &Path) -> u64 {
    let mut file = HistoryFile::open(&directory.join("history.db")).expect("it opens");
    let half = "SELECT coalesce((min(seq) + max(seq)) / 2, 0) FROM record";
    let half = file.connection.query_row(half, [], |row| row.get(0));
    remove_up_to(&mut file, half.expect("a number")).expect("it works");
    let oldest = "SELECT oldest_version FROM state";
    let oldest = file.connection.query_row(oldest, [], |row| row.get(0));
    i64::cast_unsigned(oldest.expect("a version"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn the_history_gives_the_tree_of_each_recorded_version(steps in proptest::collection::vec(step(), 1..60)) {
        let directory = tempfile::tempdir().expect("a directory");
        let mut bench = Bench::start(directory.path());
        for directory in ["priv", "ha"] {
            bench.deliver(1, Operation::Mkdir { path: directory.into() });
        }
        let has_died = steps.iter().any(|step| matches!(step, Step::Kill));
        let mut known: BTreeMap<u64, Model> = BTreeMap::new();
        for step in steps.iter().chain([&Step::Look]) {
            bench.take(step);
            match step {
                Step::Look => {
                    bench.history.flush(LONG);
                    let tree = bench.db.read();
                    known.insert(tree.root().version, model(&tree));
                }
                Step::Restart => {
                    bench.stop();
                    bench = Bench::start(directory.path());
                }
                Step::Kill => {
                    bench.die(directory.path());
                    bench = Bench::start(directory.path());
                }
                Step::Prune => {
                    bench.stop();
                    let oldest = prune(directory.path());
                    known.retain(|version, _| *version >= oldest);
                    bench = Bench::start(directory.path());
                }
                _ => {}
            }
        }
        let paths: Vec<Vec<u8>> = known.values().flat_map(BTreeMap::keys).cloned().collect();
        let now = |path: &[u8]| bench.db.read().lookup(path).cloned();
        let present: Present<'_> = &now;
        let file = directory.path().join("history.db");
        let reader = Reader { connection: open_read_only(&file).expect("it opens"), present };
        for (version, model) in &known {
            for path in &paths {
                let state = reader.state(path, Some(Moment::Version(*version))).expect("an answer");
                let expected = model.get(path).unwrap_or(&State::Absent);
                let is_left_out = path.as_slice() == LEFT_OUT;
                if is_left_out && matches!(state, State::Unkept | State::Absent) {
                    continue;
                }
                // A content from before the history is lost with a daemon that dies right after its first change.
                let may_lack = has_died || path.as_slice() == PRIVATE;
                let is_lost = may_lack && matches!((&state, expected), (State::Unkept, State::File(_)));
                if is_lost {
                    continue;
                }
                prop_assert_eq!(
                    &state, expected, "{} at {}", path.escape_ascii(), version
                );
            }
        }
        drop(reader);
        bench.stop();
    }
}
