//! A medium that fails or dies at a chosen step.
#![expect(clippy::disallowed_types, reason = "a lock of a test has no rank")]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use pmxcfs_memdb::store::{
    Backend, BackendError, Checkpoint, Medium, Origin, SegmentFile, StoredRow, SystemMedium,
};
use pmxcfs_memdb::{Entry, RootState};

/// What happens at the chosen step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process dies before the step.
    DieBefore,
    /// The process dies in the middle of it, as far as it can be half done, else behind it.
    DieDuring,
    /// This step and the next ones, so many in all, fail.
    Outage(u64),
    /// This step and the next ones, so many in all, are done and reported as failed.
    Misreport(u64),
}

/// Counts the steps that change something, and makes one of them go wrong.
#[derive(Debug)]
pub(crate) struct FaultyMedium {
    fault: Fault,
    at: u64,
    steps: AtomicU64,
    dead: AtomicBool,
    database_broken: AtomicBool,
    syncs: AtomicU64,
    /// A sync has begun.
    sync_waits: AtomicBool,
    /// Held by a test to keep syncs from ending.
    sync_gate: Mutex<()>,
    last_write: Mutex<Option<LastWrite>>,
    system: SystemMedium,
}

/// What a process that died before a write to the journal was about to write.
#[derive(Debug, Clone)]
pub(crate) struct LastWrite {
    pub(crate) path: PathBuf,
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
}

/// What a step has to do.
enum Verdict {
    Go,
    /// Do a part of it if that is possible, and report an error.
    Half,
    /// Do it, and report an error.
    DoneAndFail,
    Fail,
}

impl FaultyMedium {
    /// The fault happens at step `at`, counted from 1.
    pub(crate) fn new(fault: Fault, at: u64) -> Arc<Self> {
        Arc::new(Self {
            fault,
            at,
            steps: AtomicU64::new(0),
            dead: AtomicBool::new(false),
            database_broken: AtomicBool::new(false),
            syncs: AtomicU64::new(0),
            sync_waits: AtomicBool::new(false),
            sync_gate: Mutex::new(()),
            last_write: Mutex::default(),
            system: SystemMedium,
        })
    }

    /// Wraps it so that it can be configured.
    pub(crate) fn shared(self: &Arc<Self>) -> Arc<dyn Medium> {
        Arc::new(Shared(Arc::clone(self)))
    }

    /// A medium without a fault of its own.
    pub(crate) fn healthy() -> Arc<Self> {
        Self::new(Fault::Outage(0), u64::MAX / 2)
    }

    /// From now on all steps of the database fail, and none of the journal, or it is over.
    pub(crate) fn break_database(&self, broken: bool) {
        self.database_broken.store(broken, Ordering::SeqCst);
    }

    /// How often the database was made durable.
    pub(crate) fn sync_count(&self) -> u64 {
        self.syncs.load(Ordering::SeqCst)
    }

    /// Whether a sync has begun so far.
    pub(crate) fn has_begun_sync(&self) -> bool {
        self.sync_waits.load(Ordering::SeqCst)
    }

    /// Syncs do not end as long as the guard lives.
    pub(crate) fn hold_syncs(&self) -> MutexGuard<'_, ()> {
        self.sync_gate.lock()
    }

    fn database_step(&self) -> Verdict {
        if self.database_broken.load(Ordering::SeqCst) {
            Verdict::Fail
        } else {
            self.step()
        }
    }

    /// The write to the journal that the process died before, if it was one.
    pub(crate) fn last_write(&self) -> Option<LastWrite> {
        self.last_write.lock().clone()
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Whether the chosen step was reached.
    pub(crate) fn was_reached(&self) -> bool {
        self.steps.load(Ordering::SeqCst) >= self.at
    }

    fn step(&self) -> Verdict {
        if self.is_dead() {
            return Verdict::Fail;
        }
        let step = self.steps.fetch_add(1, Ordering::SeqCst) + 1;
        match self.fault {
            Fault::Outage(length) if (self.at..self.at + length).contains(&step) => Verdict::Fail,
            Fault::Misreport(length) if (self.at..self.at + length).contains(&step) => {
                Verdict::DoneAndFail
            }
            Fault::Outage(_) | Fault::Misreport(_) => Verdict::Go,
            _ if step < self.at => Verdict::Go,
            fault => {
                self.dead.store(true, Ordering::SeqCst);
                if fault == Fault::DieDuring {
                    Verdict::Half
                } else {
                    Verdict::Fail
                }
            }
        }
    }
}

fn error() -> io::Error {
    io::Error::other("a fault of the test")
}

#[derive(Debug)]
struct Shared(Arc<FaultyMedium>);

impl Medium for Shared {
    fn open_backend(&self, database: &Path) -> Result<Box<dyn Backend>, BackendError> {
        match self.0.database_step() {
            Verdict::Go => Ok(Box::new(FaultyBackend {
                inner: Some(self.0.system.open_backend(database)?),
                medium: Arc::clone(&self.0),
            })),
            _ => Err(error().into()),
        }
    }

