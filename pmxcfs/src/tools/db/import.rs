//! `import`: a database from a directory tree.

use std::io::Write;

use anyhow::{Context as _, bail};
use pmxcfs_api_types::time::wall_clock_secs;
use pmxcfs_memdb::store::{Access, examine};
use pmxcfs_memdb::{Entry, RootState, Rules, Tree};

use super::cli::ImportArgs;
use super::copies;
use super::create::put_in_place;
use super::lock::{Lock, Use};
use super::scan::scan;
use crate::text::{self, abridged, count};
use crate::tools::program::{CommandResult, Outcome};

pub(super) fn run(args: &ImportArgs, notes: &mut dyn Write) -> CommandResult {
    let database = args.location.database();
    let lock = Lock::take(&database, Use::Write)?;
    let exists = lock.database.exists();
    if exists && !args.replace {
        bail!(
            "{} exists; --replace puts the new database in its place, after keeping a copy",
            database.display()
        );
    }
    let (entries, skipped) = scan(&args.directory, args.base_version, args.skip_special)?;
    for line in abridged(&skipped) {
        writeln!(notes, "{}", text::escape_path(line.as_bytes()))?;
    }
    let root = RootState {
        version: entries
            .last()
            .map_or(args.base_version, |entry| entry.version),
        writer: 0,
        mtime: wall_clock_secs(),
    };
    check_tree(root, &entries)?;
    if exists {
        tell_versions(&lock, root, notes)?;
        let run_dir = args.location.paths().run_dir;
        let copy = copies::keep(
            &lock.database,
            "import",
            args.location.is_paired().then_some(run_dir.as_path()),
        )?;
        writeln!(
            notes,
            "the database as it was is kept as {}",
            copy.display()
        )?;
    }
    put_in_place(&lock, root, &entries)?;
    writeln!(
        notes,
        "{}: {}, {}",
        database.display(),
        count(entries.len(), "entry"),
        text::root_state(root)
    )?;
    Ok(Outcome::Good)
}

/// Fails for a tree that this daemon or a C daemon would refuse.
fn check_tree(root: RootState, entries: &[Entry]) -> anyhow::Result<()> {
    let tree = Tree::from_entries(root, entries.iter().cloned(), Rules::Local, 0)
        .context("the directory cannot be stored; nothing was written")?;
    if let Some(warning) = tree.warnings().first() {
        bail!("the directory cannot be stored; nothing was written: {warning}");
    }
    Ok(())
}

/// Warns if the old database is ahead of the new one: other nodes would bring the old data back.
fn tell_versions(lock: &Lock, root: RootState, notes: &mut dyn Write) -> anyhow::Result<()> {
    if let Ok(old) = examine(&lock.database, Access::Idle, None)
        && old.root.version >= root.version
    {
        writeln!(
            notes,
            "the replaced database has version {}, the new one {}: other nodes of a cluster that have the old data would \
             bring them back; --base-version {} makes the new one lead",
            old.root.version, root.version, old.root.version
        )?;
    }
    Ok(())
}
