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

use bytes::Bytes;
use parking_lot::Mutex;

use super::attr::TTL;

/// Threads that may be remembered. With more of them some read what was there a moment ago, which is better than an error.
const THREAD_LIMIT: usize = 1024;

/// Who takes no step for this long has come to the end of the second walk. It may not have been seen: the answer to a look-up
/// tells the kernel all that `stat` needs.
const STEP_TIME: Duration = Duration::from_secs(1);

/// How long a thread is waited for that was sent back. It comes at once, unless its host stands still; or it was killed.
const RETURN_TIME: Duration = Duration::from_secs(60);

/// How long the kernel may believe a name, and some time for what is under way.
const DISTRUST_TIME: Duration = TTL.saturating_mul(2);

/// Threads whose walk begins again, and entries by which one has to.
#[derive(Debug, Default)]
pub(super) struct Walks {
    /// Leaf lock, taken while the tree is locked.
    threads: Mutex<Threads>,
    /// Whether there are any. Mostly there are none, and nobody needs the lock.
    is_any_thread: AtomicBool,
    /// Entries that other nodes have renamed or replaced. Leaf lock, taken while the tree is locked.
    distrusted: Mutex<Distrusted>,
    /// Whether there are any.
    is_any_distrusted: AtomicBool,
}

/// By the id that the kernel tells.
#[derive(Debug, Default)]
struct Threads {
    walks: HashMap<u32, SecondWalk>,
    /// When the last one was sent back.
    last: Option<Instant>,
}

#[derive(Debug)]
enum SecondWalk {
    /// The thread was sent back then.
    ToCome(Instant),
    /// The thread has taken a step then.
    UnderWay(Instant),
    /// The thread has looked for a name that is not there then. That is the end, unless it comes again for the same name or
    /// asks about the directory: the kernel does so if it has known the name.
    AtMissing {
        since: Instant,
        directory: u64,
        name: Bytes,
    },
}

impl SecondWalk {
    fn is_over(&self, now: Instant) -> bool {
        match self {
            Self::ToCome(since) => now.duration_since(*since) >= RETURN_TIME,
            Self::UnderWay(since) | Self::AtMissing { since, .. } => {
                now.duration_since(*since) >= STEP_TIME
            }
        }
    }

    /// Whether it has come to this entry.
    fn is_at(&self, inode: u64) -> bool {
        match self {
            Self::ToCome(_) | Self::UnderWay(_) => true,
            Self::AtMissing { directory, .. } => *directory == inode,
        }
    }

    /// What it is after a look-up, `None` if it is over.
    fn after(&self, lookup: &Lookup<'_>, now: Instant) -> Option<Self> {
        let missing = match self {
            Self::AtMissing {
                directory, name, ..
            } => Some((*directory, &name[..])),
            Self::ToCome(_) | Self::UnderWay(_) => None,
        };
        let is_same = missing == Some((lookup.directory, lookup.name));
        if self.is_over(now) || (missing.is_some() && !is_same) {
            return None;
        }
        match (lookup.is_there, is_same) {
            (true, _) => Some(Self::UnderWay(now)),
            (false, true) => None,
            (false, false) => Some(Self::AtMissing {
                since: now,
                directory: lookup.directory,
                name: Bytes::copy_from_slice(lookup.name),
            }),
        }
    }
}

/// A name that was looked for.
pub(super) struct Lookup<'a> {
    /// Tree inode.
    pub(super) directory: u64,
    pub(super) name: &'a [u8],
    pub(super) is_there: bool,
}

#[derive(Debug, Default)]
struct Distrusted {
    since: HashMap<u64, Instant>,
    /// When the last one came.
    last: Option<Instant>,
}

impl Walks {
    /// A walk has ended at something that is gone. Whether the thread has to walk once more: not if it just did.
    pub(super) fn begin_again(&self, thread: u32, inode: u64) -> bool {
        let must = self.begin_again_midway(thread, inode);
        if !must {
            self.end(thread);
        }
        must
    }

    /// A walk has come to something that is gone, and may not be at its end. Whether the thread has to walk once more.
    pub(super) fn begin_again_midway(&self, thread: u32, inode: u64) -> bool {
        self.begin_again_at(thread, inode, Instant::now())
    }

    fn begin_again_at(&self, thread: u32, inode: u64, now: Instant) -> bool {
        let mut threads = self.threads.lock();
        let walk = threads.walks.get(&thread);
        if walk.is_some_and(|walk| walk.is_at(inode) && !walk.is_over(now)) {
            return false;
        }
        if threads.walks.len() >= THREAD_LIMIT {
            threads.walks.retain(|_, walk| !walk.is_over(now));
        }
        if threads.walks.len() >= THREAD_LIMIT {
            return false;
        }
        threads.walks.insert(thread, SecondWalk::ToCome(now));
        threads.last = Some(now);
        self.is_any_thread.store(true, Ordering::Release);
        true
    }

