//! Groups: names, order, sizes, members.

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Waker};

use nix::sys::signal::Signal;
use pmxcfs_services::corosync::SendError;

use super::host::{Configuration, on_host, wait_until};
use super::member::{Member, message};

#[test]
fn messages_of_all_sizes_come_back_whole_and_in_order() {
    on_host(&Configuration::default(), |host| {
        host.runtime().block_on(async {
            let mut member = Member::join("sizes").await;
            // The largest message that corosync takes in one piece, and above.
            let limit = 1_047_552;
            let mib = 1 << 20;
            let sizes = [
                1,
                2,
                3,
                24,
                4096,
                65_537,
                limit - 1,
                limit,
                limit + 1,
                mib + 77,
                3 * mib,
                1,
            ];
            let messages: Vec<_> = (0..).zip(sizes).map(|(n, size)| message(n, size)).collect();
            for sent in &messages {
                member.send(sent).await;
            }
            for sent in &messages {
                let received = member.next_message().await;
                assert_eq!(received.len(), sent.len());
                assert!(received == sent, "other content, {} bytes", sent.len());
            }
        });
    });
}

#[test]
fn a_message_of_many_pieces_needs_nobody_who_receives_meanwhile() {
    on_host(&Configuration::default(), |host| {
        host.runtime().block_on(async {
            let mut member = Member::join("large").await;
            // The index of a full tree: 40 bytes for each of 262144 entries.
            let sent = message(7, 40 << 18);
            member.send(&sent).await;
            assert!(member.next_message().await == sent);
        });
    });
}

#[test]
fn groups_do_not_see_each_other() {
    on_host(&Configuration::default(), |host| {
        host.runtime().block_on(async {
            let mut first = Member::join("pve_dcdb_v1").await;
            let mut second = Member::join("pve_kvstore_v1").await;
            assert_eq!(first.cpg.local(), second.cpg.local());
            for number in 0..100 {
                first.send(&message(number, 100)).await;
                second.send(&message(1000 + number, 100)).await;
            }
            for number in 0..100 {
                assert_eq!(second.next_message().await, message(1000 + number, 100));
                assert_eq!(first.next_message().await, message(number, 100));
            }
        });
    });
}

#[test]
fn a_group_has_the_nul_of_its_name() {
    on_host(&Configuration::default(), |host| {
        let runtime = host.runtime();
        let member = runtime.block_on(Member::join("pve_dcdb_v1"));
        let groups = host.run("corosync-cpgtool", &["-n"]);
        let groups: Vec<&str> = groups.lines().map(str::trim).collect();
        assert_eq!(groups, [r"pve_dcdb_v1\x00"]);
        drop(member);
    });
}

#[test]
fn a_member_that_has_left_is_gone_and_can_join_anew_at_once() {
    on_host(&Configuration::default(), |host| {
        host.runtime().block_on(async {
            for _ in 0..20 {
                let mut member = Member::join("group").await;
                member.send(&message(1, 4)).await;
                assert_eq!(member.next_message().await, message(1, 4));
            }
        });
        wait_until("all have left", || {
            host.run("corosync-cpgtool", &["-n"]).trim().is_empty()
        });
    });
}

#[test]
fn a_member_leaves_a_corosync_that_stands_still_without_waiting() {
    on_host(&Configuration::default(), |host| {
        let runtime = host.runtime();
        let member = runtime.block_on(Member::join("group"));
        host.signal_corosync(Signal::SIGSTOP);
        let end = std::thread::spawn(|| drop(member));
        wait_until("the end of the membership", || end.is_finished());
        host.signal_corosync(Signal::SIGCONT);
        wait_until("it has left", || {
            host.run("corosync-cpgtool", &["-n"]).trim().is_empty()
        });
    });
}

#[test]
fn a_connection_joins_once() {
    on_host(&Configuration::default(), |host| {
        host.runtime().block_on(async {
            let member = Member::join("group").await;
            let error = member.cpg.join("group").expect_err("it is a member");
            assert!(!error.is_try_again());
            assert_eq!(error.to_string(), "cpg_join failed: already a member");
            assert_eq!(member.cpg.send(b"still a member"), Ok::<(), SendError>(()));
        });
    });
}

#[test]
fn a_wait_that_is_given_up_loses_nothing() {
    on_host(&Configuration::default(), |host| {
        host.runtime().block_on(async {
            let mut member = Member::join("group").await;
            for number in 0..500 {
                member.send(&message(number, 64)).await;
                let given_up = {
                    let mut next = pin!(member.cpg.receive());
                    let mut context = Context::from_waker(Waker::noop());
                    next.as_mut().poll(&mut context)
                };
                match given_up {
                    std::task::Poll::Pending => {}
                    std::task::Poll::Ready(events) => member.put_back(events.expect("it runs")),
                }
            }
            for number in 0..500 {
                assert_eq!(member.next_message().await, message(number, 64));
            }
        });
    });
}

#[test]
fn nobody_is_woken_when_there_is_nothing() {
    on_host(&Configuration::default(), |host| {
        host.runtime().block_on(async {
            let mut member = Member::join("group").await;
            member.send(&message(1, 64)).await;
            member.next_message().await;
            let is_pending = |member: &Member| {
                let mut next = pin!(member.cpg.receive());
                let mut context = Context::from_waker(Waker::noop());
                next.as_mut().poll(&mut context).is_pending()
            };
            // What was on its way may wake it once more.
            assert!((0..100).any(|_| is_pending(&member)));
        });
    });
}
