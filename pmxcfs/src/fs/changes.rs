//! Requests that change the tree.
//!
//! Each is planned against the tree at the moment when it is applied or sent, so that a name leads to what has it then, and a
//! handle follows its entry: to a new path after a rename, into memory after an unlink. Its answer is made of the tree right after
//! the change, and given when the crash journal has it.

use std::sync::Arc;

use bytes::Bytes;
use pmxcfs_api_types::{FsError, Result};
use pmxcfs_memdb::{EntryKind, Operation, Plan, Tree};

use super::answers::Asked;
use super::attributes::{Attributes, check_mode, check_owner};
use super::filesystem::Filesystem;
use super::handles::{Bound, Handle};
use super::node::Node;
use super::plugins::Content;
use super::request::{Answer, Respond};
use super::request_header::RequestHeader;
use super::ways::{Place, Want};

/// What to do about a file that is there already when one is to be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfExists {
    /// `O_EXCL`: it is an error.
    Refuse,
    /// Somebody else has just made it; open it.
    Open,
    /// The same with `O_TRUNC`.
    Truncate,
}

/// Where a write begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteAt {
    /// At this offset in bytes.
    Offset(u64),
    /// At the end that the file has when the write is planned, for `O_APPEND`: the kernel's offset comes from a size that
    /// it remembers, and another node may have appended since.
    End,
}

/// Attributes to set, as far as they are given.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewAttributes {
    /// Only the one that is there anyway is accepted.
    pub mode: Option<u32>,
    /// The same.
    pub uid: Option<u32>,
    /// The same.
    pub gid: Option<u32>,
    /// Bytes.
    pub size: Option<u64>,
    /// Seconds. Ignored if a size is given by name, which sets the time anyway.
    pub mtime: Option<u32>,
    /// Whether both time stamps are given; plugins refuse that.
    pub is_utime: bool,
}

/// A new file, or one that was there, opened.
#[derive(Debug)]
pub struct Created {
    /// What `stat` shows.
    pub attributes: Attributes,
    /// The open file.
    pub handle: u64,
    bound: Bound,
    is_to_be_cut: bool,
}

/// A name that the kernel learns by an answer.
struct Named(Attributes);

/// The first of two changes that a request asks for.
struct Half;

impl From<Attributes> for Half {
    fn from(_: Attributes) -> Self {
        Self
    }
}

impl Answer for Half {
    fn repeated(&self) -> Option<Result<u32>> {
        Some(Err(FsError::Busy))
    }
}

impl Answer for Named {
    fn take_back(self, fs: &Filesystem) {
        fs.forget(self.0.id, 1);
    }
}

impl Answer for Created {
    fn take_back(self, fs: &Filesystem) {
        fs.close(self.handle);
        fs.forget(self.attributes.id, 1);
    }

    fn repeated(&self) -> Option<Result<u32>> {
        (!self.is_to_be_cut).then_some(Ok(0))
    }
}

impl Filesystem {
    /// Makes a directory, or a file without opening it. The kernel knows the node id of the answer, as after a
    /// [lookup](Self::lookup).
    pub fn make(
        self: &Arc<Self>,
        request: RequestHeader,
        parent: u64,
        name: &[u8],
        kind: EntryKind,
        reply: impl Respond<Attributes>,
    ) {
        let again = |_count| self.made_before(parent, name, kind);
        let Some((asked, reply)) = self.ask(request, again, reply) else {
            return;
        };
        self.change(
            asked,
            self.place(parent, name, FsError::Exists),
            move |fs, tree, place| fs.make_plan(tree, place, kind),
            move |fs, tree, place, result| {
                result?;
                let (_inode, attributes) = fs.made(tree, place, kind)?;
                Ok(Named(attributes))
            },
            |_fs, result| reply(result.map(|Named(attributes)| attributes)),
        );
    }

