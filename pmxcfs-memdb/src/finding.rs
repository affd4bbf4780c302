//! What can be wrong with a database: with single rows, and with the tree that they make.
//!
//! Loading collects every finding instead of stopping at the first, so that an operator repairs a database in one go,
//! and an offline tool can show them all. Which contents are refused and which are taken is what the C daemon does
//! (a database it starts with must start here), except that the database version is raised where it is too low.

use bytes::Bytes;
use pmxcfs_api_types::Vmid;

/// One thing that is wrong, and the row that it is wrong with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("inode {inode} (\"{}\"): {problem}", name.escape_ascii())]
pub struct Finding {
    /// Inode of the row.
    pub inode: u64,
    /// Name as stored, any bytes.
    pub name: Bytes,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a row, with how it refers to others, or with its place in the tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A column holds something else than an integer.
    #[error("column {column} is not an integer")]
    NotInteger {
        /// Name of the column.
        column: &'static str,
    },
    /// Row 0 is not the version row.
    #[error("inode 0 is reserved for the row named __version__")]
    VersionRowName,
    /// The version row's type (lowest 8 bits) is neither 8 nor 4.
    #[error("the version row has type {kind} instead of 8")]
    VersionRowKind {
        /// The stored type.
        kind: i64,
    },
    /// The version row has type 4 and data.
    #[error("the version row has data")]
    VersionRowData,
    /// The name is NULL or empty.
    #[error("the entry has no name")]
    EmptyName,
    /// The type (lowest 8 bits) is neither 4 nor 8.
    #[error("type {kind} is neither 4 (directory) nor 8 (file)")]
    UnknownKind {
        /// The stored type.
        kind: i64,
    },
    /// A directory has data.
    #[error("the directory has {size} bytes of data")]
    DirectoryWithData {
        /// Length of the data in bytes.
        size: usize,
    },
    /// The parent's row does not exist.
    #[error("its directory, inode {parent}, does not exist")]
    MissingParent {
        /// The stored parent.
        parent: u64,
    },
    /// The parent is a regular file in an earlier row.
    #[error("its directory, inode {parent}, is a regular file")]
    ParentIsFile {
        /// The stored parent.
        parent: u64,
    },
    /// An earlier row has the same name in the same directory.
    #[error("inode {other} has the same name in the same directory (inode {parent})")]
    DuplicateName {
        /// The directory.
        parent: u64,
        /// Inode of the earlier row.
        other: u64,
    },
    /// No further change could be numbered.
    #[error("the version is the largest possible number")]
    VersionExhausted,
    /// The version row is missing or lower than an inode or version; it is raised. Taken.
    #[error("{}", version_too_low(*stored, *used))]
    VersionTooLow {
        /// The version row's value, if there is one.
        stored: Option<u64>,
        /// The value that is used.
        used: u64,
    },
    /// The name contains a slash, so no path leads to the entry. Taken.
    #[error("the name contains a slash, so the entry cannot be reached")]
    NameWithSlash,
    /// The name contains a NUL byte and is cut there. Taken.
    #[error("the name contains a NUL byte and is cut there")]
    NameWithNul,
    /// The parent is a regular file in a later row: no path leads to the entry. Taken.
    #[error("its directory, inode {parent}, is a regular file, so the entry cannot be reached")]
    BelowFile {
        /// The stored parent.
        parent: u64,
    },
    /// The entry is its own ancestor: no path leads to it. Taken.
    #[error("the directory is inside itself, so it cannot be reached")]
    Cycle,
    /// The file is larger than a file may become. Taken.
    #[error("the file has {size} bytes, more than a file may have")]
    Oversized {
        /// Its size in bytes.
        size: usize,
    },
    /// Another guest configuration has the same id, on whatever node.
    #[error(
        "guest {vmid} has another config, '{}' (inode {other}), beside '{}'; an id can be used only once in the whole \
         cluster",
        other_path.escape_ascii(), path.escape_ascii()
    )]
    DuplicateGuest {
        /// The id.
        vmid: Vmid,
        /// Path of this configuration.
        path: Bytes,
        /// Inode of the other configuration.
        other: u64,
        /// Path of the other configuration.
        other_path: Bytes,
    },
    /// A guest directory of a node is a file. Taken.
    #[error(
        "'{}' should be a directory of guest configs and is a file; C daemons refuse to start with it",
        path.escape_ascii()
    )]
    GuestDirectoryIsFile {
        /// Where it is.
        path: Bytes,
    },
    /// Another entry has the same inode.
    #[error("another entry has the same inode")]
    DuplicateInode,
    /// The name is `.` or `..`, which no program can open. Taken.
    #[error("the name is that of a directory link, so no program can open the entry")]
    HiddenName,
}

