//! `close`: does for a killed daemon what it does at an orderly stop.
//!
//! The crash journal and SQLite's log go into the database, so that one plain file has everything: the C daemon knows no
//! journal. The command opens the database as a start does and ends the store as a stop does.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use pmxcfs_memdb::store::{EntryLookup, EntrySource, ShutdownOutcome, Store, StoreConfig, Warning};
use pmxcfs_memdb::{Entry, RootState};

use super::cli::Location;
use super::lock::{Lock, Use};
use crate::tools::program::{CommandResult, Outcome};

/// How long the command waits for a process that holds the database.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn run(location: &Location, out: &mut dyn Write) -> CommandResult {
    let path = location.database();
    if !path.exists() {
        bail!("cannot find the database {}", path.display());
    }
    let lock = Lock::take(&path, Use::Write)?;
    let config = StoreConfig::new(lock.database.clone(), location.paths().run_dir);
    let (store, loaded) = Store::open(config)?;
    for warning in &loaded.warnings {
        writeln!(out, "{}: {warning}", path.display())?;
    }
    let is_lost = |warning: &Warning| matches!(warning, Warning::JournalRefused { .. });
    let outcome = match loaded.warnings.iter().any(is_lost) {
        true => Outcome::Findings,
        false => Outcome::Good,
    };
    let entries = loaded.entries.into_iter();
    let rows = Rows {
        root: loaded.root,
        entries: entries.map(|entry| (entry.inode, entry)).collect(),
    };
    let store = store
        .start(Arc::new(rows))
        .context("cannot start the store's thread")?;
    match store.shutdown(PATIENCE) {
        ShutdownOutcome::Clean => {
            writeln!(out, "{}: everything is in this file", path.display())?;
            Ok(outcome)
        }
        ShutdownOutcome::LogKept => bail!(
            "another process has {} open, so SQLite's log stays beside it: end that process (fuser -v {0}) and try again",
            path.display()
        ),
        ShutdownOutcome::JournalKept { reason } | ShutdownOutcome::Lost { reason } => bail!(
            "{reason}: the changes stay in the crash journal; make {} writable and try again",
            path.display()
        ),
        outcome => bail!(
            "the disk of {} does not answer: {outcome:?}; the changes stay in the crash journal",
            path.display()
        ),
    }
}

/// The rows as a start found them, the crash journal's changes among them.
struct Rows {
    root: RootState,
    entries: HashMap<u64, Entry>,
}

impl EntrySource for Rows {
    fn with_entries(&self, visit: &mut dyn FnMut(RootState, EntryLookup<'_>)) {
        visit(self.root, &|inode| self.entries.get(&inode).cloned());
    }

    fn inodes_above(&self, _inode: u64, _count: usize) -> Vec<u64> {
        // Only a scrub asks, and the store ends before there is one.
        Vec::new()
    }
}
