//! Modes, owners and times that the mount shows.

use pmxcfs_api_types::{FsError, Result};
use pmxcfs_memdb::{Entry, EntryKind, ROOT_INODE};

/// Kind of what has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file, of the tree or a generated one.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
}

impl From<EntryKind> for Kind {
    fn from(kind: EntryKind) -> Self {
        match kind {
            EntryKind::File => Self::File,
            EntryKind::Directory => Self::Directory,
        }
    }
}

/// What `stat` shows. The owner is always root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Node id, which programs see as the inode number.
    pub id: u64,
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u16,
    /// 0 for a file that only open handles still reach.
    pub link_count: u32,
    /// Bytes; for a link, of its target.
    pub size: u64,
    /// Of all three time stamps, in seconds.
    pub mtime: u32,
    /// Owning group.
    pub gid: u32,
    /// The text is made anew for each look, so its size may not be believed.
    pub is_generated: bool,
}

impl Attributes {
    /// Those of an entry of the tree.
    pub(super) fn of_entry(
        id: u64,
        entry: &Entry,
        gid: u32,
        is_private: bool,
        is_quorate: bool,
    ) -> Self {
        let is_root = entry.inode == ROOT_INODE;
        let is_file = entry.kind == EntryKind::File;
        Self {
            id,
            kind: entry.kind.into(),
            mode: match is_root {
                true => 0o755,
                false => entry_mode(entry.kind, is_private, is_quorate),
            },
            link_count: if is_file { 1 } else { 2 },
            size: if is_file { u64::from(entry.size) } else { 0 },
            mtime: if is_root { 0 } else { entry.mtime },
            gid,
            is_generated: false,
        }
    }
}

/// Without quorum nothing shows a write permission.
fn entry_mode(kind: EntryKind, is_private: bool, is_quorate: bool) -> u16 {
    let mode = match (kind, is_private) {
        (EntryKind::Directory, false) => 0o755,
        (EntryKind::Directory, true) => 0o700,
        (EntryKind::File, false) => 0o640,
        (EntryKind::File, true) => 0o600,
    };
    if is_quorate { mode } else { mode & !0o222 }
}

/// Checks a `chmod`. One mode is accepted, for files, directories and plugins alike, and has no effect.
///
/// # Errors
/// `NotPermitted` for every other mode.
pub(super) fn check_mode(mode: u32, is_private: bool) -> Result<()> {
    let accepted = if is_private { 0o600 } else { 0o640 };
    if mode & 0o7777 == accepted {
        Ok(())
    } else {
        Err(FsError::NotPermitted)
    }
}

/// Checks a `chown`, which may only ask for the owner and group that everything has.
///
/// # Errors
/// `NotPermitted` for another owner or group.
pub(super) fn check_owner(uid: Option<u32>, gid: Option<u32>, own_gid: u32) -> Result<()> {
    if uid.is_none_or(|uid| uid == 0) && gid.is_none_or(|gid| gid == own_gid) {
        Ok(())
    } else {
        Err(FsError::NotPermitted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_follow_the_table() {
        use EntryKind::{Directory, File};
        let table = [
            (Directory, false, true, 0o755),
            (Directory, false, false, 0o555),
            (File, false, true, 0o640),
            (File, false, false, 0o440),
            (Directory, true, true, 0o700),
            (Directory, true, false, 0o500),
            (File, true, true, 0o600),
            (File, true, false, 0o400),
        ];
        for (kind, private, quorate, mode) in table {
            assert_eq!(entry_mode(kind, private, quorate), mode);
        }
    }

    #[test]
    fn chmod_and_chown_accept_what_is_there() {
        let refused = Err(FsError::NotPermitted);
        for (mode, is_private, result) in [
            (0o640, false, Ok(())),
            (0o10_0640, false, Ok(())),
            (0o600, true, Ok(())),
            (0o640, true, refused),
            (0o600, false, refused),
            (0o755, false, refused),
            (0o4640, false, refused),
        ] {
            assert_eq!(check_mode(mode, is_private), result, "{mode:o}");
        }
        assert_eq!(check_owner(None, None, 33), Ok(()));
        assert_eq!(check_owner(Some(0), Some(33), 33), Ok(()));
        assert_eq!(check_owner(Some(1), None, 33), refused);
        assert_eq!(check_owner(None, Some(0), 33), refused);
    }
}
