//! The cost of requests: how many, how long, with which errors.
//!
//! Counting must cost next to nothing, since nearly always nobody asks. So there is no lock: every thread adds to one of a few
//! shards with relaxed atomics, and whoever asks adds the shards up. A shard is made when it is first needed; all of them
//! together have a fixed bound, however many requests there were.
//!
//! Latencies go into buckets that are linear within each power of two: eight of them, so that whatever is read off a bucket
//! is wrong by at most an eighth.

use std::array;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use enum_map::{EnumArray, EnumMap};
use histogram::{AtomicHistogram, Bucket, Config, Histogram};
use pmxcfs_api_types::Result;

/// Shards of each series. Four threads serve the mount.
const SHARD_COUNT: usize = 4;

/// Bits that choose a bucket within a power of two.
const LINEAR_BITS: u8 = 3;

/// Latencies from here on, in nanoseconds, count as just below it: 34 s. No request may take that long.
const LIMIT_BITS: u8 = 35;

/// Linux has no higher errno.
const ERRNO_COUNT: usize = 134;

/// One thread's part of a series, or that of a few threads.
#[repr(align(64))]
#[derive(Debug)]
struct Shard {
    started: AtomicU64,
    sum_ns: AtomicU64,
    max_ns: AtomicU64,
    latencies: AtomicHistogram,
    /// By errno; a number that is no errno counts under 0.
    errors: [AtomicU64; ERRNO_COUNT],
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            started: AtomicU64::new(0),
            sum_ns: AtomicU64::new(0),
            max_ns: AtomicU64::new(0),
            latencies: AtomicHistogram::with_config(&buckets()),
            errors: array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

/// The requests of one kind.
#[derive(Debug, Default)]
pub struct Series {
    shards: [OnceLock<Box<Shard>>; SHARD_COUNT],
}

impl Series {
    /// A request came in.
    pub fn begin(&self) {
        self.shard().started.fetch_add(1, Ordering::Relaxed);
    }

    /// A request was answered, on whatever thread. `errno` is positive, or 0 for a success.
    pub fn end(&self, nanos: u64, errno: i32) {
        let shard = self.shard();
        let counted = nanos.min((1 << LIMIT_BITS) - 1);
        let in_range = shard.latencies.increment(counted);
        in_range.expect("the last bucket takes it");
        shard.sum_ns.fetch_add(nanos, Ordering::Relaxed);
        if shard.max_ns.load(Ordering::Relaxed) < nanos {
            shard.max_ns.fetch_max(nanos, Ordering::Relaxed);
        }
        if errno != 0 {
            let slot = usize::try_from(errno).map_or(0, |errno| errno % ERRNO_COUNT);
            shard.errors[slot].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The sums until now. Requests that end meanwhile may be in one number and not yet in another.
    pub fn totals(&self) -> Totals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut totals = Totals {
            latencies: Histogram::with_config(&buckets()),
            sum_ns: 0,
            max_ns: 0,
            errors: BTreeMap::new(),
            in_flight: 0,
        };
        for shard in self.shards() {
            let added = totals.latencies.wrapping_add(&shard.latencies.load());
            totals.latencies = added.expect("all have the same buckets");
            totals.sum_ns = totals.sum_ns.wrapping_add(read(&shard.sum_ns));
            totals.max_ns = totals.max_ns.max(read(&shard.max_ns));
            for (errno, count) in (0..).zip(shard.errors.iter().map(read)) {
                if count > 0 {
                    *totals.errors.entry(errno).or_default() += count;
                }
            }
        }
        // Last, so that what has ended has also begun.
        totals.in_flight = self.begun().saturating_sub(totals.count());
        totals
    }

    /// How many requests have come in.
    fn begun(&self) -> u64 {
        self.shards()
            .map(|shard| shard.started.load(Ordering::Relaxed))
            .sum()
    }

    fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.shards.iter().filter_map(|shard| Some(&**shard.get()?))
    }

