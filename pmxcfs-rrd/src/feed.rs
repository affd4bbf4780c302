//! From samples to files: which file, which text, which backend.
//!
//! The order per sample is the C daemon's: find the file, create it if it is missing, update it through rrdcached or, if
//! that is not there, directly. What differs is told at the places.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::backend::{Backend, CreateError, FileStore, Outcome, Refusal, Update};
use crate::columns;
use crate::key::RrdKey;
use crate::note::Note;
use crate::queue::Sample;
use crate::schema::Schema;
use crate::throttle::Throttle;

const DAEMON: &str = "rrdcached";
const LIBRARY: &str = "librrd";

/// What became of samples, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) by_daemon: u64,
    pub(crate) by_library: u64,
    pub(crate) lost: u64,
}

/// Routes samples to `daemon` or `files`.
pub(crate) struct Feed<D, F> {
    directory: PathBuf,
    daemon: D,
    files: F,
    daemon_answers: Option<bool>,
    bad_samples: Throttle,
    creations: Throttle,
    refusals: Throttle,
    counts: Counts,
}

/// A sample that has a file and a text.
struct Prepared {
    path: PathBuf,
    text: String,
}

impl<D: Backend, F: FileStore> Feed<D, F> {
    /// `directory` is the top directory of RRD files.
    pub(crate) fn new(directory: PathBuf, daemon: D, files: F) -> Self {
        Self {
            directory,
            daemon,
            files,
            daemon_answers: None,
            bad_samples: Throttle::default(),
            creations: Throttle::default(),
            refusals: Throttle::default(),
            counts: Counts::default(),
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Writes samples in order.
    pub(crate) fn write(&mut self, samples: &[Sample], now: Instant, notes: &mut Vec<Note>) {
        let mut prepared = Vec::with_capacity(samples.len());
        for sample in samples {
            match self.prepare(sample, now, notes) {
                Some(ready) => prepared.push(ready),
                None => self.counts.lost += 1,
            }
        }
        let updates: Vec<Update<'_>> = prepared
            .iter()
            .map(|Prepared { path, text }| Update { path, text })
            .collect();
        if updates.is_empty() {
            return;
        }
        let unanswered = self.update_through_daemon(&updates, now, notes);
        if !unanswered.is_empty() {
            self.update_files(unanswered, now, notes);
        }
    }

    fn prepare(
        &mut self,
        sample: &Sample,
        now: Instant,
        notes: &mut Vec<Note>,
    ) -> Option<Prepared> {
        match self.try_prepare(sample, now, notes) {
            Ok(prepared) => prepared,
            Err(reason) => {
                if let Some(unreported_count) = self.bad_samples.failed(&sample.key, now) {
                    notes.push(Note::BadSample {
                        key: sample.key.to_vec(),
                        reason,
                        unreported_count,
                    });
                }
                None
            }
        }
    }

    /// `None` if there is no file, an error if the sample is no good.
    fn try_prepare(
        &mut self,
        sample: &Sample,
        now: Instant,
        notes: &mut Vec<Note>,
    ) -> Result<Option<Prepared>, String> {
        let key = RrdKey::parse(&sample.key).map_err(|error| error.to_string())?;
        let text = columns::update_text(key.schema, key.generation, &sample.value)
            .map_err(|error| error.to_string())?;
        let path = self.directory.join(key.relative_path());
        let value_time = columns::sample_time(&text);
        if !self.ensure_file(&path, key.schema, value_time, now, notes) {
            return Ok(None);
        }
        columns::check_count(key.schema, &text).map_err(|error| error.to_string())?;
        self.bad_samples.succeeded(&sample.key);
        let text = text.into_owned();
        Ok(Some(Prepared { path, text }))
    }

    fn ensure_file(
        &mut self,
        path: &Path,
        schema: Schema,
        value_time: Option<i64>,
        now: Instant,
        notes: &mut Vec<Note>,
    ) -> bool {
        if self.files.exists(path) {
            return true;
        }
        let subject = path.as_os_str().as_bytes();
        if self.creations.must_wait(subject, now) {
            return false;
        }
        match self.files.create(path, schema, value_time) {
            Ok(()) => {
                self.creations.succeeded(subject);
                true
            }
            Err(error) => {
                if let Some(unreported_count) = self.creations.failed(subject, now) {
                    notes.push(creation_note(path, &error, unreported_count));
                }
                false
            }
        }
    }

    /// Returns the updates that rrdcached did not answer.
    fn update_through_daemon<'a>(
        &mut self,
        updates: &'a [Update<'a>],
        now: Instant,
        notes: &mut Vec<Note>,
    ) -> &'a [Update<'a>] {
        let Outcome { answers, broken } = self.daemon.update(updates);
        let (answered, unanswered) = updates.split_at(answers.len().min(updates.len()));
        self.counts.by_daemon += self.settle(answered, answers, DAEMON, now, notes);
        match broken {
            Some(error) if self.daemon_answers != Some(false) => {
                self.daemon_answers = Some(false);
                let reason = error.to_string();
                notes.push(Note::DaemonGone { reason });
            }
            None if self.daemon_answers != Some(true) => {
                if self.daemon_answers == Some(false) {
                    notes.push(Note::DaemonBack);
                }
                self.daemon_answers = Some(true);
            }
            _ => {}
        }
        unanswered
    }

    fn update_files(&mut self, updates: &[Update<'_>], now: Instant, notes: &mut Vec<Note>) {
        let Outcome { answers, broken } = self.files.update(updates);
        let (answered, unanswered) = updates.split_at(answers.len().min(updates.len()));
        self.counts.by_library += self.settle(answered, answers, LIBRARY, now, notes);
        let Some(error) = broken else { return };
        for _ in unanswered {
            self.counts.lost += 1;
            if let Some(unreported_count) = self.refusals.failed(LIBRARY.as_bytes(), now) {
                let reason = error.to_string();
                notes.push(Note::LibraryMissing {
                    reason,
                    unreported_count,
                });
            }
        }
    }

    /// Records answers. Returns how many updates were taken.
    fn settle(
        &mut self,
        updates: &[Update<'_>],
        answers: Vec<Result<(), Refusal>>,
        by: &'static str,
        now: Instant,
        notes: &mut Vec<Note>,
    ) -> u64 {
        let mut taken_count = 0;
        for (update, answer) in updates.iter().zip(answers) {
            let subject = update.path.as_os_str().as_bytes();
            match answer {
                Ok(()) => {
                    taken_count += 1;
                    self.refusals.succeeded(subject);
                }
                Err(Refusal(reason)) => {
                    self.counts.lost += 1;
                    if let Some(unreported_count) = self.refusals.failed(subject, now) {
                        notes.push(Note::Refused {
                            path: update.path.to_path_buf(),
                            by,
                            reason,
                            unreported_count,
                        });
                    }
                }
            }
        }
        taken_count
    }
}

fn creation_note(path: &Path, error: &CreateError, unreported_count: u64) -> Note {
    Note::NotCreated {
        path: path.to_path_buf(),
        reason: error.to_string(),
        unreported_count,
    }
}

#[cfg(test)]
mod tests;
