//! Locks with a rank.
//!
//! A thread takes locks in the order of [`Rank`] only, and never two of one rank, so no two threads can wait for each
//! other. Debug builds keep a list of the locks that each thread holds and panic when one is taken out of order or when a
//! thread waits for a condition with another lock held. Release builds check nothing.
//!
//! The list of ranks is the one in ARCHITECTURE.txt, "Locks and their order", which says what each lock guards.
#![expect(clippy::disallowed_types, reason = "every other lock is one of these")]

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Instant;

use order::{Held, check};
use strum::VariantArray;

/// The locks of the workspace, in the order in which they are taken.
#[expect(missing_docs, reason = "ARCHITECTURE.txt says what each lock guards")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, VariantArray)]
pub enum Rank {
    DaemonStop,
    StoreWatchers,
    GroupDriver,
    StoreJournal,
    MemDbReplacement,
    MemDbTree,
    StoreQueue,
    FsNames,
    FsHandles,
    FsAnswers,
    StatusOrder,
    StatusMembers,
    StatusKeys,
    StatusSamples,
    StatusLog,
    StatusDocument,
    RrdQueue,
    IpcAdmission,
    IpcMappings,
    IpcThrottle,
    IpcAnswers,
    HealthReplaced,
    GroupStatus,
    QuorumConnection,
    History,
}

/// A lock with a place in the order of locks.
pub struct Ranked<L> {
    rank: Rank,
    lock: L,
}

/// A mutex with a place in the order of locks.
pub type Mutex<T> = Ranked<parking_lot::Mutex<T>>;

/// A readers-writer lock with a place in the order of locks.
pub type RwLock<T> = Ranked<parking_lot::RwLock<T>>;

/// A lock that this thread holds.
#[must_use]
pub struct Guard<G> {
    // Dropped in this order: a lock leaves the list after it is free.
    inner: G,
    held: Held,
}

/// A locked [`Mutex`].
pub type MutexGuard<'a, T> = Guard<parking_lot::MutexGuard<'a, T>>;

/// An [`RwLock`] locked for reading.
pub type RwLockReadGuard<'a, T> = Guard<parking_lot::RwLockReadGuard<'a, T>>;

/// An [`RwLock`] locked for writing.
pub type RwLockWriteGuard<'a, T> = Guard<parking_lot::RwLockWriteGuard<'a, T>>;

impl<L> Ranked<L> {
    /// Waits with `wait` for the lock.
    fn hold<'a, G>(&'a self, wait: impl FnOnce(&'a L) -> G) -> Guard<G> {
        check(self.rank);
        let inner = wait(&self.lock);
        let held = Held::new(self.rank);
        Guard { inner, held }
    }
}

impl<T> Mutex<T> {
    /// An unlocked mutex.
    pub const fn new(rank: Rank, value: T) -> Self {
        Self {
            rank,
            lock: parking_lot::Mutex::new(value),
        }
    }

    /// Waits for the mutex and locks it.
    ///
    /// # Panics
    /// In debug builds, if this thread holds a lock of the same or a later rank.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.hold(parking_lot::Mutex::lock)
    }

    /// Locks the mutex if it is free. Allowed in any order, since it does not wait.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let inner = self.lock.try_lock()?;
        let held = Held::new(self.rank);
        Some(Guard { inner, held })
    }
}

impl<T> RwLock<T> {
    /// An unlocked lock.
    pub const fn new(rank: Rank, value: T) -> Self {
        Self {
            rank,
            lock: parking_lot::RwLock::new(value),
        }
    }

    /// Waits until nobody writes, and locks for reading.
    ///
    /// # Panics
    /// In debug builds, if this thread holds a lock of the same or a later rank. That includes this one: a second read lock
    /// of a thread waits for a writer that waits for the first.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.hold(parking_lot::RwLock::read)
    }

    /// Waits until nobody reads or writes, and locks for writing.
    ///
    /// # Panics
    /// In debug builds, if this thread holds a lock of the same or a later rank.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.hold(parking_lot::RwLock::write)
    }
}

/// A condition that threads wait for with a [`Mutex`].
#[derive(Debug, Default)]
pub struct Condvar(parking_lot::Condvar);

impl Condvar {
    /// A condition that nobody waits for.
    pub const fn new() -> Self {
        Self(parking_lot::Condvar::new())
    }

    /// Frees the mutex until this is notified.
    ///
    /// # Panics
    /// In debug builds, if this thread holds another lock.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        guard.held.check_only();
        self.0.wait(&mut guard.inner);
    }

    /// Frees the mutex until this is notified or `deadline` passes. Returns whether the time is up.
    ///
    /// # Panics
    /// In debug builds, if this thread holds another lock.
    pub fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, deadline: Instant) -> bool {
        guard.held.check_only();
        self.0.wait_until(&mut guard.inner, deadline).timed_out()
    }

    /// Wakes one thread that waits.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wakes all threads that wait.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// What debug builds know of the locks that the current thread holds.
mod order {
    use std::cell::RefCell;

    use super::Rank;

    thread_local! {
        static HELD: RefCell<Vec<Rank>> = const { RefCell::new(Vec::new()) };
    }

    /// Looks at the locks that this thread holds. Release builds keep no list, and nothing is left of the look.
    fn with_held<T: Default>(look: impl FnOnce(&mut Vec<Rank>) -> T) -> T {
        match cfg!(debug_assertions) {
            true => HELD.with_borrow_mut(look),
            false => T::default(),
        }
    }

    /// Panics if a lock is held that comes later than one of this rank.
    pub(super) fn check(rank: Rank) {
        let last = with_held(|held| held.iter().max().copied());
        if let Some(last) = last
            && last >= rank
            && !std::thread::panicking()
        {
            panic!("lock {rank:?} taken while {last:?} is held");
        }
    }

    /// An entry in the list of held locks, until it is dropped.
    pub(super) struct Held(Rank);

    impl Held {
        pub(super) fn new(rank: Rank) -> Self {
            with_held(|held| held.push(rank));
            Self(rank)
        }

        /// Panics if the thread holds anything else.
        pub(super) fn check_only(&self) {
            let other = with_held(|held| held.iter().copied().find(|rank| *rank != self.0));
            if let Some(other) = other {
                panic!("thread waits at {:?} while {other:?} is held", self.0);
            }
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            with_held(|held| {
                if let Some(at) = held.iter().rposition(|rank| *rank == self.0) {
                    held.remove(at);
                }
            });
        }
    }
}

impl<G: Deref> Deref for Guard<G> {
    type Target = G::Target;

    fn deref(&self) -> &G::Target {
        &self.inner
    }
}

impl<G: DerefMut> DerefMut for Guard<G> {
    fn deref_mut(&mut self) -> &mut G::Target {
        &mut self.inner
    }
}

impl<L: fmt::Debug> fmt::Debug for Ranked<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock.fmt(f)
    }
}
