//! Several processes at once. Threads of one process are as good: the kernel asks the daemon for each alike.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use integration_tests::Host;

const WORKERS: usize = 4;
const NAME_COUNT: usize = 40;

/// Lets all workers try each name at the same moment and returns how many succeeded, per name.
fn race(attempt: impl Fn(usize, usize) -> io::Result<()> + Sync, loser: ErrorKind) -> Vec<u32> {
    let winners: Vec<AtomicU32> = (0..NAME_COUNT).map(|_| AtomicU32::new(0)).collect();
    let barrier = Barrier::new(WORKERS);
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (attempt, winners, barrier) = (&attempt, &winners, &barrier);
            scope.spawn(move || {
                for (name, count) in winners.iter().enumerate() {
                    barrier.wait();
                    match attempt(worker, name) {
                        Ok(()) => {
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => assert_eq!(error.kind(), loser, "{error}"),
                    }
                }
            });
        }
    });
    winners.into_iter().map(AtomicU32::into_inner).collect()
}

#[test]
fn mkdir_has_one_winner() {
    let host = Host::new();
    let daemon = host.start();
    let winners = race(
        |_worker, name| fs::create_dir(host.path(name.to_string())),
        ErrorKind::AlreadyExists,
    );
    assert_eq!(winners, [1; NAME_COUNT]);
    daemon.stop();
}

#[test]
fn exclusive_create_has_one_winner() {
    let host = Host::new();
    let daemon = host.start();
    let winners = race(
        |_worker, name| File::create_new(host.path(name.to_string())).map(drop),
        ErrorKind::AlreadyExists,
    );
    assert_eq!(winners, [1; NAME_COUNT]);
    daemon.stop();
}

#[test]
fn a_guest_id_has_one_owner() {
    let host = Host::new();
    let daemon = host.start();
    for worker in 0..WORKERS {
        fs::create_dir_all(host.path(format!("nodes/n{worker}/lxc"))).unwrap();
    }
    let winners = race(
        |worker, name| {
            let path = format!("nodes/n{worker}/lxc/{}.conf", 100 + name);
            File::create(host.path(path)).map(drop)
        },
        ErrorKind::AlreadyExists,
    );
    assert_eq!(winners, [1; NAME_COUNT]);
    daemon.stop();
}

#[test]
fn create_without_exclusive_never_loses() {
    let host = Host::new();
    let daemon = host.start();
    let winners = race(
        |_worker, name| {
            let path = host.path(name.to_string());
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .map(drop)
        },
        // A race between a stale look-up and a create is the caller's EEXIST in the C daemon; never here.
        ErrorKind::Unsupported,
    );
    assert_eq!(winners, [u32::try_from(WORKERS).unwrap(); NAME_COUNT]);
    daemon.stop();
}

#[test]
fn removal_has_one_winner() {
    let host = Host::new();
    let daemon = host.start();
    for name in 0..NAME_COUNT {
        fs::create_dir(host.path(name.to_string())).unwrap();
    }
    let winners = race(
        |_worker, name| fs::remove_dir(host.path(name.to_string())),
        ErrorKind::NotFound,
    );
    assert_eq!(winners, [1; NAME_COUNT]);
    daemon.stop();
}

#[test]
fn readers_never_miss_a_file_that_is_being_replaced() {
    const DURATION: Duration = Duration::from_secs(2);
    let host = Host::new();
    let daemon = host.start();
    let text = |version: u32| format!("{version:08}\n").repeat(500);
    fs::write(host.path("f"), text(0)).unwrap();
    let done = AtomicBool::new(false);
    let (mut replaced, read) = (0u32, AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let content = match fs::read_to_string(host.path("f")) {
                        Ok(content) => content,
                        Err(error) => {
                            done.store(true, Ordering::Relaxed);
                            panic!("a reader: {error}");
                        }
                    };
                    let version = content
                        .lines()
                        .next()
                        .and_then(|line| line.parse().ok())
                        .unwrap();
                    assert_eq!(content, text(version), "torn content");
                    read.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let start = Instant::now();
        while start.elapsed() < DURATION && !done.load(Ordering::Relaxed) {
            replaced += 1;
            let temporary = host.path(format!("f.tmp.{replaced}"));
            fs::write(&temporary, text(replaced)).unwrap();
            fs::rename(&temporary, host.path("f")).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(
        replaced > 100 && read.load(Ordering::Relaxed) > 100,
        "{replaced} replaced, {read:?} read"
    );
    daemon.stop();
}

#[test]
fn listing_changing_and_asking_do_not_block_each_other() {
    const DURATION: Duration = Duration::from_secs(2);
    let host = Host::new();
    let daemon = host.start();
    fs::create_dir_all(host.path("nodes/node1/qemu-server")).unwrap();
    for vmid in 100..200 {
        fs::write(
            host.path(format!("qemu-server/{vmid}.conf")),
            "name: x\nmemory: 512\n",
        )
        .unwrap();
    }
    let deadline = Instant::now() + DURATION;
    let counts: [AtomicU32; 4] = std::array::from_fn(|_| AtomicU32::new(0));
    let work = |count: &AtomicU32, mut step: Box<dyn FnMut()>| {
        while Instant::now() < deadline {
            step();
            count.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = host.ipc();
            work(
                &counts[0],
                Box::new(move || drop(client.guest_property(0, "memory").unwrap())),
            );
        });
        scope.spawn(|| {
            let directory = host.path("qemu-server");
            work(
                &counts[1],
                Box::new(move || assert!(fs::read_dir(&directory).unwrap().count() >= 99)),
            );
        });
        scope.spawn(|| {
            let path = host.path("qemu-server/150.conf");
            let mut number = 0;
            work(
                &counts[2],
                Box::new(move || {
                    number += 1;
                    fs::write(&path, format!("memory: {number}\n")).unwrap();
                }),
            );
        });
        scope.spawn(|| {
            let (vmlist, version) = (host.path(".vmlist"), host.path(".version"));
            work(
                &counts[3],
                Box::new(move || {
                    fs::read(&vmlist).unwrap();
                    fs::read(&version).unwrap();
                }),
            );
        });
    });
    for count in &counts {
        assert!(
            count.load(Ordering::Relaxed) > 20,
            "somebody starved: {counts:?}"
        );
    }
    daemon.stop();
}