fn version_too_low(stored: Option<u64>, used: u64) -> String {
    match stored {
        Some(stored) => format!(
            "the database version {stored} is lower than the rows' {used}; continuing with {used}"
        ),
        None => format!("the version row is missing; continuing with the rows' {used}"),
    }
}

impl Finding {
    /// Whether a database with this row is not loaded.
    pub const fn is_refused(&self) -> bool {
        !matches!(
            self.problem,
            Problem::VersionTooLow { .. }
                | Problem::NameWithSlash
                | Problem::NameWithNul
                | Problem::BelowFile { .. }
                | Problem::Cycle
                | Problem::Oversized { .. }
                | Problem::GuestDirectoryIsFile { .. }
                | Problem::HiddenName
        )
    }

    /// What an operator can do about it by hand while the daemon is stopped. SQL is for the `sqlite3` program.
    pub fn advice(&self) -> String {
        let inode = self.inode.cast_signed();
        let set = |what: &str| format!("UPDATE tree SET {what} WHERE inode={inode};");
        let rename = || set(&format!("name='recovered-{inode}'"));
        let delete = || format!("DELETE FROM tree WHERE inode={inode};");
        match self.problem {
            Problem::NotInteger { column } => set(&format!("{column}=0")),
            Problem::VersionRowName => set("name='__version__'"),
            Problem::VersionRowKind { .. } => set("type=8"),
            Problem::VersionRowData => set("data=NULL"),
            Problem::EmptyName
            | Problem::NameWithSlash
            | Problem::NameWithNul
            | Problem::GuestDirectoryIsFile { .. }
            | Problem::HiddenName => format!("give it another name: {}", rename()),
            Problem::UnknownKind { .. } => {
                format!(
                    "make it a file: {} or remove it: {}",
                    set("type=8"),
                    delete()
                )
            }
            Problem::DirectoryWithData { .. } => format!(
                "make it a file: {} or drop the data: {}",
                set("type=8"),
                set("data=NULL")
            ),
            Problem::MissingParent { .. }
            | Problem::ParentIsFile { .. }
            | Problem::BelowFile { .. }
            | Problem::Cycle => format!(
                "move it to the root directory: {} or remove it: {}",
                set(&format!("parent=0, name='recovered-{inode}'")),
                delete()
            ),
            Problem::DuplicateName { other, .. } => format!(
                "keep one of inodes {} and {inode}, or rename this one: {}",
                other.cast_signed(),
                rename()
            ),
            Problem::DuplicateGuest { other, .. } => format!(
                "find out which of inodes {inode} and {} is in use, keep a copy of the other, and remove it: \
                 DELETE FROM tree WHERE inode=...;",
                other.cast_signed()
            ),
            Problem::VersionExhausted => {
                set("version=(SELECT max(max(inode),max(version)) FROM tree WHERE inode>0)")
            }
            Problem::DuplicateInode => "give one of them another number".to_owned(),
            Problem::VersionTooLow { .. } => "nothing to do: the next change repairs it".to_owned(),
            Problem::Oversized { .. } => "replace the file by a smaller one".to_owned(),
        }
    }
}
