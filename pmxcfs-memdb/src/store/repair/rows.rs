//! Changes of single rows.
//!
//! Names are bound as blobs and made text by SQLite, so that any bytes become the name. Columns that a change is not
//! about keep what they have, whatever that is.

use std::cell::RefCell;
use std::collections::HashSet;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension};

use super::super::schema::{VERSION_ROW_KIND, VERSION_ROW_NAME};
use crate::{Entry, RootState};

/// Where rows go that cannot stay where they are.
pub(super) const RECOVERY_DIRECTORY: &str = "priv";

const DIRECTORY_KIND: i64 = 4;
const FILE_KIND: i64 = 8;

/// Longest part of a name that is kept, in bytes.
const KEPT_NAME_LENGTH: usize = 200;

/// The table of an open transaction.
pub(super) struct RowTable<'c> {
    pub(super) connection: &'c Connection,
    recovery: RefCell<Option<RecoveryDirectory>>,
}

/// Where rows are moved to, found once and not by looking through all rows for each.
struct RecoveryDirectory {
    inode: i64,
    names: HashSet<Vec<u8>>,
}

impl<'c> RowTable<'c> {
    pub(super) const fn new(connection: &'c Connection) -> Self {
        Self {
            connection,
            recovery: RefCell::new(None),
        }
    }

    /// Rows may have changed that say where the recovery directory is and what it holds.
    pub(super) fn forget_recovery_directory(&self) {
        self.recovery.replace(None);
    }

    /// Writes a whole row.
    pub(super) fn replace(&self, entry: &Entry) -> rusqlite::Result<()> {
        let data = if entry.data.is_empty() {
            Value::Null
        } else {
            Value::Blob(entry.data.to_vec())
        };
        self.connection
            .prepare_cached(
                "REPLACE INTO tree (inode, parent, version, writer, mtime, type, name, data) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, CAST(?7 AS TEXT), ?8)",
            )?
            .execute((
                entry.inode.cast_signed(),
                entry.parent.cast_signed(),
                entry.version.cast_signed(),
                entry.writer,
                entry.mtime,
                i64::from(entry.kind as u8),
                &entry.name[..],
                data,
            ))?;
        Ok(())
    }

    /// Removes a row, as a record of the crash journal says.
    pub(super) fn delete(&self, inode: u64) -> rusqlite::Result<()> {
        self.connection
            .execute("DELETE FROM tree WHERE inode=?1", [inode.cast_signed()])?;
        Ok(())
    }

    /// Writes the version row.
    pub(super) fn put_root(&self, root: RootState) -> rusqlite::Result<()> {
        self.connection.execute(
            "REPLACE INTO tree (inode, parent, version, writer, mtime, type, name) VALUES (0, 0, ?1, ?2, ?3, ?4, ?5)",
            (
                root.version.cast_signed(),
                root.writer,
                root.mtime,
                VERSION_ROW_KIND,
                VERSION_ROW_NAME,
            ),
        )?;
        Ok(())
    }

    /// Sets the integer column `column`, which is one of the table's and no input.
    pub(super) fn set(&self, inode: u64, column: &str, value: i64) -> rusqlite::Result<()> {
        self.connection.execute(
            &format!("UPDATE tree SET {column}=?2 WHERE inode=?1"),
            (inode.cast_signed(), value),
        )?;
        Ok(())
    }

    /// Gives a row another name.
    pub(super) fn rename(&self, inode: u64, name: &[u8]) -> rusqlite::Result<()> {
        self.connection.execute(
            "UPDATE tree SET name=CAST(?2 AS TEXT) WHERE inode=?1",
            (inode.cast_signed(), name),
        )?;
        Ok(())
    }

    /// Takes the content off a row that cannot have one and makes it a file in the recovery directory. Returns where.
    pub(super) fn detach_data(&self, inode: u64, name: &[u8]) -> rusqlite::Result<Option<String>> {
        let mut place = None;
        if self.has_data(inode)? {
            let (directory, target) = self.reserve(inode, name)?;
            self.connection.execute(
                "INSERT INTO tree (inode, parent, version, writer, mtime, type, name, data) \
                 SELECT ?2, ?3, ?2, 0, 0, ?4, CAST(?5 AS TEXT), CAST(data AS BLOB) FROM tree WHERE inode=?1",
                (
                    inode.cast_signed(),
                    self.next_number()?,
                    directory,
                    FILE_KIND,
                    &target[..],
                ),
            )?;
            place = Some(shown_path(&target));
        }
        self.connection.execute(
            "UPDATE tree SET data=NULL WHERE inode=?1",
            [inode.cast_signed()],
        )?;
        Ok(place)
    }

    /// Moves a row to the recovery directory. Returns its new path.
    pub(super) fn move_away(&self, inode: u64, name: &[u8]) -> rusqlite::Result<String> {
        let (directory, target) = self.reserve(inode, name)?;
        self.connection
            .prepare_cached("UPDATE tree SET parent=?2, name=CAST(?3 AS TEXT) WHERE inode=?1")?
            .execute((inode.cast_signed(), directory, &target[..]))?;
        Ok(shown_path(&target))
    }

    /// All inodes that rows name as their directory.
    pub(super) fn parents(&self) -> rusqlite::Result<HashSet<u64>> {
        let mut statement = self.connection.prepare(
            "SELECT DISTINCT parent FROM tree WHERE inode<>0 AND typeof(parent)='integer'",
        )?;
        let parents = statement.query_map([], |row| row.get::<_, i64>(0))?;
        parents
            .map(|parent| parent.map(i64::cast_unsigned))
            .collect()
    }

