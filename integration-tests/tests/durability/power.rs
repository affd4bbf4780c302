//! The host loses power: what its disk has is what was flushed, and of the rest anything.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use integration_tests::{Host, wait};

use crate::disk::{Disk, Mounted, Recording};

/// How much of the latest work a cut may take with it at [`MANY`] changes a second and more.
const BOUND: Duration = Duration::from_millis(1500);

/// The same with fewer changes.
const IDLE_BOUND: Duration = Duration::from_secs(5);

/// Changes a second.
const MANY: usize = 50;

/// Files that the load writes in turns, so that each state of them stands for one number of changes.
const FILE_COUNT: u64 = 32;

/// Cuts if `PMXCFS_POWER_CUTS` does not say how many.
const CUT_COUNT: usize = 12;

const PATIENCE: Duration = Duration::from_secs(60);

/// The load: change `n` writes the number `n` to file `n % FILE_COUNT`.
#[derive(Debug)]
struct Load {
    files: Vec<File>,
    begun: Vec<Instant>,
    acknowledged: Vec<Instant>,
}

impl Load {
    fn new(host: &Host) -> Self {
        let open = |number| File::create(host.path(format!("f{number}"))).unwrap();
        let files: Vec<File> = (0..FILE_COUNT).map(open).collect();
        for file in &files {
            file.write_all_at(&u64::MAX.to_le_bytes(), 0).unwrap();
        }
        files[0].sync_all().unwrap();
        Self {
            files,
            begun: Vec::new(),
            acknowledged: Vec::new(),
        }
    }

    /// Makes changes for a while, one every `pause`.
    fn run(&mut self, time: Duration, pause: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let number = self.begun.len() as u64;
            self.begun.push(Instant::now());
            let file = &self.files[(number % FILE_COUNT) as usize];
            file.write_all_at(&number.to_le_bytes(), 0).unwrap();
            self.acknowledged.push(Instant::now());
            std::thread::park_timeout(pause);
        }
    }

    fn acknowledged_by(&self, time: Instant) -> usize {
        self.acknowledged.partition_point(|at| *at <= time)
    }

    /// How many changes have to be there after a cut.
    fn needed(&self, cut: Instant, allowance: Duration) -> usize {
        let before = |age: Duration| self.acknowledged_by(cut.checked_sub(age).unwrap());
        // A burst that has just begun is not many changes a second.
        let part = BOUND / 3;
        let is_busy = (0..3).all(|number| {
            let count = before(part * number) - before(part * (number + 1));
            count as f64 >= MANY as f64 * part.as_secs_f64()
        });
        before(allowance + if is_busy { BOUND } else { IDLE_BOUND })
    }

    /// The longest time for which this process, and so perhaps the daemon, did not run.
    fn longest_pause(&self) -> Duration {
        let pairs = self.begun.iter().zip(&self.acknowledged);
        pairs.map(|(from, to)| *to - *from).max().unwrap()
    }
}

/// How many changes the files stand for. Panics if they stand for no state that there was.
fn found(host: &Host) -> usize {
    let read = |number| {
        let bytes = fs::read(host.path(format!("f{number}"))).unwrap();
        u64::from_le_bytes(bytes.try_into().unwrap())
    };
    let values: Vec<u64> = (0..FILE_COUNT).map(read).collect();
    let count = values
        .iter()
        .filter(|value| **value != u64::MAX)
        .max()
        .map_or(0, |last| last + 1);
    let expected: Vec<u64> = (0..FILE_COUNT)
        .map(|number| match count.checked_sub(number + 1) {
            Some(behind) => behind - behind % FILE_COUNT + number,
            None => u64::MAX,
        })
        .collect();
    assert_eq!(values, expected, "the files are a state that there was");
    usize::try_from(count).unwrap()
}

