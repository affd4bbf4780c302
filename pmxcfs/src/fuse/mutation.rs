//! A change that a FUSE request asks for, with the reply it is answered by.
//!
//! The request is planned against the tree at the moment when it is applied or sent, so that a handle bound to an inode
//! follows its entry: to a new path after a rename, into memory after an unlink.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use fuser::{
    FileAttr, FopenFlags, Generation, ReplyAttr, ReplyCreate, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyWrite,
};
use pmxcfs_api_types::FsError;
use pmxcfs_memdb::{
    Caller, Change, EntryKind, Operation, OrphanChange, Plan, Reply as AnswerWhenSafe, Tree,
};

use super::attr::TTL;
use super::handles::tree_file;
use super::shared::{Pinned, Shared, errno, missing_in};
use crate::health::counters::Timed;

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) enum Action {
    Mkdir {
        parent: u64,
        name: Bytes,
    },
    Create {
        parent: u64,
        name: Bytes,
        open: Option<OpenExisting>,
    },
    Remove {
        parent: u64,
        name: Bytes,
    },
    Rename {
        parent: u64,
        name: Bytes,
        new_parent: u64,
        new_name: Bytes,
    },
    Write {
        inode: u64,
        /// Of the tree, when the inode stood for what is meant.
        epoch: u64,
        place: WritePlace,
        data: Bytes,
    },
    Truncate {
        inode: u64,
        /// As for a write.
        epoch: u64,
        size: u64,
    },
    SetMtime {
        inode: u64,
        mtime: u32,
    },
}

/// A CREATE without `O_EXCL` that meets a file somebody else has just made opens it instead.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenExisting {
    /// `O_TRUNC` was given.
    pub(super) truncate: bool,
}

/// Where a write begins.
#[derive(Debug, Clone, Copy)]
pub(super) enum WritePlace {
    /// At this offset in bytes.
    At(u64),
    /// At the end that the file has when the write is planned, for `O_APPEND`: the kernel's offset comes from a size that
    /// it remembers, and another node may have appended since.
    End,
}

impl WritePlace {
    fn offset_in(self, tree: &Tree, inode: u64) -> u64 {
        match self {
            Self::At(offset) => offset,
            Self::End => tree.node(inode).map_or(0, |entry| u64::from(entry.size)),
        }
    }
}

/// Who waits.
#[derive(Debug)]
pub(super) enum Reply {
    Empty(ReplyEmpty),
    Entry(ReplyEntry),
    Create(ReplyCreate),
    Open(ReplyOpen),
    Write(ReplyWrite),
    Attr(ReplyAttr),
}

/// A reply, and the clock that runs until it is given.
struct Waiter {
    reply: Reply,
    timed: Timed,
}

impl Waiter {
    fn error(mut self, error: FsError) {
        self.timed.failed(error.errno());
        self.reply.error(error);
    }
}

impl Reply {
    fn error(self, error: FsError) {
        let errno = errno(error);
        match self {
            Self::Empty(reply) => reply.error(errno),
            Self::Entry(reply) => reply.error(errno),
            Self::Create(reply) => reply.error(errno),
            Self::Open(reply) => reply.error(errno),
            Self::Write(reply) => reply.error(errno),
            Self::Attr(reply) => reply.error(errno),
        }
    }
}

#[derive(Debug)]
enum Outcome {
    Count(u32),
    Attr(u64, Box<FileAttr>),
}

/// What a reply hands to the kernel. It is taken back if the reply becomes an error.
#[derive(Debug, Default)]
struct Held {
    /// The entry is counted as known.
    counted: Option<u64>,
    /// The entry is pinned for an open handle.
    pinned: Option<Pinned>,
}

impl Held {
    fn take_back(self, shared: &Shared) {
        if let Some(pinned) = self.pinned {
            shared.db.unpin(pinned.inode);
        }
        if let Some(inode) = self.counted
            && shared.lookups.forget(inode, 1)
        {
            shared.db.unpin(inode);
        }
    }
}

