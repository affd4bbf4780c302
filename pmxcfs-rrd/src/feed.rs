//! From samples to files: which file, which text, which backend.
//!
//! The order for each sample is the C daemon's: find the file, create it if it is missing, update it through rrdcached or,
//! if that is not there, directly.

use std::path::PathBuf;
use std::time::Instant;

use crate::backend::{Answer, Backend, FileStore, Update};
use crate::columns;
use crate::failures::Failures;
use crate::key::RrdKey;
use crate::queue::Sample;
use crate::sample::SampleError;

const DAEMON_IS_GONE: &str = "rrdcached does not answer, RRD files are written directly";
const QUEUE_OVERFLOWS: &str = "RRD files cannot be written as fast as values come";
const LIBRARY_IS_MISSING: &str = "librrd cannot be loaded, RRD values are lost";

pmxcfs_api_types::figures! {
    /// The RRD writer. Counters are those since the start.
    RrdStats {
        /// Values that wait for RRD.
        queued_count: u64 = "rrd_queued_values",
        /// Values that rrdcached took.
        rrdcached_count: u64,
        /// Values written to files directly.
        direct_count: u64,
        /// Values dropped because the queue was full.
        dropped_count: u64,
        /// Values without a file, of no use, or refused by RRD.
        lost_count: u64,
    }
}

/// Routes samples to `daemon` or `files`.
pub(crate) struct Feed<D, F> {
    directory: PathBuf,
    daemon: D,
    files: F,
    pub(crate) failures: Failures,
    /// What became of the samples; the queue counts what waits in it.
    pub(crate) stats: RrdStats,
}

impl<D: Backend, F: FileStore> Feed<D, F> {
    /// `directory` is the top directory of RRD files.
    pub(crate) fn new(directory: PathBuf, daemon: D, files: F) -> Self {
        Self {
            directory,
            daemon,
            files,
            failures: Failures::default(),
            stats: RrdStats::default(),
        }
    }

    /// Tells that the queue drops samples. `dropped_count` are those since the start.
    pub(crate) fn note_dropped(&mut self, dropped_count: u64, now: Instant) {
        if dropped_count > self.stats.dropped_count {
            self.stats.dropped_count = dropped_count;
            let reason = format_args!("{dropped_count} values dropped since the start");
            self.failures.failed(QUEUE_OVERFLOWS, reason, now);
        }
    }

    /// Everything that was queued has been handed to RRD.
    pub(crate) fn note_empty_queue(&mut self) {
        if self.failures.succeeded(|| QUEUE_OVERFLOWS.to_owned()) {
            tracing::info!("RRD files are up to date again");
        }
    }

    /// Writes samples in order.
    pub(crate) fn write(&mut self, samples: &[Sample], now: Instant) {
        let mut updates = Vec::with_capacity(samples.len());
        for sample in samples {
            let subject = || format!("RRD value of key \"{}\" refused", sample.key.escape_ascii());
            match self.prepare(sample, now) {
                Ok(update) => {
                    self.failures.succeeded(subject);
                    updates.extend(update);
                }
                Err(reason) => self.failures.failed(&subject(), reason, now),
            }
        }
        self.stats.lost_count += (samples.len() - updates.len()) as u64;
        if updates.is_empty() {
            return;
        }
        let mut answers = Vec::new();
        match self.daemon.update(&updates, &mut answers) {
            Err(error) => self.failures.is_down(DAEMON_IS_GONE, error),
            Ok(()) if self.failures.is_up(DAEMON_IS_GONE) => {
                tracing::info!("rrdcached answers, RRD updates go through it");
            }
            Ok(()) => {}
        }
        let (taken_count, unanswered) = self.settle(&updates, &answers, "rrdcached", now);
        self.stats.rrdcached_count += taken_count;
        if unanswered.is_empty() {
            return;
        }
        answers.clear();
        if let Err(error) = self.files.update(unanswered, &mut answers) {
            self.failures.is_down(LIBRARY_IS_MISSING, error);
        }
        let (taken_count, unanswered) = self.settle(unanswered, &answers, "librrd", now);
        self.stats.direct_count += taken_count;
        self.stats.lost_count += unanswered.len() as u64;
    }

    /// The update that a sample asks for; none if there is no file and none can be created, an error if the sample is
    /// malformed.
    fn prepare(&mut self, sample: &Sample, now: Instant) -> Result<Option<Update>, SampleError> {
        let key = RrdKey::parse(&sample.key)?;
        let text = columns::update_text(key.schema, key.generation, &sample.value)?;
        let path = self.directory.join(key.path);
        if !self.files.exists(&path) {
            let subject = format!("cannot create RRD file {}", path.display());
            if self.failures.must_wait(&subject, now) {
                return Ok(None);
            }
            let value_time = columns::sample_time(&text);
            if let Err(reason) = self.files.create(&path, key.schema, value_time) {
                self.failures.failed(&subject, reason, now);
                return Ok(None);
            }
            self.failures.succeeded(|| subject);
        }
        columns::check_count(key.schema, &text)?;
        Ok(Some(Update { path, text }))
    }

    /// Records the answers of a backend. Returns how many updates it took, and the updates that it did not answer.
    fn settle<'a>(
        &mut self,
        updates: &'a [Update],
        answers: &[Answer],
        backend: &str,
        now: Instant,
    ) -> (u64, &'a [Update]) {
        let mut taken_count = 0;
        for (Update { path, .. }, answer) in updates.iter().zip(answers) {
            let subject = || format!("RRD update of {} refused by {backend}", path.display());
            match answer {
                Ok(()) => {
                    taken_count += 1;
                    self.failures.succeeded(subject);
                }
                Err(reason) => {
                    self.stats.lost_count += 1;
                    self.failures.failed(&subject(), reason, now);
                }
            }
        }
        let answered_count = answers.len().min(updates.len());
        (taken_count, &updates[answered_count..])
    }
}

#[cfg(test)]
mod tests;
