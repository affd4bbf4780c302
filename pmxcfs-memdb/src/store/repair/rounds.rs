//! Which fault is mended how.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use pmxcfs_api_types::time::wall_clock_secs;

use super::super::fault::{self, Fault, FaultKind};
use super::super::finding::Problem;
use super::super::load;
use super::super::offline;
use super::super::schema::{VERSION_ROW_KIND, VERSION_ROW_NAME};
use super::rows::RowTable;
use super::{Repair, RepairError};
use crate::{Entry, EntryKind, ROOT_INODE, RootState};

/// Each round mends one fault of each row that has any, and no mended fault comes back: a row has few.
const MAX_ROUNDS: usize = 32;

/// Mends what can be mended. Returns what was done and what is left.
pub(super) fn run(
    table: &RowTable<'_>,
    database: &Path,
) -> Result<(Vec<Repair>, Vec<Fault>), RepairError> {
    let mut repairs = Vec::new();
    for _ in 0..MAX_ROUNDS {
        let state = State::read(table, database)?;
        let before = repairs.len();
        let round = Round {
            table,
            state: &state,
            mended: HashSet::new(),
        };
        round
            .mend_all(&mut repairs)
            .map_err(|source| RepairError::Write {
                path: database.to_owned(),
                source,
            })?;
        if repairs.len() == before {
            return Ok((repairs, state.faults));
        }
    }
    let state = State::read(table, database)?;
    Ok((repairs, state.faults))
}

/// The rows at the beginning of a round.
struct State {
    version_row: Option<RootState>,
    entries: Vec<Entry>,
    faults: Vec<Fault>,
    /// Directory of each directory.
    parents: HashMap<u64, u64>,
    /// What any row, also a refused one, names as its directory.
    named_as_parent: HashSet<u64>,
}

impl State {
    fn read(table: &RowTable<'_>, database: &Path) -> Result<Self, RepairError> {
        table.forget_recovery_directory();
        let mut rows = offline::read(table.connection, database)?;
        let is_empty =
            rows.version_row.is_none() && rows.entries.is_empty() && rows.findings.is_empty();
        if !is_empty {
            load::validate(rows.version_row, &rows.entries, &mut rows.findings);
        }
        let root = load::effective_root(rows.version_row, &rows.entries);
        let faults = fault::collect(rows.findings, root, &rows.entries);
        let named_as_parent = match faults.is_empty() {
            true => HashSet::new(),
            false => table.parents().map_err(|source| RepairError::Write {
                path: database.to_owned(),
                source,
            })?,
        };
        let directories = rows.entries.iter();
        let directories = directories.filter(|entry| entry.kind == EntryKind::Directory);
        Ok(Self {
            version_row: rows.version_row,
            faults,
            parents: directories
                .map(|entry| (entry.inode, entry.parent))
                .collect(),
            named_as_parent,
            entries: rows.entries,
        })
    }
}

struct Round<'a> {
    table: &'a RowTable<'a>,
    state: &'a State,
    /// Rows that were changed in this round: what else was found of them may not hold any more.
    mended: HashSet<u64>,
}

