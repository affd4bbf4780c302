use std::collections::BTreeMap;

use proptest::prelude::*;

use pmxcfs_api_types::FsError;

use super::*;

/// Latencies of all sizes, small ones as likely as large ones.
fn latency() -> impl Strategy<Value = u64> {
    (0..=40_u32, any::<u64>()).prop_map(|(bits, number)| number & ((1 << bits) - 1))
}

/// The smallest latency that `per_mille` of all do not exceed.
fn exact_percentile(sorted: &[u64], per_mille: u32) -> u64 {
    let rank = (sorted.len() * per_mille as usize).div_ceil(1000).max(1);
    sorted[rank - 1]
}

proptest! {
    #[test]
    fn percentiles_are_those_of_the_sorted_list_within_an_eighth(
        mut latencies in prop::collection::vec(latency(), 1..300),
        per_mille in 0_u32..=1000,
    ) {
        let series = Series::default();
        for nanos in &latencies {
            series.end(*nanos, 0);
        }
        latencies.sort_unstable();
        let totals = series.totals();
        let exact = exact_percentile(&latencies, per_mille);
        let told = totals.percentile(per_mille).expect("there are some");
        prop_assert!(told >= exact, "{told} is not reached by {exact}");
        let largest = latencies.last().copied().expect("there are some");
        let is_close = exact < 1 << LIMIT_BITS && told <= exact + exact / 8;
        prop_assert!(is_close || told == largest, "{told} for {exact}");
        prop_assert!(told <= largest);
    }

    #[test]
    fn counts_sums_and_errors_are_those_of_the_list(
        requests in prop::collection::vec((latency(), prop::sample::select(vec![0, 0, 2, 13, 133])), 0..300),
        bits in 0..u32::from(LIMIT_BITS),
    ) {
        let series = Series::default();
        let mut errors = BTreeMap::new();
        for (nanos, errno) in &requests {
            series.begin();
            series.end(*nanos, *errno);
            if *errno != 0 {
                *errors.entry(*errno).or_default() += 1;
            }
        }
        let totals = series.totals();
        prop_assert_eq!(totals.count(), requests.len() as u64);
        prop_assert_eq!(totals.sum_ns, requests.iter().map(|(nanos, _)| nanos).sum::<u64>());
        prop_assert_eq!(totals.max_ns, requests.iter().map(|(nanos, _)| *nanos).max().unwrap_or(0));
        let below = requests.iter().filter(|(nanos, _)| *nanos < 1 << bits).count();
        prop_assert_eq!(totals.count_below(bits), below as u64);
        prop_assert_eq!(totals.errors, errors);
        prop_assert_eq!(totals.in_flight, 0);
    }
}

#[test]
fn extremes_are_counted() {
    let series = Series::default();
    series.end(0, 0);
    series.end(u64::MAX, -5);
    series.end(1, i32::MAX);
    let totals = series.totals();
    assert_eq!(totals.count(), 3);
    assert_eq!(totals.max_ns, u64::MAX);
    assert_eq!(totals.percentile(1000), Some(u64::MAX));
    assert_eq!(totals.errors.values().sum::<u64>(), 2);
}

#[derive(Debug, Clone, Copy, enum_map::Enum)]
struct Only;

#[test]
fn no_request_of_any_thread_is_lost_and_each_ends_where_it_is_dropped() {
    const THREADS: u64 = 8;
    const REQUESTS: u64 = 2_000;
    let meter = Meter::<Only>::new();
    let (sender, receiver) = std::sync::mpsc::channel::<Timed>();
    let answering = std::thread::spawn(move || {
        for mut timed in receiver {
            timed.failed(13);
        }
    });
    let asking: Vec<_> = (0..THREADS)
        .map(|_| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for number in 0..REQUESTS {
                    let timed = meter.start(Only);
                    if number % 2 == 0 {
                        sender.send(timed).expect("the other thread listens");
                    }
                }
            })
        })
        .collect();
    for thread in asking {
        thread.join().expect("it does not panic");
    }
    drop(sender);
    answering.join().expect("it does not panic");
    let totals = meter.totals().next().expect("one kind").1;
    assert_eq!(totals.count(), THREADS * REQUESTS);
    assert_eq!(
        totals.errors,
        BTreeMap::from([(13, THREADS * REQUESTS / 2)])
    );
    assert_eq!(totals.in_flight, 0);
}

#[test]
fn a_request_is_in_flight_until_it_is_dropped() {
    let meter = Meter::<Only>::new();
    let in_flight = || meter.totals().next().expect("one kind").1.in_flight;
    let first = meter.start(Only);
    let second = meter.start(Only);
    assert_eq!(in_flight(), 2);
    drop(first);
    assert_eq!(in_flight(), 1);
    drop(second);
    assert_eq!(in_flight(), 0);
}

#[test]
fn a_result_passes_unchanged_and_its_errno_is_counted() {
    let meter = Meter::<Only>::new();
    let mut timed = meter.start(Only);
    assert_eq!(timed.note(Ok(7)), Ok(7));
    drop(timed);
    let mut timed = meter.start(Only);
    assert_eq!(
        timed.note::<()>(Err(FsError::NotFound)),
        Err(FsError::NotFound)
    );
    drop(timed);
    let totals = meter.totals().next().expect("one kind").1;
    assert_eq!(totals.count(), 2);
    assert_eq!(totals.errors, BTreeMap::from([(libc::ENOENT, 1)]));
}
