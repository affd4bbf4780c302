//! The crash journal: redo records of what is acknowledged and not yet in the database.
//!
//! It lives in the RAM-backed run directory, so that it costs no disk write and survives the death of the process but
//! not that of the machine: as much as the C daemon's unsynced SQLite log promises.
//!
//! Two files take turns. When a batch is taken for the database, records go on in the other file; when the batch is
//! committed, the file with its records is freed. If the other file is still in use then (its batch failed and was
//! merged into the next one), records go on in the same file, and it is freed one batch later.
//!
//! A freed file keeps its pages for the next use, up to a limit and until nothing happens for a while.
//!
//! When a record cannot be written (no space, too large), the journal has a gap from there on. It must not go on as if
//! nothing were missing: operations are acknowledged by commits until a new file starts at the state of a batch, and
//! records in that file count only once that batch is committed (`floor`).

use std::sync::atomic::Ordering;
use std::time::Instant;
use std::{io, mem};

use super::StoreConfig;
use super::backend::SegmentFile;
use super::pacing::{KEPT_SIZE, LogPacer};
use super::queue::Shared;
use super::recover::{LiveSegment, SEGMENT_COUNT};
use super::redo;
use super::schema::FileIdentity;
use super::segment::{FREE_HEADER, SegmentHeader, draw_salt};
use crate::RootState;

/// A buffer that grew beyond this in a burst is given back.
const SPARE_CAPACITY: usize = 1024 * 1024;

/// One of the two files.
pub(super) struct Segment {
    file: Box<dyn SegmentFile>,
    /// Bytes in use; 0 is a free segment.
    size: u64,
    /// Bytes of the file at most: those in use, and what earlier uses left behind them.
    allocated: u64,
    /// Last operation in it, or the one before its first.
    last_sequence: u64,
    /// What its records are sealed with. None in one that is only read.
    salt: Option<u64>,
}

impl Segment {
    /// A segment as it was found, cut to what is in use.
    pub(super) fn new(
        mut file: Box<dyn SegmentFile>,
        live: Option<LiveSegment>,
    ) -> io::Result<Self> {
        let size = live.map_or(0, |live| live.size);
        file.truncate(size)?;
        Ok(Self {
            file,
            size,
            allocated: size,
            last_sequence: live.map_or(0, |live| live.last_sequence),
            salt: live.and_then(|live| live.salt),
        })
    }

    /// Starts a new use of a free segment.
    fn begin(&mut self, header: SegmentHeader) -> io::Result<()> {
        self.write(&header.encode())?;
        self.last_sequence = header.first_sequence.wrapping_sub(1);
        self.salt = header.salt;
        Ok(())
    }

    /// Seals records and writes them.
    fn append(&mut self, records: &mut [u8], last_sequence: u64) -> io::Result<()> {
        let salt = self.salt.ok_or(io::ErrorKind::Unsupported)?;
        redo::seal(records, salt);
        self.write(records)?;
        self.last_sequence = last_sequence;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = self.size + bytes.len() as u64;
        // A write that fails may have done a part.
        self.allocated = self.allocated.max(end);
        self.file.write_at(self.size, bytes)?;
        self.size = end;
        Ok(())
    }

    /// Frees it. Pages stay, to be written again soon.
    fn clear(&mut self) -> io::Result<()> {
        if self.file.write_at(0, &FREE_HEADER).is_err() {
            self.cut(0)?;
        }
        self.size = 0;
        if self.allocated > KEPT_SIZE {
            // Tried again with the next use.
            let _result = self.cut(KEPT_SIZE);
        }
        Ok(())
    }

    /// Gives back what is not in use.
    fn trim(&mut self) -> io::Result<()> {
        if self.allocated > self.size {
            self.cut(self.size)?;
        }
        Ok(())
    }

    fn cut(&mut self, size: u64) -> io::Result<()> {
        self.file.truncate(size)?;
        self.allocated = size;
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
            salt: Some(draw_salt()),
        };
        match &mut self.segments {
            Some(segments) => segments[self.current].begin(header),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Goes on behind records that were found at the start: the last operation, and the state it led to. False if there is
    /// no room for that until the records are in the database.
    pub(super) fn go_on(&mut self, sequence: u64, root: RootState) -> io::Result<bool> {
        let segments = self.segments.as_ref();
        if segments.is_some_and(|segments| segments[self.current].salt.is_some()) {
            return Ok(true);
        }
        if !self.other_is_free() {
            return Ok(false);
        }
        self.current = self.other();
        self.begin(sequence, root).map(|()| true)
    }

    /// Bytes in use in both files.
    pub(super) fn size(&self) -> u64 {
        let segments = self.segments.iter().flatten();
        segments.map(|segment| segment.size).sum()
    }

    /// Bytes of both files.
    pub(super) fn allocated(&self) -> u64 {
        let segments = self.segments.iter().flatten();
        segments.map(|segment| segment.allocated).sum()
    }

    /// Gives back what is kept for the next use, which will not come soon.
    pub(super) fn release(&mut self) {
        for segment in self.segments.iter_mut().flatten() {
            // Only memory is at stake.
            let _result = segment.trim();
        }
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
        let mut bytes = mem::take(&mut self.spare);
        let total = self.size() + bytes.len() as u64;
        let result = match &mut self.segments {
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
            Some(_) if total > self.limit => Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("the journal would exceed its limit of {} bytes", self.limit),
            )),
            Some(segments) => segments[self.current].append(&mut bytes, last_sequence),
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
        // A partial record is recognised anyway; this makes room.
        self.release();
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

#[cfg(test)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "files of the tests fit into memory"
)]
mod tests;
