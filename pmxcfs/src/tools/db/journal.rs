//! `journal`: shows the content of a crash journal.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use pmxcfs_memdb::Entry;
use pmxcfs_memdb::store::{
    FileIdentity, JournalFile, JournalRecord, JournalStep, journal_files, read_journal_file,
};

use super::cli::JournalArgs;
use super::view::kind_word;
use crate::text::{self, count};
use crate::tools::program::{CommandResult, Outcome};

pub(super) fn run(args: &JournalArgs, out: &mut dyn Write) -> CommandResult {
    let path = match &args.journal {
        Some(path) => path.clone(),
        None => args.location.paths().run_dir,
    };
    let database = args.location.database();
    let metadata =
        fs::metadata(&path).with_context(|| format!("cannot find {}", path.display()))?;
    let mut found = 0;
    if metadata.is_dir() {
        for file in journal_files(&path) {
            match read_journal_file(&file) {
                Err(error) if error.is_missing_file() => {}
                other => {
                    tell_file(&file, other?.as_ref(), &database, out)?;
                    found += 1;
                }
            }
        }
        found +=
            tell_refused(&path, out).with_context(|| format!("cannot list {}", path.display()))?;
    } else {
        tell_file(&path, read_journal_file(&path)?.as_ref(), &database, out)?;
        found += 1;
    }
    if found == 0 {
        writeln!(out, "there is no crash journal in {}", path.display())?;
    }
    Ok(Outcome::Good)
}

fn tell_file(
    path: &Path,
    file: Option<&JournalFile>,
    database: &Path,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let Some(file) = file else {
        writeln!(out, "{}: not in use", path.display())?;
        return Ok(());
    };
    writeln!(
        out,
        "{}: {}",
        path.display(),
        count(file.records.len(), "operation")
    )?;
    writeln!(
        out,
        "  of the database with device {}, inode {}{}{}",
        file.header.database.device,
        file.header.database.inode,
        created(file.header.database.created_ns),
        belongs(file, database)
    )?;
    writeln!(
        out,
        "  begins at number {} behind {}",
        file.header.first_sequence,
        text::root_state(file.header.base)
    )?;
    for record in &file.records {
        tell_record(record, out)?;
    }
    if file.torn_bytes > 0 {
        writeln!(
            out,
            "  {} behind the last whole operation: it was being written when the daemon died, or is being written now; a \
             start leaves that out",
            count(file.torn_bytes, "byte")
        )?;
    }
    Ok(())
}

fn created(nanoseconds: u64) -> String {
    let seconds = Duration::from_nanos(nanoseconds).as_secs();
    match u32::try_from(seconds) {
        Ok(0) | Err(_) => String::new(),
        Ok(seconds) => format!(", made {}", text::time(seconds)),
    }
}

/// Whether the file that lies where the database is expected is the one.
fn belongs(file: &JournalFile, database: &Path) -> String {
    match FileIdentity::of(database) {
        Ok(present) if present == file.header.database => format!(" ({})", database.display()),
        Ok(_) => format!(" (not {})", database.display()),
        Err(_) => String::new(),
    }
}

fn tell_record(record: &JournalRecord, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "  {}: {}",
        record.sequence,
        text::root_state(record.root)
    )?;
    for step in &record.steps {
        match step {
            JournalStep::Put { entry } => writeln!(out, "      {}", describe(entry))?,
            JournalStep::Content {
                entry,
                keep,
                offset,
                data,
            } => {
                let kept = if *keep >= *offset {
                    String::new()
                } else {
                    format!(", {keep} kept before")
                };
                writeln!(
                    out,
                    "      {}: {} at {offset}{kept}, size {}",
                    describe(entry),
                    count(data.len(), "byte"),
                    entry.size
                )?;
            }
            JournalStep::Removed { inode } => writeln!(out, "      inode {inode} removed")?,
        }
    }
    Ok(())
}

fn describe(entry: &Entry) -> String {
    format!(
        "{} inode {} '{}' in inode {}, version {}",
        kind_word(entry.kind),
        entry.inode,
        text::escape_name(&entry.name),
        entry.parent,
        entry.version
    )
}

/// Names the journals that starts have put aside.
fn tell_refused(directory: &Path, out: &mut dyn Write) -> io::Result<usize> {
    let mut refused: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if name.starts_with(b"memdb-journal.") && name.windows(9).any(|part| part == b".refused-") {
            refused.push(entry.path());
        }
    }
    refused.sort();
    for path in &refused {
        writeln!(
            out,
            "{}: put aside by a start; pmxcfs-db journal {} shows it",
            path.display(),
            path.display()
        )?;
    }
    Ok(refused.len())
}
