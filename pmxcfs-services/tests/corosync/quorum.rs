//! The quorum and who is told of it.
#![expect(clippy::disallowed_types, reason = "a lock of a test has no rank")]

use std::sync::mpsc;
use std::time::Duration;

use pmxcfs_dfsm::core::QuorumView;
use pmxcfs_services::framework::{Manager, ServiceState};
use pmxcfs_services::quorum::{QuorumMonitor, QuorumService};
use tokio::sync::watch;

use super::host::{Configuration, LIMIT, on_host, wait_until, within};

async fn becomes(seen: &mut watch::Receiver<QuorumView>, expected: bool) {
    let changed = within(
        "the quorum",
        seen.wait_for(|seen| seen.is_quorate == expected),
    )
    .await;
    assert!(changed.is_ok());
}

#[test]
fn the_quorum_is_followed_through_changes_and_outages() {
    on_host(&Configuration::default(), |host| {
        let runtime = host.runtime();
        let monitor = QuorumMonitor::default();
        let mut seen = monitor.subscribe();
        assert!(!monitor.is_quorate(), "nobody said so");
        assert_eq!(monitor.drain(), QuorumView::default());

        let mut manager = Manager::new(runtime.handle().clone());
        let mut state = manager.start(QuorumService::new(monitor.clone()));
        runtime.block_on(becomes(&mut seen, true));
        for is_quorate in [false, true] {
            host.set_quorate(is_quorate);
            runtime.block_on(becomes(&mut seen, is_quorate));
            assert_eq!(monitor.drain().is_quorate, is_quorate);
        }
        let view = monitor.view();
        assert_eq!((&*view.nodes, view.loss_count), (&[1][..], 1));
        host.kill_corosync();
        runtime.block_on(becomes(&mut seen, false));
        let waits = |state: &ServiceState| matches!(state, ServiceState::Waiting { .. });
        let waiting = runtime.block_on(within("a pause", state.wait_for(waits)));
        assert!(waiting.is_ok());
        drop(waiting);

        host.start_corosync();
        runtime.block_on(becomes(&mut seen, true));
        assert!(runtime.block_on(manager.stop(LIMIT)).is_empty());
        assert!(!monitor.drain().is_quorate, "nobody looks any more");
    });
}

#[test]
fn a_change_is_seen_without_the_service() {
    on_host(&Configuration::default(), |host| {
        let runtime = host.runtime();
        let monitor = QuorumMonitor::default();
        let mut seen = monitor.subscribe();
        let mut manager = Manager::new(runtime.handle().clone());
        manager.start(QuorumService::new(monitor.clone()));
        runtime.block_on(becomes(&mut seen, true));

        // The only worker is busy, as it is while it handles a batch of messages.
        let (busy, is_busy) = mpsc::channel();
        let (end, is_end) = mpsc::channel::<()>();
        runtime.spawn(async move {
            busy.send(()).expect("the test waits");
            is_end.recv()
        });
        is_busy.recv().expect("the task runs");
        host.set_quorate(false);
        wait_until("the loss of quorum", || !monitor.drain().is_quorate);
        host.set_quorate(true);
        wait_until("quorum", || monitor.drain().is_quorate);
        drop(end);
        assert!(runtime.block_on(manager.stop(LIMIT)).is_empty());
    });
}

#[test]
fn any_number_of_threads_may_look_at_once() {
    on_host(&Configuration::default(), |host| {
        let runtime = host.runtime();
        let monitor = QuorumMonitor::default();
        let mut seen = monitor.subscribe();
        let mut manager = Manager::new(runtime.handle().clone());
        let mut state = manager.start(QuorumService::new(monitor.clone()));
        runtime.block_on(becomes(&mut seen, true));
        let (end, is_end) = mpsc::channel::<()>();
        let is_end = parking_lot::Mutex::new(is_end);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let ended =
                        || is_end.lock().try_recv() == Err(mpsc::TryRecvError::Disconnected);
                    while !ended() {
                        monitor.drain();
                    }
                });
            }
            let end = end;
            for round in 0..10 {
                let is_quorate = round % 2 == 1;
                host.change_quorum((0..500).flat_map(|_| [!is_quorate, is_quorate]));
                runtime.block_on(becomes(&mut seen, is_quorate));
            }
            drop(end);
        });
        let running = runtime.block_on(within(
            "the service",
            state.wait_for(ServiceState::is_running),
        ));
        assert!(running.is_ok());
        drop(running);
        assert!(runtime.block_on(manager.stop(LIMIT)).is_empty());
    });
}

#[test]
fn a_corosync_without_a_quorum_provider_is_reported_as_that() {
    let configuration = Configuration {
        has_quorum_provider: false,
        ..Configuration::default()
    };
    on_host(&configuration, |host| {
        let runtime = host.runtime();
        let monitor = QuorumMonitor::default();
        let mut manager = Manager::new(runtime.handle().clone());
        let mut state = manager.start(QuorumService::new(monitor.clone()));
        let waits = |state: &ServiceState| matches!(state, ServiceState::Waiting { .. });
        let state = runtime.block_on(async {
            let state = within("a refusal", state.wait_for(waits)).await;
            state.expect("the service exists").clone()
        });
        let ServiceState::Waiting { error, .. } = state else {
            panic!("{state:?}");
        };
        assert_eq!(error, "corosync.conf names no quorum provider");
        assert!(!monitor.drain().is_quorate);
        let left = runtime.block_on(manager.stop(Duration::from_secs(10)));
        assert!(left.is_empty());
    });
}
