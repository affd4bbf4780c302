//! Path walks that begin again.
//!
//! The kernel takes a name for granted for a second. Who opens one that another node has replaced meanwhile must get the
//! new file, as with a daemon that looks paths up itself. So the first answer to an open of a file that is gone is
//! `ESTALE`: the kernel then walks the path once more and asks for each name in it.
//!
//! It does so only once. If the file is replaced again during the second walk, the thread gets what it was led to, which is
//! kept for it (see the module `lookups`): whoever replaces a file must not make its readers fail.

use std::collections::HashSet;

use parking_lot::Mutex;

/// Threads that may be remembered. They are forgotten with their next open; those that died are not.
const THREAD_LIMIT: usize = 1024;

/// Threads whose walk begins again, by the id that the kernel tells.
#[derive(Debug, Default)]
pub(super) struct Walks(Mutex<HashSet<u32>>);

impl Walks {
    /// A thread was led to a file that is gone. Whether it has to walk once more.
    pub(super) fn begin_again(&self, thread: u32) -> bool {
        let mut threads = self.0.lock();
        if threads.remove(&thread) {
            return false;
        }
        if threads.len() == THREAD_LIMIT {
            threads.clear();
        }
        threads.insert(thread)
    }

    /// A thread was led to a file that is there.
    pub(super) fn end(&self, thread: u32) {
        self.0.lock().remove(&thread);
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
        assert!(!walks.begin_again(7), "the second walk gets what it finds");
        assert!(walks.begin_again(7), "another walk");
        walks.end(7);
        assert!(walks.begin_again(7), "the second walk has ended well");
    }

    #[test]
    fn threads_that_do_not_come_back_are_forgotten() {
        let walks = Walks::default();
        let limit = u32::try_from(THREAD_LIMIT).expect("a small number");
        for thread in 0..limit * 3 {
            assert!(walks.begin_again(thread));
        }
        assert!(walks.0.lock().len() <= THREAD_LIMIT);
    }
}