pub(super) struct FuseMutation {
    shared: Arc<Shared>,
    action: Action,
    waiter: Waiter,
    /// Runs after this one with the same reply, if this one succeeds.
    follow_up: Option<Action>,
    /// What the kernel will hold once it has the reply.
    held: Held,
    /// The entry that will be removed was pinned for as long as the kernel knows it.
    victim: Option<u64>,
}

impl FuseMutation {
    pub(super) fn submit(shared: &Arc<Shared>, action: Action, reply: Reply, timed: Timed) {
        let waiter = Waiter { reply, timed };
        Self::submit_with(shared, action, None, waiter, Held::default());
    }

    /// Two steps behind one reply: `truncate`, then `utime`.
    pub(super) fn submit_two(
        shared: &Arc<Shared>,
        first: Action,
        second: Action,
        reply: Reply,
        timed: Timed,
    ) {
        let waiter = Waiter { reply, timed };
        Self::submit_with(shared, first, Some(second), waiter, Held::default());
    }

    /// `open` with `O_TRUNC` of an entry that is pinned for the handle.
    pub(super) fn submit_open(
        shared: &Arc<Shared>,
        pinned: Pinned,
        reply: ReplyOpen,
        timed: Timed,
    ) {
        let waiter = Waiter {
            reply: Reply::Open(reply),
            timed,
        };
        let held = Held {
            pinned: Some(pinned),
            ..Held::default()
        };
        let Pinned { inode, epoch } = pinned;
        let cut = Action::Truncate {
            inode,
            epoch,
            size: 0,
        };
        Self::submit_with(shared, cut, None, waiter, held);
    }

    fn submit_with(
        shared: &Arc<Shared>,
        action: Action,
        follow_up: Option<Action>,
        waiter: Waiter,
        held: Held,
    ) {
        (shared.submit)(Box::new(Self {
            shared: Arc::clone(shared),
            action,
            waiter,
            follow_up,
            held,
            victim: None,
        }));
    }

    /// Pins what will be removed, if the kernel knows it: whoever has looked it up may be about to open it.
    fn keep_victim(&mut self, tree: &mut Tree) {
        let (parent, name) = match &self.action {
            Action::Remove { parent, name } => (parent, name),
            Action::Rename {
                new_parent,
                new_name,
                ..
            } => (new_parent, new_name),
            _ => return,
        };
        let victim = tree.child(*parent, name).map(|entry| entry.inode);
        self.victim = victim.filter(|inode| self.shared.lookups.begin_removal(*inode));
        if let Some(inode) = self.victim {
            tree.pin(inode);
        }
    }

    /// Counts and pins what the reply will name and open, once for all steps behind one reply.
    fn hold(&mut self, tree: &mut Tree, inode: u64) {
        let (names, opens) = match self.waiter.reply {
            Reply::Entry(_) => (true, false),
            Reply::Create(_) => (true, true),
            Reply::Empty(_) | Reply::Write(_) | Reply::Open(_) | Reply::Attr(_) => (false, false),
        };
        if names && self.held.counted.is_none() {
            self.shared.lookups.add(inode);
            self.held.counted = Some(inode);
        }
        if opens && self.held.pinned.is_none() {
            tree.pin(inode);
            let epoch = tree.epoch();
            self.held.pinned = Some(Pinned { inode, epoch });
        }
    }

    /// The entry whose attributes the reply carries.
    fn attr_inode(&self, tree: &Tree) -> Option<u64> {
        match &self.action {
            Action::Mkdir { parent, name } | Action::Create { parent, name, .. } => {
                tree.child(*parent, name).map(|entry| entry.inode)
            }
            Action::Truncate { inode, .. } | Action::SetMtime { inode, .. } => Some(*inode),
            Action::Remove { .. } | Action::Rename { .. } | Action::Write { .. } => None,
        }
    }

