//! Locks of the whole cluster.

use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use integration_tests::Cluster;
use integration_tests::cluster::ClusterHost;
use nix::errno::Errno;

use crate::beside_others;

/// How long a lock that nobody refreshes is kept when somebody asks for it.
const EXPIRY: Duration = Duration::from_secs(120);

#[test]
fn one_of_three_racing_for_a_lock_gets_it() {
    let _turn = beside_others();
    race(&[]);
}

pub(crate) fn race(with_c: &[usize]) {
    let cluster = Cluster::mixed(3, with_c);
    cluster.host(1).mkdir_all("priv/lock").unwrap();
    cluster.await_synced();
    for round in 0..50 {
        let path = format!("priv/lock/race{round}");
        let winners = thread::scope(|scope| {
            let racers = cluster.hosts().iter().map(|host| {
                let path = &path;
                scope.spawn(move || match host.mkdir(path) {
                    Ok(()) => 1,
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
                        0
                    }
                })
            });
            let racers: Vec<_> = racers.collect();
            let won = racers.into_iter().map(|racer| racer.join());
            won.sum::<thread::Result<usize>>()
        });
        let winners = winners.expect("a racer does not panic");
        assert_eq!(winners, 1, "round {round}");
    }
    cluster.stop_and_compare();
}

#[test]
fn a_lock_changes_hands_under_contention_and_never_has_two_holders() {
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    cluster.host(1).mkdir_all("priv/lock").unwrap();
    cluster.host(1).write("counter", b"0").unwrap();
    cluster.await_synced();
    const ROUNDS: usize = 15;
    thread::scope(|scope| {
        for host in cluster.hosts() {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    count_under_lock(&cluster, host);
                }
            });
        }
    });
    let expected = (3 * ROUNDS).to_string();
    for host in cluster.hosts() {
        cluster.expect("the last count", || {
            (host.read("counter").ok()? == expected.as_bytes()).then_some(())
        });
    }
    cluster.stop_and_compare();
}

/// As the tools take a lock: mkdir, and utime 0 when somebody else has it.
fn count_under_lock(cluster: &Cluster, host: &ClusterHost) {
    const LOCK: &str = "priv/lock/counter";
    cluster.expect("the lock", || {
        if host.mkdir(LOCK).is_ok() {
            return Some(());
        }
        // It is refused or too late, whichever comes first.
        let asked = host.set_mtime(LOCK, 0);
        assert!(
            matches!(asked, Err(Errno::EACCES | Errno::ENOENT)),
            "{asked:?} on {}",
            host.name()
        );
        None
    });
    // Whoever has the lock sees what the one before has written.
    let text = host.read("counter").unwrap();
    let count: usize = String::from_utf8(text).unwrap().parse().unwrap();
    host.write("counter", (count + 1).to_string().as_bytes())
        .unwrap();
    host.remove(LOCK).unwrap();
}

#[test]
fn a_lock_expires_for_who_asks_unless_it_is_refreshed() {
    let turn = beside_others();
    let cluster = Cluster::running(3);
    let [one, two, three] = [1, 2, 3].map(|number| cluster.host(number));
    two.mkdir_all("priv/lock").unwrap();
    let begin = Instant::now();
    two.mkdir("priv/lock/left").unwrap();
    two.mkdir("priv/lock/refreshed").unwrap();
    cluster.await_synced();
    assert_eq!(three.set_mtime("priv/lock/left", 0), Err(Errno::EACCES));
    assert_eq!(
        three.set_mtime("priv/lock/refreshed", now()),
        Err(Errno::EACCES),
        "only the holder may refresh"
    );
    // Idle from here on: another cluster may run beside this one.
    drop(turn);
    refresh_until(two, begin + EXPIRY / 3);

    // The lowest node, whose clock decides, gets its tree from another one: locks do not become younger by that.
    one.cut();
    one.await_quorum(false);
    cluster.expect("a write that the lowest node misses", || {
        two.write("missed", b"m").ok()
    });
    one.heal();
    one.await_quorum(true);
    cluster.await_synced();
    assert_eq!(one.read("missed").unwrap(), b"m");
    three.mkdir("priv/lock/younger").unwrap();
    let younger = Instant::now();

    let mut next = Instant::now();
    let gone = integration_tests::wait::try_until(EXPIRY * 2, || {
        if Instant::now() < next {
            return None;
        }
        next += Duration::from_secs(1);
        two.set_mtime("priv/lock/refreshed", now()).unwrap();
        for lock in ["left", "refreshed", "younger"] {
            let asked = one.set_mtime(&format!("priv/lock/{lock}"), 0);
            let is_gone = asked == Err(Errno::ENOENT);
            assert!(is_gone || asked == Err(Errno::EACCES), "{lock}: {asked:?}");
            if is_gone {
                return Some(lock);
            }
        }
        None
    });
    assert_eq!(gone, Some("left"), "{cluster}");
    assert!(begin.elapsed() > EXPIRY - Duration::from_secs(1));
    assert!(
        younger.elapsed() < EXPIRY,
        "a lock's age does not begin anew when the node is brought up to date"
    );
    for host in cluster.hosts() {
        cluster.expect("the lock to be gone everywhere", || {
            host.mode("priv/lock/left").is_err().then_some(())
        });
    }
    three.mkdir("priv/lock/left").unwrap();
    let taken = two.mkdir("priv/lock/left").unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
    for lock in ["refreshed", "younger"] {
        let taken = three.mkdir(&format!("priv/lock/{lock}")).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AlreadyExists, "{lock}");
    }
    cluster.stop_and_compare();
}

fn refresh_until(host: &ClusterHost, end: Instant) {
    while Instant::now() < end {
        let refreshed = host.set_mtime("priv/lock/refreshed", now());
        refreshed.unwrap_or_else(|error| panic!("{error}\n{}", host.log()));
        let rest = end.saturating_duration_since(Instant::now());
        thread::park_timeout(rest.min(Duration::from_secs(10)));
    }
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seconds = now.expect("it is later than 1970").as_secs();
    i64::try_from(seconds).expect("it is not that late")
}
