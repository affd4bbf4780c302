//! The journal's files: names, opening, putting aside.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::stat::fstat;
use pmxcfs_api_types::files::{has_content, sync_directory_of, with_suffix};
use pmxcfs_api_types::time::wall_clock_secs;

use crate::store::medium::{Medium, SegmentFile};

/// Number of files that the journal alternates between.
pub(crate) const SEGMENT_COUNT: usize = 2;

/// Both files, open.
pub(crate) type Files = [Box<dyn SegmentFile>; SEGMENT_COUNT];

/// No segment of ours comes near this.
const MAX_SEGMENT_SIZE: u64 = 1 << 30;

/// Paths of the files of the crash journal in a run directory, whether or not they are there.
pub fn journal_files(directory: &Path) -> [PathBuf; SEGMENT_COUNT] {
    ["memdb-journal.0", "memdb-journal.1"].map(|name| directory.join(name))
}

/// Opens a file of the journal, or makes it.
pub(crate) fn open_segment(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    // Records hold the contents of private files.
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

impl SegmentFile for File {
    fn read_all(&mut self) -> io::Result<Vec<u8>> {
        let size = self.metadata()?.len();
        if size > MAX_SEGMENT_SIZE {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "the file is too large for a crash journal",
            ));
        }
        let mut bytes = Vec::new();
        (&*self).take(size).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn truncate(&mut self, size: u64) -> io::Result<()> {
        self.set_len(size)
    }

    fn is_linked(&self) -> io::Result<bool> {
        // An eighth of the time of `File::metadata`; this is asked for every write.
        Ok(fstat(self)?.st_nlink > 0)
    }
}

/// Where the journal is.
#[derive(Debug, Clone)]
pub(crate) struct JournalPlace {
    medium: Arc<dyn Medium>,
    directory: PathBuf,
    /// Of the directory, to make it anew as it was.
    metadata: Option<Metadata>,
}

impl JournalPlace {
    pub(crate) fn new(medium: Arc<dyn Medium>, directory: PathBuf) -> Self {
        Self {
            medium,
            metadata: fs::metadata(&directory).ok(),
            directory,
        }
    }

    /// Opens or makes both files.
    pub(crate) fn open(&self) -> io::Result<Files> {
        Ok([self.open_one(0)?, self.open_one(1)?])
    }

    /// Opens or makes one of the files.
    pub(crate) fn open_one(&self, index: usize) -> io::Result<Box<dyn SegmentFile>> {
        self.medium
            .open_segment(&journal_files(&self.directory)[index])
    }

    /// Makes the directory anew if it is missing.
    pub(crate) fn make_directory(&self) -> io::Result<()> {
        let directory = &self.directory;
        if !directory.exists() {
            fs::create_dir_all(directory)?;
            if let Some(former) = &self.metadata {
                chown(directory, Some(former.uid()), Some(former.gid()))?;
                fs::set_permissions(directory, former.permissions())?;
            }
        }
        Ok(())
    }

    /// Removes the files: what is left in them is older than the database, and a start would notice that.
    pub(crate) fn remove(&self) {
        for path in journal_files(&self.directory) {
            let _result = self.medium.remove_segment(&path);
        }
    }

    /// Moves the files to `directory`, which survives a power cut, or where that is impossible to other names where they
    /// are, for an operator to look at. Returns their new names.
    pub(crate) fn set_aside(&self, directory: &Path) -> Vec<PathBuf> {
        let stamp = wall_clock_secs();
        let mut kept = Vec::new();
        for path in journal_files(&self.directory) {
            if has_content(&path) {
                let beside = path.file_name().map(|name| directory.join(name));
                let moved = beside
                    .and_then(|beside| free_name(&beside, stamp))
                    .filter(|target| move_durably(&path, target).is_ok());
                kept.extend(moved.or_else(|| {
                    free_name(&path, stamp).filter(|target| fs::rename(&path, target).is_ok())
                }));
            }
        }
        kept
    }
}

/// Moves a file to another filesystem, and to the disk there.
fn move_durably(from: &Path, to: &Path) -> io::Result<()> {
    let copied = fs::copy(from, to)
        .and_then(|_size| File::open(to)?.sync_all())
        .and_then(|()| sync_directory_of(to));
    if copied.is_err() {
        // A part of it is of no use, and there may have been none.
        let _result = fs::remove_file(to);
    }
    copied?;
    fs::remove_file(from)
}

/// A name for a file that is refused, which no file has.
pub(crate) fn free_name(path: &Path, stamp: u32) -> Option<PathBuf> {
    (0..1000)
        .map(|attempt| with_suffix(path, format!(".refused-{stamp}-{attempt}")))
        .find(|candidate| !candidate.exists())
}
