//! What holds for any journal and any rows. See [`crate::fuzzing`].

use bytes::{Buf, Bytes};
use pmxcfs_api_types::limits::MAX_FILE_SIZE;
use rusqlite::Connection;
use rusqlite::types::Value;

use super::database;
use super::identity::FileIdentity;
use super::journal::{self, JournalFile, JournalHeader, SEGMENT_COUNT};
use crate::{Entry, EntryKind, Finding, Index, Problem, ROOT_INODE, RootState, Rules, Tree};

const IDENTITY: FileIdentity = FileIdentity {
    device: 1,
    inode: 2,
    created_ns: 3,
};

const SALT: u64 = 0x5a17;

/// Bytes in front of the first record.
const HEADER_SIZE: usize = 80;

/// Bytes of a record in front of its steps.
const RECORD_HEADER: usize = 32;

/// Bytes behind them.
const MARK_SIZE: usize = 8;

/// Two files as a start might find them. The first byte says where the first one ends, which of them get good headers and
/// checksums, without which little gets past the first check. What is scanned is whole records, and what is applied to a
/// database leaves entries that fit it.
pub fn crash_journal(bytes: &[u8]) {
    let Some((mode, rest)) = bytes.split_first() else {
        return;
    };
    let (first, second) = rest.split_at(rest.len() * usize::from(mode >> 3) / 32);
    let mut segments: [Option<JournalFile>; SEGMENT_COUNT] = [None, None];
    let mut next_sequence = 1;
    for (index, file) in [first, second].into_iter().enumerate() {
        let file = if mode & (1 << index) != 0 {
            mended(file, &mut next_sequence)
        } else {
            file.to_vec()
        };
        let size = file.len();
        if let Ok(Some(scanned)) = journal::scan(Bytes::from(file)) {
            assert!(scanned.valid_size + scanned.torn_bytes <= size);
            let room = scanned.valid_size - HEADER_SIZE;
            assert!(scanned.records.len() <= room / (RECORD_HEADER + MARK_SIZE));
            segments[index] = Some(scanned);
        }
    }
    let base = segments
        .iter()
        .flatten()
        .next()
        .map(|segment| segment.header.base);
    let Ok(recovery) = journal::plan(segments, IDENTITY, base.unwrap_or_default()) else {
        return;
    };
    let mut entries = database_entries();
    if journal::apply(&mut entries, &recovery.records).is_ok() {
        let order = |pair: &[Entry]| pair[0].inode.cast_signed() < pair[1].inode.cast_signed();
        assert!(entries.windows(2).all(order));
        for entry in &entries {
            assert_eq!(entry.size as usize, entry.data.len());
            assert!(u64::from(entry.size) <= MAX_FILE_SIZE);
        }
        check_entries(RootState::default(), entries);
    }
}

/// The bytes in a file with a header and with lengths, numbers and checksums of records that hold together. What the steps say
/// stays.
fn mended(bytes: &[u8], next_sequence: &mut u64) -> Vec<u8> {
    let header = JournalHeader {
        database: IDENTITY,
        first_sequence: *next_sequence,
        base: RootState::default(),
        salt: SALT,
    };
    let mut file = header.encode();
    let mut rest = bytes;
    while let Some((length, behind)) = rest.split_first() {
        let end = behind.len().min(usize::from(*length));
        let (steps, behind) = behind.split_at(end);
        rest = behind;
        file.extend(record(steps, *next_sequence));
        *next_sequence += 1;
    }
    file
}

fn record(steps: &[u8], sequence: u64) -> Vec<u8> {
    let size = RECORD_HEADER + steps.len() + MARK_SIZE;
    let size = u32::try_from(size).expect("steps are at most 255 bytes");
    let mut record = vec![0; 4];
    record.extend(size.to_le_bytes());
    record.extend(sequence.to_le_bytes());
    let root = RootState {
        version: sequence,
        ..RootState::default()
    };
    journal::put_root(&mut record, root);
    record.extend(steps);
    record.extend([0; MARK_SIZE]);
    journal::seal(&mut record, SALT);
    record
}

fn database_entries() -> Vec<Entry> {
    let entry = |inode, parent, kind, data: &'static [u8]| Entry {
        inode,
        parent,
        version: inode,
        writer: 1,
        mtime: 1,
        size: u32::try_from(data.len()).expect("short"),
        kind,
        name: Bytes::from(format!("entry{inode}")),
        data: Bytes::from_static(data),
    };
    vec![
        entry(1, 0, EntryKind::Directory, b""),
        entry(2, 1, EntryKind::File, b"content"),
        entry(3, 0, EntryKind::File, b""),
    ]
}

/// Rows as a table of any program might have them. What is loaded without a refusal makes a tree, unless a guest is there
/// twice.
pub fn database(bytes: &[u8]) {
    let connection = Connection::open_in_memory().expect("memory is there");
    fill(&connection, bytes).expect("rows of any kind can be stored");
    let mut rows = database::read(&connection).expect("rows of any kind can be read");
    database::validate(rows.version_row, &rows.entries, &mut rows.findings);
    for finding in &rows.findings {
        assert!(!finding.to_string().is_empty() && !finding.advice().is_empty());
    }
    if rows.findings.iter().any(Finding::is_refused) {
        return;
    }
    let root = database::effective_root(rows.version_row, &rows.entries);
    check_tree(root, rows.entries);
}

