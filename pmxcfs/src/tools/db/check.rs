//! `check`: everything that is wrong with a database.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pmxcfs_memdb::EntryKind;
use pmxcfs_memdb::store::{Access, ExamineError, Finding, Problem, integrity};

use super::cli::CheckArgs;
use super::lock::ReadLock;
use super::source::{self, Source};
use crate::tools::program::{CommandResult, Outcome};
use crate::tools::text::{self, count};

/// Lines of SQLite that are shown.
const MAX_INTEGRITY_LINES: usize = 20;

pub(super) fn run(args: &CheckArgs, out: &mut dyn Write) -> CommandResult {
    let path = args.location.database();
    let source = match Source::read(&args.location, &args.read) {
        Ok(source) => source,
        Err(error) => {
            return match error.downcast_ref::<ExamineError>() {
                Some(damage) if damage.is_damage() => tell_damage(&path, damage, out),
                _ => Err(error),
            };
        }
    };
    tell_state(&source, out)?;
    let lines = {
        let lock = ReadLock::take(&path, args.read.live)?;
        integrity(&lock.database, lock.access)?
    };
    for line in lines.iter().take(MAX_INTEGRITY_LINES) {
        writeln!(out, "damaged  {line}")?;
    }
    let findings = &source.examined.findings;
    for finding in findings {
        tell_finding(finding, out)?;
    }
    let refused = source.refused_count();
    let journal_warning = source::is_journal_refused(&source.examined.journal);
    let warnings = findings.len() - refused + usize::from(journal_warning);
    let outcome = match (refused + lines.len(), warnings) {
        (0, 0) => Outcome::Good,
        (0, _) => Outcome::Findings,
        _ => Outcome::Refused,
    };
    tell_result(&source, lines.len(), warnings, out)?;
    Ok(outcome)
}

fn tell_state(source: &Source, out: &mut dyn Write) -> anyhow::Result<()> {
    let examined = &source.examined;
    let files = examined.entries.iter();
    let files = files.filter(|entry| entry.kind == EntryKind::File);
    let (file_count, size) = files.fold((0, 0_u64), |(count, size), entry| {
        (count + 1, size + u64::from(entry.size))
    });
    writeln!(
        out,
        "{}: {}; {}, {}, {size} bytes",
        source.path.display(),
        text::root_state(examined.root),
        count(examined.entries.len() - file_count, "directory"),
        count(file_count, "file"),
    )?;
    if examined.version_row.is_none() && examined.entries.is_empty() && examined.findings.is_empty()
    {
        writeln!(out, "note     it is empty; a start makes a new tree in it")?;
    }
    for remark in source.remarks() {
        let word = if source::is_journal_refused(&examined.journal) {
            "warning"
        } else {
            "note"
        };
        writeln!(out, "{word:<8} {remark}")?;
    }
    let mode = fs::metadata(&source.path)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        writeln!(
            out,
            "note     its mode is {mode:04o}, so others can read secrets in it; a start sets it to 0600"
        )?;
    }
    Ok(())
}

fn tell_finding(finding: &Finding, out: &mut dyn Write) -> anyhow::Result<()> {
    let word = if finding.is_refused() {
        "refused"
    } else {
        "warning"
    };
    writeln!(
        out,
        "{word}  inode {} '{}': {}",
        finding.inode,
        text::escape_name(&finding.name),
        finding.problem
    )?;
    let advice = finding.advice();
    let by = match &finding.problem {
        Problem::VersionTooLow { .. } | Problem::Oversized { .. } => "",
        _ => "pmxcfs-db repair, or by hand: ",
    };
    writeln!(out, "         {by}{advice}")?;
    Ok(())
}

fn tell_result(
    source: &Source,
    damaged: usize,
    warnings: usize,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let path = source.path.display();
    let refused = source.refused_count();
    if damaged > 0 {
        writeln!(
            out,
            "result: damaged on disk. Keep the file, restore a backup, or take what can be read into a new file: \
             sqlite3 {path} .recover | sqlite3 NEW; then pmxcfs-db repair --db NEW"
        )?;
    } else if refused > 0 {
        writeln!(
            out,
            "result: the daemon does not start with it: {}, {}. pmxcfs-db repair shows what can be done",
            count(refused, "fault"),
            count(warnings, "warning")
        )?;
    } else if warnings > 0 {
        writeln!(
            out,
            "result: the daemon starts with it: {}",
            count(warnings, "warning")
        )?;
    } else {
        writeln!(out, "result: clean")?;
    }
    if refused > 0 && source.access == Access::Live {
        writeln!(
            out,
            "note     the daemon that uses it loaded it before this happened; its next start fails"
        )?;
    }
    Ok(())
}

fn tell_damage(path: &Path, error: &ExamineError, out: &mut dyn Write) -> CommandResult {
    writeln!(out, "refused  {}", text::chain(error))?;
    writeln!(
        out,
        "result: the daemon does not start with it. Keep the file, restore a backup, or try to take what can be read into a \
         new file: sqlite3 {} .recover | sqlite3 NEW; then pmxcfs-db repair --db NEW",
        path.display()
    )?;
    Ok(Outcome::Refused)
}
