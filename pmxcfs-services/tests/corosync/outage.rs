//! Corosync that dies and comes back.

use pmxcfs_services::corosync::{Cmap, CorosyncError, Cpg, Quorum, SendError};

use super::host::{Configuration, on_host, wait_until, within};
use super::member::{Member, message};

const NOT_RUNNING: &str = "no connection to corosync (is it running?)";

#[test]
fn a_connection_tells_that_corosync_is_gone() {
    on_host(&Configuration::default(), |host| {
        let runtime = host.runtime();
        let (member, quorum, cmap) = runtime.block_on(async {
            let member = Member::join("group").await;
            let quorum = Quorum::connect().expect("corosync runs");
            let cmap = Cmap::connect(&["nodelist."], &[]).expect("corosync runs");
            (member, quorum, cmap)
        });
        host.kill_corosync();
        runtime.block_on(async {
            let lost = within("the end", async {
                loop {
                    // What came before may be told first.
                    if let Err(error) = member.cpg.receive().await {
                        return error;
                    }
                }
            });
            assert_gone(lost.await, "cpg_dispatch");
            let SendError::Failed(error) = member.cpg.send(b"?").expect_err("nobody is there")
            else {
                panic!("it will not get better");
            };
            assert_gone(error, "cpg_mcast_joined");
            // Neither waits nor panics.
            drop(member);

            let lost = within("the end", async {
                loop {
                    if let Err(error) = quorum.receive(|| quorum.dispatch()).await {
                        return error;
                    }
                }
            });
            assert_gone(lost.await, "quorum_dispatch");
            assert_gone(quorum.dispatch().expect_err("for good"), "quorum_dispatch");
            let lost = within("the end", cmap.receive()).await;
            assert_gone(lost.expect_err("nobody is there"), "cmap_dispatch");
            let read = cmap.read("nodelist.");
            assert_gone(read.expect_err("nobody is there"), "cmap_iter_init");

            let refused = Cpg::connect().err().expect("nobody is there");
            assert_gone(refused, "cpg_model_initialize");
            let refused = Quorum::connect().err().expect("nobody is there");
            assert_gone(refused, "quorum_model_initialize");
            let refused = Cmap::connect(&[], &[]).err().expect("nobody is there");
            assert_gone(refused, "cmap_initialize");
        });
    });
}

fn assert_gone(error: CorosyncError, call: &str) {
    assert_eq!(error.to_string(), format!("{call} failed: {NOT_RUNNING}"));
}

#[test]
fn groups_can_be_joined_again_when_corosync_is_back() {
    on_host(&Configuration::default(), |host| {
        let runtime = host.runtime();
        let former = runtime.block_on(Member::join("group"));
        host.kill_corosync();
        host.start_corosync();
        runtime.block_on(async {
            let mut member = Member::join("group").await;
            member.send(&message(1, 2 << 20)).await;
            assert_eq!(member.next_message().await, message(1, 2 << 20));
            // The connection to the corosync that died does not come to life.
            let lost = within("the end", former.cpg.receive()).await;
            assert_gone(lost.expect_err("it is gone"), "cpg_dispatch");
        });
    });
}

#[test]
fn connections_that_are_lost_or_refused_leave_nothing_behind() {
    on_host(&Configuration::default(), |host| {
        let runtime = host.runtime();
        // The first runtime of a process makes sockets, too.
        host.kill_corosync();
        let own = host.socket_count();
        host.start_corosync();
        let rounds = |count: usize| {
            runtime.block_on(async {
                let mut members = Vec::new();
                for number in 0..count {
                    let member = Member::join(&format!("group{number}")).await;
                    members.push((member, Quorum::connect()));
                }
                members
            })
        };
        let before = host.socket_count();
        drop(rounds(10));
        // Corosync closes its ends when it comes to it.
        wait_until("sockets to be closed", || host.socket_count() == before);

        let members = rounds(10);
        assert!(host.socket_count() > before);
        host.kill_corosync();
        drop(members);
        // Each one is closed on a thread of its own.
        wait_until("lost connections to be closed", || {
            host.socket_count() == own
        });

        runtime.block_on(async {
            for _ in 0..10 {
                Cpg::connect().err().expect("nobody is there");
                Quorum::connect().err().expect("nobody is there");
            }
        });
        assert_eq!(host.socket_count(), own, "of refused connections");
    });
}
