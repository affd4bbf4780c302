//! Networks that fall apart and come together again.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _, Seek as _, Write as _};

use integration_tests::Cluster;
use integration_tests::cluster::{ClusterHost, Load, Writer, assert_nothing_lost};
use integration_tests::daemon::control_program;
use nix::errno::Errno;

use crate::beside_others;

#[test]
fn the_minority_side_refuses_writes_and_catches_up() {
    let _turn = beside_others();
    minority(&[]);
}

pub(crate) fn minority(with_c: &[usize]) {
    let cluster = Cluster::mixed(3, with_c);
    let three = cluster.host(3);
    three.mkdir("directory").unwrap();
    three.mkdir_all("priv").unwrap();
    three.write("before", b"b").unwrap();
    three.write("priv/key", b"k").unwrap();
    three.cut();
    three.await_quorum(false);
    cluster.expect("writes to be refused on the minority side", || {
        let error = three.write("lost", b"l").err()?;
        (error.kind() == ErrorKind::PermissionDenied).then_some(())
    });
    assert_eq!(three.read("before").unwrap(), b"b");
    let modes = [
        ("before", 0o440, 0o640),
        ("directory", 0o555, 0o755),
        ("priv", 0o500, 0o700),
        ("priv/key", 0o400, 0o600),
        ("local", 0o555, 0o755),
        (".version", 0o440, 0o440),
        (".", 0o755, 0o755),
    ];
    for (path, without, _) in modes {
        cluster.expect(&format!("{path} to lose write permission"), || {
            (three.mode(path).ok()? == without).then_some(())
        });
    }
    let refused = [
        ("mkdir", three.mkdir("refused").err()),
        ("remove", three.remove("before").err()),
        ("rename", three.rename("before", "refused").err()),
        ("lock", three.mkdir("priv/lock").err()),
    ];
    for (what, error) in refused {
        let kind = error.map(|error| error.kind());
        assert_eq!(kind, Some(ErrorKind::PermissionDenied), "{what}");
    }
    cluster.expect("the others to be offline", || {
        let members = three.members().ok()?;
        let seen = ["node1", "node2", "node3"].map(|node| members.get(node).map(|m| m.is_online));
        (seen == [Some(false), Some(false), Some(true)]).then_some(())
    });
    cluster.expect("the majority to go on", || {
        cluster.host(1).write("during", b"d").ok()
    });
    three.heal();
    three.await_quorum(true);
    cluster.await_synced();
    let during = three.look(|| three.read("during").ok());
    assert_eq!(during.as_deref(), Some(&b"d"[..]));
    for (path, _, with) in modes {
        let is_back = three.look(|| (three.mode(path).ok()? == with).then_some(()));
        assert!(is_back.is_some(), "{path} has {:?}", three.mode(path));
    }
    cluster.stop_and_compare();
}

#[test]
fn divergent_sides_become_one_and_the_loser_keeps_a_copy() {
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    let three = cluster.host(3);
    three.write("both", b"before").unwrap();
    three.cut();
    three.await_quorum(false);
    // What an operator does who believes that the others are dead.
    let output = three.run("corosync-quorumtool", &["-e", "1"]);
    assert!(output.status.success());
    three.await_quorum(true);
    // The first change of either side makes a file, so both get the same inode.
    let mut open = cluster.expect("a forced minority to write", || {
        three.inside(|| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true);
            options.open("/etc/pve/minority").ok()
        })
    });
    open.write_all(b"lost later").unwrap();
    three.write("both", b"minority").unwrap();
    for number in 0..20 {
        let path = format!("majority{number}");
        cluster.expect("the majority to write", || {
            cluster.host(1).write(&path, b"kept").ok()
        });
    }
    cluster.host(2).write("both", b"majority").unwrap();
    three.heal();
    cluster.await_synced();
    for host in cluster.hosts() {
        assert!(host.read("minority").is_err(), "{}", host.name());
        for path in ["majority0", "majority19"] {
            assert_eq!(host.read(path).unwrap(), b"kept");
        }
        assert_eq!(host.read("both").unwrap(), b"majority");
    }
    // Who has it open does not read or write what has its inode now.
    let results = [
        open.rewind().and_then(|()| open.read(&mut [0; 64])),
        open.write(b"nobody's"),
        open.set_len(0).map(|()| 0),
    ];
    for result in results {
        let errno = result.unwrap_err().raw_os_error();
        assert_eq!(errno, Some(Errno::ESTALE as i32));
    }
    drop(open);
    assert_eq!(three.read("majority0").unwrap(), b"kept");
    cluster.expect("the log to name what was lost", || {
        three.log().contains("minority").then_some(())
    });
    let kept = three.run(
        "grep",
        &["-r", "lost later", "/var/lib/pve-cluster/discarded"],
    );
    assert!(kept.status.success(), "no copy of what was lost");
    what_was_replaced_is_a_problem_until_it_is_acknowledged(three, &cluster);
    cluster.stop_and_compare();
}

fn what_was_replaced_is_a_problem_until_it_is_acknowledged(host: &ClusterHost, cluster: &Cluster) {
    let program = control_program();
    let ask = |command: &str| {
        let output = host.run(program.to_str().unwrap(), &[command]);
        String::from_utf8(output.stdout).unwrap()
    };
    cluster.expect("the replaced content to be a problem", || {
        let text = ask("status");
        let lines: Vec<&str> = text.lines().collect();
        let line = lines
            .iter()
            .find(|line| line.contains("! content-replaced: "))?;
        assert!(
            line.contains(" replaced by the leader's version: "),
            "{line}"
        );
        for part in ["minority", "/var/lib/pve-cluster/discarded/2"] {
            assert!(line.contains(part), "no {part} in: {line}");
        }
        Some(())
    });
    // A restart does not forget it.
    host.stop_daemon();
    host.start_daemon();
    cluster.await_synced();
    let is_healthy = || ask("status").contains(": healthy\n").then_some(());
    assert!(ask("status").contains("! content-replaced: "));
    let acknowledged = ask("ack");
    assert!(acknowledged.contains("\n    minority\n"), "{acknowledged}");
    cluster.expect("nothing to be wrong", is_healthy);
    assert_eq!(ask("ack"), "there is nothing to acknowledge\n");
    host.stop_daemon();
    host.start_daemon();
    cluster.await_synced();
    cluster.expect("nothing to be wrong after a restart", is_healthy);
}

#[test]
fn a_node_that_is_cut_off_again_and_again_loses_nothing() {
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    let mut writers = Writer::on(&[1, 2, 3]);
    Load::around(&cluster, &mut writers, |load| {
        for number in [3, 1, 2] {
            let host = cluster.host(number);
            load.part(host, ClusterHost::cut);
            load.await_refusal(number, &cluster);
            host.heal();
            load.await_progress(&cluster);
        }
    });
    cluster.await_synced();
    assert_nothing_lost(&cluster, &writers);
    cluster.stop_and_compare();
}

#[test]
fn all_nodes_apart_refuse_writes_until_they_meet() {
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    let mut writers = Writer::on(&[1, 2, 3]);
    Load::around(&cluster, &mut writers, |load| {
        for host in cluster.hosts() {
            load.settle(host);
        }
        for host in cluster.hosts() {
            host.cut();
            load.resume(host.number());
        }
        for number in [1, 2, 3] {
            load.await_refusal(number, &cluster);
        }
        for host in cluster.hosts() {
            host.heal();
        }
    });
    cluster.await_synced();
    assert_nothing_lost(&cluster, &writers);
    cluster.stop_and_compare();
}
