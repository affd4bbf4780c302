//! What the feed needs of rrdcached and of librrd.
//!
//! The difference that matters is between an update that was refused and a backend that is not there. rrdcached holds
//! values back; writing a file behind its back after a refusal makes RRD refuse the older values that it still holds.
//! So only an error of [`Backend::update`] may send updates to the other backend.

use std::io;
use std::path::{Path, PathBuf};

use crate::schema::Schema;

/// What became of an update; an error is the reason of a refusal.
pub(crate) type Answer = Result<(), String>;

/// Takes update texts.
pub(crate) trait Backend {
    /// Applies updates in order, and adds an answer for each until all are done or the backend is gone.
    ///
    /// # Errors
    /// The backend is gone: the updates behind the answers were not applied.
    fn update(&mut self, updates: &[Update], answers: &mut Vec<Answer>) -> io::Result<()>;
}

/// Has the files in reach. Files are never created through rrdcached: it would need rights and options that it may lack.
pub(crate) trait FileStore: Backend {
    /// Whether the file is there.
    fn exists(&self, path: &Path) -> bool;

    /// Creates a file that accepts a value of `value_time`, and the directories between it and the top directory. The
    /// error is for the operator.
    fn create(
        &mut self,
        path: &Path,
        schema: &Schema,
        value_time: Option<i64>,
    ) -> Result<(), String>;
}

/// One update of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Update {
    /// Absolute path of the file.
    pub(crate) path: PathBuf,
    /// Time and values, graphic ASCII.
    pub(crate) text: String,
}
