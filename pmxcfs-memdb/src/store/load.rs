//! Reading all rows, and the checks of a database at start.
//!
//! Reading and checking are two steps because the crash journal is applied between them. Rows arrive in the order of
//! their signed inode, which decides some of the checks: the C daemon reads them in that order too.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use pmxcfs_api_types::limits::MAX_FILE_SIZE;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use super::finding::{Finding, Problem};
use super::schema::VERSION_ROW_NAME;
use crate::{Entry, EntryKind, ROOT_INODE, RootState};

/// The rows of a database, each well-formed in itself.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// The version row, if there is one.
    pub(super) version_row: Option<RootState>,
    /// Entries in row order, without the root.
    pub(super) entries: Vec<Entry>,
    /// What is wrong with single rows. Rows that are refused are not among the entries.
    pub(super) findings: Vec<Finding>,
}

const SELECT_ROWS: &str =
    "SELECT inode, parent, version, writer, mtime, type, name, data FROM tree ORDER BY inode";

/// Reads all rows.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<Rows> {
    let mut rows = Rows::default();
    let mut statement = connection.prepare(SELECT_ROWS)?;
    let mut cursor = statement.query([])?;
    while let Some(row) = cursor.next()? {
        let inode = integer(row, 0)?.unwrap_or_default().cast_unsigned();
        let (name, cut) = name(row)?;
        let result = if inode == ROOT_INODE {
            read_version_row(row, &name).map(|root| rows.version_row = Some(root))
        } else {
            read_entry(row, inode, &name).map(|entry| rows.entries.push(entry))
        };
        let mut report = |problem| {
            rows.findings.push(Finding {
                inode,
                name: name.clone(),
                problem,
            });
        };
        match result {
            Ok(()) if cut => report(Problem::NameWithNul),
            Ok(()) => {}
            Err(RowError::Problem(problem)) => report(problem),
            Err(RowError::Sqlite(error)) => return Err(error),
        }
    }
    drop(cursor);
    drop(statement);
    read_real_data(connection, &mut rows.entries)?;
    Ok(rows)
}

/// Floating point numbers as content: nobody writes them, but a C daemon serves them.
fn read_real_data(connection: &Connection, entries: &mut [Entry]) -> rusqlite::Result<()> {
    let mut statement = connection
        .prepare("SELECT CAST(data AS TEXT) FROM tree WHERE inode=?1 AND typeof(data)='real'")?;
    for entry in entries
        .iter_mut()
        .filter(|entry| entry.kind == EntryKind::File && entry.data.is_empty())
    {
        let mut cursor = statement.query([entry.inode.cast_signed()])?;
        if let Some(row) = cursor.next()? {
            entry.data = bytes_of(row, 0)?;
            entry.size = u32::try_from(entry.data.len()).expect("a number has few digits");
        }
    }
    Ok(())
}

