//! Why the store could not do something.

use std::error::Error;
use std::io;
use std::path::Path;

use rusqlite::ErrorCode;

use crate::Finding;

/// Why the store could not do something: what it could not do with which file, and the cause.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    findings: Vec<Finding>,
}

impl StoreError {
    /// An error whose message says it all.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            source: None,
            findings: Vec::new(),
        }
    }

    /// The rows of this database make no tree.
    pub(crate) fn refused(path: &Path, findings: Vec<Finding>) -> Self {
        let mut refused = findings.iter().filter(|finding| finding.is_refused());
        let first = refused.next().map(ToString::to_string).unwrap_or_default();
        let faults = match refused.count() {
            0 => "1 fault".to_owned(),
            more => format!("{} faults", more + 1),
        };
        let path = path.display();
        Self {
            findings,
            ..Self::new(format!(
                "{path} has {faults} that cannot be loaded, first: {first}"
            ))
        }
    }

    pub(crate) fn with_source(self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            source: Some(source.into()),
            ..self
        }
    }

    /// If the rows of a database make no tree: everything that is wrong with them.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Whether there is no such file.
    pub fn is_missing_file(&self) -> bool {
        let error: Option<&io::Error> = self.cause();
        error.is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// Whether the file is there and cannot be a database of this program, so that the daemon does not start with it.
    pub fn is_damage(&self) -> bool {
        let error: Option<&rusqlite::Error> = self.cause();
        error
            .and_then(|error| error.sqlite_error_code())
            .is_some_and(|code| {
                !matches!(
                    code,
                    ErrorCode::CannotOpen
                        | ErrorCode::PermissionDenied
                        | ErrorCode::DatabaseBusy
                        | ErrorCode::DatabaseLocked
                        | ErrorCode::ReadOnly
                        | ErrorCode::OutOfMemory
                        | ErrorCode::SystemIoFailure
                )
            })
    }

    fn cause<E: Error + 'static>(&self) -> Option<&E> {
        self.source.as_ref()?.downcast_ref()
    }
}

/// Makes the error of something that could not be done with a file: `cannot("open", path)`.
pub(crate) fn cannot<E>(action: &str, path: &Path) -> impl FnOnce(E) -> StoreError
where
    E: Into<Box<dyn Error + Send + Sync>>,
{
    move |source| StoreError::new(format!("cannot {action} {}", path.display())).with_source(source)
}
