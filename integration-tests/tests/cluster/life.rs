//! Start, join, leave, and what every node then sees.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use integration_tests::Cluster;
use integration_tests::cluster::LIMIT;
use integration_tests::wait;

use crate::alone;

#[test]
fn without_corosync_a_node_serves_reads_and_refuses_writes() {
    let _alone = alone();
    let cluster = Cluster::new(1);
    cluster.host(1).start_daemon();
    let host = cluster.host(1);
    assert!(host.read("corosync.conf").unwrap().starts_with(b"totem"));
    assert_eq!(
        host.write("x", b"x").unwrap_err().kind(),
        ErrorKind::PermissionDenied
    );
    assert_eq!(host.mode("corosync.conf").unwrap(), 0o440);
    assert_eq!(host.mode("local").unwrap(), 0o555);
    assert!(host.members().unwrap().is_empty());
    // Status does not need the cluster.
    host.ipc(|ipc| ipc.set_status("key", b"value").unwrap());
    assert_eq!(
        host.ipc(|ipc| ipc.status("key", "node1").unwrap()),
        b"value"
    );

    host.start_corosync();
    cluster.expect("writes to work once corosync is there", || {
        host.write("x", b"x").ok()
    });
    cluster.expect("write permission to show", || {
        (host.mode("corosync.conf").ok()? == 0o640).then_some(())
    });
    cluster.expect("the node list", || {
        let members = host.members().ok()?;
        members.get("node1")?.is_online.then_some(())
    });
    cluster.stop_and_compare();
}

#[test]
fn members_see_each_other_and_each_others_changes() {
    let _alone = alone();
    let cluster = Cluster::running(3);
    for host in cluster.hosts() {
        cluster.expect("all nodes online with their addresses", || {
            let members = host.members().ok()?;
            let all = (1..=3u64).all(|id| {
                members.get(&format!("node{id}")).is_some_and(|member| {
                    member.id == id
                        && member.is_online
                        && member.address == Some(format!("10.77.0.{id}"))
                })
            });
            all.then_some(())
        });
    }

    let one = cluster.host(1);
    one.mkdir_all("nodes/node1/qemu-server").unwrap();
    one.write("nodes/node1/qemu-server/100.conf", b"name: web\n")
        .unwrap();
    let two = cluster.host(2);
    cluster.expect("the guest on another node", || {
        let list = String::from_utf8(two.read(".vmlist").ok()?).ok()?;
        list.contains("\"100\"").then_some(())
    });
    let twice = two.write("nodes/node2/qemu-server/100.conf", b"");
    assert!(twice.is_err(), "there is no such directory");
    two.mkdir_all("nodes/node2/qemu-server").unwrap();
    let twice = two.write("nodes/node2/qemu-server/100.conf", b"");
    assert_eq!(twice.unwrap_err().kind(), ErrorKind::AlreadyExists);

    two.ipc(|ipc| ipc.set_status("load", b"0.7").unwrap());
    let three = cluster.host(3);
    cluster.expect("a status value on another node", || {
        let value = three.ipc(|ipc| ipc.status("load", "node2")).ok()?;
        (value == b"0.7").then_some(())
    });
    cluster.expect("the log of all nodes", || {
        let log = String::from_utf8(three.read(".clusterlog").ok()?).ok()?;
        let all = ["node1", "node2", "node3"]
            .iter()
            .all(|node| log.contains(&format!("\"node\": \"{node}\"")));
        all.then_some(())
    });

    cluster.host(2).stop_daemon();
    let one = cluster.host(1);
    cluster.expect("the stopped node to be offline", || {
        (!one.members().ok()?.get("node2")?.is_online).then_some(())
    });
    cluster.stop_and_compare();
}

#[test]
fn an_empty_node_and_one_with_older_data_join() {
    let _alone = alone();
    join_older(&[]);
}

pub(crate) fn join_older(with_c: &[usize]) {
    let cluster = Cluster::mixed(3, with_c);
    for number in 0..200 {
        let path = format!("file{number}");
        cluster.host(1).write(&path, path.as_bytes()).unwrap();
    }
    // Larger than corosync sends in one piece.
    let large = vec![b'z'; 1024 * 1024];
    cluster.host(1).write("large", &large).unwrap();
    cluster.host(3).stop_daemon();
    cluster.host(1).remove("file0").unwrap();
    cluster.host(2).rename("file1", "renamed").unwrap();
    cluster.host(3).start_daemon();
    cluster.await_synced();
    assert!(cluster.host(3).read("file0").is_err(), "deletions travel");
    assert_eq!(cluster.host(3).read("renamed").unwrap(), b"file1");

    cluster.host(3).stop_daemon();
    cluster.host(3).remove_database();
    cluster.host(3).start_daemon();
    cluster.await_synced();
    assert_eq!(cluster.host(3).read("large").unwrap(), large);
    cluster.stop_and_compare();
}

