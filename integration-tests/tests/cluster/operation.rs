//! What goes wrong while a cluster runs.

use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

use integration_tests::Cluster;
use integration_tests::cluster::{ClusterHost, LIMIT, Load, LoadReport};
use integration_tests::wait;
use nix::sys::signal::Signal;

use crate::alone;

/// Runs writers on some hosts while `story` is told, and returns what they were told.
fn under_load(
    cluster: &Cluster,
    writers: &[usize],
    story: impl FnOnce(&Cluster),
) -> Vec<LoadReport> {
    let load = Load::new();
    thread::scope(|scope| {
        let threads: Vec<_> = writers
            .iter()
            .map(|number| {
                let load = &load;
                let host = cluster.host(*number);
                scope.spawn(move || load.run(host, host.name()))
            })
            .collect();
        story(cluster);
        load.stop();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a writer does not panic"))
            .collect()
    })
}

fn assert_nothing_lost(cluster: &Cluster, reports: &[LoadReport]) {
    for report in reports {
        assert!(report.success_count > 0, "the load wrote nothing");
        for host in cluster.hosts().iter().filter(|host| host.has_daemon()) {
            let lost = report.lost_on(host);
            assert!(
                lost.is_empty(),
                "lost on {}: {lost:?}\n{cluster}",
                host.name()
            );
        }
    }
}

#[test]
fn the_minority_side_of_a_partition_refuses_writes_and_catches_up() {
    let _alone = alone();
    partition(&[]);
}

pub(crate) fn partition(with_c: &[usize]) {
    let cluster = Cluster::mixed(3, with_c);
    let three = cluster.host(3);
    three.write("before", b"b").unwrap();
    three.cut();
    three.await_quorum(false);
    cluster.expect("writes to be refused on the minority side", || {
        let error = three.write("lost", b"l").err()?;
        (error.kind() == ErrorKind::PermissionDenied).then_some(())
    });
    assert_eq!(three.read("before").unwrap(), b"b");
    cluster.expect("modes without write permission", || {
        (three.mode("before").ok()? == 0o440).then_some(())
    });
    cluster.expect("the majority to go on", || {
        cluster.host(1).write("during", b"d").ok()
    });
    three.heal();
    three.await_quorum(true);
    cluster.await_synced();
    assert_eq!(three.read("during").unwrap(), b"d");
    assert_eq!(three.mode("before").unwrap(), 0o640);
    cluster.stop_and_compare();
}

#[test]
fn divergent_partitions_become_one_and_the_loser_keeps_a_copy() {
    let _alone = alone();
    let cluster = Cluster::running(3);
    let three = cluster.host(3);
    three.cut();
    three.await_quorum(false);
    // What an operator does who believes that the others are dead.
    let output = three.run("corosync-quorumtool", &["-e", "1"]);
    assert!(output.status.success());
    three.await_quorum(true);
    cluster.expect("a forced minority to write", || {
        three.write("minority", b"lost later").ok()
    });
    for number in 0..20 {
        let path = format!("majority{number}");
        cluster.expect("the majority to write", || {
            cluster.host(1).write(&path, b"kept").ok()
        });
    }
    three.heal();
    cluster.await_synced();
    for host in cluster.hosts() {
        assert!(host.read("minority").is_err(), "{}", host.name());
        assert_eq!(host.read("majority19").unwrap(), b"kept");
    }
    cluster.expect("what was lost to be kept", || {
        let kept = three.run(
            "find",
            &["/var/lib/pve-cluster/discarded", "-name", "minority"],
        );
        let path = String::from_utf8(kept.stdout).ok()?;
        let text = three.run("cat", &[path.trim()]);
        (text.stdout == b"lost later").then_some(())
    });
    cluster.stop_and_compare();
}

#[test]
fn corosync_is_killed_and_started_again() {
    let _alone = alone();
    corosync_killed(&[]);
}

pub(crate) fn corosync_killed(with_c: &[usize]) {
    let cluster = Cluster::mixed(3, with_c);
    let reports = under_load(&cluster, &[1, 2], |cluster| {
        cluster.host(2).kill_corosync();
        let two = cluster.host(2);
        wait::until("writes to be refused", LIMIT, || {
            let error = two.write("probe2", b"").err()?;
            (error.kind() == ErrorKind::PermissionDenied).then_some(())
        });
        cluster.expect("others to be unknown", || {
            // The C daemon goes on showing them online.
            (two.is_c() || !two.members().ok()?.get("node1")?.is_online).then_some(())
        });
        two.start_corosync();
        wait::until("writes to work again", LIMIT, || {
            two.write("probe2", b"").ok()
        });
    });
    cluster.await_synced();
    assert_nothing_lost(&cluster, &reports);
    cluster.stop_and_compare();
}

#[test]
fn daemons_are_killed_under_load() {
    let _alone = alone();
    daemons_killed(&[]);
}

pub(crate) fn daemons_killed(with_c: &[usize]) {
    let mut cluster = Cluster::mixed(3, with_c);
    for round in 0..4 {
        let victim = [3, 1, 2, 1][round];
        let reports = {
            let writers: Vec<usize> = (1..=3).filter(|number| *number != victim).collect();
            let pid = cluster.host(victim).daemon_pid();
            under_load(&cluster, &writers, |cluster| {
                let before = cluster.host(writers[0]);
                wait::until("some writes", LIMIT, || {
                    before.read(&format!("load-{}-20", before.name())).ok()
                });
                cluster.host(victim).signal_daemon(Signal::SIGKILL);
                let name = cluster.host(victim).name().to_owned();
                cluster.expect("the dead node to be seen", || {
                    (!before.members().ok()?.get(&name)?.is_online).then_some(())
                });
                assert_eq!(pid, cluster.host(victim).daemon_pid());
            })
        };
        cluster.host_mut(victim).reap_daemon();
        cluster.host_mut(victim).start_daemon();
        cluster.await_synced();
        assert_nothing_lost(&cluster, &reports);
    }
    cluster.stop_and_compare();
}