impl Round<'_> {
    fn mend_all(mut self, repairs: &mut Vec<Repair>) -> rusqlite::Result<()> {
        let faults = &self.state.faults;
        // New numbers are taken while mending others, so there must be some.
        let exhausted = faults
            .iter()
            .find(|fault| fault.kind == FaultKind::Row(Problem::VersionExhausted));
        if let Some(fault) = exhausted {
            repairs.push(Repair {
                fault: fault.clone(),
                action: self.make_room()?,
            });
            return Ok(());
        }
        // The version follows from all other rows, so it comes last.
        let is_version =
            |fault: &&Fault| matches!(fault.kind, FaultKind::Row(Problem::VersionTooLow { .. }));
        for fault in faults.iter().filter(|fault| !is_version(fault)) {
            if !self.mended.contains(&fault.inode)
                && let Some(action) = self.mend(fault)?
            {
                self.mended.insert(fault.inode);
                repairs.push(Repair {
                    fault: fault.clone(),
                    action,
                });
            }
        }
        if self.mended.is_empty()
            && let Some(fault) = faults.iter().find(is_version)
        {
            repairs.push(Repair {
                fault: fault.clone(),
                action: self.raise_version()?,
            });
        }
        Ok(())
    }

    /// Mends a fault and says how, unless that has to wait for another round or cannot be done.
    fn mend(&mut self, fault: &Fault) -> rusqlite::Result<Option<String>> {
        let (inode, name) = (fault.inode, &fault.name[..]);
        let problem = match &fault.kind {
            FaultKind::Row(problem) => problem,
            FaultKind::DuplicateGuest { other, .. } => return self.separate(fault, *other),
            FaultKind::GuestDirectoryIsFile | FaultKind::HiddenName => {
                return self.move_away(inode, name).map(Some);
            }
        };
        match problem {
            Problem::NotInteger { column } => self.set_number(inode, name, column).map(Some),
            Problem::VersionRowName => {
                let kept = self.table.detach_data(inode, name)?;
                self.table.rename(inode, VERSION_ROW_NAME.as_bytes())?;
                Ok(Some(with_content("named __version__", kept)))
            }
            Problem::VersionRowKind { .. } => {
                self.table.set(inode, "type", VERSION_ROW_KIND)?;
                Ok(Some(format!("type set to {VERSION_ROW_KIND}")))
            }
            Problem::VersionRowData => {
                let kept = self.table.detach_data(inode, b"data")?;
                Ok(Some(with_content("data taken off", kept)))
            }
            Problem::UnknownKind { .. } => self.choose_kind(inode).map(Some),
            Problem::DirectoryWithData { .. } => self.part_directory(inode, name).map(Some),
            Problem::EmptyName
            | Problem::NameWithSlash
            | Problem::MissingParent { .. }
            | Problem::ParentIsFile { .. }
            | Problem::BelowFile { .. } => self.move_away(inode, name).map(Some),
            Problem::Cycle => self.break_cycle(inode, name),
            Problem::DuplicateName { other, .. } => self.separate(fault, *other),
            Problem::NameWithNul => {
                self.table.rename(inode, name)?;
                Ok(Some(format!("named {}", name.escape_ascii())))
            }
            Problem::VersionExhausted
            | Problem::VersionTooLow { .. }
            | Problem::Oversized { .. } => Ok(None),
        }
    }

    fn has_children(&self, inode: u64) -> bool {
        self.state.named_as_parent.contains(&inode)
    }

    fn move_away(&self, inode: u64, name: &[u8]) -> rusqlite::Result<String> {
        let path = self.table.move_away(inode, name)?;
        Ok(format!("moved to {path}"))
    }

    /// Of two entries that exclude each other the one that was changed later stays.
    fn separate(&mut self, fault: &Fault, other: u64) -> rusqlite::Result<Option<String>> {
        if self.mended.contains(&other) {
            return Ok(None);
        }
        let older = self.table.older(fault.inode, other)?;
        let entries = &self.state.entries;
        let name = entries
            .binary_search_by_key(&older.cast_signed(), |entry| entry.inode.cast_signed())
            .map_or(&fault.name, |at| &entries[at].name);
        let path = self.table.move_away(older, name)?;
        self.mended.insert(older);
        Ok(Some(if older == fault.inode {
            format!("moved to {path}; inode {other} stays")
        } else {
            format!("stays; inode {other} moved to {path}")
        }))
    }

    /// One directory of a cycle is moved, and the others are below it then.
    fn break_cycle(&mut self, inode: u64, name: &[u8]) -> rusqlite::Result<Option<String>> {
        let mut at = inode;
        let mut members = Vec::new();
        loop {
            if self.mended.contains(&at) {
                return Ok(None);
            }
            members.push(at);
            match self.state.parents.get(&at) {
                Some(parent) if *parent != inode => at = *parent,
                _ => break,
            }
        }
        let action = self.move_away(inode, name)?;
        self.mended.extend(members);
        Ok(Some(action))
    }

    fn set_number(&self, inode: u64, name: &[u8], column: &str) -> rusqlite::Result<String> {
        match column {
            "parent" if inode != ROOT_INODE => self.move_away(inode, name),
            "type" if inode != ROOT_INODE => self.choose_kind(inode),
            "type" => {
                self.table.set(inode, column, VERSION_ROW_KIND)?;
                Ok(format!("type set to {VERSION_ROW_KIND}"))
            }
            // An entry is never older than its inode.
            "version" => {
                let version = inode.cast_signed().max(0);
                self.table.set(inode, column, version)?;
                Ok(format!("version set to {version}"))
            }
            _ => {
                self.table.set(inode, column, 0)?;
                Ok(format!("{column} set to 0"))
            }
        }
    }

    /// What holds others is a directory; what has content, or neither, is a file.
    fn choose_kind(&self, inode: u64) -> rusqlite::Result<String> {
        let (kind, text) = if self.has_children(inode) && !self.table.has_data(inode)? {
            (EntryKind::Directory, "made a directory")
        } else {
            (EntryKind::File, "made a file")
        };
        self.table.set(inode, "type", i64::from(kind as u8))?;
        Ok(text.to_owned())
    }

    fn part_directory(&self, inode: u64, name: &[u8]) -> rusqlite::Result<String> {
        if self.has_children(inode) {
            let kept = self.table.detach_data(inode, name)?;
            return Ok(with_content("data taken off", kept));
        }
        self.table
            .set(inode, "type", i64::from(EntryKind::File as u8))?;
        Ok("made a file".to_owned())
    }

    /// Takes back numbers behind which no change could be numbered.
    fn make_room(&self) -> rusqlite::Result<String> {
        let is_last = |value: u64| value.cast_signed() >= i64::MAX - 1;
        let mut done = Vec::new();
        for entry in &self.state.entries {
            if is_last(entry.inode) {
                let number = self.table.renumber(entry.inode)?;
                self.table.set(number.cast_unsigned(), "version", number)?;
                done.push(format!("inode {} is now {number}", entry.inode));
            } else if is_last(entry.version) {
                let number = self.table.next_number()?;
                self.table.set(entry.inode, "version", number)?;
                done.push(format!("version of inode {} set to {number}", entry.inode));
            }
        }
        let highest = self.table.highest_number()?;
        let root = RootState {
            version: highest.cast_unsigned(),
            ..self.state.version_row.unwrap_or_default()
        };
        self.table.detach_data(ROOT_INODE, b"data")?;
        self.table.put_root(root)?;
        done.push(format!("database version set to {highest}"));
        Ok(done.join("; "))
    }

    fn raise_version(&self) -> rusqlite::Result<String> {
        let stored = self.state.version_row;
        let used = load::effective_root(stored, &self.state.entries);
        self.table.detach_data(ROOT_INODE, b"data")?;
        self.table.put_root(RootState {
            mtime: stored.map_or_else(wall_clock_secs, |root| root.mtime),
            ..used
        })?;
        Ok(format!("database version set to {}", used.version))
    }
}

fn with_content(action: &str, kept: Option<String>) -> String {
    match kept {
        Some(path) => format!("{action}; its content is kept as {path}"),
        None => action.to_owned(),
    }
}
