//! `check`: everything that is wrong with a database.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pmxcfs_memdb::store::{Access, StoreError, foreign_log, integrity};
use pmxcfs_memdb::{EntryKind, Problem};

use super::cli::Reading;
use super::lock::Lock;
use super::source::{self, Source};
use crate::text::{self, count};
use crate::tools::program::{CommandResult, Outcome};

pub(super) fn run(reading: &Reading, out: &mut dyn Write) -> CommandResult {
    let path = reading.location.database();
    let lock = Lock::take(&path, reading.options.purpose())?;
    // First: looking at the database through SQLite, too, may lay the log over the file.
    let log = match lock.access {
        Access::Idle => foreign_log(&lock.database),
        Access::Live => None,
    };
    let source = match Source::read(&lock, reading) {
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
    let damage = integrity(&lock.database, lock.access)?;
    tell_state(&source, out)?;
    let (mut notes, mut warnings) = (Vec::new(), Vec::new());
    warnings.extend(log.map(|log| log.to_string()));
    match source::is_journal_refused(&source.examined.journal) {
        true => warnings.extend(source.remarks()),
        false => notes.extend(source.remarks()),
    }
    warnings.extend(remark_on_emptiness(&source));
    notes.extend(remark_on_mode(&source)?);
    let damaged = text::abridged(&damage);
    for (word, lines) in [
        ("note", &notes),
        ("warning", &warnings),
        ("damaged", &damaged),
    ] {
        for line in lines {
            writeln!(out, "{word:<8} {line}")?;
        }
    }
    let warning_count = warnings.len() + source.examined.findings.len() - source.refused_count();
    tell_findings(&source, out)?;
    tell_result(&source, damage.len(), warning_count, out)?;
    Ok(
        match (source.refused_count() + damage.len(), warning_count) {
            (0, 0) => Outcome::Good,
            (0, _) => Outcome::Findings,
            _ => Outcome::Refused,
        },
    )
}

fn tell_state(source: &Source, out: &mut dyn Write) -> io::Result<()> {
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
    )
}

/// Warns of a database that has lost its content.
fn remark_on_emptiness(source: &Source) -> Option<String> {
    let version_row = source.examined.version_row;
    let is_new = version_row.is_some_and(|root| root.version == 1);
    let path = source.path.display();
    (is_empty(source) && !is_new).then(|| {
        format!(
            "it is empty: a start makes a new tree in it. Unless it is new, it is not the database that was here, or has \
             lost its content: look for {path}* and for backups before the daemon starts"
        )
    })
}

fn remark_on_mode(source: &Source) -> io::Result<Option<String>> {
    let mode = fs::metadata(&source.path)?.permissions().mode() & 0o777;
    Ok((mode & 0o077 != 0).then(|| {
        format!("its mode is {mode:04o}, so others can read secrets in it; a start sets it to 0600")
    }))
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
    let warned = count(warnings, "warning");
    if damaged > 0 {
        tell_damaged(&source.path, "damaged on disk", out)?;
    } else if refused > 0 {
        let faults = count(refused, "fault");
        writeln!(
            out,
            "result: the daemon does not start with it: {faults}, {warned}. pmxcfs-db repair shows what can be done"
        )?;
    } else if warnings > 0 {
        writeln!(out, "result: the daemon starts with it: {warned}")?;
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
