//! The floor: the fastest filesystem that a simple program can be on the same library.
//!
//! It keeps everything in one map, persists nothing, checks nothing, and speaks to the kernel as pmxcfs does: the same
//! mount options, request size, lifetimes and direct I/O. What it needs for an operation is the price of FUSE; what pmxcfs
//! needs beyond that is its own.
#![expect(clippy::disallowed_types, reason = "a lock of a test has no rank")]

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    KernelConfig, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, SessionACL,
    TimeOrNow, WriteFlags,
};
use parking_lot::RwLock;

const TTL: Duration = Duration::from_secs(1);
const MAX_WRITE_BYTES: u32 = 128 * 1024;
/// One thread stays on a warm processor; on two processors more of them made it slower for one client and no faster for
/// four.
const THREAD_COUNT: usize = 1;

/// Mounts the floor and serves it until it is unmounted.
pub(crate) fn serve(mount_dir: &Path) -> io::Result<()> {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::DefaultPermissions,
        MountOption::FSName("floor".into()),
    ];
    config.acl = SessionACL::All;
    config.n_threads = Some(THREAD_COUNT);
    config.clone_fd = true;
    fuser::mount(Floor::new(), mount_dir, &config)
}

struct Node {
    kind: FileType,
    mtime: SystemTime,
    data: Vec<u8>,
    names: Vec<(OsString, u64)>,
    index: HashMap<OsString, usize>,
}

impl Node {
    fn new(kind: FileType) -> Self {
        Self {
            kind,
            mtime: SystemTime::now(),
            data: Vec::new(),
            names: Vec::new(),
            index: HashMap::new(),
        }
    }

    fn child(&self, name: &OsStr) -> Option<u64> {
        let position = *self.index.get(name)?;
        Some(self.names[position].1)
    }

    fn insert(&mut self, name: &OsStr, ino: u64) {
        self.index.insert(name.to_owned(), self.names.len());
        self.names.push((name.to_owned(), ino));
    }

    fn remove(&mut self, name: &OsStr) -> Option<u64> {
        let position = self.index.remove(name)?;
        let (_name, ino) = self.names.swap_remove(position);
        if let Some((moved, _ino)) = self.names.get(position) {
            let moved = moved.clone();
            self.index.insert(moved, position);
        }
        Some(ino)
    }