    /// Makes a file and opens it.
    pub fn create(
        self: &Arc<Self>,
        request: RequestHeader,
        parent: u64,
        name: &[u8],
        if_exists: IfExists,
        reply: impl Respond<Created>,
    ) {
        let again = |_count| {
            let attributes = self.made_before(parent, name, EntryKind::File)?;
            let (handle, bound) = self.open_name(request, attributes.id, EntryKind::File)?;
            Ok(Created {
                attributes,
                handle,
                bound,
                is_to_be_cut: false,
            })
        };
        let Some((asked, reply)) = self.ask(request, again, reply) else {
            return;
        };
        self.change(
            asked,
            self.place(parent, name, FsError::Exists),
            |fs, tree, place| fs.make_plan(tree, place, EntryKind::File),
            move |fs, tree, place, result| {
                let is_to_be_cut = match result {
                    Err(FsError::Exists) if if_exists != IfExists::Refuse => {
                        if_exists == IfExists::Truncate
                    }
                    other => other.map(|_| false)?,
                };
                let (inode, attributes) = fs.made(tree, place, EntryKind::File)?;
                let (handle, bound) =
                    fs.open_in(tree, request, attributes.id, inode, EntryKind::File)?;
                Ok(Created {
                    attributes,
                    handle,
                    bound,
                    is_to_be_cut,
                })
            },
            move |fs, result| match result {
                Ok(created) if created.is_to_be_cut => {
                    let (id, bound) = (created.attributes.id, created.bound);
                    fs.truncate(asked, id, bound, 0, move |fs, cut| match cut {
                        Ok(attributes) => reply(Ok(Created {
                            attributes,
                            ..created
                        })),
                        Err(error) => {
                            created.take_back(fs);
                            reply(Err(error));
                        }
                    });
                }
                other => reply(other),
            },
        );
    }

    /// What the kernel learns of an entry that a former process has made for it. Others may have removed it since, or put another
    /// one in its place; whether it was made is better left open then.
    fn made_before(&self, parent: u64, name: &[u8], kind: EntryKind) -> Result<Attributes> {
        let found = self.lookup(parent, name).ok();
        found
            .filter(|it| it.kind == kind.into())
            .ok_or(FsError::Busy)
    }

    fn make_plan(&self, tree: &Tree, place: &Place, kind: EntryKind) -> Result<Plan> {
        let path = self.path(tree, place)?;
        Ok(Plan::Apply(match kind {
            EntryKind::Directory => Operation::Mkdir { path },
            EntryKind::File => Operation::Create { path },
        }))
    }

    /// What the kernel learns of an entry that was just made or met, and its inode.
    fn made(&self, tree: &Tree, place: &Place, kind: EntryKind) -> Result<(u64, Attributes)> {
        let made = self.names.made(tree, place, kind);
        let (id, inode) = made.ok_or(FsError::Exists)?;
        Ok((inode, self.entry_attributes(tree, id, inode)?))
    }

    /// Opens a file; `is_to_be_cut` stands for `O_TRUNC`.
    pub fn open(
        self: &Arc<Self>,
        request: RequestHeader,
        id: u64,
        is_to_be_cut: bool,
        reply: impl Respond<u64>,
    ) {
        let id = match Node::of(id) {
            Node::Plugin(index) => {
                return reply(self.open_plugin(request, index, is_to_be_cut));
            }
            Node::Name(id) => id,
        };
        let open = || self.open_name(request, id, EntryKind::File);
        if !is_to_be_cut {
            return reply(open().map(|(handle, _bound)| handle));
        }
        let again = |_count| open().map(|(handle, _bound)| handle);
        let Some((asked, reply)) = self.ask(request, again, reply) else {
            return;
        };
        match open() {
            Ok((handle, bound)) => self.truncate(asked, id, bound, 0, move |fs, cut| {
                let cut: Result<Attributes> = cut;
                if cut.is_err() {
                    fs.close(handle);
                }
                reply(cut.map(|_attributes| handle));
            }),
            Err(error) => reply(Err(error)),
        }
    }

