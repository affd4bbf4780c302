//! The requests of the kernel, one by one: translation only.

use std::ffi::OsStr;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use bytes::Bytes;
use fuser::{
    BsdFileFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};
use pmxcfs_api_types::FsError;
use pmxcfs_api_types::limits::MAX_REQUEST_SIZE;
use pmxcfs_api_types::time::{wall_clock_secs, wrapped_seconds};
use pmxcfs_memdb::{MemDb, Submit};

use super::attr::{NO_TTL, Ownership, TTL};
use super::handles::{Handles, epoch_of};
use super::inodes::{InodeMap, Node};
use super::lookups::Lookups;
use super::mutation::{Action, FuseMutation, OpenExisting, Reply, WritePlace};
use super::references::KernelReferences;
use super::shared::{Opened, Shared, errno};
use super::walks::Walks;
use crate::health::FuseOperation;
use crate::health::counters::{Meter, Timed};
use crate::plugins::{Content, Plugin, Registry};

/// The filesystem that is mounted at `/etc/pve`.
pub struct PveFilesystem {
    shared: Arc<Shared>,
}

impl PveFilesystem {
    /// `quorate` is asked for every mode; it must be cheap.
    pub fn new(
        db: Arc<MemDb>,
        submit: Submit,
        plugins: Registry,
        quorate: Box<dyn Fn() -> bool + Send + Sync>,
        ownership: Ownership,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                db,
                submit,
                plugins,
                quorate,
                ownership,
                inodes: InodeMap::default(),
                handles: Handles::default(),
                lookups: Lookups::default(),
                walks: Walks::default(),
                notifier: OnceLock::new(),
                meter: Meter::new(),
            }),
        }
    }

    /// Counts the requests.
    #[must_use]
    pub fn meter(&self) -> &'static Meter<FuseOperation> {
        self.shared.meter
    }

    /// What the kernel knows, for those who change the tree on behalf of other nodes.
    #[must_use]
    pub fn kernel_references(&self) -> KernelReferences {
        KernelReferences(Arc::clone(&self.shared))
    }

    fn time(&self, operation: FuseOperation) -> Timed {
        self.shared.meter.start(operation)
    }

    /// The number for the kernel of a request that is always refused.
    fn unsupported(&self) -> Errno {
        self.time(FuseOperation::Unsupported).failed(libc::ENOSYS);
        Errno::ENOSYS
    }

    fn answer_attr(
        &self,
        ino: INodeNo,
        handle: Option<FileHandle>,
        thread: u32,
        mut timed: Timed,
        reply: ReplyAttr,
    ) {
        match timed.note(self.shared.attr_of(ino, handle, thread)) {
            Ok((attr, generated)) => reply.attr(if generated { &NO_TTL } else { &TTL }, &attr),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn remove(&self, parent: INodeNo, name: &OsStr, mut timed: Timed, reply: ReplyEmpty) {
        match timed.note(self.shared.free_of_plugins(parent, name, FsError::Access)) {
            Ok((parent, name)) => {
                FuseMutation::submit(
                    &self.shared,
                    Action::Remove { parent, name },
                    Reply::Empty(reply),
                    timed,
                );
            }
            Err(error) => reply.error(errno(error)),
        }
    }
}

impl Filesystem for PveFilesystem {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // A refusal names the nearest value that works, or leaves the kernel's default in place.
        let _nearest = config.set_max_write(MAX_REQUEST_SIZE);
        let _nearest = config.set_max_readahead(MAX_REQUEST_SIZE);
        let _missing = config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS);
        // Otherwise `O_TRUNC` is a request of its own after the open, and the file may be replaced in between.
        let _missing = config.add_capabilities(InitFlags::FUSE_ATOMIC_O_TRUNC);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut timed = self.time(FuseOperation::Lookup);
        match timed.note(self.shared.lookup_attr(parent, name, request.pid())) {
            Ok((attr, false)) => reply.entry(&TTL, &attr, Generation(0)),
            Ok((attr, true)) => reply.entry_with_ttls(&NO_TTL, &TTL, &attr, Generation(0)),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn forget(&self, _request: &Request, ino: INodeNo, nlookup: u64) {
        let _timed = self.time(FuseOperation::Forget);
        if let Some(Node::Tree(inode)) = self.shared.inodes.node(ino)
            && self.shared.lookups.forget(inode, nlookup)
        {
            self.shared.db.unpin(inode);
        }
    }

    fn getattr(&self, request: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        let timed = self.time(FuseOperation::Getattr);
        self.answer_attr(ino, fh, request.pid(), timed, reply);
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut timed = self.time(FuseOperation::Setattr);
        let node = self.shared.inodes.node(ino).ok_or(FsError::NotFound);
        let node = node.and_then(|node| {
            self.shared.check_ownership(node, mode, uid, gid)?;
            let epoch = match fh {
                Some(handle) => epoch_of(handle),
                None if size.is_some() => self.shared.end_walk_at(node, request.pid())?,
                None => u64::MAX,
            };
            Ok((node, epoch))
        });
        let (node, epoch) = match timed.note(node) {
            Ok(found) => found,
            Err(error) => return reply.error(errno(error)),
        };
        let inode = match node {
            Node::Plugin(index) => {
                let refused = match self.shared.plugin(index).map(Plugin::content) {
                    Ok(Content::File(file)) if size.is_some() => file.truncate().err(),
                    Ok(_) => None,
                    Err(error) => Some(error),
                };
                let touched = (atime.is_some() && mtime.is_some()).then_some(FsError::Access);
                return match timed.note(refused.or(touched).map_or(Ok(()), Err)) {
                    Err(error) => reply.error(errno(error)),
                    Ok(()) => self.answer_attr(ino, fh, request.pid(), timed, reply),
                };
            }
            Node::Tree(inode) => inode,
        };
        // A truncate by path carries "mtime now" of its own; the truncation sets the mtime anyway.
        let touch = match (mtime, size) {
            (Some(TimeOrNow::SpecificTime(time)), _) => Some(wrapped_seconds(time)),
            (Some(TimeOrNow::Now), None) => Some(wall_clock_secs()),
            _ => None,
        }
        .map(|mtime| Action::SetMtime { inode, mtime });
        let truncate = size.map(|size| Action::Truncate { inode, epoch, size });
        match (truncate, touch) {
            (None, None) => self.answer_attr(ino, fh, request.pid(), timed, reply),
            (Some(first), Some(second)) => {
                FuseMutation::submit_two(&self.shared, first, second, Reply::Attr(reply), timed);
            }
            (Some(only), None) | (None, Some(only)) => {
                FuseMutation::submit(&self.shared, only, Reply::Attr(reply), timed);
            }
        }
    }

    fn readlink(&self, _request: &Request, ino: INodeNo, reply: ReplyData) {
        let mut timed = self.time(FuseOperation::Readlink);
        let target = match self.shared.inodes.node(ino) {
            Some(Node::Plugin(index)) => self.shared.plugin(index).ok().map(Plugin::content),
            _ => None,
        };
        match target {
            Some(Content::Link(target)) => reply.data(target.as_bytes()),
            _ => {
                timed.failed(libc::EINVAL);
                reply.error(Errno::EINVAL);
            }
        }
    }

    fn mknod(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        let kind = mode & libc::S_IFMT;
        if kind != libc::S_IFREG && kind != 0 {
            return reply.error(self.unsupported());
        }
        let mut timed = self.time(FuseOperation::Mknod);
        match timed.note(self.shared.free_of_plugins(parent, name, FsError::Exists)) {
            Ok((parent, name)) => {
                let action = Action::Create {
                    parent,
                    name,
                    open: None,
                };
                FuseMutation::submit(&self.shared, action, Reply::Entry(reply), timed);
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    fn mkdir(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let mut timed = self.time(FuseOperation::Mkdir);
        match timed.note(self.shared.free_of_plugins(parent, name, FsError::Exists)) {
            Ok((parent, name)) => {
                FuseMutation::submit(
                    &self.shared,
                    Action::Mkdir { parent, name },
                    Reply::Entry(reply),
                    timed,
                );
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.remove(parent, name, self.time(FuseOperation::Unlink), reply);
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.remove(parent, name, self.time(FuseOperation::Rmdir), reply);
    }

    fn symlink(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _link_name: &OsStr,
        _target: &std::path::Path,
        reply: ReplyEntry,
    ) {
        reply.error(self.unsupported());
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut timed = self.time(FuseOperation::Rename);
        // No flag can be kept across nodes, and programs fall back when the C daemon's EINVAL tells them so.
        if !flags.is_empty() {
            timed.failed(libc::EINVAL);
            return reply.error(Errno::EINVAL);
        }
        let from = self.shared.free_of_plugins(parent, name, FsError::Access);
        let to = self
            .shared
            .free_of_plugins(newparent, newname, FsError::Access);
        match timed.note(from.and_then(|from| Ok((from, to?)))) {
            Ok(((parent, name), (new_parent, new_name))) => {
                let action = Action::Rename {
                    parent,
                    name,
                    new_parent,
                    new_name,
                };
                FuseMutation::submit(&self.shared, action, Reply::Empty(reply), timed);
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let mut timed = self.time(FuseOperation::Open);
        let is_to_be_cut = flags.0 & libc::O_TRUNC != 0;
        match timed.note(self.shared.opened(ino, request.pid(), is_to_be_cut)) {
            Ok(Opened::Now(handle)) => reply.opened(handle, FopenFlags::FOPEN_DIRECT_IO),
            Ok(Opened::WhenCut(pinned)) => {
                FuseMutation::submit_open(&self.shared, pinned, reply, timed);
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    fn read(
        &self,
        _request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut timed = self.time(FuseOperation::Read);
        match timed.note(self.shared.content(ino, fh)) {
            Ok(content) => {
                let start = usize::try_from(offset)
                    .map_or(content.len(), |offset| offset.min(content.len()));
                let end = start.saturating_add(size as usize).min(content.len());
                reply.data(&content[start..end]);
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    fn write(
        &self,
        _request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut timed = self.time(FuseOperation::Write);
        match timed.note(self.shared.inodes.node(ino).ok_or(FsError::NotFound)) {
            Ok(Node::Tree(inode)) => {
                let place = match flags.0 & libc::O_APPEND {
                    0 => WritePlace::At(offset),
                    _ => WritePlace::End,
                };
                let action = Action::Write {
                    inode,
                    epoch: epoch_of(fh),
                    place,
                    data: Bytes::copy_from_slice(data),
                };
                FuseMutation::submit(&self.shared, action, Reply::Write(reply), timed);
            }
            Ok(Node::Plugin(index)) => {
                match timed.note(self.shared.write_plugin(index, offset, data)) {
                    Ok(count) => reply.written(count),
                    Err(error) => reply.error(errno(error)),
                }
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    fn flush(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        // Nothing is buffered for a handle; the kernel stops asking.
        reply.error(self.unsupported());
    }

    fn release(
        &self,
        _request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let _timed = self.time(FuseOperation::Release);
        self.shared.closed(ino, fh);
        reply.ok();
    }

    fn fsync(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let mut timed = self.time(FuseOperation::Fsync);
        self.shared.db.sync(move |result| match timed.note(result) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(error)),
        });
    }

    fn opendir(&self, request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let mut timed = self.time(FuseOperation::Opendir);
        match timed.note(self.shared.opened_directory(ino, request.pid())) {
            Ok(handle) => reply.opened(handle, FopenFlags::empty()),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn readdir(
        &self,
        _request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let mut timed = self.time(FuseOperation::Readdir);
        match timed.note(self.shared.directory(ino)) {
            Ok(inode) => {
                self.shared.fill_listing(inode, fh, offset, &mut reply);
                reply.ok();
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    fn releasedir(
        &self,
        _request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        let _timed = self.time(FuseOperation::Releasedir);
        self.shared.closed(ino, fh);
        reply.ok();
    }

    fn fsyncdir(
        &self,
        request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.fsync(request, ino, fh, datasync, reply);
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let _timed = self.time(FuseOperation::Statfs);
        let usage = self.shared.db.read().statfs();
        reply.statfs(
            usage.blocks,
            usage.blocks_free,
            usage.blocks_free,
            usage.files,
            usage.files_free,
            usage.block_size,
            usage.name_max,
            usage.block_size,
        );
    }

    // The remaining requests exist only to be refused without the warning that the library's defaults log.

    fn setxattr(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _name: &OsStr,
        _value: &[u8],
        _flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        reply.error(self.unsupported());
    }

    fn getxattr(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _name: &OsStr,
        _size: u32,
        reply: fuser::ReplyXattr,
    ) {
        reply.error(self.unsupported());
    }

    fn listxattr(&self, _request: &Request, _ino: INodeNo, _size: u32, reply: fuser::ReplyXattr) {
        reply.error(self.unsupported());
    }

    fn removexattr(&self, _request: &Request, _ino: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(self.unsupported());
    }

    fn create(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let mut timed = self.time(FuseOperation::Create);
        match timed.note(self.shared.free_of_plugins(parent, name, FsError::Exists)) {
            Ok((parent, name)) => {
                let open = (flags & libc::O_EXCL == 0).then_some(OpenExisting {
                    truncate: flags & libc::O_TRUNC != 0,
                });
                FuseMutation::submit(
                    &self.shared,
                    Action::Create { parent, name, open },
                    Reply::Create(reply),
                    timed,
                );
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    fn fallocate(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _offset: u64,
        _length: u64,
        _mode: i32,
        reply: ReplyEmpty,
    ) {
        reply.error(self.unsupported());
    }

    fn ioctl(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: fuser::IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: fuser::ReplyIoctl,
    ) {
        reply.error(self.unsupported());
    }

    fn poll(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _ph: fuser::PollNotifier,
        _events: fuser::PollEvents,
        _flags: fuser::PollFlags,
        reply: fuser::ReplyPoll,
    ) {
        reply.error(self.unsupported());
    }

    fn lseek(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _offset: i64,
        _whence: i32,
        reply: fuser::ReplyLseek,
    ) {
        reply.error(self.unsupported());
    }

    fn copy_file_range(
        &self,
        _request: &Request,
        _ino_in: INodeNo,
        _fh_in: FileHandle,
        _offset_in: u64,
        _ino_out: INodeNo,
        _fh_out: FileHandle,
        _offset_out: u64,
        _len: u64,
        _flags: fuser::CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        reply.error(self.unsupported());
    }
}