    fn attr(&self, ino: u64) -> FileAttr {
        let (perm, nlink) = match self.kind {
            FileType::Directory => (0o755, 2),
            _ => (0o640, 1),
        };
        let size = self.data.len() as u64;
        FileAttr {
            ino: INodeNo(ino),
            size,
            blocks: size.div_ceil(512),
            atime: self.mtime,
            mtime: self.mtime,
            ctime: self.mtime,
            crtime: UNIX_EPOCH,
            kind: self.kind,
            perm,
            nlink,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

struct State {
    nodes: HashMap<u64, Node>,
    next_ino: u64,
}

struct Floor {
    state: RwLock<State>,
}

impl Floor {
    fn new() -> Self {
        let nodes = HashMap::from([(INodeNo::ROOT.0, Node::new(FileType::Directory))]);
        Self {
            state: RwLock::new(State {
                nodes,
                next_ino: INodeNo::ROOT.0 + 1,
            }),
        }
    }

    fn make(&self, parent: u64, name: &OsStr, kind: FileType) -> Result<FileAttr, Errno> {
        let mut state = self.state.write();
        let ino = state.next_ino;
        let directory = state.nodes.get_mut(&parent).ok_or(Errno::ENOENT)?;
        if directory.child(name).is_some() {
            return Err(Errno::EEXIST);
        }
        directory.insert(name, ino);
        let node = Node::new(kind);
        let attr = node.attr(ino);
        state.nodes.insert(ino, node);
        state.next_ino += 1;
        Ok(attr)
    }

    fn remove(&self, parent: u64, name: &OsStr) -> Result<(), Errno> {
        let mut state = self.state.write();
        let directory = state.nodes.get_mut(&parent).ok_or(Errno::ENOENT)?;
        let ino = directory.remove(name).ok_or(Errno::ENOENT)?;
        state.nodes.remove(&ino);
        Ok(())
    }
}

impl Filesystem for Floor {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        config
            .set_max_write(MAX_WRITE_BYTES)
            .map(|_previous| ())
            .map_err(|_nearest| io::Error::from(io::ErrorKind::InvalidInput))
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let state = self.state.read();
        let found = state
            .nodes
            .get(&parent.0)
            .and_then(|directory| directory.child(name))
            .and_then(|ino| Some(state.nodes.get(&ino)?.attr(ino)));
        match found {
            Some(attr) => reply.entry(&TTL, &attr, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        match self.state.read().nodes.get(&ino.0) {
            Some(node) => reply.attr(&TTL, &node.attr(ino.0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        _request: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut state = self.state.write();
        let Some(node) = state.nodes.get_mut(&ino.0) else {
            return reply.error(Errno::ENOENT);
        };
        if let Some(size) = size {
            let Ok(size) = usize::try_from(size) else {
                return reply.error(Errno::EFBIG);
            };
            node.data.resize(size, 0);
        }
        reply.attr(&TTL, &node.attr(ino.0));
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
        match self.make(parent.0, name, FileType::Directory) {
            Ok(attr) => reply.entry(&TTL, &attr, Generation(0)),
            Err(errno) => reply.error(errno),
        }
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        match self.remove(parent.0, name) {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.unlink(request, parent, name, reply);
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut state = self.state.write();
        let Some(ino) = state
            .nodes
            .get_mut(&parent.0)
            .and_then(|from| from.remove(name))
        else {
            return reply.error(Errno::ENOENT);
        };
        let Some(target) = state.nodes.get_mut(&new_parent.0) else {
            return reply.error(Errno::ENOENT);
        };
        let replaced = target.remove(new_name);
        target.insert(new_name, ino);
        if let Some(replaced) = replaced {
            state.nodes.remove(&replaced);
        }
        reply.ok();
    }

    fn open(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn create(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        match self.make(parent.0, name, FileType::RegularFile) {
            Ok(attr) => {
                reply.created(
                    &TTL,
                    &attr,
                    Generation(0),
                    FileHandle(0),
                    FopenFlags::FOPEN_DIRECT_IO,
                );
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let state = self.state.read();
        let Some(node) = state.nodes.get(&ino.0) else {
            return reply.error(Errno::ENOENT);
        };
        let length = node.data.len();
        let start = usize::try_from(offset).map_or(length, |offset| offset.min(length));
        let end = start.saturating_add(size as usize).min(length);
        reply.data(&node.data[start..end]);
    }

    fn write(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut state = self.state.write();
        let Some(node) = state.nodes.get_mut(&ino.0) else {
            return reply.error(Errno::ENOENT);
        };
        let (Ok(start), Ok(size)) = (usize::try_from(offset), u32::try_from(data.len())) else {
            return reply.error(Errno::EFBIG);
        };
        let end = start + data.len();
        if node.data.len() < end {
            node.data.resize(end, 0);
        }
        node.data[start..end].copy_from_slice(data);
        node.mtime = SystemTime::now();
        reply.written(size);
    }

    fn flush(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        // The kernel does not ask again.
        reply.error(Errno::ENOSYS);
    }

    fn readdir(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let state = self.state.read();
        let Some(node) = state.nodes.get(&ino.0) else {
            return reply.error(Errno::ENOENT);
        };
        let dots = [(OsStr::new("."), ino.0), (OsStr::new(".."), ino.0)];
        let names = node
            .names
            .iter()
            .map(|(name, child)| (name.as_os_str(), *child));
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let from_names = start.saturating_sub(dots.len()).min(node.names.len());
        let rest = names.skip(from_names);
        let mut next = offset;
        for (name, child) in dots.into_iter().skip(start).chain(rest) {
            let kind = state
                .nodes
                .get(&child)
                .map_or(FileType::RegularFile, |node| node.kind);
            next += 1;
            if reply.add(INodeNo(child), next, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}
