//! What can be wrong with the rows of a database.
//!
//! Loading collects every finding instead of stopping at the first, so that an operator repairs a database in one go,
//! and an offline tool can show them all. Which contents are refused and which are taken is what the C daemon does
//! (a database it starts with must start here), except that the database version is raised where it is too low.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

/// One row that is refused, or taken with a warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Inode of the row.
    pub inode: u64,
    /// Name as stored, any bytes.
    pub name: Bytes,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// A column holds something else than an integer.
    NotInteger {
        /// Name of the column.
        column: &'static str,
    },
    /// Row 0 is not the version row.
    VersionRowName,
    /// The version row's type (lowest 8 bits) is neither 8 nor 4.
    VersionRowKind {
        /// The stored type.
        kind: i64,
    },
    /// The version row has type 4 and data.
    VersionRowData,
    /// The name is NULL or empty.
    EmptyName,
    /// The type (lowest 8 bits) is neither 4 nor 8.
    UnknownKind {
        /// The stored type.
        kind: i64,
    },
    /// A directory has data.
    DirectoryWithData {
        /// Length of the data in bytes.
        size: usize,
    },
    /// The parent's row does not exist.
    MissingParent {
        /// The stored parent.
        parent: u64,
    },
    /// The parent is a regular file in an earlier row.
    ParentIsFile {
        /// The stored parent.
        parent: u64,
    },
    /// An earlier row has the same name in the same directory.
    DuplicateName {
        /// The directory.
        parent: u64,
        /// Inode of the earlier row.
        other: u64,
    },
    /// No further change could be numbered.
    VersionExhausted,
    /// The version row is missing or lower than an inode or version; it is raised. Taken.
    VersionTooLow {
        /// The version row's value, if there is one.
        stored: Option<u64>,
        /// The value that is used.
        used: u64,
    },
    /// The name contains a slash, so no path leads to the entry. Taken.
    NameWithSlash,
    /// The name contains a NUL byte and is cut there. Taken.
    NameWithNul,
    /// The parent is a regular file in a later row: no path leads to the entry. Taken.
    BelowFile {
        /// The stored parent.
        parent: u64,
    },
    /// The entry is its own ancestor: no path leads to it. Taken.
    Cycle,
    /// The file is larger than a file may become. Taken.
    Oversized {
        /// Its size in bytes.
        size: usize,
    },
}

impl Problem {
    /// Whether a database with such a row is not loaded.
    #[must_use]
    pub const fn is_refused(&self) -> bool {
        match self {
            Self::NotInteger { .. }
            | Self::VersionRowName
            | Self::VersionRowKind { .. }
            | Self::VersionRowData
            | Self::EmptyName
            | Self::UnknownKind { .. }
            | Self::DirectoryWithData { .. }
            | Self::MissingParent { .. }
            | Self::ParentIsFile { .. }
            | Self::DuplicateName { .. }
            | Self::VersionExhausted => true,
            Self::VersionTooLow { .. }
            | Self::NameWithSlash
            | Self::NameWithNul
            | Self::BelowFile { .. }
            | Self::Cycle
            | Self::Oversized { .. } => false,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInteger { column } => write!(f, "column {column} is not an integer"),
            Self::VersionRowName => {
                f.write_str("inode 0 is reserved for the row named __version__")
            }
            Self::VersionRowKind { kind } => {
                write!(f, "the version row has type {kind} instead of 8")
            }
            Self::VersionRowData => f.write_str("the version row has data"),
            Self::EmptyName => f.write_str("the entry has no name"),
            Self::UnknownKind { kind } => {
                write!(f, "type {kind} is neither 4 (directory) nor 8 (file)")
            }
            Self::DirectoryWithData { size } => write!(f, "the directory has {size} bytes of data"),
            Self::MissingParent { parent } => {
                write!(f, "its directory, inode {parent}, does not exist")
            }
            Self::ParentIsFile { parent } => {
                write!(f, "its directory, inode {parent}, is a regular file")
            }
            Self::DuplicateName { parent, other } => {
                write!(
                    f,
                    "inode {other} has the same name in the same directory (inode {parent})"
                )
            }
            Self::VersionExhausted => f.write_str("the version is the largest possible number"),
            Self::VersionTooLow {
                stored: Some(stored),
                used,
            } => write!(
                f,
                "the database version {stored} is lower than the rows' {used}; continuing with {used}"
            ),
            Self::VersionTooLow { stored: None, used } => {
                write!(
                    f,
                    "the version row is missing; continuing with the rows' {used}"
                )
            }
            Self::NameWithSlash => {
                f.write_str("the name contains a slash, so the entry cannot be reached")
            }
            Self::NameWithNul => f.write_str("the name contains a NUL byte and is cut there"),
            Self::BelowFile { parent } => {
                write!(
                    f,
                    "its directory, inode {parent}, is a regular file, so the entry cannot be reached"
                )
            }
            Self::Cycle => f.write_str("the directory is inside itself, so it cannot be reached"),
            Self::Oversized { size } => {
                write!(f, "the file has {size} bytes, more than a file may have")
            }
        }
    }
}