#[test]
fn a_node_with_newer_data_brings_the_others_up_to_date() {
    let _alone = alone();
    join_newer(&[]);
}

pub(crate) fn join_newer(with_c: &[usize]) {
    let cluster = Cluster::mixed(3, with_c);
    cluster.host(1).write("old", b"1").unwrap();
    cluster.host(3).stop_daemon();
    // Nodes 1 and 2 stop after node 3, then start before it with what they had.
    let two = cluster.host(2);
    two.write("newest", b"2").unwrap();
    cluster.host(1).kill_daemon();
    cluster.host(2).write("newer still", b"3").unwrap();
    cluster.host(2).stop_daemon();
    for number in [1, 3, 2] {
        cluster.host(number).start_daemon();
    }
    cluster.await_synced();
    for host in cluster.hosts() {
        assert_eq!(host.read("newer still").unwrap(), b"3", "{}", host.name());
    }
    cluster.stop_and_compare();
}

#[test]
fn five_nodes_run_and_two_may_leave() {
    let _alone = alone();
    let cluster = Cluster::running(5);
    cluster.host(1).kill_daemon();
    cluster.host(2).kill_corosync();
    let four = cluster.host(4);
    wait::until("three of five to go on", LIMIT, || {
        four.write("after", b"4").ok()
    });
    cluster.host(2).kill_daemon();
    cluster.host(2).start_corosync();
    cluster.host(2).start_daemon();
    cluster.host(1).start_daemon();
    cluster.await_synced();
    cluster.stop_and_compare();
}

#[test]
fn who_reads_while_a_synchronisation_replaces_a_file_finds_one() {
    const FILE_COUNT: usize = 20;
    let _alone = alone();
    let cluster = Cluster::running(3);
    let (one, three) = (cluster.host(1), cluster.host(3));
    one.mkdir("there").unwrap();
    let replace = |number: usize, data: &[u8]| {
        let (new, name) = (format!("there/{number}.tmp"), format!("there/{number}"));
        cluster.expect("a write to succeed", || one.write(&new, data).ok());
        one.rename(&new, &name).unwrap();
    };
    (0..FILE_COUNT).for_each(|number| replace(number, b"old"));
    cluster.await_synced();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            three.inside(|| {
                let mut failures = Vec::new();
                // Over and over, so that the kernel takes every name for granted when the file gets another inode.
                while !is_over.load(Ordering::Acquire) {
                    for number in 0..FILE_COUNT {
                        let path = format!("/etc/pve/there/{number}");
                        let meta = fs::metadata(&path).map(drop);
                        let data = fs::read(&path).map(drop);
                        let opened = OpenOptions::new().append(true).open(&path).map(drop);
                        failures.extend([meta, data, opened].into_iter().filter_map(Result::err));
                    }
                }
                failures
            })
        });
        three.kill_corosync();
        cluster.expect("node 3 to be alone", || {
            three.write("alone", b"x").is_err().then_some(())
        });
        (0..FILE_COUNT).for_each(|number| replace(number, b"new"));
        three.start_corosync();
        cluster.await_synced();
        is_over.store(true, Ordering::Release);
        let failures = reader.join().expect("the reader does not panic");
        assert!(failures.is_empty(), "{failures:?}");
    });
    assert_eq!(three.read("there/0").unwrap(), b"new");
    cluster.stop_and_compare();
}

#[test]
fn what_another_node_has_replaced_is_read_anew_at_once() {
    let _alone = alone();
    let cluster = Cluster::running(3);
    let (one, three) = (cluster.host(1), cluster.host(3));
    for round in 0..50 {
        let data = format!("round {round}");
        one.write("file.tmp", data.as_bytes()).unwrap();
        one.rename("file.tmp", "file").unwrap();
        // What the daemon has, whatever the kernel thinks.
        three.ipc(|ipc| {
            cluster.expect("the file to come", || {
                (ipc.config("file").ok()? == data.as_bytes()).then_some(())
            });
        });
        assert_eq!(three.read("file").unwrap(), data.as_bytes());
    }
    one.rename("file", "moved").unwrap();
    three.ipc(|ipc| {
        cluster.expect("the file to be moved", || ipc.config("moved").ok());
    });
    let error = three.read("file").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    three.read("moved").unwrap();
    one.remove("moved").unwrap();
    three.ipc(|ipc| {
        cluster.expect("the file to go", || ipc.config("moved").err());
    });
    let error = three.read("moved").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    cluster.stop_and_compare();
}

