//! The tasks of the control runtime. They answer and obey while corosync, a disk or a client hangs.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::instance;
use super::memory::Trimmer;
use super::signals::StopSignals;
use super::stop::Serving;
use super::watchdog::{self, Watchdog};
use crate::health::report::Report;
use crate::health::socket::ControlSocket;
use crate::health::{self, RELOAD_REQUEST};
use crate::text::count;

/// Time between two looks at the daemon's files and its health.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Every so many looks, old RRD values expire.
const LOOKS_PER_EXPIRY: u32 = 15;

/// Obeys stop signals and answers questions at the control socket from now on.
pub(super) fn start(runtime: &Handle, signals: StopSignals, serving: &Arc<Serving>) {
    let stopped = Arc::clone(serving);
    runtime.spawn(async move {
        match signals.wait().await {
            Ok(signal) => tracing::debug!(%signal, "stopping"),
            Err(error) => tracing::error!(%error, "cannot wait for signals, stopping"),
        }
        stopped.stop_from_outside().await;
    });
    let path = serving.config().paths.control_socket();
    let _entered = runtime.enter();
    match ControlSocket::bind(&path) {
        Ok(socket) => {
            let asked = Arc::clone(serving);
            runtime.spawn(socket.serve(move |request| match request {
                RELOAD_REQUEST => health::outcome(asked.change()),
                _ => health::answer(request, &asked.sources),
            }));
        }
        // The daemon serves without it.
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot make the control socket; pmxcfs-ctl will not work");
        }
    }
}

/// Starts the periodic tasks, once the start is over.
pub(super) fn attend(runtime: &Handle, serving: &Arc<Serving>) {
    runtime.spawn(look_after(Arc::clone(serving)));
    runtime.spawn(watch(Arc::clone(serving)));
}

/// Restores files that have vanished, gives free memory back, reports the daemon's health to the service manager, and drops old RRD values.
async fn look_after(serving: Arc<Serving>) {
    let (sources, config) = (&serving.sources, serving.config());
    let mut looks = ticks(LOOK_INTERVAL);
    let mut told = String::new();
    let mut trimmer = Trimmer::default();
    let mut count = 0u32;
    loop {
        looks.tick().await;
        if serving.is_stopping() {
            return;
        }
        instance::restore(&config.paths, config.admin_gid);
        trimmer.look();
        if serving.notifier.has_manager() {
            let status = status_line(&sources.report());
            if status != told {
                serving.notifier.status(&status);
                told = status;
            }
        }
        count = count.wrapping_add(1);
        if count.is_multiple_of(LOOKS_PER_EXPIRY) {
            sources.status.expire_samples();
        }
    }
}

/// Tells the service manager that the daemon lives, for as long as it serves.
async fn watch(serving: Arc<Serving>) {
    let Some(pause) = serving.notifier.watchdog_interval() else {
        return;
    };
    let sources = &serving.sources;
    let mut watchdog = Watchdog::new(Arc::clone(&sources.db), sources.fuse);
    let interval = (pause / 2).min(watchdog::LOOK_INTERVAL);
    let mut looks = ticks(interval);
    let mut told = Instant::now();
    while !serving.is_stopping() {
        looks.tick().await;
        let serves = watchdog.look(serving.readers.connection().descriptor());
        // Also after a lazy unmount from outside, the daemon serves who has files open.
        if serves && told.elapsed() + interval >= pause && serving.mount.is_in_place() {
            serving.notifier.alive();
            told = Instant::now();
        }
    }
}

fn ticks(pause: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + pause, pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The daemon in one line, for `systemctl status`.
fn status_line(report: &Report) -> String {
    let mut line = match &report.cluster {
        None => "local mode; ".to_owned(),
        Some(cluster) => {
            let online = cluster.nodes.iter().filter(|node| node.is_online).count();
            let mut groups = cluster.groups.iter();
            let is_synced = groups.all(|group| group.mode == "synced");
            format!(
                "{}quorate; {online} of {} nodes online; {}synchronised; ",
                if report.is_quorate { "" } else { "not " },
                cluster.nodes.len(),
                if is_synced { "" } else { "not " },
            )
        }
    };
    let codes: Vec<&str> = report
        .problems
        .iter()
        .map(|problem| &*problem.code)
        .collect();
    line += &match codes.len() {
        0 => "no problems".to_owned(),
        number => format!("{}: {}", count(number, "problem"), codes.join(", ")),
    };
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::report::{Cluster, Group, Node, Problem};

    #[test]
    fn the_line_tells_quorum_members_synchronisation_and_problems() {
        let problem = |code: &str| Problem {
            code: code.to_owned(),
            ..Problem::default()
        };
        let mut report = Report::default();
        assert_eq!(status_line(&report), "local mode; no problems");
        report.problems = vec![problem("store-failed")];
        assert_eq!(status_line(&report), "local mode; 1 problem: store-failed");
        let node = |is_online| Node {
            is_online,
            ..Node::default()
        };
        let group = |mode: &str| Group {
            mode: mode.to_owned(),
            ..Group::default()
        };
        report.cluster = Some(Cluster {
            nodes: vec![node(true), node(false), node(true)],
            groups: vec![group("synced"), group("synced")],
            ..Cluster::default()
        });
        report.is_quorate = true;
        report.problems = vec![];
        assert_eq!(
            status_line(&report),
            "quorate; 2 of 3 nodes online; synchronised; no problems"
        );
        let cluster = report.cluster.as_mut().expect("set above");
        cluster.groups.push(group("update"));
        report.is_quorate = false;
        report.problems = vec![problem("no-quorum"), problem("corosync-lost")];
        assert_eq!(
            status_line(&report),
            "not quorate; 2 of 3 nodes online; not synchronised; 2 problems: no-quorum, corosync-lost"
        );
    }
}
