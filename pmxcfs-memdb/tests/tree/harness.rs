//! A tree with short names for its operations.

use bytes::Bytes;
use pmxcfs_api_types::FsError;
use pmxcfs_memdb::{Change, Entry, EntryKind, Operation, Precheck, RootState, Rules, Stamp, Tree};

pub(crate) type Outcome = Result<u32, FsError>;

pub(crate) const NO_EFFECT: &[Change] = &[];

/// A tree, the stamp and the time that its operations get, and what the last operation reported.
pub(crate) struct Bench {
    pub(crate) tree: Tree,
    pub(crate) stamp: Stamp,
    pub(crate) now_secs: u64,
    pub(crate) changes: Vec<Change>,
}

impl Bench {
    /// An empty tree of version 1.
    pub(crate) fn new(rules: Rules) -> Self {
        let root = RootState {
            version: 1,
            ..RootState::default()
        };
        Self::with(Tree::new(root, rules))
    }

    pub(crate) fn with(tree: Tree) -> Self {
        Self {
            tree,
            stamp: Stamp {
                writer: 3,
                mtime: 1000,
            },
            now_secs: 0,
            changes: Vec::new(),
        }
    }

    /// An empty tree with these directories, made in order. Paths that end in `!` become empty files.
    pub(crate) fn of(rules: Rules, paths: &[&str]) -> Self {
        let mut bench = Self::new(rules);
        for path in paths {
            let made = match path.strip_suffix('!') {
                Some(file) => bench.create(file),
                None => bench.mkdir(path),
            };
            assert_eq!(made, Ok(0), "{path}");
        }
        bench
    }

    pub(crate) fn apply(&mut self, operation: &Operation) -> Outcome {
        self.changes.clear();
        self.tree
            .apply(operation, self.stamp, self.now_secs, &mut self.changes)
    }

    pub(crate) fn mkdir(&mut self, path: &str) -> Outcome {
        self.apply(&mkdir(path))
    }

    pub(crate) fn create(&mut self, path: &str) -> Outcome {
        self.apply(&create(path))
    }

    pub(crate) fn write(&mut self, path: &str, offset: u64, data: &[u8]) -> Outcome {
        self.apply(&write(path, offset, data, false))
    }

    pub(crate) fn truncate(&mut self, path: &str, size: u64) -> Outcome {
        self.apply(&write(path, size, b"", true))
    }

    pub(crate) fn delete(&mut self, path: &str) -> Outcome {
        self.apply(&delete(path))
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str) -> Outcome {
        self.apply(&rename(from, to))
    }

    pub(crate) fn set_mtime(&mut self, path: &str, mtime: u32) -> Outcome {
        self.apply(&set_mtime(path, mtime))
    }

    pub(crate) fn check(&self, operation: &Operation) -> Result<Precheck, FsError> {
        self.tree.check_before_send(operation)
    }

    /// The entry at a path, which must exist.
    pub(crate) fn at(&self, path: &str) -> &Entry {
        self.tree
            .lookup(path.as_bytes())
            .unwrap_or_else(|| panic!("{path} does not exist"))
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.tree.lookup(path.as_bytes()).is_some()
    }

    pub(crate) fn inode(&self, path: &str) -> u64 {
        self.at(path).inode
    }

    /// Names in a directory.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let listing = self.tree.listing(self.inode(path)).expect("a directory");
        let names = listing
            .iter()
            .map(|row| row.name.escape_ascii().to_string());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// Guests as `id node kind`.
    pub(crate) fn guests(&self) -> Vec<String> {
        let guests = &self.tree.guests().guests;
        let rows = guests.iter().map(|(vmid, guest)| {
            format!("{vmid} {} {}", guest.node.escape_ascii(), guest.kind.name())
        });
        rows.collect()
    }

    /// Counter of a versioned path.
    pub(crate) fn file_version(&self, path: &str) -> u32 {
        let index = pmxcfs_api_types::names::VERSIONED_PATHS
            .iter()
            .position(|versioned| *versioned == path)
            .expect("a versioned path");
        self.tree.file_versions()[index]
    }

    /// Everything that an operation could change, to compare before and after.
    pub(crate) fn state(&self) -> State {
        State {
            entries: self.tree.entries().cloned().collect(),
            guests: self.tree.guests().clone(),
            file_versions: self.tree.file_versions().to_vec(),
            generation: self.tree.versions_generation(),
            statfs: self.tree.statfs(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) entries: Vec<Entry>,
    pub(crate) guests: pmxcfs_memdb::GuestList,
    pub(crate) file_versions: Vec<u32>,
    pub(crate) generation: u64,
    pub(crate) statfs: pmxcfs_memdb::Statfs,
}

pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) fn mkdir(path: &str) -> Operation {
    Operation::Mkdir { path: bytes(path) }
}

pub(crate) fn create(path: &str) -> Operation {
    Operation::Create { path: bytes(path) }
}

pub(crate) fn write(path: &str, offset: u64, data: &[u8], truncate: bool) -> Operation {
    Operation::Write {
        path: bytes(path),
        offset,
        data: Bytes::copy_from_slice(data),
        truncate,
    }
}

pub(crate) fn delete(path: &str) -> Operation {
    Operation::Delete { path: bytes(path) }
}

pub(crate) fn rename(from: &str, to: &str) -> Operation {
    Operation::Rename {
        from: bytes(from),
        to: bytes(to),
    }
}

pub(crate) fn set_mtime(path: &str, mtime: u32) -> Operation {
    Operation::SetMtime {
        path: bytes(path),
        mtime,
    }
}

/// A file for [`Tree::from_entries`].
pub(crate) fn file(inode: u64, parent: u64, name: &str, data: &str) -> Entry {
    Entry {
        inode,
        parent,
        version: inode,
        writer: 1,
        mtime: 500,
        size: u32::try_from(data.len()).expect("a small file"),
        kind: EntryKind::File,
        name: bytes(name),
        data: bytes(data),
    }
}

/// A directory for [`Tree::from_entries`].
pub(crate) fn directory(inode: u64, parent: u64, name: &str) -> Entry {
    Entry {
        kind: EntryKind::Directory,
        ..file(inode, parent, name, "")
    }
}
