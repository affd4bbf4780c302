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
use std::marker::PhantomData;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use pmxcfs_api_types::FsError;

/// Shards of each series. Four threads serve the mount.
const SHARD_COUNT: usize = 4;

/// Bits of a latency below the first bucket's width: 16 ns, about what the clock costs.
const UNIT_BITS: u32 = 4;

/// Bits that choose a bucket within a power of two.
const LINEAR_BITS: u32 = 3;

const LINEAR_COUNT: usize = 1 << LINEAR_BITS;

/// From here on, in nanoseconds, there is one bucket for all: 34 s. No request may take that long.
const LIMIT_BITS: u32 = 35;

/// Buckets of a histogram. The last one has no upper bound.
pub const BUCKET_COUNT: usize =
    LINEAR_COUNT * ((LIMIT_BITS - UNIT_BITS - LINEAR_BITS) as usize + 1) + 1;

/// Linux has no higher errno.
const ERRNO_COUNT: usize = 134;

/// The bucket of a latency in nanoseconds.
#[must_use]
pub fn bucket_of(nanos: u64) -> usize {
    let units = match usize::try_from(nanos >> UNIT_BITS) {
        Ok(units) if nanos >> LIMIT_BITS == 0 => units,
        _ => return BUCKET_COUNT - 1,
    };
    let Some(shift) = units
        .checked_ilog2()
        .and_then(|bits| bits.checked_sub(LINEAR_BITS))
    else {
        return units;
    };
    LINEAR_COUNT * shift as usize + (units >> shift)
}

/// The first latency, in nanoseconds, that belongs to a later bucket. `None` for the last one.
#[must_use]
pub fn bucket_end(bucket: usize) -> Option<u64> {
    if bucket >= BUCKET_COUNT - 1 {
        return None;
    }
    let octave = bucket / LINEAR_COUNT;
    let linear = (bucket % LINEAR_COUNT) as u64;
    let units = match octave.checked_sub(1) {
        None => linear + 1,
        Some(shift) => (LINEAR_COUNT as u64 + linear + 1) << shift,
    };
    Some(units << UNIT_BITS)
}

/// One thread's part of a series, or that of a few threads.
#[repr(align(64))]
#[derive(Debug)]
struct Shard {
    started: AtomicU64,
    sum_ns: AtomicU64,
    max_ns: AtomicU64,
    buckets: [AtomicU64; BUCKET_COUNT],
    /// By errno; a number that is no errno counts under 0.
    errors: [AtomicU64; ERRNO_COUNT],
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            started: AtomicU64::new(0),
            sum_ns: AtomicU64::new(0),
            max_ns: AtomicU64::new(0),
            buckets: array::from_fn(|_| AtomicU64::new(0)),
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
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A request came in.
    pub fn begin(&self) {
        self.shard().started.fetch_add(1, Ordering::Relaxed);
    }

    /// A request was answered, on whatever thread. `errno` is positive, or 0 for a success.
    pub fn end(&self, nanos: u64, errno: i32) {
        let shard = self.shard();
        shard.buckets[bucket_of(nanos)].fetch_add(1, Ordering::Relaxed);
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
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        for shard in self.shards.iter().filter_map(OnceLock::get) {
            for (total, bucket) in totals.buckets.iter_mut().zip(&shard.buckets) {
                *total += read(bucket);
            }
            totals.sum_ns = totals.sum_ns.wrapping_add(read(&shard.sum_ns));
            totals.max_ns = totals.max_ns.max(read(&shard.max_ns));
            for (errno, count) in (0..).zip(shard.errors.iter().map(read)) {
                if count > 0 {
                    *totals.errors.entry(errno).or_default() += count;
                }
            }
        }
        // Last, so that what has ended has also begun.
        let begun = self.shards.iter().filter_map(OnceLock::get);
        let begun: u64 = begun.map(|shard| read(&shard.started)).sum();
        totals.in_flight = begun.saturating_sub(totals.count());
        totals
    }

    fn shard(&self) -> &Shard {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static OWN: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SHARD_COUNT;
        }
        self.shards[OWN.with(|own| *own)].get_or_init(Box::default)
    }
}

/// The sums of a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totals {
    /// Answered requests by latency.
    pub buckets: [u64; BUCKET_COUNT],
    /// Sum of all latencies in nanoseconds.
    pub sum_ns: u64,
    /// The longest latency in nanoseconds.
    pub max_ns: u64,
    /// Refused requests by errno.
    pub errors: BTreeMap<i32, u64>,
    /// Requests without an answer.
    pub in_flight: u64,
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            buckets: [0; BUCKET_COUNT],
            sum_ns: 0,
            max_ns: 0,
            errors: BTreeMap::new(),
            in_flight: 0,
        }
    }
}

impl Totals {
    /// Answered requests.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// A latency in nanoseconds that this share of the requests did not exceed, `per_mille` of 1000: the smallest such
    /// latency, made longer by at most an eighth of it or 16 ns. `None` if there were no requests.
    #[must_use]
    pub fn percentile(&self, per_mille: u32) -> Option<u64> {
        let count = u128::from(self.count());
        let rank = (count * u128::from(per_mille.min(1000))).div_ceil(1000);
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|bucket| {
            seen += u128::from(*bucket);
            seen >= rank.max(1)
        })?;
        Some(bucket_end(bucket).map_or(self.max_ns, |end| self.max_ns.min(end - 1)))
    }

    /// Requests that took less than `2^bits` nanoseconds. Exact for a power of two that is no less than 128 and no more
    /// than 34 s.
    #[must_use]
    pub fn count_below(&self, bits: u32) -> u64 {
        let ends = (0..BUCKET_COUNT).map(bucket_end);
        let below = ends.take_while(|end| end.is_some_and(|end| end <= 1 << bits));
        self.buckets.iter().zip(below).map(|(count, _)| count).sum()
    }
}

/// A kind of request.
pub trait Operation: Copy + 'static {
    /// All kinds, each at its [`index`](Self::index).
    const ALL: &'static [Self];

    /// Its place among all.
    fn index(self) -> usize;

    /// Its name for people.
    fn name(self) -> &'static str;
}

/// Counts the requests of each kind.
#[derive(Debug)]
pub struct Meter<O> {
    series: Box<[Series]>,
    operations: PhantomData<O>,
}

impl<O: Operation> Meter<O> {
    /// A meter that stays for as long as the process: answers come from any thread, whoever else is gone by then, and
    /// sharing it by reference counts would cost more than counting does. A daemon has one of each sort.
    #[must_use]
    pub fn new() -> &'static Self {
        Box::leak(Box::new(Self {
            series: O::ALL.iter().map(|_| Series::new()).collect(),
            operations: PhantomData,
        }))
    }

    /// A request came in; it ends when the returned value is dropped.
    pub fn start(&'static self, operation: O) -> Timed {
        let series = &self.series[operation.index()];
        series.begin();
        Timed {
            series,
            started: Instant::now(),
            errno: 0,
        }
    }

    /// The sums of each kind until now.
    pub fn totals(&self) -> impl Iterator<Item = (O, Totals)> {
        let series = self.series.iter().map(Series::totals);
        O::ALL.iter().copied().zip(series)
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
    pub fn note<T>(&mut self, result: Result<T, FsError>) -> Result<T, FsError> {
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
