//! What a history is told of changes.
//!
//! Each operation leaves its steps here, under the lock of the tree. They wait for the commit that they belong to and go to
//! the history with the rows of that commit, which have the contents. So a history never has what the database lacks, and the
//! way of a write knows nothing of it. What waits is bounded: if it grows too large, it is dropped, and the history is told
//! so; it then compares.

use std::collections::HashMap;
use std::mem;

use bytes::Bytes;

use crate::{Change, Entry, EntryKind, RootState};

/// Most bytes that wait.
pub const TRAIL_LIMIT_BYTES: usize = 4 << 20;

/// The program that asked for a change through the mount of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    /// Its user.
    pub uid: u32,
    /// Its thread, as the kernel tells it.
    pub pid: u32,
    /// The name of the thread, filled up with zeros.
    pub program: [u8; 16],
}

/// One effect of an operation on one entry, or of several writes to one file.
#[derive(Debug, Clone)]
pub struct Step {
    /// The root after the last operation: its version, its node, its time.
    pub root: RootState,
    /// The entry.
    pub inode: u64,
    /// Its path afterwards, or its last one.
    pub path: Bytes,
    /// `None` if it is gone.
    pub kind: Option<EntryKind>,
    /// Size afterwards in bytes.
    pub size: u32,
    /// The effect.
    pub effect: Effect,
    /// How many operations it stands for.
    pub changes: u64,
    /// Known for changes through the mount of this node.
    pub asker: Option<Asker>,
}

impl Step {
    /// Whether it made a file or wrote to one.
    pub fn is_write(&self) -> bool {
        matches!(self.effect, Effect::Made | Effect::Written)
    }

    /// Makes it stand for further writes by the same node to the same file, too.
    pub fn append(&mut self, root: RootState, size: u32, changes: u64, asker: Option<Asker>) {
        self.root = root;
        self.size = size;
        self.changes += changes;
        self.asker = asker.or(self.asker);
    }
}

/// What happened to an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// It was made.
    Made,
    /// It has another path.
    Moved {
        /// The path before.
        from: Bytes,
    },
    /// Its mtime changed.
    Touched,
    /// Its content changed.
    Written,
    /// It is gone.
    Removed,
}

/// What a change took away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormerKind {
    /// The content of a file that was written to or replaced by a synchronisation.
    Content,
    /// The last content of a file.
    LastContent,
    /// The path of an entry.
    Path,
}

/// Content or path of an entry before a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Former {
    /// The entry.
    pub inode: u64,
    /// What `data` is.
    pub kind: FormerKind,
    /// Content or path.
    pub data: Bytes,
}

/// Steps that wait for their commit.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    pub(crate) steps: Vec<Step>,
    /// The last step of each entry.
    last: HashMap<u64, usize>,
    pub(crate) former: Vec<Former>,
    size: usize,
    pub(crate) is_incomplete: bool,
    pub(crate) synchronisation: Option<Synchronisation>,
}

/// Another node's tree has replaced the one of this node.
#[derive(Debug, Default)]
pub struct Synchronisation {
    /// The node that the tree comes from.
    pub leader: u32,
    /// The entries that differ, with their paths, in ascending order of inodes; `None` is gone.
    pub entries: Vec<(u64, Option<(Bytes, Entry)>)>,
}

/// A commit, as a history is told of it.
#[derive(Debug)]
pub struct Committed {
    /// The root afterwards.
    pub root: RootState,
    /// What led there; empty for a synchronisation.
    pub steps: Vec<Step>,
    /// The entries touched, in ascending order of inodes, as they are afterwards; `None` is gone.
    pub rows: Vec<(u64, Option<Entry>)>,
    /// Contents that files had before, where `MemDb::want_former` asked for them.
    pub former: Vec<Former>,
    /// Steps or contents are missing.
    pub is_incomplete: bool,
    /// Set if it was not by steps.
    pub synchronisation: Option<Synchronisation>,
}

/// A history.
pub trait CommitSink: Send + Sync {
    /// Whether changes are to be noted. Asked under the lock of the tree.
    fn is_wanted(&self) -> bool;

    /// Takes commits in their order. Called by the store's thread, so it must not wait.
    fn committed(&self, committed: Committed);
}

impl Trail {
    /// The trail of a synchronisation.
    pub(crate) fn of_sync(synchronisation: Synchronisation, former: Vec<Former>) -> Self {
        Self {
            former,
            synchronisation: Some(synchronisation),
            ..Self::default()
        }
    }

    pub(crate) fn add<'e>(
        &mut self,
        root: RootState,
        changes: &[Change],
        entry: &dyn Fn(u64) -> Option<&'e Entry>,
        path_of: &dyn Fn(u64) -> Option<Bytes>,
        mut former: Vec<Former>,
        asker: Option<Asker>,
    ) {
        for change in changes {
            let inode = change.inode();
            if let Change::Content { size, .. } = change
                && let Some(last) = self.last_write(inode, root.writer)
            {
                last.append(root, *size, 1, asker);
                continue;
            }
            let (path, effect) = match change {
                Change::Put { .. } => (path_of(inode), placed(root, inode, &former)),
                Change::Content { .. } => (path_of(inode), Effect::Written),
                Change::Removed { parent, name, .. } => {
                    let directory = path_of(*parent);
                    (directory.map(|path| join(path, name)), Effect::Removed)
                }
            };
            // What is gone again has no path; its removal follows.
            let Some(path) = path else { continue };
            let entry = entry(inode);
            self.size += size_of::<Step>() + path.len();
            self.last.insert(inode, self.steps.len());
            self.steps.push(Step {
                root,
                inode,
                path,
                kind: entry.map(|entry| entry.kind),
                size: entry.map_or(0, |entry| entry.size),
                effect,
                changes: 1,
                asker,
            });
        }
        former.retain(|former| former.kind != FormerKind::Path);
        self.size += former.iter().map(|former| former.data.len()).sum::<usize>();
        self.former.extend(former);
        self.limit();
    }

    /// The last step of a file if one more write by this node can go into it.
    fn last_write(&mut self, inode: u64, writer: u32) -> Option<&mut Step> {
        let last = self.steps.get_mut(*self.last.get(&inode)?)?;
        (last.is_write() && last.root.writer == writer).then_some(last)
    }

    /// Puts what came later behind it.
    pub(crate) fn extend(&mut self, later: Self) {
        self.last.clear();
        self.steps.extend(later.steps);
        self.former.extend(later.former);
        self.size += later.size;
        self.is_incomplete |= later.is_incomplete;
        self.limit();
    }

    fn limit(&mut self) {
        if self.size > TRAIL_LIMIT_BYTES {
            *self = Self {
                is_incomplete: true,
                ..mem::take(self).emptied()
            };
        }
    }

    fn emptied(self) -> Self {
        Self {
            synchronisation: self.synchronisation,
            ..Self::default()
        }
    }
}

/// The number of a new entry is the version that it came with.
fn placed(root: RootState, inode: u64, former: &[Former]) -> Effect {
    let is_path = |former: &&Former| former.inode == inode && former.kind == FormerKind::Path;
    match former.iter().find(is_path) {
        Some(former) => Effect::Moved {
            from: former.data.clone(),
        },
        None if inode == root.version => Effect::Made,
        None => Effect::Touched,
    }
}

fn join(directory: Bytes, name: &Bytes) -> Bytes {
    match directory.is_empty() {
        true => name.clone(),
        false => [&directory[..], name].join(&b'/').into(),
    }
}
