//! Old records go.
//!
//! A record has what was before, so the oldest can go at any time: nothing later needs them. Too large a file loses a part of its
//! records at a time until it has its size.

use std::time::Instant;

use pmxcfs_api_types::time::wall_clock_secs;
use rusqlite::{OptionalExtension, params};

use super::schema::{HistoryError, HistoryFile};
use super::settings::Settings;

/// Records that one look removes at most.
const COUNT: u32 = 5000;

/// Part of the records that go when the file is too large.
const PART: u32 = 16;

const SECS_PER_DAY: u32 = 86_400;

/// The clock that ages are counted by. A jump ahead by more than a day is believed when it has lasted a day: somebody may set the
/// clock right before all records go.
#[derive(Debug)]
pub(super) struct Clock {
    believed: u32,
    since: Instant,
}

impl Clock {
    /// The host's clock is believed.
    pub(super) fn new() -> Self {
        Self {
            believed: wall_clock_secs(),
            since: Instant::now(),
        }
    }

    /// Seconds since 1970.
    pub(super) fn secs(&mut self) -> u32 {
        self.at(wall_clock_secs(), Instant::now())
    }

    fn at(&mut self, wall: u32, now: Instant) -> u32 {
        let elapsed = now.duration_since(self.since).as_secs();
        let elapsed = u32::try_from(elapsed).unwrap_or(u32::MAX);
        let expected = self.believed.saturating_add(elapsed);
        if wall > expected.saturating_add(SECS_PER_DAY) && elapsed < SECS_PER_DAY {
            return expected;
        }
        (self.believed, self.since) = (wall, now);
        wall
    }
}

/// Pages that go back to the filesystem at once.
const PAGES: u32 = 2000;

/// Removes what is too old, and the oldest where the file is too large.
pub(super) fn prune(
    file: &mut HistoryFile,
    settings: &Settings,
    now: u32,
) -> Result<(), HistoryError> {
    let oldest = now.saturating_sub(settings.history_days.saturating_mul(SECS_PER_DAY));
    // Up to the first one that is young enough: a clock that was wrong when a record was made takes none before it along.
    let too_old = "SELECT min(min(seq) + ?2, coalesce((SELECT seq FROM record WHERE time >= ?1 ORDER BY seq LIMIT 1), \
                   max(seq) + 1)) - 1 FROM record";
    let too_old: Option<i64> =
        file.connection
            .query_row(too_old, params![oldest, COUNT], |row| row.get(0))?;
    remove_up_to(file, too_old.unwrap_or(0))?;
    while is_too_large(file, settings)? {
        let select = "SELECT min(seq) + min(?1, (max(seq) - min(seq)) / ?2 + 1) FROM record";
        let last: Option<i64> = file
            .connection
            .query_row(select, [COUNT, PART], |row| row.get(0))?;
        if !remove_up_to(file, last.unwrap_or(0))? {
            break;
        }
    }
    let free: i64 = file
        .connection
        .pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    if free > i64::from(PAGES) / 4 {
        // Each step frees one page.
        let vacuum = format!("PRAGMA incremental_vacuum({PAGES})");
        let mut vacuum = file.connection.prepare(&vacuum)?;
        let mut freed = vacuum.query([])?;
        while freed.next()?.is_some() {}
    }
    Ok(())
}

/// Whether the file has more than its size.
pub(super) fn is_too_large(file: &HistoryFile, settings: &Settings) -> rusqlite::Result<bool> {
    Ok(file.size()? > limit(settings))
}

/// Bytes that the file may have: as set, and at most a tenth of what is free.
fn limit(settings: &Settings) -> u64 {
    let directory = settings.file.parent();
    let usage = directory.and_then(|directory| nix::sys::statvfs::statvfs(directory).ok());
    let free = usage.map(|usage| usage.blocks_available() * usage.fragment_size());
    settings.size_bytes().min(free.unwrap_or(u64::MAX) / 10)
}

/// Removes the records up to this number. False if there are none.
pub(super) fn remove_up_to(file: &mut HistoryFile, last: i64) -> Result<bool, HistoryError> {
    let transaction = file.connection.transaction()?;
    let newest = "SELECT version, time FROM record WHERE seq <= ?1 ORDER BY seq DESC LIMIT 1";
    let newest: Option<(i64, u32)> = transaction
        .query_row(newest, [last], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((version, time)) = newest else {
        return Ok(false);
    };
    transaction.execute("DELETE FROM record WHERE seq <= ?1", [last])?;
    transaction.execute_batch(
        "DELETE FROM content WHERE id NOT IN (SELECT content FROM record WHERE content IS NOT NULL \
         UNION SELECT old_content FROM record WHERE old_content IS NOT NULL \
         UNION SELECT content FROM entry WHERE content IS NOT NULL)",
    )?;
    transaction.execute(
        "UPDATE state SET oldest_version = ?1, oldest_time = ?2",
        params![version, time],
    )?;
    transaction.commit()?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::history::record::Record;

    #[test]
    fn a_clock_that_jumps_ahead_is_believed_after_a_day() {
        let since = Instant::now();
        let at = |hours: u64| since + Duration::from_secs(hours * 3600);
        let mut clock = Clock {
            believed: 1000 * SECS_PER_DAY,
            since,
        };
        let hour = |hours: u32| 1000 * SECS_PER_DAY + 3600 * hours;
        for (jump, hours, expected) in [
            (0, 1, hour(1)),
            (24 * 365, 2, hour(2)),
            (0, 3, hour(3)),
            (24 * 365, 4, hour(4)),
            (24 * 365, 28, hour(24 * 365 + 28)),
            (0, 29, hour(29)),
        ] {
            let wall = hour(jump + hours);
            assert_eq!(clock.at(wall, at(hours.into())), expected, "hour {hours}");
        }
    }

    #[test]
    fn what_is_too_old_goes_up_to_the_first_record_that_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let settings = crate::history::tests::settings(directory.path(), &["pmxcfs"]);
        let mut file = HistoryFile::open(&settings.file).expect("a file");
        let begin = "INSERT INTO state (version, oldest_version, oldest_time) VALUES (9, 0, 0)";
        file.connection.execute_batch(begin).expect("a table");
        let now = 1000 * SECS_PER_DAY;
        // Days ago; one clock was ahead, one behind.
        for (version, days) in [(1, 100), (2, 95), (3, -900), (4, 100), (5, 80), (6, 990)] {
            let secs = i64::from(now) - days * i64::from(SECS_PER_DAY);
            let record = Record {
                version,
                time: u32::try_from(secs).expect("a time"),
                ..Record::default()
            };
            let transaction = file.connection.transaction().expect("a transaction");
            record.insert(&transaction).expect("a table");
            transaction.commit().expect("a disk");
        }
        let mut left = |now| -> (i64, i64) {
            prune(&mut file, &settings, now).expect("it works");
            let select = "SELECT min(record.version), oldest_version FROM record, state";
            let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            file.connection.query_row(select, [], row).expect("a row")
        };
        assert_eq!(left(now - 7 * SECS_PER_DAY), (2, 1));
        assert_eq!(left(now), (3, 2));
        assert_eq!(left(now + 900 * SECS_PER_DAY), (3, 2));
    }
}
