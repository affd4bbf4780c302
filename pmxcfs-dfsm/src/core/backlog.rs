//! The size of what is kept for a synchronisation, and its bound.
//!
//! Messages that come while members exchange states, or while a member is updated, wait in memory. They are kept there and
//! not in a file: a member that needs more than this is behind a flood that a disk would not end either, and applying them
//! later takes as long as having left and being updated again. So the bound ends the try:
//!
//! - once a member that is being updated keeps a good part of the bound, synced members write no faster than a fraction of
//!   the updates that pass by, and as they like when none has passed for some seconds. So writes go on at any speed of the
//!   cluster, and a member whose peers all do so seldom reaches the bound, whatever the size of the tree;
//! - a member that was not synced before leaves at the bound, and joins again after delays that grow;
//! - one that was synced before leaves only beyond that, so that the exchange goes on without the others first.

use super::{Mode, queue::Queued};

/// Bytes of messages that a member keeps for a synchronisation at most, beside the updates that it gets.
pub(super) const BACKLOG_LIMIT: usize = 64 * 1024 * 1024;

/// Counts what has come since an exchange began or ended: on a synced member what one that is updated has to keep.
#[derive(Debug)]
pub(super) struct Backlog {
    size: usize,
    /// Bytes of updates that have passed by.
    update_size: usize,
    /// When the last of them came, or the exchange began or ended.
    progress_ms: u64,
    limit: usize,
    /// Synced when the exchange began.
    was_synced: bool,
}

impl Backlog {
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            size: 0,
            update_size: 0,
            progress_ms: 0,
            limit,
            was_synced: false,
        }
    }

    /// The membership changes in this mode.
    pub(super) fn note_mode(&mut self, mode: Mode) {
        self.was_synced = mode == Mode::Synced || (self.was_synced && mode == Mode::StartSync);
    }

    /// An exchange begins or ends, with these messages kept.
    pub(super) fn restart<'a>(&mut self, kept: impl Iterator<Item = &'a Queued>, now_ms: u64) {
        self.size = kept.map(size).sum();
        self.update_size = 0;
        self.progress_ms = now_ms;
    }

    /// A message has come.
    pub(super) fn add(&mut self, queued: &Queued) {
        self.size = self.size.saturating_add(size(queued));
    }

    /// An update for another member has come.
    pub(super) fn add_update(&mut self, size: usize, now_ms: u64) {
        self.update_size = self.update_size.saturating_add(size);
        self.progress_ms = now_ms;
    }

    /// Whether others should wait for more updates to pass. The largest tree has twice the bound, so three quarters of the
    /// bound are used in the end; the rest is for what is under way.
    pub(super) const fn is_large(&self) -> bool {
        self.size > self.limit / 4 + self.update_size / 4
    }

    /// Milliseconds without an update.
    pub(super) const fn idle_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.progress_ms)
    }

    /// Bytes of updates that the leader has under way at once: enough for corosync to be busy until the first ones come back,
    /// and soon out of the way of its writes and of the next exchange.
    pub(super) const fn update_window(&self) -> usize {
        if self.limit < 64 { 1 } else { self.limit / 64 }
    }

    /// Why a member that keeps all this in this mode has to leave, if it has to.
    pub(super) fn excess(&self, mode: Mode) -> Option<String> {
        let limit = if self.was_synced && mode == Mode::StartSync {
            self.limit / 2 * 3
        } else {
            self.limit
        };
        (self.size > limit).then(|| {
            format!(
                "messages of {} MiB came during the synchronisation, at most {} MiB are kept",
                self.size >> 20,
                limit >> 20
            )
        })
    }
}

/// Memory that a message takes.
fn size(queued: &Queued) -> usize {
    size_of::<Queued>() + queued.raw.len()
}
