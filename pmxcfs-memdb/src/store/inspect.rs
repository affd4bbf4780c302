//! The crash journal's files as an operator looks at them: what is in there, without judging what it is good for.
//!
//! Looking changes nothing: files are neither made nor cut.

use std::fs::File;
use std::path::Path;

use super::error::{StoreError, cannot};
use super::journal::{self, JournalFile, SEGMENT_COUNT, journal_files};
use super::medium::SegmentFile as _;

/// Reads a file of a crash journal. `None` if it is not in use.
///
/// # Errors
/// [`StoreError`]: the file cannot be read, or is not of a crash journal.
pub fn read_journal_file(path: &Path) -> Result<Option<JournalFile>, StoreError> {
    let bytes = File::open(path)
        .and_then(|mut file| file.read_all())
        .map_err(cannot("read", path))?;
    journal::scan(bytes.into()).map_err(|error| {
        let path = path.display();
        let message = format!("{path} is not a crash journal that this program can read");
        StoreError::new(message).with_source(error)
    })
}

/// Both segments of a run directory. A file that is not there is like an empty one.
pub(super) fn scan_directory(
    directory: &Path,
) -> Result<[Option<JournalFile>; SEGMENT_COUNT], StoreError> {
    let [first, second] = journal_files(directory).map(|path| match read_journal_file(&path) {
        Err(error) if error.is_missing_file() => Ok(None),
        other => other,
    });
    Ok([first?, second?])
}