fn fill(connection: &Connection, bytes: &[u8]) -> rusqlite::Result<()> {
    // Without the checks of our own table.
    connection.execute_batch(
        "CREATE TABLE tree (inode INTEGER PRIMARY KEY, parent, version, writer, mtime, type, name, data)",
    )?;
    let mut insert =
        connection.prepare("INSERT OR IGNORE INTO tree VALUES (?1,?2,?3,?4,?5,?6,?7,?8)")?;
    let mut input = bytes;
    while input.has_remaining() {
        let inode = integer(&mut input);
        let mut row = vec![Value::Integer(inode)];
        for _ in 1..6 {
            row.push(number(&mut input));
        }
        for _ in 6..8 {
            row.push(text(&mut input));
        }
        insert.execute(rusqlite::params_from_iter(row))?;
    }
    Ok(())
}

fn byte(input: &mut &[u8]) -> u8 {
    input.try_get_u8().unwrap_or_default()
}

/// Mostly small, so that rows meet.
fn integer(input: &mut &[u8]) -> i64 {
    match byte(input) {
        small @ 0..=0xef => i64::from(small % 16),
        _ => input.try_get_i64_le().unwrap_or(i64::MAX),
    }
}

/// Mostly an integer.
fn number(input: &mut &[u8]) -> Value {
    match input.first() {
        Some(0xfe | 0xff) => text(input),
        _ => Value::Integer(integer(input)),
    }
}

fn text(input: &mut &[u8]) -> Value {
    let kind = byte(input);
    let size = usize::from(kind >> 3).min(input.len());
    let (bytes, rest) = input.split_at(size);
    *input = rest;
    match kind % 8 {
        0..=2 => Value::Text(String::from_utf8_lossy(bytes).into_owned()),
        3 => Value::Integer(i64::from(kind)),
        4 => Value::Real(f64::from(kind) / 3.0),
        5 => Value::Null,
        _ => Value::Blob(bytes.to_vec()),
    }
}

/// As after a start: only what was not refused gets so far. Rows of the root or without a name are refused when rows are read, and
/// no record is made of such an entry.
fn check_entries(root: RootState, entries: Vec<Entry>) {
    if entries
        .iter()
        .any(|entry| entry.inode == ROOT_INODE || entry.name.is_empty())
    {
        return;
    }
    let mut findings = Vec::new();
    database::validate(Some(root), &entries, &mut findings);
    if !findings.iter().any(Finding::is_refused) {
        check_tree(database::effective_root(Some(root), &entries), entries);
    }
}

fn check_tree(root: RootState, entries: Vec<Entry>) {
    let count = entries.len();
    let tree = match Tree::from_entries(root, entries, Rules::Replicated, 0) {
        Ok(tree) => tree,
        Err(finding) if matches!(finding.problem, Problem::DuplicateGuest { .. }) => return,
        Err(error) => panic!("entries that were accepted make no tree: {error}"),
    };
    assert_eq!(tree.entries().count(), count + 1);
    let index = tree.index();
    assert_eq!(Index::decode(index.bytes()), Ok(index));
    // No path leads to a name with a slash or to one of dots, which a row may have.
    let is_plain =
        |entry: &Entry| !entry.name.contains(&b'/') && !matches!(&entry.name[..], b"." | b"..");
    if !tree.entries().all(is_plain) {
        return;
    }
    for entry in tree.entries() {
        if let Some(path) = tree.path_of(entry.inode) {
            let found = tree.lookup(&path).map(|found| found.inode);
            assert_eq!(found, Some(entry.inode), "{path:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::{crash_journal, database};

    /// Steps of a record that mostly decode.
    fn record() -> impl Strategy<Value = Vec<u8>> {
        let step = (
            1..4u8,
            0..6u64,
            0..6u64,
            prop::bool::ANY,
            vec(b'a'..b'd', 0..3),
            any::<[u8; 12]>(),
        );
        let step = step.prop_map(|(tag, inode, parent, is_file, name, sizes)| {
            let mut step = vec![tag];
            step.extend(inode.to_le_bytes());
            if tag == 3 {
                return step;
            }
            step.extend(parent.to_le_bytes());
            step.extend([0; 16]);
            step.push(if is_file { 8 } else { 4 });
            step.extend([u8::try_from(name.len()).expect("short"), 0, 0, 0]);
            step.extend(name);
            if tag == 2 {
                for size in [sizes[0], sizes[1], sizes[2]] {
                    step.extend(u32::from(size).to_le_bytes());
                }
                step.extend([3, 0, 0, 0]);
                step.extend(&sizes[3..6]);
            }
            step
        });
        vec(step, 0..4).prop_map(|steps| {
            let steps = steps.concat();
            [vec![u8::try_from(steps.len()).expect("few")], steps].concat()
        })
    }

    #[test]
    fn a_row_called_like_its_own_directory_is_loaded() {
        database(b"\x95\0\x01f4\x08X.\0");
    }

    proptest! {
        #[test]
        fn any_journal(bytes in vec(any::<u8>(), 0..300)) {
            crash_journal(&bytes);
        }

        #[test]
        fn likely_journals(mode: u8, records in vec(record(), 0..6)) {
            crash_journal(&[vec![mode | 3], records.concat()].concat());
        }

        #[test]
        fn any_rows(bytes in vec(any::<u8>(), 0..300)) {
            database(&bytes);
        }

        /// Rows with small numbers, so that many of them are good.
        #[test]
        fn likely_rows(rows in vec((1..16u8, 0..16u8, prop::bool::ANY, b'a'..b'e'), 0..12)) {
            let row = |(inode, parent, is_file, name)| {
                vec![inode, parent, inode, 1, 1, if is_file { 8 } else { 4 }, 8, name, 5]
            };
            database(&rows.into_iter().flat_map(row).collect::<Vec<u8>>());
        }
    }
}
