//! More hosts than most clusters have.

use std::io::ErrorKind;

use integration_tests::Cluster;

use crate::alone;

#[test]
fn nine_nodes_lose_a_third_and_part_five_to_four() {
    let _turn = alone();
    let cluster = Cluster::running(9);
    for number in 7..=9 {
        cluster.host(number).kill_daemon();
    }
    cluster.expect("six of nine daemons to go on", || {
        cluster.host(6).write("six", b"6").ok()
    });
    for number in 7..=9 {
        cluster.host(number).start_daemon();
    }
    cluster.await_synced();

    let minority = [6, 7, 8, 9];
    cluster.part(&minority);
    for number in minority {
        let host = cluster.host(number);
        host.await_quorum(false);
        cluster.expect("writes to be refused by four of nine", || {
            let error = host.write("lost", b"l").err()?;
            (error.kind() == ErrorKind::PermissionDenied).then_some(())
        });
    }
    cluster.expect("five of nine to go on", || {
        cluster.host(5).write("five", b"5").ok()
    });
    cluster.meet(&minority);
    for number in minority {
        cluster.host(number).await_quorum(true);
    }
    cluster.await_synced();
    assert_eq!(cluster.host(9).read("five").unwrap(), b"5");
    cluster.stop_and_compare();
}
