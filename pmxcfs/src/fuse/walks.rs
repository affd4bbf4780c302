//! Path walks that begin again.
//!
//! The kernel takes a name for granted for a second. Who opens one that another node has replaced meanwhile must get the
//! new file, as with a daemon that looks paths up itself. So the first answer to a request for something that is gone is
//! `ESTALE`: the kernel then walks the path once more and asks for each name in it.
//!
//! It does so only once. If the file is replaced again during the second walk, the thread gets what it was led to, which is
//! kept for it (see the module `lookups`): whoever replaces a file must not make its readers fail. Who is in a directory that
//! was removed comes back to it on the second walk, and goes on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::attr::TTL;

/// Threads that may be remembered. Those that have died are not forgotten before.
const THREAD_LIMIT: usize = 1024;

/// A thread that comes later does not come because it was sent back. The end of its second walk may not have been seen: the
/// answer to a look-up tells the kernel all that `stat` needs.
const WALK_TIME: Duration = Duration::from_secs(1);

/// How long the kernel may believe a name, and some time for what is under way.
const DISTRUST_TIME: Duration = TTL.saturating_mul(2);

/// Threads whose walk begins again, by the id that the kernel tells, and since when.
#[derive(Debug, Default)]
pub(super) struct Walks {
    /// Leaf lock, taken while the tree is locked.
    threads: Mutex<HashMap<u32, Instant>>,
    /// Whether there are any. Mostly there are none, and nobody needs the lock.
    is_any_thread: AtomicBool,
    /// Entries that other nodes have renamed or replaced. Leaf lock, taken while the tree is locked.
    distrusted: Mutex<Distrusted>,
    /// Whether there are any.
    is_any_distrusted: AtomicBool,
}

#[derive(Debug, Default)]
struct Distrusted {
    since: HashMap<u64, Instant>,
    /// When the last one came.
    last: Option<Instant>,
}

impl Walks {
    /// A walk has ended at something that is gone. Whether the thread has to walk once more: not if it just did.
    pub(super) fn begin_again(&self, thread: u32) -> bool {
        let must = self.begin_again_midway(thread);
        if !must {
            self.end(thread);
        }
        must
    }

    /// A walk has come to something that is gone, and may not be at its end. Whether the thread has to walk once more.
    pub(super) fn begin_again_midway(&self, thread: u32) -> bool {
        self.begin_again_at(thread, Instant::now())
    }

    fn begin_again_at(&self, thread: u32, now: Instant) -> bool {
        let mut threads = self.threads.lock();
        if let Some(since) = threads.get(&thread)
            && now.duration_since(*since) < WALK_TIME
        {
            return false;
        }
        if threads.len() == THREAD_LIMIT {
            threads.clear();
        }
        threads.insert(thread, now);
        self.is_any_thread.store(true, Ordering::Release);
        true
    }

    /// The kernel's names for these entries may be wrong by now.
    pub(super) fn distrust(&self, inodes: impl Iterator<Item = u64>) {
        let now = Instant::now();
        let mut distrusted = self.distrusted.lock();
        let is_young = |since: &Instant| now.duration_since(*since) < DISTRUST_TIME;
        distrusted.since.retain(|_, since| is_young(since));
        distrusted.since.extend(inodes.map(|inode| (inode, now)));
        distrusted.last = Some(now);
        self.is_any_distrusted.store(true, Ordering::Release);
    }

    /// Whether the kernel may have been led to this entry by a name that it does not have any more.
    pub(super) fn is_distrusted(&self, inode: u64) -> bool {
        self.is_any_distrusted.load(Ordering::Acquire)
            && self.is_distrusted_at(inode, Instant::now())
    }

    fn is_distrusted_at(&self, inode: u64, now: Instant) -> bool {
        let is_young = |since: Instant| now.duration_since(since) < DISTRUST_TIME;
        let mut distrusted = self.distrusted.lock();
        if !distrusted.last.is_some_and(is_young) {
            *distrusted = Distrusted::default();
            self.is_any_distrusted.store(false, Ordering::Release);
        }
        distrusted.since.get(&inode).copied().is_some_and(is_young)
    }

    /// A thread has found what it was looking for, or that it is not there.
    pub(super) fn end(&self, thread: u32) {
        if !self.is_any_thread.load(Ordering::Acquire) {
            return;
        }
        let mut threads = self.threads.lock();
        threads.remove(&thread);
        self.is_any_thread
            .store(!threads.is_empty(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_sent_back_once_for_each_walk() {
        let walks = Walks::default();
        assert!(walks.begin_again(7));
        assert!(walks.begin_again(8));
        assert!(!walks.begin_again_midway(7), "on its second walk");
        assert!(!walks.begin_again(7), "the second walk gets what it finds");
        assert!(walks.begin_again(7), "another walk");
        walks.end(7);
        assert!(walks.begin_again(7), "the second walk has ended well");
    }

    #[test]
    fn a_thread_that_comes_much_later_is_on_another_walk() {
        let walks = Walks::default();
        let begin = Instant::now();
        assert!(walks.begin_again_at(7, begin));
        assert!(!walks.begin_again_at(7, begin + WALK_TIME / 2));
        assert!(walks.begin_again_at(7, begin + WALK_TIME));
    }

    #[test]
    fn an_entry_is_distrusted_for_as_long_as_the_kernel_may_believe_its_name() {
        let walks = Walks::default();
        assert!(!walks.is_distrusted(5));
        walks.distrust([5, 6].into_iter());
        assert!(walks.is_distrusted(5) && walks.is_distrusted(6) && !walks.is_distrusted(7));
        let later = Instant::now() + DISTRUST_TIME;
        assert!(!walks.is_distrusted_at(5, later));
        assert!(!walks.is_any_distrusted.load(Ordering::Acquire));
    }

    #[test]
    fn threads_that_do_not_come_back_are_forgotten() {
        let walks = Walks::default();
        let limit = u32::try_from(THREAD_LIMIT).expect("a small number");
        for thread in 0..limit * 3 {
            assert!(walks.begin_again(thread));
        }
        assert!(walks.threads.lock().len() <= THREAD_LIMIT);
    }
}