    fn open_segment(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        Ok(Box::new(FaultySegment {
            inner: self.0.system.open_segment(path)?,
            path: path.to_owned(),
            medium: Arc::clone(&self.0),
        }))
    }

    fn remove_segment(&self, path: &Path) -> io::Result<()> {
        match self.0.step() {
            Verdict::Go => self.0.system.remove_segment(path),
            Verdict::Half | Verdict::DoneAndFail => {
                self.0.system.remove_segment(path)?;
                Err(error())
            }
            Verdict::Fail => Err(error()),
        }
    }
}

struct FaultySegment {
    inner: Box<dyn SegmentFile>,
    path: PathBuf,
    medium: Arc<FaultyMedium>,
}

impl SegmentFile for FaultySegment {
    fn read_all(&mut self) -> io::Result<Vec<u8>> {
        self.inner.read_all()
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let was_dead = self.medium.is_dead();
        let verdict = self.medium.step();
        if self.medium.is_dead() && !was_dead {
            *self.medium.last_write.lock() = Some(LastWrite {
                path: self.path.clone(),
                offset,
                bytes: bytes.to_vec(),
            });
        }
        match verdict {
            Verdict::Go => self.inner.write_at(offset, bytes),
            Verdict::Half => {
                self.inner.write_at(offset, &bytes[..bytes.len() / 2])?;
                Err(error())
            }
            Verdict::DoneAndFail => {
                self.inner.write_at(offset, bytes)?;
                Err(error())
            }
            Verdict::Fail => Err(error()),
        }
    }

    fn is_linked(&self) -> io::Result<bool> {
        self.inner.is_linked()
    }

    fn truncate(&mut self, size: u64) -> io::Result<()> {
        match self.medium.step() {
            Verdict::Go => self.inner.truncate(size),
            Verdict::Half | Verdict::DoneAndFail => {
                self.inner.truncate(size)?;
                Err(error())
            }
            Verdict::Fail => Err(error()),
        }
    }
}

struct FaultyBackend {
    inner: Option<Box<dyn Backend>>,
    medium: Arc<FaultyMedium>,
}

impl FaultyBackend {
    fn run<R>(
        &mut self,
        step: impl FnOnce(&mut dyn Backend) -> Result<R, BackendError>,
    ) -> Result<R, BackendError> {
        let inner = self.inner.as_deref_mut().expect("it is open");
        match self.medium.database_step() {
            Verdict::Go => step(inner),
            Verdict::Half | Verdict::DoneAndFail => {
                step(inner)?;
                Err(error().into())
            }
            Verdict::Fail => Err(error().into()),
        }
    }
}

impl Backend for FaultyBackend {
    fn was_changed(&mut self) -> Result<bool, BackendError> {
        self.inner.as_deref_mut().expect("it is open").was_changed()
    }

    fn begin(&mut self) -> Result<(), BackendError> {
        self.run(|inner| inner.begin())
    }

    fn delete(&mut self, inode: u64) -> Result<(), BackendError> {
        self.run(|inner| inner.delete(inode))
    }

    fn put(&mut self, entry: &Entry) -> Result<(), BackendError> {
        self.run(|inner| inner.put(entry))
    }

    fn put_root(&mut self, root: RootState, origin: Origin) -> Result<(), BackendError> {
        self.run(|inner| inner.put_root(root, origin))
    }

    fn commit(&mut self) -> Result<(), BackendError> {
        self.run(|inner| inner.commit())
    }

    fn rollback(&mut self) {
        self.inner.as_deref_mut().expect("it is open").rollback();
    }

    fn checkpoint(&mut self, mode: Checkpoint) -> Result<bool, BackendError> {
        self.run(|inner| inner.checkpoint(mode))
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        self.medium.sync_waits.store(true, Ordering::SeqCst);
        drop(self.medium.sync_gate.lock());
        self.run(|inner| inner.sync())?;
        self.medium.syncs.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn read_rows(
        &mut self,
        from: u64,
        to: u64,
        size: usize,
    ) -> Result<(Vec<StoredRow>, u64), BackendError> {
        self.run(|inner| inner.read_rows(from, to, size))
    }

    fn read_root(&mut self) -> Result<Option<RootState>, BackendError> {
        self.run(|inner| inner.read_root())
    }

    fn forget_cached(&mut self) {}

    fn log_size(&self) -> u64 {
        self.inner.as_deref().expect("it is open").log_size()
    }

    fn release_memory(&mut self) {}

    fn close(mut self: Box<Self>) -> Result<(), BackendError> {
        match self.medium.step() {
            Verdict::Fail => Err(error().into()),
            _ => self.inner.take().expect("it is open").close(),
        }
    }
}
