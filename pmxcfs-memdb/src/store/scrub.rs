//! Scrub: compares the rows of the database with the tree in memory.
//!
//! Memory is the truth, and nothing reads the database between two starts. A page of it that has decayed, or a row that
//! somebody has changed, would show at the next start only, when memory is gone. So the store's thread reads all rows once
//! a week, and when somebody asks, from the disk and not from caches. It does that in small steps between commits, with
//! pauses, so nobody notices. What differs is queued as if it had been changed: the next commit writes it as memory has it.
//!
//! A step reads rows first and then looks at the tree. Entries that were changed since the last commit are left out, since
//! their rows are about to be written anyway; that is why the queue is looked at while the tree is locked.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hashbrown::HashSet;
use pmxcfs_api_types::time::wall_clock_secs;

use super::medium::{Backend, BackendError};
use super::warning::with_causes;
use super::writer::{EntryLookup, EntrySource, StoreHandle};
use crate::{Entry, Problem, ROOT_INODE};

/// Time between two scrubs of its own accord.
const INTERVAL: Duration = Duration::from_secs(7 * 24 * 3600);

/// Rest between two steps.
const PAUSE: Duration = Duration::from_millis(20);

/// Rest while the database cannot be read or written.
const LONG_PAUSE: Duration = Duration::from_millis(200);

/// Entries of a step.
const STEP_COUNT: usize = 64;

/// Bytes of content of a step, but for its last row.
const STEP_SIZE: usize = 256 * 1024;

/// Differences that are told one by one.
const TOLD_COUNT: usize = 20;

/// A scrub under way, and when the next one begins.
#[derive(Debug)]
pub(crate) struct Scrub {
    /// All inodes up to this one are compared; `None` while no scrub runs.
    position: Option<u64>,
    /// Highest inode that there was when the scrub began. It does not follow a program that makes entries all the time.
    goal: u64,
    next_at: Instant,
    mended_count: u64,
}

impl Scrub {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            position: None,
            goal: 0,
            next_at: now + INTERVAL,
            mended_count: 0,
        }
    }

    /// When the next step is due.
    pub(crate) fn due(&self) -> Instant {
        self.next_at
    }

    /// Begins a scrub now, unless one runs.
    pub(crate) fn ask(&mut self, now: Instant) {
        if self.position.is_none() {
            self.next_at = now;
        }
    }

    /// Puts the next step off.
    pub(crate) fn put_off(&mut self, now: Instant) {
        self.next_at = now + LONG_PAUSE;
    }

    /// Takes one step. The last batch is in the database: only what was changed since then may differ.
    pub(crate) fn step(
        &mut self,
        handle: &StoreHandle,
        source: &dyn EntrySource,
        backend: &mut dyn Backend,
    ) {
        let from = *self.position.get_or_insert_with(|| {
            backend.forget_cached();
            source.with_entries(&mut |root, _entry| self.goal = root.version);
            let mut queue = handle.queue.lock();
            queue.stats.scrub.is_running = true;
            queue.stats.scrub.row_count = 0;
            queue.stats.scrub.mended.clear();
            queue.stats.scrub.failure = None;
            ROOT_INODE
        });
        let now = Instant::now();
        match compare_range(from, handle, source, backend) {
            Ok(None) => self.put_off(now),
            Ok(Some(compared)) => {
                self.mended_count += compared.mended_count;
                self.position = Some(compared.up_to);
                self.next_at = now + PAUSE;
                if compared.up_to == u64::MAX || (from > self.goal && !compared.is_last) {
                    self.finish(handle, None);
                }
            }
            Err(BackendError::Busy(_)) => self.put_off(now),
            Err(error) => self.finish(handle, Some(&error)),
        }
        if self.position.is_none() {
            backend.release_memory();
        }
    }

    fn finish(&mut self, handle: &StoreHandle, error: Option<&BackendError>) {
        let mended_count = std::mem::take(&mut self.mended_count);
        self.position = None;
        self.next_at = Instant::now() + INTERVAL;
        let (row_count, told) = {
            let mut queue = handle.queue.lock();
            let stats = &mut queue.stats.scrub;
            stats.run_count += 1;
            stats.is_running = false;
            stats.last_secs = wall_clock_secs();
            stats.failure = error.map(|error| with_causes(error));
            (stats.row_count, stats.mended.join("; "))
        };
        if let Some(error) = error {
            tracing::error!(
                error = error as &dyn std::error::Error,
                "the database cannot be read, so the next start would fail. Copy the mounted filesystem before this daemon is \
                 stopped, and look at the disk"
            );
        }
        if mended_count > 0 {
            let more = match mended_count.saturating_sub(TOLD_COUNT as u64) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            tracing::warn!(
                "{mended_count} of {row_count} rows of the database differed from memory and are written anew: {told}{more}. \
                 Look at the disk, and for programs that write to the database"
            );
        } else if error.is_none() {
            tracing::debug!(row_count, "the database has what memory has");
        }
    }
}