    fn outcome_in(&self, tree: &Tree, count: u32) -> Result<Outcome, FsError> {
        if matches!(
            self.waiter.reply,
            Reply::Empty(_) | Reply::Write(_) | Reply::Open(_)
        ) {
            return Ok(Outcome::Count(count));
        }
        let inode = self.attr_inode(tree).ok_or(FsError::NotFound)?;
        let attr = self
            .shared
            .entry_attr(tree, inode)
            .ok_or(FsError::NotFound)?;
        Ok(Outcome::Attr(inode, Box::new(attr)))
    }

    /// Turns "exists" into an open, when the caller did not insist on being the one who creates.
    fn open_existing(&mut self, tree: &Tree) -> bool {
        let Action::Create {
            parent,
            name,
            open: Some(open),
        } = &self.action
        else {
            return false;
        };
        let Some(entry) = tree
            .child(*parent, name)
            .filter(|entry| entry.kind == EntryKind::File)
        else {
            return false;
        };
        if open.truncate {
            self.follow_up = Some(Action::Truncate {
                inode: entry.inode,
                epoch: tree.epoch(),
                size: 0,
            });
        }
        true
    }
}

impl Caller for FuseMutation {
    fn plan(&mut self, tree: &mut Tree) -> Result<Plan, FsError> {
        self.keep_victim(tree);
        let operation = match &self.action {
            Action::Mkdir { parent, name } => Operation::Mkdir {
                path: child_path(tree, *parent, name)?,
            },
            Action::Create { parent, name, .. } => Operation::Create {
                path: child_path(tree, *parent, name)?,
            },
            Action::Remove { parent, name } => Operation::Delete {
                path: child_path(tree, *parent, name)?,
            },
            Action::Rename {
                parent,
                name,
                new_parent,
                new_name,
            } => Operation::Rename {
                from: child_path(tree, *parent, name)?,
                to: child_path(tree, *new_parent, new_name)?,
            },
            Action::Write {
                inode,
                epoch,
                place,
                data,
            } => match node_path_since(tree, *inode, *epoch)? {
                None => {
                    return Ok(Plan::Orphan(OrphanChange::Write {
                        inode: *inode,
                        offset: place.offset_in(tree, *inode),
                        data: data.clone(),
                        truncate: false,
                    }));
                }
                Some(path) => Operation::Write {
                    path,
                    offset: place.offset_in(tree, *inode),
                    data: data.clone(),
                    truncate: false,
                },
            },
            Action::Truncate { inode, epoch, size } => match node_path_since(tree, *inode, *epoch)?
            {
                None => {
                    return Ok(Plan::Orphan(OrphanChange::Write {
                        inode: *inode,
                        offset: *size,
                        data: Bytes::new(),
                        truncate: true,
                    }));
                }
                Some(path) => Operation::Write {
                    path,
                    offset: *size,
                    data: Bytes::new(),
                    truncate: true,
                },
            },
            Action::SetMtime { inode, mtime } => match node_path(tree, *inode)? {
                None => {
                    return Ok(Plan::Orphan(OrphanChange::Touch {
                        inode: *inode,
                        mtime: *mtime,
                    }));
                }
                Some(path) => Operation::SetMtime {
                    path,
                    mtime: *mtime,
                },
            },
        };
        Ok(Plan::Apply(operation))
    }

