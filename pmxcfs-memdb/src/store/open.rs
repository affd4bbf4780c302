//! Opening the store: database, crash journal, checks. Starts no thread, so that the daemon can fork afterwards.
//!
//! SQLite's locks do not survive a fork, and a process without them may lose its log to another one that closes the
//! database. So nothing is kept open here: the store's thread opens the database again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use super::finding::Finding;
use super::handle::StoreHandle;
use super::pacing::early_size;
use super::queue::{Queue, Shared};
use super::recover::JournalRefusal;
use super::schema::{self, FileIdentity, OpenError};
use super::writer::Writer;
use super::{EntrySource, StoreConfig, load, resume};
use crate::{Entry, RootState};

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its rows cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The database.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// Its rows make no tree. The database is untouched.
    #[error("{} has {} that cannot be loaded, first: {}", path.display(), Rows(findings), First(findings))]
    Refused {
        /// The database.
        path: PathBuf,
        /// All findings, those that alone would be taken included.
        findings: Vec<Finding>,
    },
}

struct Rows<'a>(&'a [Finding]);

impl fmt::Display for Rows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.iter().filter(|finding| finding.is_refused()).count() {
            1 => f.write_str("1 fault"),
            count => write!(f, "{count} faults"),
        }
    }
}

struct First<'a>(&'a [Finding]);

impl fmt::Display for First<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.iter().find(|finding| finding.is_refused()) {
            Some(finding) => finding.fmt(f),
            None => Ok(()),
        }
    }
}

/// What an operator should know about a start that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// A row is odd.
    Row(Finding),
    /// Operations were recovered from the crash journal: the daemon did not end in good order.
    Recovered {
        /// How many.
        operation_count: usize,
    },
    /// Records in the crash journal were left out: nobody was told that they are safe.
    Incomplete {
        /// How many.
        operation_count: usize,
    },
    /// The crash journal was not applied.
    JournalRefused {
        /// Why.
        reason: JournalRefusal,
        /// Where it was put.
        kept: Vec<PathBuf>,
    },
    /// There is no crash journal.
    NoJournal {
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row(finding) => write!(f, "{finding} - {}", finding.advice()),
            Self::Recovered { operation_count } => {
                write!(
                    f,
                    "recovered {operation_count} operations from the crash journal"
                )
            }
            Self::Incomplete { operation_count } => {
                write!(
                    f,
                    "left out {operation_count} operations of the crash journal that were never acknowledged"
                )
            }
            Self::JournalRefused { reason, kept } => {
                write!(f, "the crash journal is not applied: {reason}")?;
                let mut before = "; it is kept as ";
                for path in kept {
                    write!(f, "{before}{}", path.display())?;
                    before = " and ";
                }
                Ok(())
            }
            Self::NoJournal { reason } => {
                write!(
                    f,
                    "there is no crash journal, changes wait for the database: {reason}"
                )
            }
        }
    }
}

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

/// What [`check`] found out.
#[derive(Debug)]
pub struct Report {
    /// State of the database, as a start would use it.
    pub root: RootState,
    /// The entries that are well-formed in themselves.
    pub entries: Vec<Entry>,
    /// Everything that is odd.
    pub findings: Vec<Finding>,
}

/// Reads and checks a database without changing it. The crash journal is not looked at.
///
/// # Errors
/// [`StoreError::Open`], [`StoreError::Read`].
pub fn check(database: &Path) -> Result<Report, StoreError> {
    let connection = schema::open_read_only(database)?;
    let mut rows = load::read(&connection).map_err(|source| StoreError::Read {
        path: database.to_owned(),
        source,
    })?;
    load::validate(rows.version_row, &rows.entries, &mut rows.findings);
    Ok(Report {
        root: load::effective_root(rows.version_row, &rows.entries),
        entries: rows.entries,
        findings: rows.findings,
    })
}

/// A store that is open and whose thread does not run yet.
#[derive(Debug)]
pub struct Store {
    handle: Arc<StoreHandle>,
    config: StoreConfig,
    identity: FileIdentity,
    journal_paths: Vec<PathBuf>,
}

impl Store {
    /// Opens the database, making it if it is missing, applies the crash journal of a daemon that was killed, and checks
    /// the result.
    ///
    /// # Errors
    /// [`StoreError`]. The rows are untouched then, and so is the journal.
    pub fn open(config: StoreConfig) -> Result<(Self, Loaded), StoreError> {
        let path = config.database.clone();
        let opened = schema::open(&path)?;
        let mut rows = load::read(&opened.connection).map_err(|source| StoreError::Read {
            path: path.clone(),
            source,
        })?;
        drop(opened.connection);
        let identity = FileIdentity::of(&path).map_err(|source| OpenError::File {
            path: path.clone(),
            source,
        })?;

        let stored = load::effective_root(rows.version_row, &rows.entries);
        let refused = |findings: Vec<Finding>| StoreError::Refused {
            path: path.clone(),
            findings,
        };
        if rows.findings.iter().any(Finding::is_refused) {
            load::validate(rows.version_row, &rows.entries, &mut rows.findings);
            return Err(refused(rows.findings));
        }
        let found = resume::find(&config, identity, stored, &mut rows.entries);
        let version_row = found.root().or(rows.version_row);
        load::validate(version_row, &rows.entries, &mut rows.findings);
        if rows.findings.iter().any(Finding::is_refused) {
            return Err(refused(rows.findings));
        }

        let mut root = load::effective_root(version_row, &rows.entries);
        if opened.initialised == Some(root) {
            root.mtime = 0;
        }
        let resumed = found.resume(&config, identity, stored);
        let mut warnings = resumed.warnings;
        warnings.extend(rows.findings.into_iter().map(Warning::Row));
        let version_is_stored = rows
            .version_row
            .is_some_and(|row| row.version == stored.version);
        let queue = Queue {
            sequence: resumed.sequence,
            journaling: resumed.usable,
            early_size: early_size(0, config.journal_limit_bytes),
            dirty: resumed.touched,
            unsaved: !version_is_stored || resumed.sequence > resumed.committed,
            ..Queue::default()
        };
        let store = Self {
            handle: Arc::new(StoreHandle::new(Arc::new(Shared::new(
                queue,
                resumed.journal,
                resumed.committed,
            )))),
            config,
            identity,
            journal_paths: resumed.paths,
        };
        let loaded = Loaded {
            root,
            entries: rows.entries,
            created: opened.created,
            warnings,
        };
        Ok((store, loaded))
    }

    /// The store as mutators see it. Operations can be recorded before the thread runs; they are acknowledged if the
    /// crash journal takes them, and wait for the thread otherwise.
    #[must_use]
    pub fn handle(&self) -> Arc<StoreHandle> {
        Arc::clone(&self.handle)
    }

    /// Starts the thread. Call after daemonizing: threads and SQLite's locks do not survive a fork.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub fn start(self, source: Arc<dyn EntrySource>) -> io::Result<Arc<StoreHandle>> {
        let shared = Arc::clone(&self.handle.shared);
        let writer = Writer::new(
            shared,
            source,
            self.config,
            self.identity,
            self.journal_paths,
        );
        let thread = std::thread::Builder::new()
            .name("memdb-store".to_owned())
            .spawn(move || writer.run())?;
        self.handle.own(thread);
        Ok(self.handle)
    }
}