/// A recording of a daemon that worked quickly, slowly, and as fast as it could.
fn recorded(host: &Host) -> (Recording, Load, usize) {
    let disk = Disk::mount_on(&host.state_dir());
    disk.record();
    let daemon = host.start();
    let mut load = Load::new(host);
    let first = Instant::now();
    load.run(Duration::from_secs(4), Duration::from_millis(3));
    load.run(Duration::from_secs(12), Duration::from_millis(250));
    load.run(Duration::from_secs(3), Duration::ZERO);
    let recording = disk.recording();
    daemon.kill();
    fs::remove_dir_all(host.run_dir()).unwrap();
    let first = (0..recording.event_count())
        .find(|event| recording.time_of(*event) >= first)
        .unwrap();
    (recording, load, first)
}

#[test]
fn a_power_cut_takes_little_and_leaves_a_state_that_there_was() {
    let cut_count = std::env::var("PMXCFS_POWER_CUTS")
        .map_or(CUT_COUNT, |count| count.parse().expect("a number of cuts"));
    let host = Host::with_run_directory_in_ram();
    let (recording, load, first) = recorded(&host);
    // A machine that stands still delays the store, too.
    let allowance = recording.longest_flush + load.longest_pause();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |bound: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % bound as u64) as usize
    };
    let (mut most_lost, mut longest_ago) = (0, Duration::ZERO);
    for number in 0..cut_count {
        let at = first + below(recording.event_count() - first - 1);
        // Some time before the next event.
        let gap = recording.time_of(at + 1) - recording.time_of(at);
        let time = recording.time_of(at) + gap * below(100) as u32 / 100;
        let share = below(101);
        // A name for each: a loop device of the former one may linger, and would be used again.
        let image = host.root().join(format!("image{number}"));
        recording.cut(at, &image, || below(100) < share);
        let mounted = Mounted::mount(&image, &host.state_dir());
        let size = fs::metadata(host.database()).unwrap().len();
        assert!(size > 0, "a database that was served is there");
        let daemon = host.start();
        let found = found(&host);
        daemon.stop();
        drop(mounted);
        fs::remove_file(&image).unwrap();
        let acknowledged = load.acknowledged_by(time);
        let needed = load.needed(time, allowance);
        let what =
            format!("cut {number} behind event {at}, {share} % of what came after the last flush");
        assert!(
            found >= needed,
            "{what}: of {acknowledged} changes {needed} must be there, {found} are"
        );
        let begun = load.begun.partition_point(|begun| *begun <= time);
        assert!(found <= begun, "{what}: {found} of {begun}");
        most_lost = most_lost.max(acknowledged.saturating_sub(found));
        if let Some(lost) = load.acknowledged.get(found) {
            longest_ago = longest_ago.max(time.saturating_duration_since(*lost));
        }
    }
    println!(
        "{cut_count} cuts: each left a state that there was; at most {most_lost} of {} changes were lost, the oldest \
         {longest_ago:?} before the cut (allowance for this machine: {allowance:?})",
        load.acknowledged.len()
    );
}

#[test]
fn a_disk_that_takes_long_to_flush_delays_no_change() {
    let host = Host::with_run_directory_in_ram();
    let disk = Disk::mount_on(&host.state_dir());
    let daemon = host.start();
    let mut load = Load::new(&host);
    let held = disk.hold_flushes();
    load.run(Duration::from_millis(200), Duration::from_millis(1));
    held.await_flush(PATIENCE);
    // They are acknowledged while the disk has not answered: none of them waits for it.
    let before = load.acknowledged.len();
    load.run(Duration::from_millis(500), Duration::ZERO);
    assert!(load.acknowledged.len() > before);
    assert!(held.is_waited_for());
    drop(held);
    let (count, _) = disk.counts();
    load.run(Duration::from_millis(100), Duration::from_millis(1));
    wait::until("another flush", PATIENCE, || {
        (disk.counts().0 > count).then_some(())
    });
    daemon.stop();
}
