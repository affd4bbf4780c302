//! Which worker waits for events, and when another takes over.
//!
//! One worker, the leader, waits for events and handles them itself. That is the fastest arrangement as long as
//! requests are short, which they are: the leader stays awake while there is work, and no request wakes a thread of
//! ours that was asleep. When several workers wait at once, the kernel wakes a second one whenever an event comes
//! while the first is between two waits. On a busy machine with two processors, four waiting workers had 0.87 to 1.12
//! times the rate of one, and 1.0 to 1.6 times its 99th percentile.
//!
//! The other workers follow. One of them, the watcher, looks at the leader's beat every tick while there is work, and
//! when the leader has been in the same turn for a whole tick, deposes it and leads instead. So a request that takes
//! long delays others by two ticks at most, and as many can take long at a time as there are workers but one. When
//! nothing happens the watcher sleeps until the leader's next turn.
//!
//! A tick interrupts somebody's request for some 20 us. With 1000 ticks a second that is one request in a hundred, and
//! showed as twice the 99th percentile; so ticks are [`CALM_TICK`] as a rule, and [`ALERT_TICK`] for a while after a
//! request was slow, because slow requests seldom come alone.
//!
//! All of this is one number. Even: the leader waits for events. Odd: it is in a turn. Only the leader moves it from
//! even to odd. From odd to even it is moved by the leader, at the end of its turn, or by the watcher, and by a
//! compare-and-swap of which one succeeds.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// How often the leader is looked at as a rule.
const CALM_TICK: Duration = Duration::from_millis(4);

/// How often the leader is looked at after one was deposed.
const ALERT_TICK: Duration = Duration::from_millis(1);

/// Ticks for which an alert lasts.
const TICKS_OF_ALERT: u32 = 1000;

/// Ticks without a turn after which the watcher goes to sleep.
const TICKS_BEFORE_SLEEP: u32 = 8;

/// The leader's beat and the watcher's bed.
#[derive(Debug, Default)]
pub(crate) struct Lead {
    beat: AtomicU64,
    is_stopped: AtomicBool,
    /// Set while the watcher sleeps; cleared by who wakes it.
    is_asleep: AtomicBool,
    /// Alert ticks that are left.
    alert: AtomicU32,
    /// Held by the watcher for as long as it watches. Rank: before `bed`.
    seat: Mutex<()>,
    /// Guards the change between asleep and awake. Leaf lock.
    bed: Mutex<()>,
    bell: Condvar,
}

/// The leadership of one worker.
#[derive(Debug)]
pub(crate) struct Leadership(u64);

impl Lead {
    /// The first leader's. To be called once.
    pub(crate) fn first(&self) -> Leadership {
        Leadership(self.beat.load(Ordering::SeqCst))
    }

