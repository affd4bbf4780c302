//! What a crash journal found at start means for the database found at start.
//!
//! The rule, with D the database's root state:
//!
//! 1. A journal whose segments name another database file (device, inode number, time of creation) is not ours.
//! 2. The states that the journal knows, in order, are: before its first record, and after each record. D must be one
//!    of them. If it is not, somebody else changed the database (a C daemon, a restored backup), and the records must
//!    not be laid over it.
//! 3. Everything behind the last such place is applied. Several places in a row can have the same state, because some
//!    operations of the C daemon change the tree without a new version; then the first of them counts, since records
//!    may be applied twice.
//! 4. A gap in the sequence numbers ends it. Records behind a gap were written while an earlier state was still on its
//!    way to the database, and none of them was acknowledged.
//!
//! A journal that is not ours is set aside and the start goes on without it. Nothing here touches a file; the journal
//! goes on where it ended, and the first batch commits what was applied.

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use pmxcfs_api_types::limits::MAX_FILE_SIZE;

use super::files::SEGMENT_COUNT;
use super::record::{JournalRecord, JournalStep};
use super::segment::{JournalFile, SegmentError};
use crate::store::identity::FileIdentity;
use crate::{Entry, RootState, splice};

/// Why a journal is not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalRefusal {
    /// It was written for another file.
    #[error("it belongs to another database file")]
    OtherFile,
    /// The database is in a state that the journal does not know.
    #[error(
        "the database is at version {found}, and the journal continues version {expected}: the database was changed \
         or replaced by something else"
    )]
    OtherState {
        /// Version of the database.
        found: u64,
        /// Version before the journal's first record.
        expected: u64,
    },
    /// A file is not a journal.
    #[error(transparent)]
    Unreadable(#[from] SegmentError),
    /// A record cannot be applied to the state before it.
    #[error("a record does not fit the state before it")]
    Inconsistent,
}

/// A segment that stays in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LiveSegment {
    pub(crate) size: u64,
    pub(crate) last_sequence: u64,
    pub(crate) salt: u64,
}

/// What to apply, and how the journal goes on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Recovery {
    /// Operations that the database lacks, in order.
    pub(crate) records: Vec<JournalRecord>,
    /// Sequence number of the last operation that the database has.
    pub(crate) committed: u64,
    /// Segments that hold those operations; the others are not needed any more.
    pub(crate) live: [Option<LiveSegment>; SEGMENT_COUNT],
    /// The segment that new records go to.
    pub(crate) current: usize,
    /// Records behind a gap, never acknowledged.
    pub(crate) dropped_count: usize,
    /// Entries that differ from the database once the records are applied.
    pub(crate) touched: HashSet<u64>,
}

impl Recovery {
    /// The root state after the records; none if there are none.
    pub(crate) fn root(&self) -> Option<RootState> {
        self.records.last().map(|record| record.root)
    }

    /// Sequence number of the last operation.
    pub(crate) fn sequence(&self) -> u64 {
        let last = self.records.last();
        last.map_or(self.committed, |record| record.sequence)
    }
}

/// One state that the journal knows.
struct Place {
    sequence: u64,
    root: RootState,
}

/// Decides by the rule above.
pub(crate) fn plan(
    segments: [Option<JournalFile>; SEGMENT_COUNT],
    database: FileIdentity,
    root: RootState,
) -> Result<Recovery, JournalRefusal> {
    let mut segments: Vec<(usize, JournalFile)> = segments
        .into_iter()
        .enumerate()
        .filter_map(|(index, segment)| Some((index, segment?)))
        .collect();
    segments.sort_by_key(|(_, segment)| segment.header.first_sequence);
    if segments
        .iter()
        .all(|(_, segment)| segment.records.is_empty())
    {
        return Ok(Recovery::default());
    }
    if segments
        .iter()
        .any(|(_, segment)| segment.header.database != database)
    {
        return Err(JournalRefusal::OtherFile);
    }
    let places = places(&segments);
    let Some(place) = find(&places, root) else {
        return Err(JournalRefusal::OtherState {
            found: root.version,
            expected: segments
                .first()
                .map_or(0, |(_, segment)| segment.header.base.version),
        });
    };
    Ok(collect(segments, place.sequence))
}

