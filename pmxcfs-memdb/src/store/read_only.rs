//! Opens databases read-only.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

/// How long reading waits for a process that holds the database.
const BUSY_TIMEOUT_MS: i64 = 10_000;

const FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_READ_ONLY.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

/// Opens it with its log, in a transaction: all that is read belongs to one state, and no writer is delayed.
pub(super) fn open_shared(database: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(database, FLAGS)?;
    connection.pragma_update_and_check(None, "busy_timeout", BUSY_TIMEOUT_MS, |_row| Ok(()))?;
    connection.execute_batch("BEGIN")?;
    Ok(connection)
}

/// Opens the file alone. Nothing is made beside it, and its log counts for nothing.
pub(super) fn open_alone(database: &Path) -> rusqlite::Result<Connection> {
    let mut uri = String::from("file:");
    for byte in database.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(*byte)),
            byte => uri.push_str(&format!("%{byte:02x}")),
        }
    }
    uri.push_str("?immutable=1");
    Connection::open_with_flags(uri, FLAGS.union(OpenFlags::SQLITE_OPEN_URI))
}