    fn shard(&self) -> &Shard {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static OWN: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SHARD_COUNT;
        }
        self.shards[OWN.with(|own| *own)].get_or_init(Box::default)
    }
}

/// The buckets of all histograms.
fn buckets() -> Config {
    Config::new(LINEAR_BITS, LIMIT_BITS).expect("the constants are in range")
}

/// The sums of a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totals {
    /// Answered requests by latency in nanoseconds.
    latencies: Histogram,
    /// Sum of all latencies in nanoseconds.
    pub sum_ns: u64,
    /// The longest latency in nanoseconds.
    pub max_ns: u64,
    /// Refused requests by errno.
    pub errors: BTreeMap<i32, u64>,
    /// Requests without an answer.
    pub in_flight: u64,
}

impl Totals {
    /// Answered requests.
    pub fn count(&self) -> u64 {
        self.latencies.as_slice().iter().sum()
    }

    /// A latency in nanoseconds that this share of the requests did not exceed, `per_mille` of 1000: the smallest such
    /// latency, made longer by at most an eighth of it. `None` if there were no requests.
    pub fn percentile(&self, per_mille: u32) -> Option<u64> {
        let count = u128::from(self.count());
        let rank = (count * u128::from(per_mille.min(1000))).div_ceil(1000);
        let mut seen = 0;
        let bucket = self.latencies.iter().find(|bucket| {
            seen += u128::from(bucket.count());
            seen >= rank.max(1)
        })?;
        // The last bucket has no end.
        let ends = bucket.end() + 1 < 1 << LIMIT_BITS;
        Some(self.max_ns.min(if ends { bucket.end() } else { u64::MAX }))
    }

    /// Requests that took less than `2^bits` nanoseconds, up to 34 s.
    pub fn count_below(&self, bits: u32) -> u64 {
        let below = |bucket: &Bucket| bucket.end() < 1 << bits;
        let counts = self.latencies.iter().take_while(below);
        counts.map(|bucket| bucket.count()).sum()
    }
}

/// Counts the requests of each kind.
#[derive(Debug)]
pub struct Meter<O: EnumArray<Series>> {
    series: EnumMap<O, Series>,
}

impl<O: EnumArray<Series>> Meter<O> {
    /// A meter that stays for as long as the process: answers come from any thread, whoever else is gone by then, and
    /// sharing it by reference counts would cost more than counting does. A daemon has one of each sort.
    pub fn new() -> &'static Self {
        Box::leak(Box::new(Self {
            series: EnumMap::default(),
        }))
    }

    /// A request came in; it ends when the returned value is dropped.
    pub fn start(&'static self, operation: O) -> Timed {
        let series = &self.series[operation];
        series.begin();
        Timed {
            series,
            started: Instant::now(),
            errno: 0,
        }
    }

    /// How many requests of all kinds there have been.
    pub fn begun(&self) -> u64 {
        self.series.values().map(Series::begun).sum()
    }

    /// The sums of each kind until now.
    pub fn totals(&self) -> impl Iterator<Item = (O, Totals)> {
        let series = self.series.iter();
        series.map(|(kind, series)| (kind, series.totals()))
    }
}

/// A request under way. Goes wherever its reply goes, and is dropped after it.
#[derive(Debug)]
#[must_use = "the request ends when this is dropped"]
pub struct Timed {
    series: &'static Series,
    started: Instant,
    errno: i32,
}

impl Timed {
    /// Passes a result on, after a look at it.
    ///
    /// # Errors
    /// Those of the result.
    pub fn note<T>(&mut self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result {
            self.failed(error.errno());
        }
        result
    }

    /// The request is refused with this errno.
    pub const fn failed(&mut self, errno: i32) {
        self.errno = errno;
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        let nanos = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.series.end(nanos, self.errno);
    }
}

#[cfg(test)]
mod tests;