#[test]
fn nodes_are_stopped_one_at_a_time_while_others_write() {
    let _alone = alone();
    rolling_stop(&[]);
}

pub(crate) fn rolling_stop(with_c: &[usize]) {
    let mut cluster = Cluster::mixed(3, with_c);
    for number in 1..=3 {
        let writers: Vec<usize> = (1..=3).filter(|other| *other != number).collect();
        cluster.host_mut(number).stop_daemon();
        let reports = under_load(&cluster, &writers, |cluster| {
            let host = cluster.host(writers[0]);
            wait::until("some writes", LIMIT, || {
                host.read(&format!("load-{}-40", host.name())).ok()
            });
        });
        cluster.host_mut(number).start_daemon();
        cluster.await_synced();
        assert_nothing_lost(&cluster, &reports);
        for report in &reports {
            assert_eq!(
                report.failure_count, 0,
                "a stop of another node fails no write"
            );
        }
    }
    cluster.stop_and_compare();
}

#[test]
fn a_stopped_daemon_holds_the_others_up_for_a_bounded_time_only() {
    let _alone = alone();
    let cluster = Cluster::running(3);
    // It cannot answer a synchronisation, which a membership change begins.
    cluster.host(3).signal_daemon(Signal::SIGSTOP);
    cluster.host(2).kill_corosync();
    cluster.host(2).start_corosync();
    let one = cluster.host(1);
    cluster.expect("the log to name who is missing", || {
        one.log()
            .contains("synchronisation waits for 3/")
            .then_some(())
    });
    cluster.host(3).signal_daemon(Signal::SIGCONT);
    cluster.await_synced();
    cluster.stop_and_compare();
}

#[test]
fn one_of_two_racing_for_a_lock_gets_it() {
    let _alone = alone();
    lock_race(&[]);
}

pub(crate) fn lock_race(with_c: &[usize]) {
    let cluster = Cluster::mixed(3, with_c);
    cluster.host(1).mkdir_all("priv/lock").unwrap();
    cluster.await_synced();
    for round in 0..50 {
        let path = format!("priv/lock/race{round}");
        let winners: usize = thread::scope(|scope| {
            let racers: Vec<_> = cluster
                .hosts()
                .iter()
                .map(|host| {
                    let path = &path;
                    scope.spawn(move || match host.mkdir(path) {
                        Ok(()) => 1,
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
                            0
                        }
                    })
                })
                .collect();
            racers
                .into_iter()
                .map(|racer| racer.join().expect("a racer does not panic"))
                .sum()
        });
        assert_eq!(winners, 1, "round {round}");
    }
    cluster.stop_and_compare();
}

#[test]
fn a_new_corosync_conf_reaches_every_host_and_is_loaded() {
    let _alone = alone();
    let cluster = Cluster::running(3);
    let on_disk = |host: &ClusterHost| host.inside(|| std::fs::read("/etc/corosync/corosync.conf"));
    let newer = ClusterHost::corosync_conf(3, 2);
    let begin = Instant::now();
    // As the tools do: written beside it, then renamed over it.
    cluster
        .host(2)
        .write("corosync.conf.new", newer.as_bytes())
        .unwrap();
    cluster
        .host(2)
        .rename("corosync.conf.new", "corosync.conf")
        .unwrap();
    let elapsed = begin.elapsed();
    assert!(
        elapsed < Duration::from_millis(900),
        "the writer waited {elapsed:?}"
    );
    for host in cluster.hosts() {
        cluster.expect("the file on the host", || {
            (on_disk(host).ok()? == newer.as_bytes()).then_some(())
        });
        cluster.expect("corosync to have loaded it", || {
            let document = String::from_utf8(host.read(".members").ok()?).ok()?;
            document
                .contains("\"version\": 2, \"nodes\": 3")
                .then_some(())
        });
    }
    let older = ClusterHost::corosync_conf(3, 1);
    cluster
        .host(1)
        .write("corosync.conf", older.as_bytes())
        .unwrap();
    cluster.expect("an older one to be refused", || {
        cluster
            .host(3)
            .log()
            .contains("local corosync.conf is newer")
            .then_some(())
    });
    assert_eq!(on_disk(cluster.host(3)).unwrap(), newer.as_bytes());
    cluster.host(1).remove("corosync.conf").unwrap();
    cluster.await_synced();
    assert_eq!(on_disk(cluster.host(1)).unwrap(), newer.as_bytes());
    cluster.stop_and_compare();
}

#[test]
fn another_process_in_a_database_slows_nobody() {
    let _alone = alone();
    let cluster = Cluster::running(3);
    let three = cluster.host(3);
    let mut command = std::process::Command::new("sqlite3");
    command
        .args([
            ClusterHost::database(),
            "-cmd",
            "BEGIN EXCLUSIVE; SELECT 'locked';",
        ])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let mut holder = three.spawn(command);
    let mut line = String::new();
    let stdout = holder.stdout.take().expect("a pipe");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
    assert_eq!(line.trim(), "locked");
    for number in 0..200 {
        let host = cluster.host(1 + number % 3);
        host.write(&format!("held{}", number % 40), b"x").unwrap();
    }
    holder.kill().unwrap();
    holder.wait().unwrap();
    cluster.await_synced();
    cluster.stop_and_compare();
}
