//! The crash journal: redo records of what is acknowledged and not yet in the database.
//!
//! It lives in the RAM-backed run directory, so that it costs no disk write and survives the death of the process but
//! not that of the machine: as much as the C daemon's unsynced SQLite log promises.
//!
//! Two files take turns. When a batch is taken for the database, records go on in the other file; when the batch is
//! committed, the file with its records is emptied. If the other file is still in use then (its batch failed and was
//! merged into the next one), records go on in the same file, and it is emptied one batch later.
//!
//! When a record cannot be written (no space, too large), the journal has a gap from there on. It must not go on as if
//! nothing were missing: operations are acknowledged by commits until a new file starts at the state of a batch, and
//! records in that file count only once that batch is committed (`floor`).

use std::sync::atomic::Ordering;
use std::time::Instant;
use std::{io, mem};

use super::StoreConfig;
use super::backend::SegmentFile;
use super::pacing::LogPacer;
use super::queue::Shared;
use super::recover::{LiveSegment, SEGMENT_COUNT};
use super::schema::FileIdentity;
use super::segment::SegmentHeader;
use crate::RootState;

/// A buffer that grew beyond this in a burst is given back.
const SPARE_CAPACITY: usize = 1024 * 1024;

/// One of the two files.
pub(super) struct Segment {
    file: Box<dyn SegmentFile>,
    /// Bytes in use; 0 is a free segment.
    size: u64,
    /// Last operation in it, or the one before its first.
    last_sequence: u64,
}

impl Segment {
    pub(super) fn new(file: Box<dyn SegmentFile>, live: Option<LiveSegment>) -> Self {
        Self {
            file,
            size: live.map_or(0, |live| live.size),
            last_sequence: live.map_or(0, |live| live.last_sequence),
        }
    }

    /// Cuts the file to what is in use, which may be nothing.
    pub(super) fn trim(&mut self) -> io::Result<()> {
        self.file.truncate(self.size)
    }

    fn append(&mut self, bytes: &[u8], last_sequence: u64) -> io::Result<()> {
        self.file.write_at(self.size, bytes)?;
        self.size += bytes.len() as u64;
        self.last_sequence = last_sequence;
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.file.truncate(0)?;
        self.size = 0;
        Ok(())
    }
}

/// Both files, or none where there is no run directory.
pub(super) struct Journal {
    segments: Option<[Segment; SEGMENT_COUNT]>,
    current: usize,
    database: FileIdentity,
    limit: u64,
    spare: Vec<u8>,
    /// Last operation in the files.
    journaled: u64,
    /// Records count once the database has this operation.
    floor: u64,
    pacer: LogPacer,
}

impl Journal {
    pub(super) fn new(
        segments: [Segment; SEGMENT_COUNT],
        current: usize,
        database: FileIdentity,
        config: &StoreConfig,
    ) -> Self {
        Self {
            current,
            limit: config.journal_limit_bytes,
            journaled: segments[current].last_sequence,
            segments: Some(segments),
            ..Self::none(database)
        }
    }

    /// A journal that takes nothing.
    pub(super) fn none(database: FileIdentity) -> Self {
        Self {
            segments: None,
            current: 0,
            database,
            limit: 0,
            spare: Vec::new(),
            journaled: 0,
            floor: 0,
            pacer: LogPacer::default(),
        }
    }

