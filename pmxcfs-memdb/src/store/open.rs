//! Opening the store: database, crash journal, checks. Starts no thread, so that the daemon can fork afterwards.
//!
//! SQLite's locks do not survive a fork, and a process without them may lose its log to another one that closes the
//! database. So nothing is kept open here: the store's thread opens the database again.

use std::io;
use std::sync::Arc;

use pmxcfs_api_types::files::directory_of;

use super::config::StoreConfig;
use super::database::{self, schema};
use super::error::{StoreError, cannot};
use super::first_start;
use super::foreign_log::foreign_log;
use super::identity::FileIdentity;
use super::journal::{self, JournalPlace};
use super::warning::Warning;
use super::writer::{self, Committer, EntrySource, Queue, StoreHandle, early_size};
use crate::{Entry, Finding, RootState};

/// The content of a store that was opened.
#[derive(Debug)]
pub struct Loaded {
    /// State of the database. The mtime of a new one is 0, although its version row has the time of creation.
    pub root: RootState,
    /// All entries but the root, in the order of their signed inodes.
    pub entries: Vec<Entry>,
    /// The database file was not there before.
    pub created: bool,
    /// What to tell the operator.
    pub warnings: Vec<Warning>,
}

/// A store that is open and whose thread does not run yet.
#[derive(Debug)]
pub struct Store {
    handle: Arc<StoreHandle>,
    config: StoreConfig,
    identity: FileIdentity,
}

impl Store {
    /// Opens the database, making it if it is missing, applies the crash journal of a daemon that was killed, and checks
    /// the result.
    ///
    /// # Errors
    /// [`StoreError`]. The rows are untouched then, and so is the journal.
    pub fn open(config: StoreConfig) -> Result<(Self, Loaded), StoreError> {
        let path = config.database.clone();
        let (created, first_warnings) = first_start::prepare(&config)?;
        let log = foreign_log(&path);
        let opened = schema::open(&path)?;
        let mut rows =
            database::read(&opened.connection).map_err(cannot("read the database", &path))?;
        drop(opened.connection);
        let identity = FileIdentity::of(&path).map_err(cannot("access the database", &path))?;

        let stored = database::effective_root(rows.version_row, &rows.entries);
        if rows.findings.iter().any(Finding::is_refused) {
            database::validate(rows.version_row, &rows.entries, &mut rows.findings);
            return Err(StoreError::refused(&path, rows.findings));
        }
        let place = JournalPlace::new(Arc::clone(&config.medium), config.journal_dir.clone());
        let found = journal::find(&place, identity, stored, &mut rows.entries);
        let version_row = found.root().or(rows.version_row);
        database::validate(version_row, &rows.entries, &mut rows.findings);
        if rows.findings.iter().any(Finding::is_refused) {
            return Err(StoreError::refused(&path, rows.findings));
        }

        let mut root = database::effective_root(version_row, &rows.entries);
        if opened.initialised == Some(root) || created {
            root.mtime = 0;
        }
        let limit = config.journal_limit_bytes;
        let aside = directory_of(&path);
        let (journal, recovery, journal_warnings) =
            found.resume(place, identity, stored, limit, aside);
        let mut warnings = first_warnings;
        warnings.extend(journal_warnings);
        warnings.extend(log.map(Warning::ForeignLog));
        warnings.extend(rows.findings.into_iter().map(Warning::Row));
        let version_is_stored = rows
            .version_row
            .is_some_and(|row| row.version == stored.version);
        let queue = Queue {
            sequence: recovery.sequence(),
            committed: recovery.committed,
            journaling: journal.is_usable(),
            early_size: early_size(0, limit),
            dirty: recovery.touched,
            unsaved: !version_is_stored,
            ..Queue::default()
        };
        let store = Self {
            handle: Arc::new(StoreHandle::new(queue, journal)),
            config,
            identity,
        };
        let loaded = Loaded {
            root,
            entries: rows.entries,
            created,
            warnings,
        };
        Ok((store, loaded))
    }

    /// The store as mutators see it. Operations can be recorded before the thread runs; they are acknowledged if the
    /// crash journal takes them, and wait for the thread otherwise.
    pub fn handle(&self) -> Arc<StoreHandle> {
        Arc::clone(&self.handle)
    }

    /// Starts the thread. Call after daemonizing: threads and SQLite's locks do not survive a fork.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub fn start(self, source: Arc<dyn EntrySource>) -> io::Result<Arc<StoreHandle>> {
        let handle = Arc::clone(&self.handle);
        let committer = Committer::new(handle, source, self.config, self.identity);
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer::run(committer))?;
        Ok(self.handle)
    }
}
