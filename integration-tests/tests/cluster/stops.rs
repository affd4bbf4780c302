//! A daemon obeys SIGTERM within two seconds whatever it waits for, and loses nothing by it.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use integration_tests::cluster::{Load, Writer, assert_nothing_lost};
use integration_tests::{Cluster, ClusterHost, IpcClient, daemon};
use nix::sys::signal::Signal;

use crate::beside_others;

/// Longest time that a stop may take, whatever hangs.
const STOP_BAR: Duration = Duration::from_secs(2);

#[track_caller]
fn stop(host: &ClusterHost) {
    let elapsed = host.stop_daemon();
    println!("{elapsed:?}");
    assert!(elapsed < STOP_BAR, "{elapsed:?}\n{}", host.log());
}

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
        stop(cluster.host(3));
        undo(made);
        cluster.host(3).start_daemon();
    });
    cluster.await_synced();
    assert_nothing_lost(cluster, writers);
}

#[test]
fn a_stop_waits_for_nobody() {
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    let [one, two, three] = [1, 2, 3].map(|number| cluster.host(number));
    let mut writers = Writer::on(&[1, 2, 3]);
    let all = &mut writers;
    stop_in("all is well", &cluster, all, |_| (), |()| ());
    stop_in(
        "corosync is gone",
        &cluster,
        all,
        |load| load.part(three, ClusterHost::kill_corosync),
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
                load.part(host, ClusterHost::kill_corosync);
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
        |load| {
            two.signal_daemon(Signal::SIGSTOP);
            load.part(one, ClusterHost::kill_corosync);
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

/// How long an operator may wait for `pmxcfs-ctl status`.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

#[test]
fn a_stop_is_bounded_and_status_answers_while_everything_hangs() {
    const FILE_COUNT: usize = 60;
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    let (one, two) = (cluster.host(1), cluster.host(2));

    // Built before anything is measured.
    let _program = daemon::control_program();
    // Node 1 has much to send to a node that was away, a message of 1 MiB for each file.
    two.stop_daemon();
    one.mkdir("load").expect("a majority");
    for number in 0..FILE_COUNT {
        let data = vec![b'x'; 1 << 20];
        one.write(&format!("load/{number}"), &data)
            .expect("a majority");
    }
    let rrdcached = one.inside(|| UnixListener::bind("/var/run/rrdcached.sock"));
    let rrdcached = rrdcached.expect("no other rrdcached");
    let clients = one.inside(hanging_clients);
    let mut user = use_mount(one);
    let is_waiting = "waiting for updates from leader";
    let earlier = two.log_count(is_waiting);
    two.launch_daemon();
    cluster.expect("node 1 to begin to send", || {
        (two.log_count(is_waiting) > earlier).then_some(())
    });
    one.signal_corosync(Signal::SIGSTOP);
    let holder = one.hold_database();

    cluster.expect("a quick answer while the group stands still", || {
        let from = Instant::now();
        let report = report(one)?;
        let is_quick = from.elapsed() < ANSWER_LIMIT;
        let age_ms = report["cluster"]["groups"][0]["age_ms"].as_u64()?;
        (is_quick && age_ms > 3000).then_some(())
    });
    // The RRD thread waits for an answer that never comes.
    one.ipc(|client| client.set_status("rrd/pve2-node/node1", &rrd_value()))
        .expect("a value");
    stop(one);

    drop((holder, rrdcached, clients));
    user.kill().expect("it runs");
    user.wait().expect("a child can be waited for");
    one.signal_corosync(Signal::SIGCONT);
    one.script("rm /var/run/rrdcached.sock");
    one.start_daemon();
    cluster.await_synced();
    for host in cluster.hosts() {
        for number in 0..FILE_COUNT {
            let data = host.read(&format!("load/{number}")).expect("it is there");
            assert_eq!(data.len(), 1 << 20, "load/{number} on {}", host.name());
        }
    }
    cluster.stop_and_compare();
}

/// What `pmxcfs-ctl status` says.
fn report(host: &ClusterHost) -> Option<serde_json::Value> {
    let program = daemon::control_program().to_str().expect("a plain path");
    let output = host.run(program, &["status", "--json"]);
    serde_json::from_slice(&output.stdout).ok()
}

/// IPC clients that do nothing: some that have connected, and some that have not even said who they are. The first go when the
/// channel is closed.
fn hanging_clients() -> (mpsc::Sender<()>, Vec<UnixStream>) {
    let (sender, receiver) = mpsc::channel();
    let (ready, is_ready) = mpsc::channel();
    std::thread::spawn(move || {
        let connect = || IpcClient::connect("pve2").expect("the daemon serves IPC");
        let clients = [connect(), connect(), connect()];
        ready.send(()).expect("the test waits");
        // Nothing is ever sent.
        let _closed = receiver.recv();
        drop(clients);
    });
    is_ready.recv().expect("they connect");
    // libqb fills the address with NULs.
    let mut name = [0; 107];
    name[..4].copy_from_slice(b"pve2");
    let address = SocketAddr::from_abstract_name(name).expect("a name that fits");
    let silent = (0..5).map(|_| UnixStream::connect_addr(&address).expect("it listens"));
    (sender, silent.collect())
}

/// A sample of a node as of now.
fn rrd_value() -> Vec<u8> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let columns = ":1".repeat(12);
    let now = now.expect("after 1970").as_secs();
    format!("1000:{now}{columns}\0").into_bytes()
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
