//! `repair`: making a database loadable again without losing anything.

use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, bail};
use pmxcfs_memdb::store::{Access, RepairReport, integrity, plan_repair, repair};

use super::cli::RepairArgs;
use super::copies;
use super::lock::{ReadLock, WriteLock};
use crate::tools::program::{CommandResult, Outcome};
use crate::tools::text::{self, count};

pub(super) fn run(args: &RepairArgs, out: &mut dyn Write) -> CommandResult {
    let path = args.location.database();
    let run_dir = args.location.paths().run_dir;
    let journal_dir = (!args.ignore_journal).then_some(run_dir.as_path());
    if !args.apply {
        let lock = ReadLock::take(&path, false)?;
        let report = plan(&lock.database, journal_dir)?;
        tell(&path, &report, out)?;
        if report.repairs.is_empty() {
            return finish(&report, out);
        }
        writeln!(
            out,
            "nothing was changed; --apply does this, after keeping a copy of the database"
        )?;
        return Ok(Outcome::Findings);
    }
    if !path.exists() {
        bail!("cannot find the database {}", path.display());
    }
    let lock = WriteLock::take(&path)?;
    let report = plan(&lock.database, journal_dir)?;
    if report.repairs.is_empty() {
        tell(&path, &report, out)?;
        return finish(&report, out);
    }
    let keeps_journal = args.location.is_paired() || report.journal_operation_count > 0;
    let copy = copies::keep(
        &lock.database,
        "repair",
        keeps_journal.then_some(run_dir.as_path()),
    )?;
    writeln!(out, "the database as it was is kept as {}", copy.display())?;
    out.flush()?;
    let report = repair(&lock.database, journal_dir).with_context(|| {
        format!(
            "not repaired, and nothing is lost; see also {}",
            copy.display()
        )
    })?;
    tell(&path, &report, out)?;
    finish(&report, out)
}

fn plan(database: &Path, journal_dir: Option<&Path>) -> anyhow::Result<RepairReport> {
    if let Some(line) = integrity(database, Access::Idle)?.first() {
        bail!(
            "{} is damaged on disk ({line}), which cannot be repaired in place; take what can be read into a new file: \
             sqlite3 {} .recover | sqlite3 NEW; then pmxcfs-db repair --db NEW",
            database.display(),
            database.display()
        );
    }
    Ok(plan_repair(database, Access::Idle, journal_dir)?)
}

fn tell(path: &Path, report: &RepairReport, out: &mut dyn Write) -> anyhow::Result<()> {
    if report.repairs.is_empty() {
        writeln!(out, "{}: nothing to repair", path.display())?;
        return Ok(());
    }
    if report.journal_operation_count > 0 {
        writeln!(
            out,
            "{} of the crash journal brought in",
            count(report.journal_operation_count, "operation")
        )?;
    }
    for repair in &report.repairs {
        writeln!(
            out,
            "inode {} '{}': {}",
            repair.fault.inode,
            text::escape_name(&repair.fault.name),
            repair.fault.kind
        )?;
        writeln!(out, "    {}", repair.action)?;
    }
    Ok(())
}

/// What cannot be repaired, and the outcome of a repair that is done.
fn finish(report: &RepairReport, out: &mut dyn Write) -> CommandResult {
    for fault in &report.left {
        writeln!(out, "left as it is: {fault} - {}", fault.advice())?;
    }
    Ok(if report.left.is_empty() {
        Outcome::Good
    } else {
        Outcome::Findings
    })
}
