//! A database in the form that the fuzz target takes: for each row five numbers, then name and content.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

/// Longest name or content that the form can hold.
const MAX_TEXT_SIZE: usize = 31;

/// Reads the rows of a database. Contents are cut.
pub(crate) fn encode(database: &[u8]) -> anyhow::Result<Vec<u8>> {
    let path = std::env::temp_dir().join(format!("pmxcfs-seed-{}.db", std::process::id()));
    std::fs::write(&path, database)?;
    // The log that the file's header asks for may be missing.
    let uri = format!("file:{}?immutable=1", path.display());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let encoded = Connection::open_with_flags(uri, flags).and_then(|connection| rows(&connection));
    std::fs::remove_file(&path)?;
    Ok(encoded?)
}

fn rows(connection: &Connection) -> rusqlite::Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut statement = connection.prepare(
        "SELECT inode, parent, version, writer, mtime, type, name, data FROM tree ORDER BY inode",
    )?;
    let mut cursor = statement.query([])?;
    while let Some(row) = cursor.next()? {
        for column in 0..6 {
            number(&mut out, row.get(column)?);
        }
        for column in 6..8 {
            text(&mut out, row.get_ref(column)?);
        }
    }
    Ok(out)
}

fn number(out: &mut Vec<u8>, number: i64) {
    match u8::try_from(number) {
        Ok(small @ 0..16) => out.push(small),
        _ => {
            out.push(0xf0);
            out.extend(number.to_le_bytes());
        }
    }
}

fn text(out: &mut Vec<u8>, value: ValueRef<'_>) {
    let (kind, bytes) = match value {
        ValueRef::Text(text) => (0, text),
        ValueRef::Blob(blob) => (6, blob),
        _ => (5, &b""[..]),
    };
    let bytes = &bytes[..bytes.len().min(MAX_TEXT_SIZE)];
    out.push((bytes.len() as u8) << 3 | kind);
    out.extend(bytes);
}
