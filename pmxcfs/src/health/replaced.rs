//! The entries of this node that synchronisations replaced, until an operator acknowledges them or a day has passed.
//!
//! The record is on disk already: each save in the directory of discarded entries has its list. So a restart forgets nothing,
//! and `pmxcfs-ctl ack` marks the saves; the daemon itself waits for no disk here.

use std::path::Path;
use std::time::UNIX_EPOCH;

use pmxcfs_api_types::sync::{Mutex, Rank};
use pmxcfs_api_types::time::{wall_clock_secs, wrapped_seconds};
use pmxcfs_memdb::store::unacknowledged_saves;

use super::report::Replacement;

/// How long a replacement counts as a problem.
const DAY_SECS: u32 = 86_400;

/// Most replacements that are remembered; there are no more saves.
const LIMIT: usize = 8;

/// The latest replacements.
#[derive(Debug)]
pub(crate) struct Replacements(Mutex<Vec<Replacement>>);

impl Replacements {
    /// Those of earlier processes.
    pub(crate) fn load(discarded_dir: &Path) -> Self {
        let replacements = Self(Mutex::new(Rank::HealthReplaced, Vec::new()));
        for (directory, paths) in unacknowledged_saves(discarded_dir) {
            let saved = directory
                .metadata()
                .and_then(|metadata| metadata.modified());
            replacements.add(Replacement {
                at_secs: wrapped_seconds(saved.unwrap_or(UNIX_EPOCH)),
                paths,
                directory: Some(directory.display().to_string()),
            });
        }
        replacements
    }

    /// A synchronisation has replaced something.
    pub(crate) fn add(&self, replacement: Replacement) {
        let mut known = self.0.lock();
        if known.len() >= LIMIT {
            known.remove(0);
        }
        known.push(replacement);
    }

    /// Those that count.
    pub(super) fn current(&self) -> Vec<Replacement> {
        let now = wall_clock_secs();
        let mut known = self.0.lock();
        known.retain(|replacement| now.saturating_sub(replacement.at_secs) < DAY_SECS);
        known.clone()
    }

    /// Forgets all of them. Returns them.
    pub(super) fn acknowledge(&self) -> Vec<Replacement> {
        std::mem::take(&mut *self.0.lock())
    }
}