    /// Whether a row has content.
    pub(super) fn has_data(&self, inode: u64) -> rusqlite::Result<bool> {
        self.connection.query_row(
            "SELECT EXISTS (SELECT 1 FROM tree WHERE inode=?1 AND length(CAST(data AS BLOB)) > 0)",
            [inode.cast_signed()],
            |row| row.get(0),
        )
    }

    /// Of two rows, the one that was changed earlier; made earlier, if that does not decide. Never a directory that rows
    /// could be moved to in favour of a file.
    pub(super) fn older(&self, first: u64, second: u64) -> rusqlite::Result<u64> {
        self.connection
            .query_row(
                "SELECT inode FROM tree WHERE inode IN (?1, ?2) ORDER BY \
                 parent=0 AND (type & 255)=?4 AND CAST(name AS BLOB)=CAST(?3 AS BLOB), version, inode LIMIT 1",
                (
                    first.cast_signed(),
                    second.cast_signed(),
                    RECOVERY_DIRECTORY,
                    DIRECTORY_KIND,
                ),
                |row| row.get::<_, i64>(0),
            )
            .map(i64::cast_unsigned)
    }

    /// Gives an inode a new number, in its row and in those of its children. Returns it.
    pub(super) fn renumber(&self, inode: u64) -> rusqlite::Result<i64> {
        let number = self.next_number()?;
        let parameters = (inode.cast_signed(), number);
        self.connection
            .execute("UPDATE tree SET inode=?2 WHERE inode=?1", parameters)?;
        self.connection
            .execute("UPDATE tree SET parent=?2 WHERE parent=?1", parameters)?;
        Ok(number)
    }

    /// A number above all that are in use and can be counted on from.
    pub(super) fn next_number(&self) -> rusqlite::Result<i64> {
        Ok(self.highest_number()? + 1)
    }

    /// The highest inode or version in use, apart from those that leave nothing to count.
    pub(super) fn highest_number(&self) -> rusqlite::Result<i64> {
        let highest: Option<i64> = self.connection.query_row(
            "SELECT max(number) FROM (SELECT inode AS number FROM tree UNION ALL SELECT version FROM tree \
             WHERE typeof(version)='integer') WHERE number < ?1",
            [EXHAUSTED],
            |row| row.get(0),
        )?;
        Ok(highest.unwrap_or(0).max(1))
    }

    /// A name in the recovery directory that nothing else gets, and the directory's inode. It is never `moved`, which is
    /// one of the rows without a place, and it is private, whatever was private among them.
    fn reserve(&self, moved: u64, name: &[u8]) -> rusqlite::Result<(i64, Vec<u8>)> {
        let mut recovery = self.recovery.borrow_mut();
        let directory = match &mut *recovery {
            Some(directory) if directory.inode != moved.cast_signed() => directory,
            unknown => unknown.insert(self.find_recovery_directory(moved)?),
        };
        let first = recovered_name(moved, name);
        let mut candidate = first.clone();
        let mut attempt = 1_u64;
        while !directory.names.insert(candidate.clone()) {
            attempt += 1;
            candidate.clone_from(&first);
            candidate.extend_from_slice(format!(".{attempt}").as_bytes());
        }
        Ok((directory.inode, candidate))
    }

    fn find_recovery_directory(&self, moved: u64) -> rusqlite::Result<RecoveryDirectory> {
        let found = self
            .connection
            .query_row(
                "SELECT inode FROM tree WHERE parent=0 AND inode NOT IN (0, ?3) AND (type & 255)=?2 \
                 AND CAST(name AS BLOB)=CAST(?1 AS BLOB) ORDER BY version DESC, inode DESC LIMIT 1",
                (RECOVERY_DIRECTORY, DIRECTORY_KIND, moved.cast_signed()),
                |row| row.get(0),
            )
            .optional()?;
        let inode = match found {
            Some(inode) => inode,
            None => self.make_recovery_directory()?,
        };
        let mut statement = self
            .connection
            .prepare("SELECT CAST(name AS BLOB) FROM tree WHERE parent=?1")?;
        let names = statement.query_map([inode], |row| {
            Ok(row.get::<_, Option<Vec<u8>>>(0)?.unwrap_or_default())
        })?;
        Ok(RecoveryDirectory {
            inode,
            names: names.collect::<rusqlite::Result<_>>()?,
        })
    }

    fn make_recovery_directory(&self) -> rusqlite::Result<i64> {
        let inode = self.next_number()?;
        self.connection.execute(
            "INSERT INTO tree (inode, parent, version, writer, mtime, type, name) VALUES (?1, 0, ?1, 0, 0, ?2, ?3)",
            (inode, DIRECTORY_KIND, RECOVERY_DIRECTORY),
        )?;
        Ok(inode)
    }
}

/// The number at which a version cannot go on.
const EXHAUSTED: i64 = i64::MAX - 1;

/// `recovered-INODE-NAME`, with what cannot be in a name left out.
fn recovered_name(inode: u64, name: &[u8]) -> Vec<u8> {
    let mut recovered = format!("recovered-{inode}").into_bytes();
    if !matches!(name, b"" | b"." | b"..") {
        recovered.push(b'-');
        let kept = name.iter().take(KEPT_NAME_LENGTH);
        recovered.extend(kept.map(|byte| match byte {
            b'/' | 0 => b'_',
            byte => *byte,
        }));
    }
    recovered
}

fn shown_path(name: &[u8]) -> String {
    format!("{RECOVERY_DIRECTORY}/{}", name.escape_ascii())
}
