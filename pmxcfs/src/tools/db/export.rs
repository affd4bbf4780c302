//! `export`: the tree as a directory.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use nix::sys::statvfs::statvfs;
use pmxcfs_api_types::files::{create_private, sync_directory_of};
use pmxcfs_api_types::path::is_private;
use pmxcfs_memdb::Entry;
use tempfile::TempDir;

use super::cli::ExportArgs;
use super::lock::resolve;
use super::progress::Progress;
use super::source::{Source, require_loadable};
use super::view::{Item, View};
use crate::text::{abridged, count};
use crate::tools::program::{CommandResult, Outcome};

/// While it is made, the directory's name has this and some random letters behind it.
const DRAFT_MARK: &str = ".new-";
const RANDOM_LENGTH: usize = 6;

/// Longest path that system calls take, in bytes.
const MAX_PATH_LENGTH: usize = 4095;

pub(super) fn run(args: &ExportArgs, notes: &mut dyn Write) -> CommandResult {
    let source = Source::read_with_notes(&args.reading, notes)?;
    require_loadable(&source.path, &source.examined)?;
    let view = View::new(&source.examined.entries);
    let target = Target::new(&args.directory)?;
    target.check(&view)?;
    // Signals wait until the directory has its name, or is gone.
    let mut progress = Progress::new("writing", view.items.len())?;
    let draft = target.write(&view, &mut progress)?;
    progress.finish()?;
    target.put_in_place(draft)?;
    drop(progress);
    writeln!(
        notes,
        "{}: {} in {}",
        source.path.display(),
        count(view.items.len(), "entry"),
        args.directory.display()
    )?;
    Ok(Outcome::Good)
}

/// A directory that is made under another name.
struct Target {
    path: PathBuf,
    parent: PathBuf,
}

impl Target {
    fn new(given: &Path) -> anyhow::Result<Self> {
        let path = resolve(given)?;
        let shown = given.display();
        let is_empty = match fs::read_dir(&path) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(error).with_context(|| format!("cannot export to {shown}")),
        };
        if !is_empty {
            bail!("{shown} is not empty; name a directory that does not exist yet");
        }
        let Some(parent) = path.parent().map(Path::to_owned) else {
            bail!("{shown} cannot be replaced by an export");
        };
        Ok(Self { path, parent })
    }

    /// Finds everything that the target cannot hold before anything is written.
    fn check(&self, view: &View<'_>) -> anyhow::Result<()> {
        let filesystem = statvfs(&self.parent).with_context(|| {
            format!("cannot look at the filesystem of {}", self.parent.display())
        })?;
        let name_limit = usize::try_from(filesystem.name_max()).unwrap_or(usize::MAX);
        let prefix_length = self.path.as_os_str().len() + DRAFT_MARK.len() + RANDOM_LENGTH + 1;
        let mut faults = Vec::new();
        for item in &view.items {
            let fault = match item.path() {
                None => "no path leads to it (pmxcfs-db repair)".to_owned(),
                Some(_) if item.entry.name.len() > name_limit => format!(
                    "the name has {} bytes, the filesystem of {} takes {name_limit}",
                    item.entry.name.len(),
                    self.parent.display()
                ),
                Some(path) if prefix_length + path.len() > MAX_PATH_LENGTH => {
                    format!("the path would have more than {MAX_PATH_LENGTH} bytes")
                }
                Some(_) => continue,
            };
            faults.push(format!("{}: {fault}", item.shown_path()));
        }
        let block = filesystem.fragment_size().max(1);
        let needed: u64 = view
            .items
            .iter()
            .map(|item| u64::from(item.entry.size).div_ceil(block).max(1))
            .sum();
        if needed > filesystem.blocks_available() {
            faults.push(format!(
                "about {} bytes are needed, and {} are free in {}",
                needed.saturating_mul(block),
                filesystem.blocks_available().saturating_mul(block),
                self.parent.display()
            ));
        }
        let files = view.items.len() as u64;
        if filesystem.files() > 0 && files > filesystem.files_available() {
            faults.push(format!(
                "{files} files and directories are needed, and {} are free in {}",
                filesystem.files_available(),
                self.parent.display()
            ));
        }
        if faults.is_empty() {
            return Ok(());
        }
        bail!(
            "cannot export to {}; nothing was written:\n  {}",
            self.path.display(),
            abridged(&faults).join("\n  ")
        );
    }

    /// Writes everything to a directory that goes away with the returned value. Secrets are in there, so nobody else may look,
    /// whatever modes are below.
    fn write(&self, view: &View<'_>, progress: &mut Progress) -> anyhow::Result<TempDir> {
        let mut prefix = self.path.file_name().unwrap_or_default().to_owned();
        prefix.push(DRAFT_MARK);
        let draft = tempfile::Builder::new()
            .prefix(&prefix)
            .rand_bytes(RANDOM_LENGTH)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(&self.parent)
            .with_context(|| format!("cannot make a directory in {}", self.parent.display()))?;
        let path_of = |item: &Item<'_>| {
            let path = item.path().unwrap_or_default();
            draft.path().join(OsStr::from_bytes(&path))
        };
        for item in &view.items {
            let path = path_of(item);
            write_entry(item, &path).with_context(|| format!("cannot write {}", path.display()))?;
            progress.step()?;
        }
        // Making what is inside changes a directory's time, so directories come last, the innermost first.
        let directories = view.items.iter().rev();
        for item in directories.filter(|item| item.entry.is_directory()) {
            let path = path_of(item);
            File::open(&path)
                .and_then(|directory| set_mtime(&directory, item.entry))
                .with_context(|| format!("cannot set the time of {}", path.display()))?;
        }
        Ok(draft)
    }

    fn put_in_place(&self, draft: TempDir) -> anyhow::Result<()> {
        File::open(draft.path())
            .and_then(|directory| Ok(nix::unistd::syncfs(&directory)?))
            .and_then(|()| fs::rename(draft.path(), &self.path))
            .with_context(|| format!("cannot put {} in its place", self.path.display()))?;
        let _renamed = draft.keep();
        sync_directory_of(&self.path)
            .with_context(|| format!("cannot sync {}", self.parent.display()))
    }
}

fn write_entry(item: &Item<'_>, path: &Path) -> io::Result<()> {
    let private = item.path().is_some_and(|path| is_private(&path));
    if item.entry.is_directory() {
        DirBuilder::new().mode(0o700).create(path)?;
        let mode = if private { 0o700 } else { 0o755 };
        return fs::set_permissions(path, Permissions::from_mode(mode));
    }
    let mut file = create_private(path)?;
    file.write_all(&item.entry.data)?;
    if !private {
        file.set_permissions(Permissions::from_mode(0o640))?;
    }
    set_mtime(&file, item.entry)
}

fn set_mtime(file: &File, entry: &Entry) -> io::Result<()> {
    file.set_modified(UNIX_EPOCH + Duration::from_secs(u64::from(entry.mtime)))
}