/// A row of the database, if it is there.
type Row = Option<Result<Entry, Problem>>;

/// What a step has done.
struct Compared {
    /// All up to this inode.
    up_to: u64,
    /// The tree has no entries above.
    is_last: bool,
    mended_count: u64,
}

/// Compares the next rows above an inode. `None` if that has to wait.
fn compare_range(
    from: u64,
    handle: &StoreHandle,
    source: &dyn EntrySource,
    backend: &mut dyn Backend,
) -> Result<Option<Compared>, BackendError> {
    let known = source.inodes_above(from, STEP_COUNT);
    let to = match known.last() {
        Some(last) if known.len() == STEP_COUNT => *last,
        _ => u64::MAX,
    };
    let root = match from {
        ROOT_INODE => Some(backend.read_root()?),
        _ => None,
    };
    let (rows, up_to) = backend.read_rows(from, to, STEP_SIZE)?;
    let row_count = rows.len() as u64;
    let mut rows: BTreeMap<u64, Row> = rows
        .into_iter()
        .map(|row| (row.inode, Some(row.entry)))
        .collect();
    for inode in known.into_iter().filter(|inode| *inode <= up_to) {
        rows.entry(inode).or_insert(None);
    }
    let mut result = None;
    source.with_entries(&mut |present, entry| {
        let mut queue = handle.queue.lock();
        if source.is_being_replaced() || queue.replacement.is_some() {
            return;
        }
        let queue = &mut *queue;
        let mut mended = differences(&rows, &queue.dirty, entry);
        // The root of a database that this start has made has no mtime yet.
        let is_root_current =
            queue.sequence == queue.committed && !queue.unsaved && present.mtime != 0;
        if is_root_current && root.is_some_and(|root| root != Some(present)) {
            mended.push((ROOT_INODE, "the version row differs".to_owned()));
        }
        let stats = &mut queue.stats.scrub;
        stats.row_count += row_count;
        stats.mended_count += mended.len() as u64;
        let room = TOLD_COUNT.saturating_sub(stats.mended.len());
        let told = mended.iter().take(room).map(|(_, text)| text.clone());
        stats.mended.extend(told);
        if !mended.is_empty() {
            queue.dirty.extend(mended.iter().map(|(inode, _)| *inode));
            queue.unsaved = true;
        }
        result = Some(Compared {
            up_to,
            is_last: to == u64::MAX,
            mended_count: mended.len() as u64,
        });
    });
    Ok(result)
}

/// The inodes whose rows are not as the tree has them, and what is wrong with each.
fn differences(
    rows: &BTreeMap<u64, Row>,
    changed: &HashSet<u64>,
    entry: EntryLookup<'_>,
) -> Vec<(u64, String)> {
    let unchanged = rows.iter().filter(|(inode, _)| !changed.contains(*inode));
    unchanged
        .filter_map(|(inode, row)| {
            let what = match (row, entry(*inode)) {
                // It was removed meanwhile.
                (None, None) => return None,
                (None, Some(_)) => "the row was missing".to_owned(),
                (Some(_), None) => {
                    return Some((*inode, format!("inode {inode}: memory has no such entry")));
                }
                (Some(Err(problem)), Some(_)) => problem.to_string(),
                (Some(Ok(row)), Some(entry)) => differing_columns(row, &entry)?,
            };
            Some((*inode, format!("{}: {what}", path(*inode, entry))))
        })
        .collect()
}

/// The columns in which a row differs. A hole is stored without its size.
fn differing_columns(row: &Entry, entry: &Entry) -> Option<String> {
    let columns = [
        ("parent", row.parent == entry.parent),
        ("version", row.version == entry.version),
        ("writer", row.writer == entry.writer),
        ("mtime", row.mtime == entry.mtime),
        ("type", row.kind == entry.kind),
        ("name", row.name == entry.name),
        ("data", row.data == entry.data),
    ];
    let differing: Vec<&str> = columns
        .iter()
        .filter(|(_, is_equal)| !is_equal)
        .map(|(column, _)| *column)
        .collect();
    (!differing.is_empty()).then(|| format!("{} differed", differing.join(", ")))
}

fn path(inode: u64, entry: EntryLookup<'_>) -> String {
    let parents = std::iter::successors(entry(inode), |child| {
        (child.parent != ROOT_INODE).then(|| entry(child.parent))?
    });
    let mut names: Vec<String> = parents
        .map(|entry| entry.name.escape_ascii().to_string())
        .collect();
    names.reverse();
    names.join("/")
}
