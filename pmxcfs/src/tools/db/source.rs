//! Reading a database for the commands that only look.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::bail;
use pmxcfs_memdb::store::{Access, Examined, JournalRefusal, JournalUse, examine};

use super::cli::Reading;
use super::lock::Lock;
use crate::text::{self, count};

/// A database as it was read. No lock is held any more.
#[derive(Debug)]
pub(super) struct Source {
    /// As it was named.
    pub(super) path: PathBuf,
    pub(super) access: Access,
    pub(super) examined: Examined,
}

impl Source {
    /// Reads the database at a location that this lock is for, and applies the crash journal in memory.
    pub(super) fn read(lock: &Lock, reading: &Reading) -> anyhow::Result<Self> {
        let Reading { location, options } = reading;
        let run_dir = location.paths().run_dir;
        // A daemon that lives may be writing to the journal, and brings it into the database within moments.
        let use_journal = lock.access == Access::Idle && !options.ignore_journal;
        let mut examined = examine(
            &lock.database,
            lock.access,
            use_journal.then_some(run_dir.as_path()),
        )?;
        if !location.is_paired() && is_foreign(&examined.journal) {
            examined.journal = JournalUse::Ignored;
        }
        Ok(Self {
            path: location.database(),
            access: lock.access,
            examined,
        })
    }

    /// Reads the database at a location, and prints remarks on it to `notes`.
    pub(super) fn read_with_notes(
        reading: &Reading,
        notes: &mut dyn Write,
    ) -> anyhow::Result<Self> {
        let lock = Lock::take(&reading.location.database(), reading.options.purpose())?;
        let source = Self::read(&lock, reading)?;
        for line in source.remarks() {
            writeln!(notes, "{}: {line}", source.path.display())?;
        }
        let refused = source.refused_count();
        if refused > 0 {
            writeln!(
                notes,
                "{}: {} that keep the daemon from starting; see pmxcfs-db check",
                source.path.display(),
                count(refused, "fault")
            )?;
        }
        Ok(source)
    }

    /// Remarks on what was read.
    pub(super) fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.access == Access::Live {
            remarks.push("a daemon is using it; this is the state of its last commit".to_owned());
        }
        remarks.extend(journal_remark(&self.examined.journal));
        remarks
    }

    /// How many faults keep the daemon from starting.
    pub(super) fn refused_count(&self) -> usize {
        let faults = self.examined.findings.iter();
        faults.filter(|fault| fault.is_refused()).count()
    }
}

/// Fails if the daemon would not start with a database: the entries are not those that the cluster had.
pub(super) fn require_loadable(path: &Path, examined: &Examined) -> anyhow::Result<()> {
    let mut faults = examined.findings.iter();
    if let Some(fault) = faults.find(|fault| fault.is_refused()) {
        bail!(
            "{} is not loadable, first fault: {fault}; repair it first (pmxcfs-db repair)",
            path.display()
        );
    }
    Ok(())
}

/// Whether the journal belongs to another file, or cannot be read.
fn is_foreign(journal: &JournalUse) -> bool {
    matches!(
        journal,
        JournalUse::Refused(JournalRefusal::OtherFile) | JournalUse::Unreadable(_)
    )
}

/// The remark on the crash journal, if there is one.
fn journal_remark(journal: &JournalUse) -> Option<String> {
    Some(match journal {
        JournalUse::Applied {
            operation_count,
            dropped_count,
        } => {
            let mut text = format!(
                "the daemon was killed; {} of the crash journal that the file lacks {} included, and will be written by the \
                 next start",
                count(*operation_count, "operation"),
                if *operation_count == 1 { "is" } else { "are" }
            );
            if *dropped_count > 0 {
                text.push_str(&format!(
                    "; {} that nobody was told to be safe left out",
                    count(*dropped_count, "operation")
                ));
            }
            text
        }
        JournalUse::Waiting { operation_count } => format!(
            "the crash journal has {} that the file lacks and that are not shown; repair brings them in",
            count(*operation_count, "operation")
        ),
        JournalUse::Refused(refusal) => format!(
            "the crash journal has operations that are left out: {refusal}; a start puts it aside"
        ),
        JournalUse::Unreadable(error) => {
            format!(
                "{}; a start puts the crash journal aside",
                text::chain(error)
            )
        }
        _ => return None,
    })
}

/// Whether the journal is lost to the next start.
pub(super) fn is_journal_refused(journal: &JournalUse) -> bool {
    matches!(journal, JournalUse::Refused(_) | JournalUse::Unreadable(_))
}
