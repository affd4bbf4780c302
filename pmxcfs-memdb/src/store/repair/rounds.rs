//! The repair of each kind of finding.

use std::collections::HashSet;

use bytes::Bytes;
use pmxcfs_api_types::time::wall_clock_secs;

use super::super::database;
use super::super::database::schema::{VERSION_ROW_KIND, VERSION_ROW_NAME};
use super::super::offline::{self, Examined, JournalUse};
use super::table::Table;
use crate::{EntryKind, Finding, Problem, ROOT_INODE, RootState};

/// Each round repairs one finding of each row that has any, and no repaired finding comes back: a row has few.
const MAX_ROUNDS: usize = 32;

/// One finding and its repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// The finding.
    pub finding: Finding,
    /// The repair in words: "moved to priv/recovered-7-a".
    pub action: String,
}

/// Repairs the rows as far as possible. Returns the repairs, and how a start would see the rows now.
pub(super) fn run(table: &mut Table) -> (Vec<Repair>, Examined) {
    let mut repairs = Vec::new();
    for _ in 0..MAX_ROUNDS {
        // Readers know no content of the version row, but none is thrown away.
        if !repairs.is_empty() {
            table.detach_data(ROOT_INODE, b"data");
        }
        let state = examine(table);
        let before = repairs.len();
        Round::new(table, &state).mend_all(&mut repairs);
        if repairs.len() == before {
            break;
        }
    }
    (repairs, examine(table))
}

fn examine(table: &Table) -> Examined {
    offline::judge(table.sorted(), JournalUse::Ignored, None)
}

struct Round<'a> {
    table: &'a mut Table,
    /// The rows at the beginning of the round.
    state: &'a Examined,
    /// The directories that rows name.
    parents: HashSet<i64>,
    /// Rows that were changed in this round: other findings about them may not hold any more.
    mended: HashSet<u64>,
}

impl<'a> Round<'a> {
    fn new(table: &'a mut Table, state: &'a Examined) -> Self {
        table.forget_recovery_directory();
        let rows = table.rows.values().filter(|row| row.inode != 0);
        Self {
            parents: rows.filter_map(|row| row.parent).collect(),
            mended: HashSet::new(),
            table,
            state,
        }
    }

    fn mend_all(mut self, repairs: &mut Vec<Repair>) {
        let findings = &self.state.findings;
        let mut add = |finding: &Finding, action| {
            let finding = finding.clone();
            repairs.push(Repair { finding, action });
        };
        // New numbers are taken while mending others, so there must be some.
        let mut exhausted = findings.iter();
        if let Some(finding) =
            exhausted.find(|finding| finding.problem == Problem::VersionExhausted)
        {
            return add(finding, self.make_room());
        }
        for finding in findings {
            if !self.mended.contains(&finding.inode)
                && let Some(action) = self.mend(finding)
            {
                self.mended.insert(finding.inode);
                add(finding, action);
            }
        }
        // The version follows from all other rows, so it comes last.
        let is_version =
            |finding: &&Finding| matches!(finding.problem, Problem::VersionTooLow { .. });
        if self.mended.is_empty()
            && let Some(finding) = findings.iter().find(is_version)
        {
            add(finding, self.raise_version());
        }
    }

    /// Repairs a finding and says how, unless that has to wait for another round or is impossible.
    fn mend(&mut self, finding: &Finding) -> Option<String> {
        let (inode, name) = (finding.inode, &finding.name);
        Some(match &finding.problem {
            Problem::NotInteger { column } => self.set_number(inode, name, column),
            Problem::VersionRowName => {
                let kept = self.table.detach_data(inode, name);
                self.table.row(inode).name = Bytes::from_static(VERSION_ROW_NAME.as_bytes());
                with_content("named __version__", kept)
            }
            Problem::VersionRowKind { .. } => self.set_version_kind(),
            Problem::VersionRowData => {
                with_content("data taken off", self.table.detach_data(inode, b"data"))
            }
            Problem::UnknownKind { .. } => self.choose_kind(inode),
            Problem::DirectoryWithData { .. } => self.part_directory(inode, name),
            Problem::EmptyName
            | Problem::NameWithSlash
            | Problem::MissingParent { .. }
            | Problem::ParentIsFile { .. }
            | Problem::BelowFile { .. }
            | Problem::GuestDirectoryIsFile { .. }
            | Problem::HiddenName => self.move_away(inode, name),
            Problem::Cycle => return self.break_cycle(inode, name),
            Problem::DuplicateName { other, .. } | Problem::DuplicateGuest { other, .. } => {
                return self.separate(finding, *other);
            }
            Problem::NameWithNul => {
                self.table.row(inode).name = name.clone();
                format!("named {}", name.escape_ascii())
            }
            Problem::VersionExhausted
            | Problem::VersionTooLow { .. }
            | Problem::DuplicateInode
            | Problem::Oversized { .. } => return None,
        })
    }