    /// Removes a file or an empty directory.
    pub fn remove(
        self: &Arc<Self>,
        request: RequestHeader,
        parent: u64,
        name: &[u8],
        reply: impl Respond<()>,
    ) {
        let Some((asked, reply)) = self.ask(request, |_count| Ok(()), reply) else {
            return;
        };
        self.change(
            asked,
            self.place(parent, name, FsError::Access),
            |fs, tree, place| {
                let path = fs.path(tree, place)?;
                Ok(Plan::Apply(Operation::Delete { path }))
            },
            |fs, _tree, place, result| {
                result?;
                fs.names.removed(place);
                Ok(())
            },
            |_fs, result| reply(result),
        );
    }

    /// Moves a file or an empty directory, each place given by directory and name.
    pub fn rename(
        self: &Arc<Self>,
        request: RequestHeader,
        from: (u64, &[u8]),
        to: (u64, &[u8]),
        reply: impl Respond<()>,
    ) {
        let Some((asked, reply)) = self.ask(request, |_count| Ok(()), reply) else {
            return;
        };
        let place = |(parent, name)| self.place(parent, name, FsError::Access);
        self.change(
            asked,
            place(from).and_then(|from| Ok((from, place(to)?))),
            |fs, tree, (from, to)| {
                let (from, to) = (fs.path(tree, from)?, fs.path(tree, to)?);
                Ok(Plan::Apply(Operation::Rename { from, to }))
            },
            |fs, tree, (from, to), result| {
                result?;
                Ok(fs.names.renamed(tree, from, to))
            },
            |fs, result| reply(result.map(|moved| fs.names.settle(moved))),
        );
    }

    /// Writes to an open file. Gives the number of bytes written.
    pub fn write(
        self: &Arc<Self>,
        request: RequestHeader,
        handle: u64,
        at: WriteAt,
        data: &[u8],
        reply: impl Respond<u32>,
    ) {
        let bound = match self.handles.get(handle) {
            Ok(Handle::Plugin { index, .. }) => return reply(self.write_plugin(index, at, data)),
            Ok(Handle::Entry {
                kind: EntryKind::Directory,
                ..
            }) => return reply(Err(FsError::IsDirectory)),
            Ok(Handle::Entry { bound, .. }) => bound,
            Err(error) => return reply(Err(error)),
        };
        let Some((asked, reply)) = self.ask(request, Ok, reply) else {
            return;
        };
        self.change(
            asked,
            Ok(Bytes::copy_from_slice(data)),
            move |_fs, tree, data| {
                let offset = match at {
                    WriteAt::Offset(offset) => offset,
                    WriteAt::End => u64::from(bound.entry(tree)?.size),
                };
                write_plan(tree, bound, offset, data.clone(), false)
            },
            |_fs, _tree, _data, result| result,
            |_fs, result| reply(result),
        );
    }

    fn write_plugin(&self, index: usize, at: WriteAt, data: &[u8]) -> Result<u32> {
        let WriteAt::Offset(offset) = at else {
            return Err(FsError::Io);
        };
        match &self.plugin(index)?.content {
            Content::File(file) => file.write(offset, data),
            Content::Link(_) => Err(FsError::Access),
        }
    }

    /// Sets attributes of an open file, or of what a name leads to.
    pub fn set_attributes(
        self: &Arc<Self>,
        request: RequestHeader,
        id: u64,
        handle: Option<u64>,
        new: NewAttributes,
        reply: impl Respond<Attributes>,
    ) {
        let again = |_count| self.attributes(id, handle);
        let Some((asked, reply)) = self.ask(request, again, reply) else {
            return;
        };
        let changed = match Node::of(id) {
            Node::Plugin(index) => self.check_plugin(index, new).map(|()| None),
            Node::Name(id) => self.changed_entry(id, handle, new),
        };
        let bound = match changed {
            Ok(Some(bound)) => bound,
            Ok(None) => return reply(self.attributes(id, handle)),
            Err(error) => return reply(Err(error)),
        };
        match (new.size, new.mtime) {
            (Some(size), Some(mtime)) => {
                self.truncate(asked, id, bound, size, move |fs, cut| match cut {
                    Ok(Half) => fs.touch(asked, id, bound, mtime, reply),
                    Err(error) => reply(Err(error)),
                });
            }
            (Some(size), None) => {
                self.truncate(asked, id, bound, size, |_fs, result| reply(result));
            }
            (None, mtime) => self.touch(asked, id, bound, mtime.unwrap_or_default(), reply),
        }
    }

