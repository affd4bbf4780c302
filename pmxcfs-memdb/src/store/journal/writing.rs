//! Writing the crash journal.
//!
//! Two files take turns. When a batch is taken for the database, records go on in the other file; when the batch is
//! committed, the file with its records is freed. If the other file is still in use then (its batch failed and was
//! merged into the next one), records go on in the same file, and it is freed one batch later.
//!
//! A freed file keeps its pages for the next use, up to a limit and until nothing happens for a while: one writer that
//! overwrites 4 KiB gets 1.8 times the rate of files that are cut (`store_cost`, medians of 7 pairs), since the kernel
//! need not find and clear pages.
//!
//! Somebody may remove the files, or the whole directory, while they are open. Records that are written then would be
//! found by no start. So writes look whether their file still has a name, and each batch looks at both files; a file that
//! has none is made anew with all that is in it, since an open file can be read as long as somebody has it open.

use std::time::{Duration, Instant};
use std::{io, mem};

use super::files::{Files, JournalPlace, SEGMENT_COUNT};
use super::record;
use super::replay::{LiveSegment, Recovery};
use super::segment::{FREE_HEADER, JournalHeader, draw_salt};
use crate::RootState;
use crate::store::identity::FileIdentity;
use crate::store::medium::SegmentFile;

/// What each file keeps for its next use; no more is written to one between two commits, unless the database is slow.
const KEPT_SIZE: u64 = 8 * 1024 * 1024;

/// A buffer for records that grew beyond this in a burst is given back.
const SPARE_CAPACITY: usize = 1024 * 1024;

/// Writes that follow a look at the file's name this closely do not look again: a look takes 0.5 us. If somebody removes the file
/// in this time, the operations written meanwhile are lost only if this process also dies before the next look, which comes with a
/// later write or with the next batch.
const CHECK_INTERVAL: Duration = Duration::from_micros(100);

/// One of the two files.
struct Segment {
    file: Box<dyn SegmentFile>,
    /// Bytes in use; 0 is a free segment.
    size: u64,
    /// Bytes of the file at most: those in use, and what earlier uses left behind them.
    allocated: u64,
    /// Last operation in it, or the one before its first.
    last_sequence: u64,
    /// What its records are sealed with.
    salt: u64,
}

impl Segment {
    /// A segment as it was found, cut to what is in use.
    fn new(mut file: Box<dyn SegmentFile>, live: Option<LiveSegment>) -> io::Result<Self> {
        let size = live.map_or(0, |live| live.size);
        file.truncate(size)?;
        Ok(Self {
            file,
            size,
            allocated: size,
            last_sequence: live.map_or(0, |live| live.last_sequence),
            salt: live.map_or(0, |live| live.salt),
        })
    }

    /// Starts a new use of a free segment.
    fn begin(&mut self, header: JournalHeader) -> io::Result<()> {
        self.write(&header.encode())?;
        self.last_sequence = header.first_sequence.wrapping_sub(1);
        self.salt = header.salt;
        Ok(())
    }

    /// Seals records and writes them.
    fn append(&mut self, records: &mut [u8], last_sequence: u64) -> io::Result<()> {
        record::seal(records, self.salt);
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

    /// Goes on in another file, which is empty or a copy that was not completed.
    fn move_to(&mut self, mut file: Box<dyn SegmentFile>) -> io::Result<()> {
        let mut content = self.file.read_all()?;
        content.truncate(usize::try_from(self.size).unwrap_or(usize::MAX));
        file.truncate(0)?;
        file.write_at(0, &content)?;
        self.file = file;
        self.allocated = self.size;
        Ok(())
    }
}

/// Both files, or none where there is no run directory.
pub(crate) struct Journal {
    place: JournalPlace,
    database: FileIdentity,
    /// Most bytes in use.
    limit: u64,
    segments: Option<[Segment; SEGMENT_COUNT]>,
    current: usize,
    /// Last operation that is in the files.
    written: u64,
    /// What is in the files counts once the database has this operation.
    floor: u64,
    /// Last operation that is in the database.
    committed: u64,
    /// The next write from then on looks whether the file still has a name.
    check_at: Instant,
    /// Bytes of records written so far.
    written_bytes: u64,
    /// A buffer for the records that come next.
    spare: Vec<u8>,
}

impl Journal {
    /// A journal that has no files yet and takes nothing, of a database that has this operation.
    pub(crate) fn new(
        place: JournalPlace,
        database: FileIdentity,
        limit: u64,
        committed: u64,
    ) -> Self {
        Self {
            place,
            database,
            limit,
            segments: None,
            current: 0,
            written: committed,
            floor: 0,
            committed,
            check_at: Instant::now(),
            written_bytes: 0,
            spare: Vec::new(),
        }
    }

    /// Goes on where a former process stopped: behind the records that were found, or from the state `stored`. Cuts what is
    /// not needed off the files: torn records, and segments that the database has already.
    pub(crate) fn go_on(
        &mut self,
        files: Files,
        recovery: &Recovery,
        stored: RootState,
    ) -> io::Result<()> {
        self.written = recovery.sequence();
        let [first, second] = files;
        let mut segments = [
            Segment::new(first, recovery.live[0])?,
            Segment::new(second, recovery.live[1])?,
        ];
        if recovery.records.is_empty() {
            segments[recovery.current].begin(self.header(recovery.committed, stored))?;
        }
        self.current = recovery.current;
        self.segments = Some(segments);
        Ok(())
    }

