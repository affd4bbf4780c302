//! Modes, owners and times that the mount shows.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo};
use pmxcfs_api_types::limits::BLOCK_SIZE;
use pmxcfs_memdb::{Entry, EntryKind, ROOT_INODE};

/// How long the kernel may believe names and attributes.
pub(super) const TTL: Duration = Duration::from_secs(1);

/// Attributes of generated files are asked for each time: their size is that of the present text.
pub(super) const NO_TTL: Duration = Duration::ZERO;

const UNIT_OF_BLOCKS: u64 = 512;

/// Who owns everything in the mount.
#[derive(Debug, Clone, Copy)]
pub struct Ownership {
    /// Group of the administrators.
    pub gid: u32,
}

impl Ownership {
    fn attr(
        self,
        ino: INodeNo,
        kind: FileType,
        perm: u16,
        size: u64,
        time: SystemTime,
    ) -> FileAttr {
        FileAttr {
            ino,
            size,
            blocks: size.div_ceil(UNIT_OF_BLOCKS),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm,
            nlink: if kind == FileType::Directory { 2 } else { 1 },
            uid: 0,
            gid: self.gid,
            rdev: 0,
            blksize: BLOCK_SIZE,
            flags: 0,
        }
    }

    /// Attributes of an entry of the tree.
    pub(super) fn of_entry(
        self,
        ino: INodeNo,
        entry: &Entry,
        private: bool,
        quorate: bool,
    ) -> FileAttr {
        if entry.inode == ROOT_INODE {
            return self.attr(ino, FileType::Directory, 0o755, 0, UNIX_EPOCH);
        }
        let time = UNIX_EPOCH + Duration::from_secs(u64::from(entry.mtime));
        let (kind, size) = match entry.kind {
            EntryKind::Directory => (FileType::Directory, 0),
            EntryKind::File => (FileType::RegularFile, u64::from(entry.size)),
        };
        self.attr(
            ino,
            kind,
            entry_mode(entry.kind, private, quorate),
            size,
            time,
        )
    }

    /// Attributes of a plugin.
    pub(super) fn of_plugin(self, ino: INodeNo, kind: FileType, perm: u16, size: u64) -> FileAttr {
        self.attr(ino, kind, perm, size, UNIX_EPOCH)
    }
}

fn entry_mode(kind: EntryKind, private: bool, quorate: bool) -> u16 {
    let mode = match (kind, private) {
        (EntryKind::Directory, false) => 0o755,
        (EntryKind::Directory, true) => 0o700,
        (EntryKind::File, false) => 0o640,
        (EntryKind::File, true) => 0o600,
    };
    if quorate { mode } else { mode & !0o222 }
}

/// The one mode that `chmod` accepts, for files, directories and plugins alike.
pub(super) fn accepted_chmod(private: bool) -> u32 {
    if private { 0o600 } else { 0o640 }
}

/// Kind of an entry as the kernel names it.
pub(super) fn file_type(kind: EntryKind) -> FileType {
    match kind {
        EntryKind::Directory => FileType::Directory,
        EntryKind::File => FileType::RegularFile,
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
}
