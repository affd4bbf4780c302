//! A disk that records what it is asked to write and to flush, so that a test can cut its power afterwards.
//!
//! Kernels without modules have no device mapper, no nbd, no ublk; a loop device is always there. So the disk is a loop device
//! over a file that a small FUSE filesystem in this process serves: each write to the device comes in as a write of the file,
//! each flush as an `fsync`. ext4 on it is mounted as on a real disk.
#![expect(clippy::disallowed_types, reason = "a lock of a test has no rank")]

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};
use nix::mount::{MntFlags, umount2};
use parking_lot::{Condvar, Mutex};
use tempfile::TempDir;

/// Size of a disk.
const SIZE: usize = 48 << 20;

/// Bytes that a disk writes as a whole or not at all.
const BLOCK: usize = 4096;

const NAME: &str = "disk";
const FILE: INodeNo = INodeNo(2);
const TTL: Duration = Duration::from_secs(3600);

/// What the disk was asked for, in this order.
#[derive(Debug)]
enum Event {
    Write {
        offset: usize,
        data: Vec<u8>,
    },
    /// A flush has ended that covers all events before this number.
    Flushed {
        covers: usize,
    },
}

#[derive(Debug)]
struct State {
    content: Vec<u8>,
    events: Vec<(Instant, Event)>,
    /// Content when recording began.
    base: Vec<u8>,
    is_recording: bool,
    /// Flushes wait until this is off.
    holds_flushes: bool,
    waiting_flush_count: usize,
    longest_flush: Duration,
    flush_count: usize,
    written_bytes: usize,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// A flush may go on, or has come to wait.
    flush: Condvar,
}

/// A recording disk with ext4 on it. Dropping it unmounts everything.
#[derive(Debug)]
pub(crate) struct Disk {
    shared: Arc<Shared>,
    mounted: Mounted,
    _session: BackgroundSession,
    _directory: TempDir,
}

impl Disk {
    /// Makes a disk and mounts it on `place`.
    pub(crate) fn mount_on(place: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                content: vec![0; SIZE],
                events: Vec::new(),
                base: Vec::new(),
                is_recording: false,
                holds_flushes: false,
                waiting_flush_count: 0,
                longest_flush: Duration::ZERO,
                flush_count: 0,
                written_bytes: 0,
            }),
            flush: Condvar::new(),
        });
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName(NAME.into())];
        let server = Server(Arc::clone(&shared));
        let session = fuser::spawn_mount(server, directory.path(), &config).unwrap();
        let file = directory.path().join(NAME);
        make_filesystem(&file);
        let mounted = Mounted::mount(&file, place);
        Self {
            shared,
            mounted,
            _session: session,
            _directory: directory,
        }
    }

    /// Records from now on what is written. All that is there counts as flushed.
    pub(crate) fn record(&self) {
        // The filesystem's own leftovers from its making.
        nix::unistd::syncfs(File::open(&self.mounted.place).unwrap()).unwrap();
        let mut state = self.shared.state.lock();
        state.base = state.content.clone();
        state.events.clear();
        state.is_recording = true;
        state.longest_flush = Duration::ZERO;
    }

    /// Ends the recording.
    pub(crate) fn recording(&self) -> Recording {
        let mut state = self.shared.state.lock();
        state.is_recording = false;
        Recording {
            base: std::mem::take(&mut state.base),
            events: std::mem::take(&mut state.events),
            longest_flush: state.longest_flush,
        }
    }

    /// Flushes that have ended, and bytes written.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.shared.state.lock();
        (state.flush_count, state.written_bytes)
    }

    /// Flushes wait until the result is dropped.
    pub(crate) fn hold_flushes(&self) -> Held<'_> {
        self.shared.state.lock().holds_flushes = true;
        Held(self)
    }
}

/// Keeps flushes from ending.
#[derive(Debug)]
pub(crate) struct Held<'a>(&'a Disk);

impl Held<'_> {
    /// Waits until a flush waits.
    pub(crate) fn await_flush(&self, patience: Duration) {
        let shared = &self.0.shared;
        let mut state = shared.state.lock();
        let is_none = |state: &mut State| state.waiting_flush_count == 0;
        let result = shared.flush.wait_while_for(&mut state, is_none, patience);
        assert!(!result.timed_out(), "nothing is flushed");
    }

    /// Whether a flush waits still.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.0.shared.state.lock().waiting_flush_count > 0
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.shared.state.lock().holds_flushes = false;
        self.0.shared.flush.notify_all();
    }
}

/// What a disk was asked for, from when on its content is known to be safe.
#[derive(Debug)]
pub(crate) struct Recording {
    base: Vec<u8>,
    events: Vec<(Instant, Event)>,
    /// The longest time that the device took for a flush.
    pub(crate) longest_flush: Duration,
}

impl Recording {
    /// How many events there are: a cut is possible behind each.
    pub(crate) fn event_count(&self) -> usize {
        self.events.len()
    }

