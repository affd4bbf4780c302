//! The requests of the kernel, one by one: translation only.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem as FuseFilesystem, FopenFlags,
    Generation, INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs,
    ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use pmxcfs_api_types::FsError;
use pmxcfs_api_types::limits::{BLOCK_SIZE, MAX_REQUEST_SIZE};
use pmxcfs_api_types::time::{wall_clock_secs, wrapped_seconds};
use pmxcfs_memdb::EntryKind;

use crate::fs::{Attributes, Filesystem, IfExists, Kind, NewAttributes, RequestHeader, WriteAt};
use crate::health::FuseOperation;
use crate::health::counters::{Meter, Timed};
use crate::history::asker;

/// How long the kernel may believe names and attributes.
const TTL: Duration = Duration::from_secs(1);

/// Attributes of generated files are asked for each time: their size is that of the present text.
const NO_TTL: Duration = Duration::ZERO;

/// What `st_blocks` counts in.
const UNIT_OF_BLOCKS: u64 = 512;

/// [`Filesystem`] for the FUSE library.
pub struct PveFilesystem {
    pub(super) fs: Arc<Filesystem>,
    meter: &'static Meter<FuseOperation>,
    /// Somebody wants to know who asks for changes.
    has_history: bool,
}

impl PveFilesystem {
    /// Serves a filesystem.
    pub fn new(fs: Arc<Filesystem>, has_history: bool) -> Self {
        Self {
            fs,
            has_history,
            meter: Meter::new(),
        }
    }

    /// Counts the requests.
    pub fn meter(&self) -> &'static Meter<FuseOperation> {
        self.meter
    }

    /// The header of a request. It names the program that asks for a change.
    fn header(&self, request: &Request, is_change: bool) -> RequestHeader {
        let asker = || asker::of(request.uid(), request.pid());
        let asker = (self.has_history && is_change).then(asker);
        RequestHeader::new(request.unique().0, request.uid(), asker)
    }

    fn time(&self, operation: FuseOperation) -> Timed {
        self.meter.start(operation)
    }

    /// The number for the kernel of a request that is always refused.
    fn unsupported(&self) -> Errno {
        self.time(FuseOperation::Unsupported).failed(libc::ENOSYS);
        Errno::ENOSYS
    }

    fn remove(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        timed: Timed,
        reply: ReplyEmpty,
    ) {
        let reply = empty(timed, reply);
        self.fs
            .remove(self.header(request, true), parent.0, name.as_bytes(), reply);
    }
}

