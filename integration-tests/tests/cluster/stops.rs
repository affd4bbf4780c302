//! A daemon obeys SIGTERM within two seconds whatever it waits for, and loses nothing by it.

use std::io;
use std::process::{Command, Stdio};

use integration_tests::cluster::{Load, Writer, assert_nothing_lost};
use integration_tests::{Cluster, ClusterHost};
use nix::sys::signal::Signal;

use crate::alone;

/// Stops node 3, while its writer writes, in a state that `make` brings about and `undo` ends.
fn stop_in<T>(
    what: &str,
    cluster: &Cluster,
    writers: &mut [Writer],
    make: impl FnOnce(&Load) -> T,
    undo: impl FnOnce(T),
) {
    println!("stop while {what}");
    Load::around(cluster, writers, |load| {
        let made = make(load);
        cluster.host(3).stop_daemon();
        undo(made);
        cluster.host(3).start_daemon();
    });
    cluster.await_synced();
    assert_nothing_lost(cluster, writers);
}

#[test]
fn a_stop_waits_for_nobody() {
    let _alone = alone();
    let cluster = Cluster::running(3);
    let [one, two, three] = [1, 2, 3].map(|number| cluster.host(number));
    let mut writers = Writer::on(&[1, 2, 3]);
    let all = &mut writers;
    stop_in("all is well", &cluster, all, |_| (), |()| ());
    stop_in(
        "corosync is gone",
        &cluster,
        all,
        |_| three.kill_corosync(),
        |()| {
            cluster.await_departure(3);
            three.start_corosync();
        },
    );
    stop_in(
        "corosync stands still",
        &cluster,
        all,
        |_| three.signal_corosync(Signal::SIGSTOP),
        |()| three.signal_corosync(Signal::SIGCONT),
    );
    stop_in(
        "there is no quorum",
        &cluster,
        all,
        |load| {
            for host in [one, two] {
                load.pause(host.number());
                host.kill_corosync();
                load.resume(host.number());
            }
            load.await_refusal(3, &cluster);
        },
        |()| {
            one.start_corosync();
            two.start_corosync();
        },
    );
    stop_in(
        "another member does not answer",
        &cluster,
        all,
        |_| {
            two.signal_daemon(Signal::SIGSTOP);
            one.kill_corosync();
        },
        |()| {
            cluster.await_departure(1);
            one.start_corosync();
            two.signal_daemon(Signal::SIGCONT);
        },
    );
    stop_in(
        "another process has the database",
        &cluster,
        all,
        |load| {
            let holder = three.hold_database();
            load.await_progress(&cluster);
            holder
        },
        drop,
    );
    stop_in(
        "the disk is full",
        &cluster,
        all,
        |load| {
            three.fill_disk();
            one.write("grow", &[b'g'; 500_000]).expect("a majority");
            load.await_refusal(3, &cluster);
        },
        |()| three.empty_disk(),
    );
    stop_in(
        "the mount is in use",
        &cluster,
        all,
        |_| use_mount(three),
        |mut user| {
            user.kill().expect("it runs");
            user.wait().expect("a child can be waited for");
        },
    );
    cluster.stop_and_compare();
}

/// A process with its working directory and an open file in the mount.
fn use_mount(host: &ClusterHost) -> std::process::Child {
    let mut command = Command::new("bash");
    command
        .args([
            "-c",
            "cd /etc/pve && exec 3< probe && echo ready && exec sleep 1000",
        ])
        .stdout(Stdio::piped());
    let mut user = host.spawn(command);
    let mut ready = [0; 6];
    let stdout = user.stdout.as_mut().expect("a pipe");
    io::Read::read_exact(stdout, &mut ready).expect("the shell gets there");
    user
}
