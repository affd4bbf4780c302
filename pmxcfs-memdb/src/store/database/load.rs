//! Reading all rows, and the checks of a database at start.
//!
//! Reading and checking are two steps because the crash journal is applied between them. Rows come in the order of their
//! signed inodes, as the C daemon reads them; some checks depend on that order.

use std::collections::{HashMap, HashSet};
use std::iter;
use std::ops::{ControlFlow, RangeInclusive};

use bytes::{Bytes, BytesMut};
use pmxcfs_api_types::limits::MAX_FILE_SIZE;
use rusqlite::{Connection, Params, Row};

use super::schema::VERSION_ROW_NAME;
use crate::store::medium::StoredRow;
use crate::{Entry, EntryKind, Finding, Problem, ROOT_INODE, RootState};

/// Size of a buffer that names share. It lives as long as one of them.
const NAME_BUFFER_SIZE: usize = 64 * 1024;

/// The rows of a database, each well-formed in itself.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// The version row, if there is one.
    pub(crate) version_row: Option<RootState>,
    /// Entries in row order, without the root.
    pub(crate) entries: Vec<Entry>,
    /// The faults of single rows. Refused rows are not among the entries.
    pub(crate) findings: Vec<Finding>,
}

/// A row as it is stored, whatever is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RawRow {
    pub(crate) inode: i64,
    /// This and the other numbers are absent where the column is no integer.
    pub(crate) parent: Option<i64>,
    pub(crate) version: Option<i64>,
    pub(crate) writer: Option<i64>,
    pub(crate) mtime: Option<i64>,
    pub(crate) kind: Option<i64>,
    pub(crate) name: Bytes,
    pub(crate) data: Bytes,
}

/// Reads rows until `visit` says that it is enough. A number in place of a name or content counts as its text, as for C
/// readers.
fn select(
    connection: &Connection,
    which: &str,
    parameters: impl Params,
    mut visit: impl FnMut(RawRow) -> ControlFlow<()>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT inode, parent, version, writer, mtime, type, CAST(name AS BLOB), CAST(data AS BLOB) FROM tree {which}"
    ))?;
    let mut cursor = statement.query(parameters)?;
    let mut names = BytesMut::with_capacity(NAME_BUFFER_SIZE);
    while let Some(row) = cursor.next()? {
        if visit(raw_row(row, &mut names)?).is_break() {
            break;
        }
    }
    Ok(())
}

/// Reads all rows as they are, in row order or against it (`ASC`, `DESC`).
pub(crate) fn read_raw(
    connection: &Connection,
    order: &str,
    mut visit: impl FnMut(RawRow),
) -> rusqlite::Result<()> {
    select(connection, &format!("ORDER BY inode {order}"), [], |row| {
        visit(row);
        ControlFlow::Continue(())
    })
}

/// `names` is a buffer that names share, so that none needs an allocation of its own.
fn raw_row(row: &Row<'_>, names: &mut BytesMut) -> rusqlite::Result<RawRow> {
    let integer = |index| row.get_ref(index).map(|value| value.as_i64().ok());
    let blob = |index| -> rusqlite::Result<&[u8]> {
        let value = row.get_ref(index)?;
        Ok(value.as_blob().unwrap_or_default())
    };
    names.extend_from_slice(blob(6)?);
    Ok(RawRow {
        inode: integer(0)?.unwrap_or_default(),
        parent: integer(1)?,
        version: integer(2)?,
        writer: integer(3)?,
        mtime: integer(4)?,
        kind: integer(5)?,
        name: names.split().freeze(),
        data: Bytes::copy_from_slice(blob(7)?),
    })
}

/// Reads the rows of a range of inodes, both ends included, in the order of signed inodes, until `visit` says that it is
/// enough.
pub(crate) fn read_range(
    connection: &Connection,
    range: RangeInclusive<i64>,
    mut visit: impl FnMut(StoredRow) -> ControlFlow<()>,
) -> rusqlite::Result<()> {
    let which = "WHERE inode BETWEEN ?1 AND ?2 ORDER BY inode";
    select(connection, which, [range.start(), range.end()], |row| {
        let inode = row.inode.cast_unsigned();
        let mut rows = Rows::from_iter([row]);
        let problem = rows.findings.pop().map(|finding| finding.problem);
        let entry = match (rows.entries.pop(), problem) {
            (Some(entry), None) => Ok(entry),
            (_, problem) => Err(problem.unwrap_or(Problem::VersionRowName)),
        };
        visit(StoredRow { inode, entry })
    })
}

/// Reads the version row, if it is a good one.
pub(crate) fn read_root(connection: &Connection) -> rusqlite::Result<Option<RootState>> {
    let mut rows = Rows::default();
    select(connection, "WHERE inode = 0", [], |row| {
        rows.add(row);
        ControlFlow::Break(())
    })?;
    Ok(rows.version_row)
}

/// Reads all rows.
pub(crate) fn read(connection: &Connection) -> rusqlite::Result<Rows> {
    let mut rows = Rows::default();
    read_raw(connection, "ASC", |row| rows.add(row))?;
    Ok(rows)
}

