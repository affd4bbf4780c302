//! Walks that the kernel begins because of an `ESTALE`.
//!
//! The kernel answers the first `ESTALE` on a path by walking the whole path once more. A second one in that walk would reach the
//! program, so names on the path that nothing has get `ENOENT` meanwhile. The kernel does not tell which walk a request belongs to.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// How long such a walk may take. It takes a fraction of this unless the machine is busy. A request that comes later, after the
/// name was taken away once more, gets its own `ESTALE`; an open with `O_CREAT` that comes earlier gets `ENOENT`, as from the C
/// daemon.
const LONGEST: Duration = Duration::from_millis(6);

/// How many walks are remembered, the latest ones.
const MAX_COUNT: usize = 64;

/// Paths that were answered with `ESTALE`, from the root on, and when. The latest is the last.
#[derive(Debug, Default)]
pub(super) struct SecondWalks(VecDeque<(Vec<Bytes>, Instant)>);

impl SecondWalks {
    /// Whether there has been none lately.
    pub(super) fn is_empty(&self) -> bool {
        self.0.back().is_none_or(is_over)
    }

    /// Whether one of them may come to this path: for the sake of it, or of a name above or below it.
    pub(super) fn may_come_to(&self, path: &[Bytes]) -> bool {
        let recent = self.0.iter().rev().take_while(|walk| !is_over(walk));
        recent
            .map(|(told, _)| told)
            .any(|told| told.starts_with(path) || path.starts_with(told))
    }

    /// The kernel walks this path again.
    pub(super) fn begin(&mut self, path: Vec<Bytes>) {
        self.0.retain(|walk| !is_over(walk));
        if self.0.len() == MAX_COUNT {
            self.0.pop_front();
        }
        self.0.push_back((path, Instant::now()));
    }

    /// An open has come to the end of its walk. Questions for attributes come from its midst, too.
    pub(super) fn end(&mut self, path: &[Bytes]) {
        self.0.retain(|(told, _)| !path.starts_with(told));
    }
}

fn is_over((_, begun): &(Vec<Bytes>, Instant)) -> bool {
    begun.elapsed() >= LONGEST
}