    /// Begins a turn. Wakes the watcher if it sleeps.
    pub(crate) fn begin_turn(&self, leadership: &mut Leadership) {
        leadership.0 += 1;
        self.beat.store(leadership.0, Ordering::SeqCst);
        if self.is_asleep.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Ends a turn; gives the leadership back unless the leader was deposed meanwhile.
    pub(crate) fn end_turn(&self, leadership: Leadership) -> Option<Leadership> {
        self.advance(leadership.0)
    }

    /// Waits until it is this worker's turn to lead; `None` when the server stops.
    pub(crate) fn follow(&self) -> Option<Leadership> {
        let _seat = self.seat.lock();
        let mut last = self.beat.load(Ordering::SeqCst);
        let mut quiet_ticks = 0;
        while !self.is_stopped.load(Ordering::SeqCst) {
            self.bell.wait_for(&mut self.bed.lock(), self.tick());
            let now = self.beat.load(Ordering::SeqCst);
            if now != last {
                quiet_ticks = 0;
            } else if now % 2 == 1 {
                let taken_over = self.advance(now);
                if taken_over.is_some() {
                    self.alert.store(TICKS_OF_ALERT, Ordering::Relaxed);
                    return taken_over;
                }
            } else {
                quiet_ticks += 1;
                if quiet_ticks == TICKS_BEFORE_SLEEP {
                    self.sleep_until_beat_leaves(now);
                    quiet_ticks = 0;
                }
            }
            last = now;
        }
        None
    }

    /// How long to wait before the next look. Only the watcher asks.
    fn tick(&self) -> Duration {
        let alert = self.alert.load(Ordering::Relaxed);
        if alert == 0 {
            return CALM_TICK;
        }
        self.alert.store(alert - 1, Ordering::Relaxed);
        ALERT_TICK
    }

    /// Ends the watching for good.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Leaves the odd beat `from`; for one of those who try.
    fn advance(&self, from: u64) -> Option<Leadership> {
        self.beat
            .compare_exchange(from, from + 1, Ordering::SeqCst, Ordering::SeqCst)
            .ok()
            .map(|_| Leadership(from + 1))
    }

    /// Sleeps while the beat is `quiet`. The flag is set before the beat is read, and a leader moves the beat before
    /// it reads the flag, so one of them sees the other.
    fn sleep_until_beat_leaves(&self, quiet: u64) {
        let mut bed = self.bed.lock();
        self.is_asleep.store(true, Ordering::SeqCst);
        while self.is_asleep.load(Ordering::SeqCst)
            && self.beat.load(Ordering::SeqCst) == quiet
            && !self.is_stopped.load(Ordering::SeqCst)
        {
            self.bell.wait(&mut bed);
        }
        self.is_asleep.store(false, Ordering::SeqCst);
    }

    fn wake(&self) {
        let _bed = self.bed.lock();
        self.is_asleep.store(false, Ordering::SeqCst);
        self.bell.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::{CALM_TICK, Lead};

    #[test]
    fn a_stuck_leader_is_replaced_and_finds_out() {
        let lead = Arc::new(Lead::default());
        let mut stuck = lead.first();
        let follower = thread::spawn({
            let lead = Arc::clone(&lead);
            move || lead.follow()
        });
        lead.begin_turn(&mut stuck);
        let mut successor = follower.join().unwrap().expect("the leader is stuck");
        assert!(lead.end_turn(stuck).is_none(), "deposed");
        for _ in 0..3 {
            lead.begin_turn(&mut successor);
            successor = lead.end_turn(successor).expect("nobody else leads");
        }
    }

    #[test]
    fn a_sleeping_watcher_wakes_for_a_stuck_leader() {
        let lead = Arc::new(Lead::default());
        let mut leadership = lead.first();
        let follower = thread::spawn({
            let lead = Arc::clone(&lead);
            move || lead.follow()
        });
        while !lead.is_asleep.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        lead.begin_turn(&mut leadership);
        assert!(follower.join().unwrap().is_some());
    }

    #[test]
    fn short_turns_are_never_interrupted() {
        let lead = Arc::new(Lead::default());
        let mut leadership = lead.first();
        let is_replaced = Arc::new(AtomicBool::new(false));
        let follower = thread::spawn({
            let (lead, is_replaced) = (Arc::clone(&lead), Arc::clone(&is_replaced));
            move || is_replaced.store(lead.follow().is_some(), Ordering::SeqCst)
        });
        let end = Instant::now() + Duration::from_millis(50);
        let mut longest = Duration::ZERO;
        while Instant::now() < end {
            let start = Instant::now();
            lead.begin_turn(&mut leadership);
            let next = lead.end_turn(leadership);
            longest = longest.max(start.elapsed());
            let Some(next) = next else {
                // Only if this thread itself was not running for so long.
                assert!(longest >= CALM_TICK, "deposed after {longest:?}");
                follower.join().unwrap();
                return;
            };
            leadership = next;
        }
        lead.stop();
        follower.join().unwrap();
        assert!(!is_replaced.load(Ordering::SeqCst));
    }

    #[test]
    fn stopping_ends_all_followers() {
        let lead = Arc::new(Lead::default());
        let _leadership = lead.first();
        let followers: Vec<_> = (0..3)
            .map(|_| {
                let lead = Arc::clone(&lead);
                thread::spawn(move || lead.follow().is_none())
            })
            .collect();
        lead.stop();
        for follower in followers {
            assert!(follower.join().unwrap());
        }
    }
}