impl FromIterator<RawRow> for Rows {
    fn from_iter<I: IntoIterator<Item = RawRow>>(rows: I) -> Self {
        let mut sorted = Self::default();
        rows.into_iter().for_each(|row| sorted.add(row));
        sorted
    }
}

impl Rows {
    /// Adds the entry of a row, or the fault of the row. The name ends at its first NUL.
    fn add(&mut self, row: RawRow) {
        let inode = row.inode.cast_unsigned();
        let nul = row.name.iter().position(|byte| *byte == 0);
        let name = row.name.slice(..nul.unwrap_or(row.name.len()));
        let result = if inode == ROOT_INODE {
            version_row(&row, &name).map(|root| self.version_row = Some(root))
        } else {
            entry(row, name.clone()).map(|entry| self.entries.push(entry))
        };
        let problem = match result {
            Ok(()) if nul.is_none() => return,
            Ok(()) => Problem::NameWithNul,
            Err(problem) => problem,
        };
        self.findings.push(Finding {
            inode,
            name,
            problem,
        });
    }
}

fn version_row(row: &RawRow, name: &[u8]) -> Result<RootState, Problem> {
    if name != VERSION_ROW_NAME.as_bytes() {
        return Err(Problem::VersionRowName);
    }
    let kind = required(row.kind, "type")?;
    match kind & 0xff {
        8 => {}
        4 if row.data.is_empty() => {}
        4 => return Err(Problem::VersionRowData),
        _ => return Err(Problem::VersionRowKind { kind }),
    }
    Ok(RootState {
        version: required(row.version, "version")?.cast_unsigned(),
        writer: low_32(required(row.writer, "writer")?),
        mtime: low_32(required(row.mtime, "mtime")?),
    })
}

fn entry(row: RawRow, name: Bytes) -> Result<Entry, Problem> {
    if name.is_empty() {
        return Err(Problem::EmptyName);
    }
    let kind = required(row.kind, "type")?;
    let kind = match kind & 0xff {
        4 if row.data.is_empty() => EntryKind::Directory,
        4 => {
            return Err(Problem::DirectoryWithData {
                size: row.data.len(),
            });
        }
        8 => EntryKind::File,
        _ => return Err(Problem::UnknownKind { kind }),
    };
    Ok(Entry {
        inode: row.inode.cast_unsigned(),
        parent: required(row.parent, "parent")?.cast_unsigned(),
        version: required(row.version, "version")?.cast_unsigned(),
        writer: low_32(required(row.writer, "writer")?),
        mtime: low_32(required(row.mtime, "mtime")?),
        size: u32::try_from(row.data.len()).expect("SQLite limits a value to less than 2^31 bytes"),
        kind,
        name,
        data: row.data,
    })
}

fn required(value: Option<i64>, column: &'static str) -> Result<i64, Problem> {
    value.ok_or(Problem::NotInteger { column })
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

/// The root state that a database stands for: its version row, with the version raised to everything present.
///
/// Values with the sign bit set do not count: no real database gets there, and they cannot collide with the counter.
pub(crate) fn effective_root(version_row: Option<RootState>, entries: &[Entry]) -> RootState {
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

/// Checks the entries as a whole, in row order, and adds its findings. `version_row` is the stored one.
pub(crate) fn validate(
    version_row: Option<RootState>,
    entries: &[Entry],
    findings: &mut Vec<Finding>,
) {
    let directories: Directories = entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| entry.kind == EntryKind::Directory)
        .map(|(index, entry)| (entry.inode, index))
        .collect();
    check_places(entries, &directories, findings);
    check_cycles(entries, &directories, findings);
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

/// Positions of the directories, by inode.
type Directories = HashMap<u64, usize>;

fn check_places(entries: &[Entry], directories: &Directories, findings: &mut Vec<Finding>) {
    // A child of a refused row needs no repair of its own.
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
        if parent != ROOT_INODE && !directories.contains_key(&parent) {
            let row = parent.cast_signed();
            match entries.binary_search_by_key(&row, |entry| entry.inode.cast_signed()) {
                Err(_) if refused.contains(&parent) => {}
                Err(_) => report(Problem::MissingParent { parent }),
                Ok(at) if at < index => report(Problem::ParentIsFile { parent }),
                Ok(_) => report(Problem::BelowFile { parent }),
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

/// Finds the directories that are their own ancestors. Each directory is walked over once.
fn check_cycles(entries: &[Entry], directories: &Directories, findings: &mut Vec<Finding>) {
    let parent = |at: usize| directories.get(&entries[at].parent).copied();
    // The walk on which an entry was first met; 0 is none.
    let mut met = vec![0_usize; entries.len()];
    let is_directory = |at: &usize| entries[*at].kind == EntryKind::Directory;
    for start in (0..entries.len()).filter(is_directory) {
        let walk = start + 1;
        let mut at = Some(start);
        while let Some(new) = at.filter(|at| met[*at] == 0) {
            met[new] = walk;
            at = parent(new);
        }
        let Some(first) = at.filter(|at| met[*at] == walk) else {
            continue;
        };
        let next = |at: &usize| parent(*at).filter(|next| *next != first);
        findings.extend(iter::successors(Some(first), next).map(|at| Finding {
            inode: entries[at].inode,
            name: entries[at].name.clone(),
            problem: Problem::Cycle,
        }));
    }
}