    /// A thread has looked for a name on its way.
    pub(super) fn looked_up(&self, thread: u32, lookup: &Lookup<'_>) {
        if self.is_any_thread.load(Ordering::Acquire) {
            self.looked_up_at(thread, lookup, Instant::now());
        }
    }

    fn looked_up_at(&self, thread: u32, lookup: &Lookup<'_>, now: Instant) {
        let mut threads = self.threads.lock();
        if let Some(walk) = threads.walks.remove(&thread)
            && let Some(walk) = walk.after(lookup, now)
        {
            threads.walks.insert(thread, walk);
        }
        let is_recent = |last| now.duration_since(last) < RETURN_TIME;
        if !threads.last.is_some_and(is_recent) {
            *threads = Threads::default();
        }
        self.is_any_thread
            .store(!threads.walks.is_empty(), Ordering::Release);
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

    /// A thread has found what it was looking for.
    pub(super) fn end(&self, thread: u32) {
        if !self.is_any_thread.load(Ordering::Acquire) {
            return;
        }
        let mut threads = self.threads.lock();
        threads.walks.remove(&thread);
        self.is_any_thread
            .store(!threads.walks.is_empty(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECTORY: u64 = 3;
    const FILE: u64 = 4;

    #[test]
    fn a_thread_is_sent_back_once_for_each_walk() {
        let walks = Walks::default();
        assert!(walks.begin_again(7, FILE));
        assert!(walks.begin_again(8, FILE));
        assert!(!walks.begin_again_midway(7, FILE), "on its second walk");
        assert!(
            !walks.begin_again(7, FILE),
            "the second walk gets what it finds"
        );
        assert!(walks.begin_again(7, FILE), "another walk");
        walks.end(7);
        assert!(walks.begin_again(7, FILE), "the second walk has ended well");
    }

    fn lookup(name: &[u8], is_there: bool) -> Lookup<'_> {
        Lookup {
            directory: DIRECTORY,
            name,
            is_there,
        }
    }

    #[test]
    fn a_thread_that_has_taken_no_step_for_long_is_on_another_walk() {
        let walks = Walks::default();
        let begin = Instant::now();
        assert!(walks.begin_again_at(7, FILE, begin));
        let mut now = begin + RETURN_TIME / 2;
        for _ in 0..10 {
            walks.looked_up_at(7, &lookup(b"a", true), now);
            now += STEP_TIME / 2;
        }
        assert!(!walks.begin_again_at(7, FILE, now));
        assert!(walks.begin_again_at(7, FILE, now + STEP_TIME));
    }

    #[test]
    fn a_walk_ends_at_a_name_that_is_not_there_unless_the_kernel_asks_once_more() {
        let now = Instant::now();
        // What is looked for after `a` was missing, and whether the second walk is over when this entry turns out to be gone.
        let cases = [
            (None, FILE, true),
            (None, DIRECTORY, false),
            (Some(lookup(b"a", true)), FILE, false),
            (Some(lookup(b"a", false)), FILE, true),
            (Some(lookup(b"a", false)), DIRECTORY, true),
            (Some(lookup(b"b", true)), FILE, true),
            (Some(lookup(b"b", false)), FILE, true),
        ];
        for (number, (next, gone, is_over)) in cases.into_iter().enumerate() {
            let walks = Walks::default();
            assert!(walks.begin_again_at(7, FILE, now));
            walks.looked_up_at(7, &lookup(b"a", false), now);
            if let Some(next) = next {
                walks.looked_up_at(7, &next, now);
            }
            assert_eq!(walks.begin_again_at(7, gone, now), is_over, "{number}");
        }
    }

    #[test]
    fn a_thread_on_a_host_that_stood_still_is_not_sent_back_twice() {
        let walks = Walks::default();
        let begin = Instant::now();
        assert!(walks.begin_again_at(7, FILE, begin));
        assert!(!walks.begin_again_at(7, FILE, begin + RETURN_TIME / 2));
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
        let begin = Instant::now();
        let limit = u32::try_from(THREAD_LIMIT).expect("a small number");
        for thread in 0..limit {
            assert!(walks.begin_again_at(thread, FILE, begin));
        }
        let mut now = begin + RETURN_TIME / 2;
        assert!(!walks.begin_again_at(limit, FILE, now), "no room");
        assert!(
            !walks.begin_again_at(7, FILE, now),
            "nobody has lost a place"
        );
        now = begin + RETURN_TIME;
        assert!(
            walks.begin_again_at(limit, FILE, now),
            "the others are forgotten"
        );
        walks.looked_up_at(limit, &lookup(b"a", true), now + RETURN_TIME);
        assert!(!walks.is_any_thread.load(Ordering::Acquire));
    }
}
