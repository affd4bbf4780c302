//! How a fault is brought about, and undone.

use std::thread;
use std::time::{Duration, Instant};

use integration_tests::cluster::{ClusterHost, DatabaseHolder, LIMIT, Load};
use integration_tests::{Cluster, wait};
use nix::sys::signal::Signal;

use super::hostile;
use super::plan::{Fault, Step};
use crate::rogue;

/// What a sync takes longer on a slow disk.
const SYNC_DELAY: Duration = Duration::from_millis(200);

/// How far somebody sets a clock.
const CLOCK_JUMP_SECONDS: i64 = 3600;

/// Carries one out and waits until the host answers again.
pub(super) fn carry_out(step: Step, host: &ClusterHost, load: &Load, cluster: &Cluster) {
    pause(step.before);
    match step.fault {
        Fault::HostileClients => hostile::clients(host, step.during),
        Fault::MountUsers => hostile::mount_users(host, step.during),
        Fault::Rogue => rogue::say_nonsense(host),
        fault => {
            let holder = begin(fault, host, load);
            pause(step.during);
            finish(fault, host, load, cluster, holder);
        }
    }
    wait::until("the mount to answer", LIMIT, || {
        host.answers().then_some(())
    });
}

/// Load goes on for this time.
fn pause(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        thread::park_timeout(end.saturating_duration_since(Instant::now()));
    }
}

fn begin(fault: Fault, host: &ClusterHost, load: &Load) -> Option<DatabaseHolder> {
    match fault {
        Fault::KillDaemon => host.kill_daemon(),
        Fault::StopDaemon => {
            host.stop_daemon();
        }
        Fault::KillCorosync => load.part(host, ClusterHost::kill_corosync),
        Fault::StopCorosync => load.part(host, ClusterHost::stop_corosync),
        Fault::Cut => load.part(host, ClusterHost::cut),
        Fault::FreezeDaemon => host.signal_daemon(Signal::SIGSTOP),
        Fault::FreezeCorosync => {
            // With a token that the others have given up, corosync may still deliver to itself what nobody else gets.
            load.settle(host);
            host.signal_corosync(Signal::SIGSTOP);
        }
        Fault::HoldDatabase => return Some(host.hold_database()),
        Fault::HoldSnapshot => return Some(host.hold_snapshot()),
        Fault::SlowDisk => host.delay_syncs(SYNC_DELAY),
        Fault::ClockAhead => host.set_clock_ahead(CLOCK_JUMP_SECONDS),
        Fault::ClockBehind => host.set_clock_ahead(-CLOCK_JUMP_SECONDS),
        Fault::FillDisk => host.fill_disk(),
        Fault::LoseDatabase => {
            host.kill_daemon();
            host.remove_database();
        }
        Fault::HostileClients | Fault::MountUsers | Fault::Rogue => {
            unreachable!("they begin and end by themselves")
        }
    }
    None
}

fn finish(
    fault: Fault,
    host: &ClusterHost,
    load: &Load,
    cluster: &Cluster,
    holder: Option<DatabaseHolder>,
) {
    match fault {
        Fault::KillDaemon | Fault::StopDaemon | Fault::LoseDatabase => host.start_daemon(),
        Fault::KillCorosync => {
            cluster.await_departure(host.number());
            host.start_corosync();
        }
        Fault::StopCorosync => host.start_corosync(),
        Fault::Cut => host.heal(),
        Fault::FreezeDaemon => host.signal_daemon(Signal::SIGCONT),
        Fault::FreezeCorosync => {
            host.signal_corosync(Signal::SIGCONT);
            host.await_corosync();
            load.resume(host.number());
        }
        Fault::HoldDatabase | Fault::HoldSnapshot => drop(holder),
        Fault::SlowDisk => host.delay_syncs(Duration::ZERO),
        Fault::ClockAhead | Fault::ClockBehind => host.set_clock_ahead(0),
        Fault::FillDisk => host.empty_disk(),
        Fault::HostileClients | Fault::MountUsers | Fault::Rogue => {
            unreachable!("they begin and end by themselves")
        }
    }
}