impl Finding {
    /// Whether a database with this row is not loaded.
    #[must_use]
    pub const fn is_refused(&self) -> bool {
        self.problem.is_refused()
    }

    /// What an operator can do about it while the daemon is stopped. SQL is for the `sqlite3` program.
    #[must_use]
    pub fn advice(&self) -> Cow<'static, str> {
        let signed = self.inode.cast_signed();
        let delete = || format!("DELETE FROM tree WHERE inode={signed};");
        match self.problem {
            Problem::NotInteger { column } => format!("UPDATE tree SET {column}=0 WHERE inode={signed};").into(),
            Problem::VersionRowName => "UPDATE tree SET name='__version__' WHERE inode=0;".into(),
            Problem::VersionRowKind { .. } => "UPDATE tree SET type=8 WHERE inode=0;".into(),
            Problem::VersionRowData => "UPDATE tree SET data=NULL WHERE inode=0;".into(),
            Problem::EmptyName | Problem::NameWithSlash | Problem::NameWithNul => {
                format!("give it a name: UPDATE tree SET name='recovered-{signed}' WHERE inode={signed};").into()
            }
            Problem::UnknownKind { .. } => {
                format!("make it a file: UPDATE tree SET type=8 WHERE inode={signed}; or remove it: {}", delete()).into()
            }
            Problem::DirectoryWithData { .. } => format!(
                "make it a file: UPDATE tree SET type=8 WHERE inode={signed}; \
                 or drop the data: UPDATE tree SET data=NULL WHERE inode={signed};"
            )
            .into(),
            Problem::MissingParent { .. }
            | Problem::ParentIsFile { .. }
            | Problem::BelowFile { .. }
            | Problem::Cycle => format!(
                "move it to the root directory: UPDATE tree SET parent=0, name='recovered-{signed}' WHERE \
                 inode={signed}; or remove it: {}",
                delete()
            )
            .into(),
            Problem::DuplicateName { other, .. } => format!(
                "keep one of inodes {} and {signed}, or rename this one: UPDATE tree SET name='recovered-{signed}' \
                 WHERE inode={signed};",
                other.cast_signed()
            )
            .into(),
            Problem::VersionExhausted => "UPDATE tree SET version=(SELECT max(max(inode),max(version)) FROM tree WHERE \
                                          inode>0) WHERE inode=0;"
                .into(),
            Problem::VersionTooLow { .. } => "nothing to do: it is repaired with the next change".into(),
            Problem::Oversized { .. } => "replace the file by a smaller one".into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "inode {} (\"{}\"): {}",
            self.inode,
            self.name.escape_ascii(),
            self.problem
        )
    }
}