    pub(crate) fn place(&self) -> &JournalPlace {
        &self.place
    }

    /// Whether it has files.
    pub(crate) fn is_usable(&self) -> bool {
        self.segments.is_some()
    }

    /// The header of a segment behind the operation `sequence`, which led to the state `base`.
    fn header(&self, sequence: u64, base: RootState) -> JournalHeader {
        JournalHeader {
            database: self.database,
            first_sequence: sequence.wrapping_add(1),
            base,
            salt: draw_salt(),
        }
    }

    /// Whether an operation survives the death of the process.
    pub(crate) fn covers(&self, sequence: u64) -> bool {
        sequence <= self.committed || (sequence <= self.written && self.floor <= self.committed)
    }

    /// Bytes of records written since the start.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// An empty buffer for the next records.
    pub(crate) fn take_spare(&mut self) -> Vec<u8> {
        mem::take(&mut self.spare)
    }

    /// Bytes in use in both files.
    pub(crate) fn size(&self) -> u64 {
        let segments = self.segments.iter().flatten();
        segments.map(|segment| segment.size).sum()
    }

    /// Bytes of both files.
    pub(crate) fn allocated(&self) -> u64 {
        let segments = self.segments.iter().flatten();
        segments.map(|segment| segment.allocated).sum()
    }

    /// Gives back what is kept for the next use, which will not come soon.
    pub(crate) fn release(&mut self) {
        for segment in self.segments.iter_mut().flatten() {
            // Only memory is at stake.
            let _result = segment.trim();
        }
    }

    /// Writes records as [`encode`](record::encode) makes them, the last one of this operation. After an error they may
    /// not be followed by others in the same segment.
    pub(crate) fn append(&mut self, mut records: Vec<u8>, last_sequence: u64) -> io::Result<()> {
        let total = self.size() + records.len() as u64;
        let Some(segments) = &mut self.segments else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if total > self.limit {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("the journal would exceed its limit of {} bytes", self.limit),
            ));
        }
        let segment = &mut segments[self.current];
        segment.append(&mut records, last_sequence)?;
        let now = Instant::now();
        if now >= self.check_at {
            self.check_at = now + CHECK_INTERVAL;
            if !segment.file.is_linked()? {
                self.ensure_linked()?;
            }
        }
        self.written = last_sequence;
        self.written_bytes += records.len() as u64;
        records.clear();
        records.shrink_to(SPARE_CAPACITY);
        self.spare = records;
        Ok(())
    }

    /// Makes files that are in use anew if somebody has removed them.
    pub(crate) fn ensure_linked(&mut self) -> io::Result<()> {
        for (index, segment) in self.segments.iter_mut().flatten().enumerate() {
            if segment.size > 0 && !segment.file.is_linked()? {
                self.place.make_directory()?;
                segment.move_to(self.place.open_one(index)?)?;
                tracing::warn!(
                    "a file of the crash journal was removed while it is in use; it is made anew with all that it held. \
                     Do not delete the run directory of a running daemon"
                );
            }
        }
        Ok(())
    }

    /// Lets records behind the operation `sequence`, which led to the state `base`, go to the other file, which is free.
    /// They count at once, or after a gap (`is_resumed`) when the database has that operation.
    pub(crate) fn turn(
        &mut self,
        sequence: u64,
        base: RootState,
        is_resumed: bool,
    ) -> io::Result<()> {
        let header = self.header(sequence, base);
        let other = self.other();
        if let Some(segments) = &mut self.segments {
            // After an error a part of a header is recognised as such; the file stays free.
            segments[other].begin(header)?;
            self.current = other;
            // Nobody has looked at this file while it was free.
            self.check_at = Instant::now();
        }
        if is_resumed {
            self.floor = sequence;
            self.written = sequence;
        }
        Ok(())
    }

    /// Whether records can go to the other file.
    pub(crate) fn other_is_free(&self) -> bool {
        let other = self.other();
        self.segments
            .as_ref()
            .is_some_and(|segments| segments[other].size == 0)
    }

    fn other(&self) -> usize {
        (self.current + 1) % SEGMENT_COUNT
    }

    /// The database has this operation: frees the other file if it is not needed any more.
    pub(crate) fn committed(&mut self, sequence: u64) {
        self.committed = sequence;
        let other = self.other();
        if let Some(segments) = &mut self.segments
            && segments[other].size > 0
            && segments[other].last_sequence <= sequence
            && let Err(error) = segments[other].clear()
        {
            // Its records are older than the database, so they do no harm; it is tried again after the next commit.
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "a journal file cannot be emptied"
            );
        }
    }

    /// Drops all records. The database has them, and is about to leave the states that they know.
    pub(crate) fn empty(&mut self) -> io::Result<()> {
        let segments = self.segments.iter_mut().flatten();
        segments
            .filter(|segment| segment.size > 0)
            .try_for_each(Segment::clear)
    }
}

#[cfg(test)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "files of the tests fit into memory"
)]
mod tests;