    /// Checks what has no effect, and gives the entry that has to be changed, if any.
    fn changed_entry(
        &self,
        id: u64,
        handle: Option<u64>,
        new: NewAttributes,
    ) -> Result<Option<Bound>> {
        check_owner(new.uid, new.gid, self.gid)?;
        let want = match new.size {
            Some(_) => Want::Open,
            None => Want::Change,
        };
        if new.mode.is_none() && new.size.is_none() && new.mtime.is_none() {
            return Ok(None);
        }
        let tree = self.db.read();
        let bound = match handle.and_then(|handle| self.handles.get(handle).ok()) {
            Some(Handle::Entry { bound, .. }) => bound,
            Some(Handle::Plugin { .. }) | None => {
                Bound::new(&tree, self.names.of(&tree).target(&tree, id, want)?)
            }
        };
        if let Some(mode) = new.mode {
            check_mode(mode, tree.is_private(bound.inode))?;
        }
        let is_change = new.size.is_some() || new.mtime.is_some();
        Ok(is_change.then_some(bound))
    }

    fn check_plugin(&self, index: usize, new: NewAttributes) -> Result<()> {
        if let Some(mode) = new.mode {
            check_mode(mode, false)?;
        }
        check_owner(new.uid, new.gid, self.gid)?;
        if let Content::File(file) = &self.plugin(index)?.content
            && new.size.is_some()
        {
            file.truncate()?;
        }
        match new.is_utime {
            true => Err(FsError::Access),
            false => Ok(()),
        }
    }

    fn truncate<T: Answer + From<Attributes>>(
        self: &Arc<Self>,
        asked: Asked,
        id: u64,
        bound: Bound,
        size: u64,
        reply: impl FnOnce(&Arc<Self>, Result<T>) + Send + 'static,
    ) {
        self.change(
            asked,
            Ok(bound),
            move |_fs, tree, bound| write_plan(tree, *bound, size, Bytes::new(), true),
            move |fs, tree, bound, result| {
                result?;
                fs.entry_attributes(tree, id, bound.inode).map(T::from)
            },
            reply,
        );
    }

    fn touch(
        self: &Arc<Self>,
        asked: Asked,
        id: u64,
        bound: Bound,
        mtime: u32,
        reply: impl Respond<Attributes>,
    ) {
        self.change(
            asked,
            Ok(bound),
            move |_fs, tree, bound| plan(tree, *bound, |path| Operation::SetMtime { path, mtime }),
            move |fs, tree, bound, result| {
                result?;
                // Gone, if that has unlocked a lock.
                fs.entry_attributes(tree, id, bound.inode)
            },
            |_fs, result| reply(result),
        );
    }

    /// Path of a name in a directory that may be gone by now.
    fn path(&self, tree: &Tree, place: &Place) -> Result<Bytes> {
        let directory = self.names.of(tree).resolve(tree, place.parent);
        let path = directory.and_then(|inode| tree.path_in(inode, &place.name));
        path.ok_or(FsError::NotFound)
    }
}

/// A write or truncation of an entry.
fn write_plan(tree: &Tree, bound: Bound, offset: u64, data: Bytes, truncate: bool) -> Result<Plan> {
    plan(tree, bound, |path| Operation::Write {
        path,
        offset,
        data,
        truncate,
    })
}

/// An operation on an entry, wherever it is by now; in memory alone, if only open handles can still see it.
fn plan(tree: &Tree, bound: Bound, operation: impl FnOnce(Bytes) -> Operation) -> Result<Plan> {
    bound.entry(tree)?;
    match tree.path_of(bound.inode) {
        Some(path) => Ok(Plan::Apply(operation(path))),
        None if tree.is_orphan(bound.inode) => {
            Ok(Plan::Orphan(bound.inode, operation(Bytes::new())))
        }
        None => Err(FsError::NotFound),
    }
}
