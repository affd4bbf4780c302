//! What a history is told of changes.
//!
//! Each operation leaves its steps here, under the lock of the tree. They wait for the commit that they belong to and go to
//! the history with the rows of that commit, which have the contents. So a history never has what the database lacks, and the
//! way of a write knows nothing of it. What waits is bounded: if it grows too large, it is dropped, and the history is told
//! so; it then compares.

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

/// One effect of an operation on one entry.
#[derive(Debug, Clone)]
pub struct Step {
    /// The root after the operation: its version, its node, its time.
    pub root: RootState,
    /// The entry.
    pub inode: u64,
    /// The effect.
    pub effect: Effect,
    /// Known for changes through the mount of this node.
    pub asker: Option<Asker>,
}

/// What happened to an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// It was made, or moved, or its times changed.
    Placed {
        /// Directory that it is in now.
        parent: u64,
        /// Its name now.
        name: Bytes,
        /// File or directory.
        kind: EntryKind,
    },
    /// Its content changed.
    Written {
        /// Size afterwards.
        size: u32,
    },
    /// It is gone.
    Removed,
}

/// Content of a file before a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Former {
    /// The file.
    pub inode: u64,
    /// Its content.
    pub data: Bytes,
    /// The file was removed; else it was written to or replaced by a synchronisation.
    pub is_last: bool,
}

/// Steps that wait for their commit.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    pub(crate) steps: Vec<Step>,
    pub(crate) former: Vec<Former>,
    size: usize,
    pub(crate) is_incomplete: bool,
    /// The leader of a synchronisation.
    pub(crate) leader: Option<u32>,
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
    /// The node whose tree has replaced the one of this node.
    pub leader: Option<u32>,
}

/// Takes commits in their order. Called by the store's thread, so it must not wait.
pub type CommitSink = Box<dyn Fn(Committed) + Send + Sync>;

impl Trail {
    /// The trail of a synchronisation.
    pub(crate) fn of_sync(leader: u32, former: Vec<Former>) -> Self {
        Self {
            former,
            leader: Some(leader),
            ..Self::default()
        }
    }

    pub(crate) fn add<'e>(
        &mut self,
        root: RootState,
        changes: &[Change],
        entry: &dyn Fn(u64) -> Option<&'e Entry>,
        former: Vec<Former>,
        asker: Option<Asker>,
    ) {
        for change in changes {
            let inode = change.inode();
            let effect = match (change, entry(inode)) {
                (Change::Put { .. }, Some(entry)) => Effect::Placed {
                    parent: entry.parent,
                    name: entry.name.clone(),
                    kind: entry.kind,
                },
                (Change::Content { size, .. }, _) => Effect::Written { size: *size },
                (Change::Removed { .. } | Change::Put { .. }, _) => Effect::Removed,
            };
            self.size += size_of::<Step>();
            self.steps.push(Step {
                root,
                inode,
                effect,
                asker,
            });
        }
        self.size += former.iter().map(|former| former.data.len()).sum::<usize>();
        self.former.extend(former);
        self.limit();
    }

    /// Puts what came later behind it.
    pub(crate) fn extend(&mut self, later: Self) {
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
            leader: self.leader,
            ..Self::default()
        }
    }
}