    fn answer(
        mut self: Box<Self>,
        tree: &mut Tree,
        _changes: &[Change],
        result: Result<u32, FsError>,
    ) -> AnswerWhenSafe {
        if result.is_err()
            && let Some(victim) = self.victim.take()
        {
            self.shared.lookups.cancel_removal(victim);
            tree.unpin(victim);
        }
        let result = match result {
            Err(FsError::Exists) if self.open_existing(tree) => Ok(0),
            other => other,
        };
        let outcome = result.and_then(|count| self.outcome_in(tree, count));
        if let Ok(Outcome::Attr(inode, _)) = &outcome {
            let inode = *inode;
            self.hold(tree, inode);
        }
        Box::new(move |durable| match durable.and(outcome) {
            Err(error) => self.refuse(error),
            Ok(outcome) => match self.follow_up {
                Some(next) => Self::submit_with(&self.shared, next, None, self.waiter, self.held),
                None => answer(self.waiter, outcome, self.held.pinned),
            },
        })
    }

    fn refuse(self: Box<Self>, error: FsError) {
        let this = *self;
        this.held.take_back(&this.shared);
        tracing::debug!(action = ?ActionName(&this.action), errno = error.errno(), "refused");
        this.waiter.error(error);
    }
}

fn answer(waiter: Waiter, outcome: Outcome, pinned: Option<Pinned>) {
    let handle = tree_file(pinned.map_or(0, |pinned| pinned.epoch));
    // The time ends with the reply.
    let Waiter { reply, mut timed } = waiter;
    match (reply, outcome) {
        (Reply::Empty(reply), _) => reply.ok(),
        (Reply::Open(reply), _) => reply.opened(handle, FopenFlags::FOPEN_DIRECT_IO),
        (Reply::Write(reply), Outcome::Count(count)) => reply.written(count),
        (Reply::Entry(reply), Outcome::Attr(_, attr)) => reply.entry(&TTL, &attr, Generation(0)),
        (Reply::Create(reply), Outcome::Attr(_, attr)) => {
            reply.created(
                &TTL,
                &attr,
                Generation(0),
                handle,
                FopenFlags::FOPEN_DIRECT_IO,
            );
        }
        (Reply::Attr(reply), Outcome::Attr(_, attr)) => reply.attr(&TTL, &attr),
        (reply, _) => {
            timed.failed(FsError::Io.errno());
            reply.error(FsError::Io);
        }
    }
}

/// Path of a name in a directory that may be gone by now.
fn child_path(tree: &Tree, parent: u64, name: &[u8]) -> Result<Bytes, FsError> {
    let directory = tree.successor(parent).and_then(|inode| tree.path_of(inode));
    let directory = directory.ok_or_else(|| missing_in(tree, parent))?;
    if directory.is_empty() {
        return Ok(Bytes::copy_from_slice(name));
    }
    let mut path = BytesMut::with_capacity(directory.len() + 1 + name.len());
    path.put_slice(&directory);
    path.put_u8(b'/');
    path.put_slice(name);
    Ok(path.freeze())
}

/// Path of an entry, `None` if only open handles can still see it.
fn node_path(tree: &Tree, inode: u64) -> Result<Option<Bytes>, FsError> {
    match tree.path_of(inode) {
        Some(path) => Ok(Some(path)),
        None if tree.is_orphan(inode) => Ok(None),
        None => Err(FsError::NotFound),
    }
}

/// The same, if the inode still stands for what it did then.
fn node_path_since(tree: &Tree, inode: u64, epoch: u64) -> Result<Option<Bytes>, FsError> {
    if tree.is_reused_since(inode, epoch) {
        return Err(FsError::Stale);
    }
    node_path(tree, inode)
}

/// Prints what is asked for without the data.
struct ActionName<'a>(&'a Action);

impl std::fmt::Debug for ActionName<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, inode) = match self.0 {
            Action::Mkdir { parent, .. } => ("mkdir", parent),
            Action::Create { parent, .. } => ("create", parent),
            Action::Remove { parent, .. } => ("remove", parent),
            Action::Rename { parent, .. } => ("rename", parent),
            Action::Write { inode, .. } => ("write", inode),
            Action::Truncate { inode, .. } => ("truncate", inode),
            Action::SetMtime { inode, .. } => ("utime", inode),
        };
        write!(f, "{name} {inode}")
    }
}