    fn move_away(&mut self, inode: u64, name: &[u8]) -> String {
        format!("moved to {}", self.table.move_away(inode, name))
    }

    /// Of two entries that exclude each other the one that was changed later stays.
    fn separate(&mut self, finding: &Finding, other: u64) -> Option<String> {
        if self.mended.contains(&other) {
            return None;
        }
        let older = self.table.older(finding.inode, other);
        let name = self.table.row(older).name.clone();
        let path = self.table.move_away(older, &name);
        self.mended.insert(older);
        Some(if older == finding.inode {
            format!("moved to {path}; inode {other} stays")
        } else {
            format!("stays; inode {other} moved to {path}")
        })
    }

    /// One directory of a cycle is moved, and the others are below it then.
    fn break_cycle(&mut self, inode: u64, name: &[u8]) -> Option<String> {
        let mut members = HashSet::new();
        let mut at = inode;
        while members.insert(at) {
            if self.mended.contains(&at) {
                return None;
            }
            at = self.table.row(at).parent?.cast_unsigned();
        }
        let action = self.move_away(inode, name);
        self.mended.extend(members);
        Some(action)
    }

    fn set_number(&mut self, inode: u64, name: &[u8], column: &str) -> String {
        let row = self.table.row(inode);
        let (number, value) = match column {
            "parent" if inode != ROOT_INODE => return self.move_away(inode, name),
            "type" if inode != ROOT_INODE => return self.choose_kind(inode),
            "type" => return self.set_version_kind(),
            // An entry is never older than its inode.
            "version" => (&mut row.version, row.inode.max(0)),
            "parent" => (&mut row.parent, 0),
            "writer" => (&mut row.writer, 0),
            _ => (&mut row.mtime, 0),
        };
        *number = Some(value);
        format!("{column} set to {value}")
    }

    fn set_version_kind(&mut self) -> String {
        self.table.row(ROOT_INODE).kind = Some(VERSION_ROW_KIND);
        format!("type set to {VERSION_ROW_KIND}")
    }

    fn has_children(&self, inode: u64) -> bool {
        self.parents.contains(&inode.cast_signed())
    }

    /// An entry that holds others becomes a directory; one with content, or with neither, becomes a file.
    fn choose_kind(&mut self, inode: u64) -> String {
        let (kind, text) = if self.has_children(inode) && !self.table.has_data(inode) {
            (EntryKind::Directory, "made a directory")
        } else {
            (EntryKind::File, "made a file")
        };
        self.table.row(inode).kind = Some(kind as i64);
        text.to_owned()
    }

    fn part_directory(&mut self, inode: u64, name: &[u8]) -> String {
        if self.has_children(inode) {
            return with_content("data taken off", self.table.detach_data(inode, name));
        }
        self.table.row(inode).kind = Some(EntryKind::File as i64);
        "made a file".to_owned()
    }

    /// Takes back numbers behind which no change could be numbered.
    fn make_room(&mut self) -> String {
        let is_last = |value: u64| value.cast_signed() >= i64::MAX - 1;
        let mut done = Vec::new();
        for entry in &self.state.entries {
            if is_last(entry.inode) {
                let number = self.table.renumber(entry.inode);
                done.push(format!("inode {} is now {number}", entry.inode));
            } else if is_last(entry.version) {
                let number = self.table.next_number();
                self.table.row(entry.inode).version = Some(number);
                done.push(format!("version of inode {} set to {number}", entry.inode));
            }
        }
        self.table.detach_data(ROOT_INODE, b"data");
        let highest = self.table.highest_number();
        self.table.put_root(RootState {
            version: highest.cast_unsigned(),
            ..self.state.version_row.unwrap_or_default()
        });
        done.push(format!("database version set to {highest}"));
        done.join("; ")
    }

    fn raise_version(&mut self) -> String {
        let stored = self.state.version_row;
        // A content of the version row becomes a file, and its number counts.
        self.table.detach_data(ROOT_INODE, b"data");
        let used = database::effective_root(stored, &self.state.entries);
        self.table.put_root(RootState {
            mtime: stored.map_or_else(wall_clock_secs, |root| root.mtime),
            ..used
        });
        format!("database version set to {}", used.version)
    }
}

fn with_content(action: &str, kept: Option<String>) -> String {
    match kept {
        Some(path) => format!("{action}; its content is kept as {path}"),
        None => action.to_owned(),
    }
}
