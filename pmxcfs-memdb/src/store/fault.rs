//! Everything that an operator should know about a database: findings in its rows, and what shows only when they are
//! put together to a tree.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use bytes::Bytes;
use pmxcfs_api_types::Vmid;

use super::finding::{Finding, Problem};
use crate::{Entry, RootState, Rules, Tree, TreeError, TreeWarning};

/// One thing that is wrong, and the row that it is wrong with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Inode of the row.
    pub inode: u64,
    /// Name as stored, any bytes.
    pub name: Bytes,
    /// What is wrong with it.
    pub kind: FaultKind,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// The row itself, or how it refers to others.
    Row(Problem),
    /// Another guest config has the same id, on whatever node.
    DuplicateGuest {
        /// The id.
        vmid: Vmid,
        /// Inode of the other config.
        other: u64,
        /// Path of the other config.
        other_path: Bytes,
    },
    /// A guest directory of a node is a file.
    GuestDirectoryIsFile,
    /// The name is `.` or `..`, which no program can open.
    HiddenName,
}

impl FaultKind {
    /// Whether the daemon does not start with such a row.
    #[must_use]
    pub const fn is_refused(&self) -> bool {
        match self {
            Self::Row(problem) => problem.is_refused(),
            Self::DuplicateGuest { .. } => true,
            Self::GuestDirectoryIsFile | Self::HiddenName => false,
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row(problem) => problem.fmt(f),
            Self::DuplicateGuest {
                vmid,
                other,
                other_path,
            } => write!(
                f,
                "guest {vmid} has another config, '{}' (inode {other}); an id can be used only once in the whole cluster",
                other_path.escape_ascii()
            ),
            Self::GuestDirectoryIsFile => f.write_str(
                "it should be a directory of guest configs and is a file; C daemons refuse to start with it",
            ),
            Self::HiddenName => {
                f.write_str("the name is that of a directory link, so no program can open the entry")
            }
        }
    }
}

impl Fault {
    /// Whether the daemon does not start with this row.
    #[must_use]
    pub const fn is_refused(&self) -> bool {
        self.kind.is_refused()
    }

    /// What an operator can do about it by hand while the daemon is stopped. SQL is for the `sqlite3` program.
    #[must_use]
    pub fn advice(&self) -> Cow<'static, str> {
        let signed = self.inode.cast_signed();
        match &self.kind {
            FaultKind::Row(problem) => Finding {
                inode: self.inode,
                name: self.name.clone(),
                problem: problem.clone(),
            }
            .advice(),
            FaultKind::DuplicateGuest { other, .. } => format!(
                "find out which of inodes {signed} and {} is in use, keep a copy of the other, and remove it: \
                 DELETE FROM tree WHERE inode=...;",
                other.cast_signed()
            )
            .into(),
            FaultKind::GuestDirectoryIsFile | FaultKind::HiddenName => {
                format!("give it another name: UPDATE tree SET name='recovered-{signed}' WHERE inode={signed};").into()
            }
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "inode {} (\"{}\"): {}",
            self.inode,
            self.name.escape_ascii(),
            self.kind
        )
    }
}

impl From<Finding> for Fault {
    fn from(finding: Finding) -> Self {
        Self {
            inode: finding.inode,
            name: finding.name,
            kind: FaultKind::Row(finding.problem),
        }
    }
}

/// What is wrong with rows, those findings included that reading and checking them made.
///
/// Rows that are refused make no tree, so faults of the tree are found once the rows are good.
pub(super) fn collect(findings: Vec<Finding>, root: RootState, entries: &[Entry]) -> Vec<Fault> {
    let is_refused = findings.iter().any(Finding::is_refused);
    let mut faults: Vec<Fault> = findings.into_iter().map(Fault::from).collect();
    let hidden = entries
        .iter()
        .filter(|entry| matches!(&entry.name[..], b"." | b".."))
        .map(|entry| fault(entry, FaultKind::HiddenName));
    faults.extend(hidden);
    if !is_refused {
        tree_faults(root, entries, &mut faults);
    }
    faults
}

fn fault(entry: &Entry, kind: FaultKind) -> Fault {
    Fault {
        inode: entry.inode,
        name: entry.name.clone(),
        kind,
    }
}

/// The tree tells one duplicate at a time, so it is built anew without each that was found.
fn tree_faults(root: RootState, entries: &[Entry], faults: &mut Vec<Fault>) {
    let by_inode: HashMap<u64, &Entry> = entries.iter().map(|entry| (entry.inode, entry)).collect();
    let mut kept = entries.to_vec();
    loop {
        match Tree::from_entries(root, kept.iter().cloned(), Rules::Local, 0) {
            Ok(tree) => {
                let misplaced = tree.warnings().iter().filter_map(|warning| match warning {
                    TreeWarning::GuestDirectoryIsFile { path } => tree.lookup(path),
                    TreeWarning::Unreachable { .. } => None,
                });
                faults.extend(misplaced.map(|entry| fault(entry, FaultKind::GuestDirectoryIsFile)));
                return;
            }
            Err(TreeError::DuplicateGuest {
                vmid,
                first,
                first_inode,
                second_inode,
                ..
            }) => {
                let kind = FaultKind::DuplicateGuest {
                    vmid,
                    other: first_inode,
                    other_path: first,
                };
                faults.extend(by_inode.get(&second_inode).map(|entry| fault(entry, kind)));
                kept.retain(|entry| entry.inode != second_inode);
            }
            // Everything else is found in the rows before.
            Err(_) => return,
        }
    }
}