    /// Starts the current file, which is empty, behind the operation `sequence` that led to the state `base`.
    pub(super) fn begin(&mut self, sequence: u64, base: RootState) -> io::Result<()> {
        let header = SegmentHeader {
            database: self.database,
            first_sequence: sequence.wrapping_add(1),
            base,
        };
        match &mut self.segments {
            Some(segments) => segments[self.current].append(&header.encode(), sequence),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Bytes in both files.
    pub(super) fn size(&self) -> u64 {
        let segments = self.segments.iter().flatten();
        segments.map(|segment| segment.size).sum()
    }

    /// Whether an operation survives the death of the process.
    pub(super) fn covers(&self, sequence: u64, committed: u64) -> bool {
        sequence <= committed || (sequence <= self.journaled && self.floor <= committed)
    }

    /// Writes the queue's records, so that everything recorded so far is in the journal, unless there is a gap.
    pub(super) fn flush(&mut self, shared: &Shared) {
        let last_sequence = {
            let mut queue = shared.queue.lock();
            if !queue.journaling || queue.buffer.is_empty() {
                return;
            }
            mem::swap(&mut queue.buffer, &mut self.spare);
            queue.sequence
        };
        self.write_spare(shared, last_sequence);
    }

    /// Writes what was taken out of the queue into `spare`.
    fn write_spare(&mut self, shared: &Shared, last_sequence: u64) {
        let bytes = mem::take(&mut self.spare);
        let total = self.size() + bytes.len() as u64;
        let result = match &mut self.segments {
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
            Some(_) if total > self.limit => Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("the journal would exceed its limit of {} bytes", self.limit),
            )),
            Some(segments) => segments[self.current].append(&bytes, last_sequence),
        };
        match result {
            Ok(()) => {
                self.journaled = last_sequence;
                shared
                    .counters
                    .journaled_size
                    .fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
            Err(error) => self.interrupt(shared, &error),
        }
        self.spare = bytes;
        self.spare.clear();
        self.spare.shrink_to(SPARE_CAPACITY);
    }

    /// The journal has a gap from here on.
    fn interrupt(&mut self, shared: &Shared, error: &io::Error) {
        {
            let mut queue = shared.queue.lock();
            queue.journaling = false;
            queue.buffer = Vec::new();
        }
        if let Some(segments) = &mut self.segments {
            // A partial record is recognised anyway; this only saves space.
            let _result = segments[self.current].trim();
        }
        if self.pacer.due(Instant::now()) {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "the crash journal cannot be written; changes are acknowledged when they are in the database"
            );
        }
    }

    /// Takes everything out of the queue that is not in the files yet. The queue's lock is held by the caller, which
    /// calls [`Journal::turn`] after dropping it.
    pub(super) fn take_rest(&mut self, buffer: &mut Vec<u8>) {
        mem::swap(buffer, &mut self.spare);
    }

    /// Ends the part of the journal that a batch covers: writes the rest of its records, then lets new ones go to the
    /// other file if that is free.
    ///
    /// `sequence` and `root` are the batch's. `resumed` tells that there was a gap and that recording was switched on
    /// again with this batch.
    pub(super) fn turn(&mut self, shared: &Shared, sequence: u64, root: RootState, resumed: bool) {
        if !self.spare.is_empty() {
            self.write_spare(shared, sequence);
        }
        if !self.other_is_free() {
            return;
        }
        let before = self.current;
        self.current = self.other();
        match self.begin(sequence, root) {
            Ok(()) if resumed => {
                self.floor = sequence;
                self.journaled = sequence;
            }
            Ok(()) => {}
            Err(error) => {
                // A part of a header is recognised as such; the file stays free.
                self.current = before;
                self.interrupt(shared, &error);
            }
        }
    }

    /// Whether a batch taken now could start a new file.
    pub(super) fn other_is_free(&self) -> bool {
        let other = self.other();
        self.segments
            .as_ref()
            .is_some_and(|segments| segments[other].size == 0)
    }

    fn other(&self) -> usize {
        (self.current + 1) % SEGMENT_COUNT
    }

    /// A batch is committed: empties what is not needed any more, and ends a gap if nothing was recorded since.
    pub(super) fn settle(&mut self, shared: &Shared, committed: u64, root: RootState) {
        self.free_other(committed);
        if self.segments.is_some() && self.other_is_free() {
            let resumed = {
                let mut queue = shared.queue.lock();
                let resumed = !queue.journaling && queue.sequence == committed;
                queue.journaling |= resumed;
                resumed
            };
            if resumed {
                self.turn(shared, committed, root, true);
                self.free_other(committed);
            }
        }
        if self.floor <= committed && shared.queue.lock().journaling {
            self.pacer.reset();
        }
    }

    /// Drops all records. The database has them, and is about to leave the states that they know.
    pub(super) fn empty(&mut self) -> io::Result<()> {
        let segments = self.segments.iter_mut().flatten();
        segments
            .filter(|segment| segment.size > 0)
            .try_for_each(Segment::clear)
    }

    fn free_other(&mut self, committed: u64) {
        let other = self.other();
        if let Some(segments) = &mut self.segments
            && segments[other].size > 0
            && segments[other].last_sequence <= committed
            && let Err(error) = segments[other].clear()
        {
            // Its records are older than the database, so they do no harm; it is tried again after the next commit.
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "a journal file cannot be emptied"
            );
        }
    }
}