/// Why a row gives no entry.
enum RowError {
    Problem(Problem),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for RowError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Problem> for RowError {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

fn read_version_row(row: &Row<'_>, name: &[u8]) -> Result<RootState, RowError> {
    if name != VERSION_ROW_NAME.as_bytes() {
        return Err(Problem::VersionRowName.into());
    }
    let kind = required(row, 5, "type")?;
    match kind & 0xff {
        8 => {}
        4 if data_len(row)? == 0 => {}
        4 => return Err(Problem::VersionRowData.into()),
        _ => return Err(Problem::VersionRowKind { kind }.into()),
    }
    Ok(RootState {
        version: required(row, 2, "version")?.cast_unsigned(),
        writer: low_32(required(row, 3, "writer")?),
        mtime: low_32(required(row, 4, "mtime")?),
    })
}

fn read_entry(row: &Row<'_>, inode: u64, name: &Bytes) -> Result<Entry, RowError> {
    if name.is_empty() {
        return Err(Problem::EmptyName.into());
    }
    let kind = required(row, 5, "type")?;
    let (kind, data) = match kind & 0xff {
        4 => match data_len(row)? {
            0 => (EntryKind::Directory, Bytes::new()),
            size => return Err(Problem::DirectoryWithData { size }.into()),
        },
        8 => (EntryKind::File, data(row)?),
        _ => return Err(Problem::UnknownKind { kind }.into()),
    };
    Ok(Entry {
        inode,
        parent: required(row, 1, "parent")?.cast_unsigned(),
        version: required(row, 2, "version")?.cast_unsigned(),
        writer: low_32(required(row, 3, "writer")?),
        mtime: low_32(required(row, 4, "mtime")?),
        size: u32::try_from(data.len()).expect("SQLite limits a value to less than 2^31 bytes"),
        kind,
        name: name.clone(),
        data,
    })
}

fn integer(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<i64>> {
    Ok(match row.get_ref(index)? {
        ValueRef::Integer(value) => Some(value),
        _ => None,
    })
}

fn required(row: &Row<'_>, index: usize, column: &'static str) -> Result<i64, RowError> {
    integer(row, index)?.ok_or(RowError::Problem(Problem::NotInteger { column }))
}

fn low_32(value: i64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the lowest 32 bits are meant"
    )]
    let low = value as u32;
    low
}

/// The name up to its first NUL, and whether there was one. A number is its text form, as for C readers.
fn name(row: &Row<'_>) -> rusqlite::Result<(Bytes, bool)> {
    let stored = bytes_of(row, 6)?;
    Ok(match stored.iter().position(|byte| *byte == 0) {
        Some(end) => (stored.slice(..end), true),
        None => (stored, false),
    })
}

fn data(row: &Row<'_>) -> rusqlite::Result<Bytes> {
    bytes_of(row, 7)
}

fn data_len(row: &Row<'_>) -> rusqlite::Result<usize> {
    Ok(match row.get_ref(7)? {
        ValueRef::Blob(bytes) | ValueRef::Text(bytes) => bytes.len(),
        _ => bytes_of(row, 7)?.len(),
    })
}

/// A column's bytes in a buffer of exactly their size. A number is its text form, as for C readers; that of a floating
/// point number is SQLite's own and added by [`read_real_data`].
fn bytes_of(row: &Row<'_>, index: usize) -> rusqlite::Result<Bytes> {
    Ok(match row.get_ref(index)? {
        ValueRef::Null => Bytes::new(),
        ValueRef::Blob(bytes) | ValueRef::Text(bytes) => Bytes::copy_from_slice(bytes),
        ValueRef::Integer(number) => Bytes::from(number.to_string()),
        ValueRef::Real(_) => Bytes::new(),
    })
}

/// The root state that a database stands for: its version row, with the version raised to everything present.
///
/// Values with the sign bit set are left out of that: no real database gets there, and they cannot collide with the
/// counter.
pub(super) fn effective_root(version_row: Option<RootState>, entries: &[Entry]) -> RootState {
    let highest = entries
        .iter()
        .flat_map(|entry| [entry.inode, entry.version])
        .filter(|value| value.cast_signed() > 0)
        .max()
        .unwrap_or(1);
    let root = version_row.unwrap_or_default();
    RootState {
        version: root.version.max(highest),
        ..root
    }
}

/// Checks the entries as a whole, in row order, and adds what it finds. `version_row` is what is stored.
pub(super) fn validate(
    version_row: Option<RootState>,
    entries: &[Entry],
    findings: &mut Vec<Finding>,
) {
    check_places(entries, findings);
    check_cycles(entries, findings);
    let used = effective_root(version_row, entries).version;
    let stored = version_row.map(|root| root.version);
    let mut report = |problem| {
        findings.push(Finding {
            inode: ROOT_INODE,
            name: Bytes::from_static(VERSION_ROW_NAME.as_bytes()),
            problem,
        });
    };
    if used == u64::MAX || used == i64::MAX.cast_unsigned() {
        report(Problem::VersionExhausted);
    }
    if stored != Some(used) {
        report(Problem::VersionTooLow { stored, used });
    }
}

fn check_places(entries: &[Entry], findings: &mut Vec<Finding>) {
    let position: HashMap<u64, usize> = entries
        .iter()
        .enumerate()
        .map(|(index, entry)| (entry.inode, index))
        .collect();
    // Their children would be reported as having no directory, which is not what an operator has to repair.
    let refused: HashSet<u64> = findings.iter().map(|finding| finding.inode).collect();
    let mut names: HashMap<(u64, &[u8]), u64> = HashMap::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let parent = entry.parent;
        let mut report = |problem| {
            findings.push(Finding {
                inode: entry.inode,
                name: entry.name.clone(),
                problem,
            });
        };
        if parent != ROOT_INODE {
            match position.get(&parent) {
                None if refused.contains(&parent) => {}
                None => report(Problem::MissingParent { parent }),
                Some(at) if entries[*at].kind == EntryKind::Directory => {}
                Some(at) if *at < index => report(Problem::ParentIsFile { parent }),
                Some(_) => report(Problem::BelowFile { parent }),
            }
        }
        if let Some(other) = names.insert((parent, &entry.name), entry.inode) {
            report(Problem::DuplicateName { parent, other });
        }
        if entry.name.contains(&b'/') {
            report(Problem::NameWithSlash);
        }
        if entry.data.len() as u64 > MAX_FILE_SIZE {
            report(Problem::Oversized {
                size: entry.data.len(),
            });
        }
    }
}

/// Finds the directories that are their own ancestors. Each entry is walked over once.
fn check_cycles(entries: &[Entry], findings: &mut Vec<Finding>) {
    let directories: HashMap<u64, usize> = entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| entry.kind == EntryKind::Directory)
        .map(|(index, entry)| (entry.inode, index))
        .collect();
    // The walk on which an entry was first met; 0 is none.
    let mut met = vec![0_usize; entries.len()];
    for (start, entry) in entries.iter().enumerate() {
        if entry.kind != EntryKind::Directory {
            continue;
        }
        let walk = start + 1;
        let mut at = start;
        loop {
            if met[at] != 0 {
                break;
            }
            met[at] = walk;
            match directories.get(&entries[at].parent) {
                Some(next) => at = *next,
                None => break,
            }
        }
        let closes = directories.contains_key(&entries[at].parent) && met[at] == walk;
        if closes {
            let first = at;
            loop {
                findings.push(Finding {
                    inode: entries[at].inode,
                    name: entries[at].name.clone(),
                    problem: Problem::Cycle,
                });
                match directories.get(&entries[at].parent) {
                    Some(next) if *next != first => at = *next,
                    _ => break,
                }
            }
        }
    }
}