#[test]
fn nodes_that_append_in_turns_lose_no_line() {
    let _alone = alone();
    let cluster = Cluster::running(3);
    let (one, three) = (cluster.host(1), cluster.host(3));
    one.write("log", b"").unwrap();
    let mut expected = Vec::new();
    for round in 0..50 {
        // Far more often than once in a second, for which a kernel believes in the size that it knows.
        for host in [one, three] {
            host.ipc(|ipc| {
                cluster.expect("the line of the other node", || {
                    (ipc.config("log").ok()? == expected).then_some(())
                });
            });
            let line = format!("{round} of {}\n", host.name());
            host.inside(|| {
                let mut file = OpenOptions::new().append(true).open("/etc/pve/log")?;
                file.write_all(line.as_bytes())
            })
            .unwrap();
            expected.extend_from_slice(line.as_bytes());
        }
    }
    assert_eq!(three.read("log").unwrap(), expected);
    cluster.stop_and_compare();
}

#[test]
fn what_another_node_changes_shows_in_stat_without_delay() {
    const ROUND_COUNT: u64 = 100;
    let _alone = alone();
    let cluster = Cluster::running(3);
    let (one, three) = (cluster.host(1), cluster.host(3));
    let size = || fs::metadata("/etc/pve/there/file").map(|meta| meta.len());
    let is_there = || fs::metadata("/etc/pve/there").is_ok();
    let begin = Instant::now();
    for round in 0..ROUND_COUNT {
        one.mkdir("there").unwrap();
        one.write("there/file", b"x").unwrap();
        for new in [2, 1 + round] {
            let data = vec![b'x'; usize::try_from(new).unwrap()];
            one.write("there/file", &data).unwrap();
            three.inside(|| {
                cluster.expect("the size to show", || {
                    size().is_ok_and(|shown| shown == new).then_some(())
                });
            });
        }
        one.remove("there/file").unwrap();
        three.inside(|| {
            cluster.expect("the file to be gone", || size().err());
            assert!(is_there());
        });
        one.inside(|| fs::remove_dir("/etc/pve/there")).unwrap();
        three.inside(|| {
            cluster.expect("the directory to be gone", || (!is_there()).then_some(()));
            assert!(fs::read_dir("/etc/pve/there").is_err());
        });
    }
    // The kernel's second of belief, for each of the changes, would take far longer.
    assert!(begin.elapsed() < LIMIT, "{:?}", begin.elapsed());
    cluster.stop_and_compare();
}

#[test]
fn who_has_a_directory_open_that_another_node_removes_is_led_by_its_path() {
    let _alone = alone();
    let cluster = Cluster::running(3);
    let (one, three) = (cluster.host(1), cluster.host(3));
    one.mkdir("there").unwrap();
    one.write("outside", b"x").unwrap();
    cluster.await_synced();
    three.inside(|| {
        let open = cluster.expect("the directory", || File::open("/etc/pve/there").ok());
        one.inside(|| fs::remove_dir("/etc/pve/there")).unwrap();
        cluster.expect("the directory to be gone", || {
            fs::metadata("/etc/pve/there").err()
        });
        let inside = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()));
        assert!(open.metadata().unwrap().is_dir());
        assert_eq!(fs::read_dir(&inside).unwrap().count(), 0);
        let results = [
            fs::read(inside.join("file")).map(drop),
            fs::write(inside.join("file"), b"x"),
            fs::create_dir(inside.join("directory")),
            fs::remove_file(inside.join("file")),
            fs::rename("/etc/pve/outside", inside.join("file")),
        ];
        for result in results {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::NotFound);
        }
        // The path counts, as with a daemon that knows nothing but paths.
        one.mkdir("there").unwrap();
        one.write("there/file", b"new").unwrap();
        cluster.expect("the new directory", || {
            (fs::read("/etc/pve/there/file").ok()? == b"new").then_some(())
        });
        assert_eq!(fs::read(inside.join("file")).unwrap(), b"new");
        fs::create_dir(inside.join("directory")).unwrap();
    });
    assert!(one.inside(|| Path::new("/etc/pve/there/directory").is_dir()));
    cluster.stop_and_compare();
}
