//! `check`: everything that is wrong with a database.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pmxcfs_memdb::store::{Access, StoreError, foreign_log, integrity};
use pmxcfs_memdb::{EntryKind, Problem};

use super::cli::CheckArgs;
use super::lock::Lock;
use super::source::{self, Source};
use crate::tools::program::{CommandResult, Outcome};
use crate::tools::text::{self, count};

pub(super) fn run(args: &CheckArgs, out: &mut dyn Write) -> CommandResult {
    let path = args.location.database();
    // Looking at it through SQLite, too, may lay the log over the file.
    let log = Lock::take(&path, args.read.purpose()).map(|lock| match lock.access {
        Access::Idle => foreign_log(&lock.database),
        Access::Live => None,
    })?;
    let source = match Source::read(&args.location, &args.read) {
        Ok(source) => source,
        Err(error) => {
            return match error.downcast_ref::<StoreError>() {
                Some(damage) if damage.is_damage() => {
                    writeln!(out, "refused  {}", text::chain(damage))?;
                    tell_damaged(&path, "the daemon does not start with it", out)?;
                    Ok(Outcome::Refused)
                }
                _ => Err(error),
            };
        }
    };
    let damage = {
        let lock = Lock::take(&path, args.read.purpose())?;
        integrity(&lock.database, lock.access)?
    };
    let mut warnings: Vec<String> = log.iter().map(ToString::to_string).collect();
    let mut notes = Vec::new();
    if source::is_journal_refused(&source.examined.journal) {
        warnings.extend(source.remarks());
    } else {
        notes.extend(source.remarks());
    }
    tell_state(&source, &mut notes, &mut warnings, out)?;
    let damaged = text::abridged(&damage);
    let lines = notes.iter().map(|line| ("note", line));
    let lines = lines.chain(warnings.iter().map(|line| ("warning", line)));
    for (word, line) in lines.chain(damaged.iter().map(|line| ("damaged", line))) {
        writeln!(out, "{word:<8} {line}")?;
    }
    tell_findings(&source, out)?;
    let refused = source.refused_count();
    let warnings = warnings.len() + source.examined.findings.len() - refused;
    tell_result(&source, damage.len(), warnings, out)?;
    Ok(match (refused + damage.len(), warnings) {
        (0, 0) => Outcome::Good,
        (0, _) => Outcome::Findings,
        _ => Outcome::Refused,
    })
}

fn tell_state(
    source: &Source,
    notes: &mut Vec<String>,
    warnings: &mut Vec<String>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let examined = &source.examined;
    let path = source.path.display();
    let files = examined.entries.iter();
    let files = files.filter(|entry| entry.kind == EntryKind::File);
    let (file_count, size) = files.fold((0, 0_u64), |(count, size), entry| {
        (count + 1, size + u64::from(entry.size))
    });
    writeln!(
        out,
        "{path}: {}; {}, {}, {size} bytes",
        text::root_state(examined.root),
        count(examined.entries.len() - file_count, "directory"),
        count(file_count, "file"),
    )?;
    let is_new = examined.version_row.is_some_and(|root| root.version == 1);
    if is_empty(source) && !is_new {
        warnings.push(format!(
            "it is empty: a start makes a new tree in it. Unless it is new, it is not the database that was here, or has \
             lost its content: look for {path}* and for backups before the daemon starts"
        ));
    }
    let mode = fs::metadata(&source.path)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        notes.push(format!(
            "its mode is {mode:04o}, so others can read secrets in it; a start sets it to 0600"
        ));
    }
    Ok(())
}

/// Whether there is nothing at all in the tree.
fn is_empty(source: &Source) -> bool {
    source.examined.entries.is_empty() && source.examined.findings.is_empty()
}

fn tell_findings(source: &Source, out: &mut dyn Write) -> io::Result<()> {
    for finding in &source.examined.findings {
        let word = if finding.is_refused() {
            "refused"
        } else {
            "warning"
        };
        let by = match &finding.problem {
            Problem::VersionTooLow { .. } | Problem::Oversized { .. } => "",
            _ => "pmxcfs-db repair, or by hand: ",
        };
        writeln!(
            out,
            "{word}  inode {} '{}': {}\n         {by}{}",
            finding.inode,
            text::escape_name(&finding.name),
            finding.problem,
            finding.advice()
        )?;
    }
    Ok(())
}

fn tell_result(
    source: &Source,
    damaged: usize,
    warnings: usize,
    out: &mut dyn Write,
) -> io::Result<()> {
    let refused = source.refused_count();
    let (faults, warnings) = (
        count(refused, "fault"),
        (warnings, count(warnings, "warning")),
    );
    if damaged > 0 {
        tell_damaged(&source.path, "damaged on disk", out)?;
    } else if refused > 0 {
        writeln!(
            out,
            "result: the daemon does not start with it: {faults}, {}. pmxcfs-db repair shows what can be done",
            warnings.1
        )?;
    } else if warnings.0 > 0 {
        writeln!(out, "result: the daemon starts with it: {}", warnings.1)?;
    } else if is_empty(source) {
        writeln!(out, "result: empty, as a first start makes it")?;
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

fn tell_damaged(path: &Path, what: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "result: {what}. Keep the file, and restore a backup; or take what can be read into a new file: \
         pmxcfs-db salvage {} NEW",
        path.display()
    )
}
