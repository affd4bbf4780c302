//! `repair`: makes a database loadable again without losing anything.

use std::io::Write;

use anyhow::{Context as _, bail};
use pmxcfs_memdb::store::{Access, Repaired, empty_journal, integrity, repair};

use super::cli::RepairArgs;
use super::copies;
use super::create::put_in_place;
use super::lock::{Lock, Use};
use crate::text::{self, count};
use crate::tools::program::{CommandResult, Outcome};

pub(super) fn run(args: &RepairArgs, out: &mut dyn Write) -> CommandResult {
    let path = args.location.database();
    let mut lock = Lock::take(&path, Use::Read)?;
    if args.apply {
        drop(lock);
        lock = Lock::take(&path, Use::Write)?;
    }
    let database = &lock.database;
    if let Some(line) = integrity(database, Access::Idle)?.first() {
        bail!(
            "{path} is damaged on disk ({line}), which cannot be repaired in place; take what can be read into a new file: \
             pmxcfs-db salvage {path} NEW",
            path = database.display()
        );
    }
    let run_dir = args.location.paths().run_dir;
    let journal_dir = (!args.ignore_journal).then_some(run_dir.as_path());
    let repaired = repair(database, journal_dir)?;
    if repaired.repairs.is_empty() {
        if repaired.entries.is_empty() {
            writeln!(
                out,
                "{}: it is empty, there is nothing to repair; pmxcfs-db check says more",
                path.display()
            )?;
            return Ok(Outcome::Findings);
        }
        writeln!(out, "{}: nothing to repair", path.display())?;
        return tell_left(&repaired, out);
    }
    if !args.apply {
        tell(&repaired, out)?;
        tell_left(&repaired, out)?;
        writeln!(
            out,
            "nothing was changed; --apply does this, after keeping a copy of the database"
        )?;
        return Ok(Outcome::Findings);
    }
    let keeps_journal = args.location.is_paired() || repaired.journal_operation_count > 0;
    let copy = copies::keep(
        database,
        "repair",
        keeps_journal.then_some(run_dir.as_path()),
    )?;
    writeln!(out, "the database as it was is kept as {}", copy.display())?;
    out.flush()?;
    put_in_place(&lock, repaired.root, &repaired.entries).with_context(|| {
        format!(
            "not repaired, and nothing is lost; see also {}",
            copy.display()
        )
    })?;
    if repaired.journal_operation_count > 0 {
        // The records are in the database. A start that still finds them puts them aside.
        let _emptied = empty_journal(&run_dir);
    }
    tell(&repaired, out)?;
    tell_left(&repaired, out)
}

/// Prints each repair.
pub(super) fn tell(repaired: &Repaired, out: &mut dyn Write) -> anyhow::Result<()> {
    if repaired.journal_operation_count > 0 {
        writeln!(
            out,
            "{} of the crash journal brought in",
            count(repaired.journal_operation_count, "operation")
        )?;
    }
    for repair in &repaired.repairs {
        writeln!(
            out,
            "inode {} '{}': {}\n    {}",
            repair.finding.inode,
            text::escape_name(&repair.finding.name),
            repair.finding.problem,
            repair.action
        )?;
    }
    Ok(())
}

/// Prints the findings that are left. Returns the outcome of a repair that is done.
pub(super) fn tell_left(repaired: &Repaired, out: &mut dyn Write) -> CommandResult {
    for finding in &repaired.left {
        writeln!(out, "left as it is: {finding} - {}", finding.advice())?;
    }
    Ok(match repaired.left.is_empty() {
        true => Outcome::Good,
        false => Outcome::Findings,
    })
}