impl FuseFilesystem for PveFilesystem {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        agree(config);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let reply = entry(self.time(FuseOperation::Lookup), reply);
        reply(self.fs.lookup(parent.0, name.as_bytes()));
    }

    fn forget(&self, _request: &Request, ino: INodeNo, nlookup: u64) {
        let _timed = self.time(FuseOperation::Forget);
        self.fs.forget(ino.0, nlookup);
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        let reply = attributes(self.time(FuseOperation::Getattr), reply);
        reply(self.fs.attributes(ino.0, fh.map(|handle| handle.0)));
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
        let reply = attributes(self.time(FuseOperation::Setattr), reply);
        let new = NewAttributes {
            mode,
            uid,
            gid,
            size,
            // A truncate by path carries "mtime now" of its own; the truncation sets the mtime anyway.
            mtime: match (mtime, size) {
                (Some(TimeOrNow::SpecificTime(time)), _) => Some(wrapped_seconds(time)),
                (Some(TimeOrNow::Now), None) => Some(wall_clock_secs()),
                _ => None,
            },
            is_utime: atime.is_some() && mtime.is_some(),
        };
        let handle = fh.map(|handle| handle.0);
        self.fs
            .set_attributes(self.header(request, true), ino.0, handle, new, reply);
    }

    fn readlink(&self, _request: &Request, ino: INodeNo, reply: ReplyData) {
        let mut timed = self.time(FuseOperation::Readlink);
        match timed.note(self.fs.link_target(ino.0)) {
            Ok(target) => reply.data(target.as_bytes()),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn mknod(
        &self,
        request: &Request,
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
        let reply = entry(self.time(FuseOperation::Mknod), reply);
        let (header, name) = (self.header(request, true), name.as_bytes());
        self.fs.make(header, parent.0, name, EntryKind::File, reply);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let reply = entry(self.time(FuseOperation::Mkdir), reply);
        let (header, name) = (self.header(request, true), name.as_bytes());
        self.fs
            .make(header, parent.0, name, EntryKind::Directory, reply);
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.remove(
            request,
            parent,
            name,
            self.time(FuseOperation::Unlink),
            reply,
        );
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.remove(
            request,
            parent,
            name,
            self.time(FuseOperation::Rmdir),
            reply,
        );
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
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let reply = empty(self.time(FuseOperation::Rename), reply);
        // No flag can be kept across nodes, and programs fall back when the C daemon's EINVAL tells them so.
        if !flags.is_empty() {
            return reply(Err(FsError::Invalid));
        }
        let from = (parent.0, name.as_bytes());
        let to = (newparent.0, newname.as_bytes());
        self.fs.rename(self.header(request, true), from, to, reply);
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let is_to_be_cut = flags.0 & libc::O_TRUNC != 0;
        let reply = opened(
            self.time(FuseOperation::Open),
            FopenFlags::FOPEN_DIRECT_IO,
            reply,
        );
        // No other open changes anything.
        let header = self.header(request, is_to_be_cut);
        self.fs.open(header, ino.0, is_to_be_cut, reply);
    }

    fn read(
        &self,
        _request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut timed = self.time(FuseOperation::Read);
        match timed.note(self.fs.read(fh.0, offset, size)) {
            Ok(content) => reply.data(&content),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn write(
        &self,
        request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut timed = self.time(FuseOperation::Write);
        let at = match flags.0 & libc::O_APPEND {
            0 => WriteAt::Offset(offset),
            _ => WriteAt::End,
        };
        let reply = move |result| match timed.note(result) {
            Ok(count) => reply.written(count),
            Err(error) => reply.error(errno(error)),
        };
        self.fs
            .write(self.header(request, true), fh.0, at, data, reply);
    }

    fn release(
        &self,
        _request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let _timed = self.time(FuseOperation::Release);
        self.fs.close(fh.0);
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
        self.fs.sync(empty(self.time(FuseOperation::Fsync), reply));
    }

    fn opendir(&self, request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let timed = self.time(FuseOperation::Opendir);
        let reply = opened(timed, FopenFlags::empty(), reply);
        let header = self.header(request, false);
        reply(self.fs.open_directory(header, ino.0));
    }

    fn readdir(
        &self,
        _request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let mut timed = self.time(FuseOperation::Readdir);
        let listed = self.fs.list(fh.0, offset, |row| {
            let (number, name) = (INodeNo(row.id), OsStr::from_bytes(row.name));
            reply.add(number, row.next, file_type(row.kind), name)
        });
        match timed.note(listed) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn releasedir(
        &self,
        _request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        let _timed = self.time(FuseOperation::Releasedir);
        self.fs.close(fh.0);
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
        let usage = self.fs.usage();
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

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let mut timed = self.time(FuseOperation::Create);
        let if_exists = match (flags & libc::O_EXCL, flags & libc::O_TRUNC) {
            (0, 0) => IfExists::Open,
            (0, _) => IfExists::Truncate,
            _ => IfExists::Refuse,
        };
        let reply = move |result| match timed.note(result) {
            Ok(crate::fs::Created {
                attributes, handle, ..
            }) => reply.created(
                &TTL,
                &file_attr(&attributes),
                Generation(0),
                FileHandle(handle),
                FopenFlags::FOPEN_DIRECT_IO,
            ),
            Err(error) => reply.error(errno(error)),
        };
        let header = self.header(request, true);
        self.fs
            .create(header, parent.0, name.as_bytes(), if_exists, reply);
    }
}

/// Chooses among what the kernel offers. Another choice keeps a new version of the program from going on with the connection of an
/// older one.
pub(super) fn agree(config: &mut KernelConfig) {
    // A refusal names the nearest value that works, or leaves the kernel's default in place.
    let _nearest = config.set_max_write(MAX_REQUEST_SIZE);
    let _nearest = config.set_max_readahead(MAX_REQUEST_SIZE);
    let _missing = config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS);
    // Otherwise `O_TRUNC` is a request of its own after the open, and the file may be replaced in between.
    let _missing = config.add_capabilities(InitFlags::FUSE_ATOMIC_O_TRUNC);
}

fn entry(mut timed: Timed, reply: ReplyEntry) -> impl FnOnce(Result<Attributes, FsError>) + Send {
    move |result| match timed.note(result) {
        Ok(found) => {
            let attr = file_attr(&found);
            reply.entry_with_ttls(attributes_ttl(&found), &TTL, &attr, Generation(0));
        }
        Err(error) => reply.error(errno(error)),
    }
}

fn attributes(
    mut timed: Timed,
    reply: ReplyAttr,
) -> impl FnOnce(Result<Attributes, FsError>) + Send {
    move |result| match timed.note(result) {
        Ok(found) => reply.attr(attributes_ttl(&found), &file_attr(&found)),
        Err(error) => reply.error(errno(error)),
    }
}

fn opened(
    mut timed: Timed,
    flags: FopenFlags,
    reply: ReplyOpen,
) -> impl FnOnce(Result<u64, FsError>) + Send {
    move |result| match timed.note(result) {
        Ok(handle) => reply.opened(FileHandle(handle), flags),
        Err(error) => reply.error(errno(error)),
    }
}

fn empty(mut timed: Timed, reply: ReplyEmpty) -> impl FnOnce(Result<(), FsError>) + Send {
    move |result| match timed.note(result) {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(error)),
    }
}

fn attributes_ttl(attributes: &Attributes) -> &'static Duration {
    if attributes.is_generated {
        &NO_TTL
    } else {
        &TTL
    }
}

fn file_attr(attributes: &Attributes) -> FileAttr {
    let time = UNIX_EPOCH + Duration::from_secs(u64::from(attributes.mtime));
    FileAttr {
        ino: INodeNo(attributes.id),
        size: attributes.size,
        blocks: attributes.size.div_ceil(UNIT_OF_BLOCKS),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: file_type(attributes.kind),
        perm: attributes.mode,
        nlink: attributes.link_count,
        uid: 0,
        gid: attributes.gid,
        rdev: 0,
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Link => FileType::Symlink,
    }
}

/// The number that the kernel gets for an error.
fn errno(error: FsError) -> Errno {
    Errno::from_i32(error.errno())
}