fn places(segments: &[(usize, JournalFile)]) -> Vec<Place> {
    let mut places = Vec::new();
    for (_, segment) in segments {
        places.push(Place {
            sequence: segment.header.first_sequence.wrapping_sub(1),
            root: segment.header.base,
        });
        places.extend(segment.records.iter().map(|record| Place {
            sequence: record.sequence,
            root: record.root,
        }));
    }
    places
}

/// The first of the last run of places with this state.
fn find(places: &[Place], root: RootState) -> Option<&Place> {
    let mut at = places.iter().rposition(|place| place.root == root)?;
    while let Some(before) = at.checked_sub(1)
        && places[before].root == root
        && places[at].sequence.wrapping_sub(places[before].sequence) <= 1
    {
        at = before;
    }
    places.get(at)
}

fn collect(segments: Vec<(usize, JournalFile)>, committed: u64) -> Recovery {
    let mut recovery = Recovery {
        committed,
        ..Recovery::default()
    };
    let mut last = committed;
    for (index, segment) in segments {
        let mut live = false;
        for record in segment.records {
            if record.sequence <= last {
                continue;
            }
            if Some(record.sequence) == last.checked_add(1) {
                last = record.sequence;
                live = true;
                recovery.records.push(record);
            } else {
                recovery.dropped_count += 1;
            }
        }
        if live {
            recovery.current = index;
            recovery.live[index] = Some(LiveSegment {
                size: segment.valid_size as u64,
                last_sequence: last,
                salt: segment.header.salt,
            });
        }
    }
    recovery
}

/// Applies records to the entries of a database, in row order before and after. Returns the touched inodes.
pub(crate) fn apply(
    entries: &mut Vec<Entry>,
    records: &[JournalRecord],
) -> Result<HashSet<u64>, JournalRefusal> {
    let mut touched = HashSet::new();
    if records.is_empty() {
        return Ok(touched);
    }
    let mut by_inode: HashMap<u64, Entry> = entries
        .iter()
        .map(|entry| (entry.inode, entry.clone()))
        .collect();
    for step in records.iter().flat_map(|record| &record.steps) {
        let (inode, entry) = match step {
            JournalStep::Put { entry } => {
                let former = by_inode.remove(&entry.inode).map(|former| former.data);
                (entry.inode, Some(filled(entry, former.unwrap_or_default())))
            }
            JournalStep::Content {
                entry,
                keep,
                offset,
                data,
            } => {
                let former = by_inode.remove(&entry.inode).map(|former| former.data);
                let content = patch(former.unwrap_or_default(), *keep, *offset, data, entry.size)
                    .ok_or(JournalRefusal::Inconsistent)?;
                (entry.inode, Some(filled(entry, content)))
            }
            JournalStep::Removed { inode } => (*inode, None),
        };
        match entry {
            Some(entry) => by_inode.insert(inode, entry),
            None => by_inode.remove(&inode),
        };
        touched.insert(inode);
    }
    *entries = by_inode.into_values().collect();
    entries.sort_unstable_by_key(|entry| entry.inode.cast_signed());
    Ok(touched)
}

fn filled(entry: &Entry, data: Bytes) -> Entry {
    Entry {
        size: u32::try_from(data.len()).expect("contents are built from 32-bit sizes"),
        // The record's buffer is the whole segment; do not keep it alive for a name.
        name: Bytes::copy_from_slice(&entry.name),
        data,
        ..entry.clone()
    }
}

/// The content after a change. `None` if it would be larger than any content that such a change can leave.
fn patch(former: Bytes, keep: u32, offset: u32, data: &[u8], size: u32) -> Option<Bytes> {
    let limit = MAX_FILE_SIZE.max(former.len() as u64);
    (u64::from(size) <= limit).then(|| splice(former, keep, offset, data, size))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::patch;

    #[test]
    fn absurd_sizes_are_refused_before_memory_is_taken() {
        assert_eq!(patch(Bytes::from_static(b"a"), 1, 0, b"", u32::MAX), None);
        let large = Bytes::from(vec![1; 3 * 1024 * 1024]);
        let cut = patch(large, u32::MAX, 0, b"x", 2 * 1024 * 1024);
        assert_eq!(cut.map(|content| content.len()), Some(2 * 1024 * 1024));
    }
}