    /// Time of an event.
    pub(crate) fn time_of(&self, event: usize) -> Instant {
        self.events[event].0
    }

    /// Writes the content of a disk whose power was cut behind this event to a file: everything that the last flush before
    /// covers, and of each block written later perhaps what was written, as `is_kept` says.
    pub(crate) fn cut(&self, last: usize, file: &Path, mut is_kept: impl FnMut() -> bool) {
        let mut content = self.base.clone();
        let events = &self.events[..=last];
        let safe_count = events.iter().rev().find_map(|(_, event)| match event {
            Event::Flushed { covers } => Some(*covers),
            Event::Write { .. } => None,
        });
        for (number, (_, event)) in events.iter().enumerate() {
            let Event::Write { offset, data } = event else {
                continue;
            };
            let is_safe = safe_count.is_some_and(|count| number < count);
            for (index, block) in data.chunks(BLOCK).enumerate() {
                if is_safe || is_kept() {
                    let start = offset + index * BLOCK;
                    content[start..start + block.len()].copy_from_slice(block);
                }
            }
        }
        let made = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(file)
            .unwrap();
        made.set_len(SIZE as u64).unwrap();
        for (index, block) in content.chunks(BLOCK).enumerate() {
            if block.iter().any(|byte| *byte != 0) {
                made.write_all_at(block, (index * BLOCK) as u64).unwrap();
            }
        }
    }
}

/// An image of a disk that is mounted. Dropping it unmounts it.
#[derive(Debug)]
pub(crate) struct Mounted {
    place: PathBuf,
}

impl Mounted {
    /// Mounts an image through a loop device, which goes with the mount.
    pub(crate) fn mount(image: &Path, place: &Path) -> Self {
        fs::create_dir_all(place).unwrap();
        run(Command::new("mount")
            .args(["-t", "ext4", "-o", "loop"])
            .arg(image)
            .arg(place));
        Self {
            place: place.to_owned(),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if umount2(&self.place, MntFlags::empty()).is_err() {
            // Somebody still uses it; the device goes when nobody does.
            let _gone = umount2(&self.place, MntFlags::MNT_DETACH);
        }
    }
}

fn make_filesystem(file: &Path) {
    // Without what the kernel would do in the background later.
    run(Command::new("mkfs.ext4")
        .args(["-q", "-F", "-b", "4096", "-J", "size=4"])
        .args(["-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"])
        .arg(file));
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Serves the one file.
struct Server(Arc<Shared>);

fn attributes(id: INodeNo) -> FileAttr {
    let (kind, perm, size) = match id {
        FILE => (FileType::RegularFile, 0o600, SIZE as u64),
        _ => (FileType::Directory, 0o700, 0),
    };
    FileAttr {
        ino: id,
        size,
        blocks: size.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Filesystem for Server {
    fn lookup(&self, _request: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match name == NAME {
            true => reply.entry(&TTL, &attributes(FILE), Generation(0)),
            false => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _request: &Request, id: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &attributes(id));
    }

    fn open(&self, _request: &Request, _id: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _request: &Request,
        _id: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let state = self.0.state.lock();
        let start = (offset as usize).min(SIZE);
        let end = (start + size as usize).min(SIZE);
        reply.data(&state.content[start..end]);
    }

    fn write(
        &self,
        _request: &Request,
        _id: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut state = self.0.state.lock();
        let start = offset as usize;
        let Some(target) = state.content.get_mut(start..start + data.len()) else {
            return reply.error(Errno::ENOSPC);
        };
        target.copy_from_slice(data);
        state.written_bytes += data.len();
        if state.is_recording {
            let event = Event::Write {
                offset: start,
                data: data.to_vec(),
            };
            state.events.push((Instant::now(), event));
        }
        reply.written(data.len() as u32);
    }

    fn fsync(
        &self,
        _request: &Request,
        _id: INodeNo,
        _handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        let shared = Arc::clone(&self.0);
        let begun = Instant::now();
        let covers = shared.state.lock().events.len();
        // Not here: the disk takes writes while it flushes.
        std::thread::spawn(move || {
            let mut state = shared.state.lock();
            state.waiting_flush_count += 1;
            shared.flush.notify_all();
            shared
                .flush
                .wait_while(&mut state, |state| state.holds_flushes);
            state.waiting_flush_count -= 1;
            state.flush_count += 1;
            state.longest_flush = state.longest_flush.max(begun.elapsed());
            if state.is_recording {
                let event = Event::Flushed { covers };
                state.events.push((Instant::now(), event));
            }
            drop(state);
            reply.ok();
        });
    }

    fn fallocate(
        &self,
        _request: &Request,
        _id: INodeNo,
        _handle: FileHandle,
        _offset: u64,
        _length: u64,
        _mode: i32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EOPNOTSUPP);
    }

    fn release(
        &self,
        _request: &Request,
        _id: INodeNo,
        _handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn flush(
        &self,
        _request: &Request,
        _id: INodeNo,
        _handle: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }
}
