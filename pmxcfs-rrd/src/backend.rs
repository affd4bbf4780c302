//! What the feed needs of rrdcached and of librrd.
//!
//! The difference that matters is between an update that was refused and a backend that is not there. rrdcached holds
//! values back; writing a file behind its back after a refusal makes RRD refuse the older values that it still holds.
//! So only [`Outcome::broken`] may send updates to the other backend.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::schema::Schema;

/// Takes update texts.
pub(crate) trait Backend {
    /// Applies updates in order, and answers each until all are done or the backend is gone.
    fn update(&mut self, updates: &[Update<'_>]) -> Outcome;
}

/// Has the files in reach. Files are never created through rrdcached: it would need rights and options that it may lack.
pub(crate) trait FileStore: Backend {
    /// Whether the file is there.
    fn exists(&mut self, path: &Path) -> bool;

    /// Creates a file with the sources and archives of `schema` that accepts a value of `value_time`, and the
    /// directories between it and the top directory.
    fn create(
        &mut self,
        path: &Path,
        schema: Schema,
        value_time: Option<i64>,
    ) -> Result<(), CreateError>;
}

/// One update of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Update<'a> {
    /// Absolute path of the file.
    pub(crate) path: &'a Path,
    /// Time and values, graphic ASCII.
    pub(crate) text: &'a str,
}

/// What became of a number of updates.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Answers to the first updates, in order.
    pub(crate) answers: Vec<Result<(), Refusal>>,
    /// Why the updates after those were not answered.
    pub(crate) broken: Option<io::Error>,
}

/// The backend's reason for not taking an update.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub(crate) struct Refusal(pub(crate) String);

/// Why a file could not be created.
#[derive(Debug, Error)]
pub(crate) enum CreateError {
    #[error("cannot make directory {}: {source}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Library(io::Error),
    #[error("{0}")]
    Refused(Refusal),
    #[error("cannot set its mode: {0}")]
    Mode(io::Error),
}
