//! The daemon of a host.

use std::fs::{self, File, OpenOptions};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{ClusterHost, send};
use crate::cluster::{LIMIT, MOUNT};
use crate::{daemon, wait};

/// Time in which the C daemon has to obey SIGTERM.
const C_STOP_LIMIT: Duration = Duration::from_secs(15);

static IGNORED_STOPS: AtomicUsize = AtomicUsize::new(0);

/// How often a C daemon ignored SIGTERM in this process.
pub fn ignored_stops() -> usize {
    IGNORED_STOPS.load(Ordering::Relaxed)
}

#[track_caller]
fn end_within(limit: Duration, child: &mut Child) -> Option<ExitStatus> {
    wait::try_until(limit, || {
        child.try_wait().expect("a child can be waited for")
    })
}

/// Where it logs, in the host's memory: nothing of a host is left when it is gone.
const LOG: &str = "/run/daemon.log";

/// Where Debian lets a daemon find programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl ClusterHost {
    /// Starts the daemon and waits until its mount answers.
    ///
    /// # Panics
    /// If that fails.
    #[track_caller]
    pub fn start_daemon(&self) {
        self.launch_daemon();
        let answers = wait::try_until(LIMIT, || {
            if self.answers() {
                return Some(());
            }
            let mut daemon = self.daemon.lock();
            let child = daemon.as_mut().expect("it was started");
            let ended = child.try_wait().expect("a child can be waited for");
            drop(daemon);
            if let Some(status) = ended {
                panic!(
                    "the daemon of {} ended: {status}\n{}",
                    self.name,
                    self.log()
                );
            }
            None
        });
        let log = self.log();
        assert!(answers.is_some(), "no mount on {}\n{log}", self.name);
    }

    /// Starts the daemon and waits for nothing.
    ///
    /// # Panics
    /// If it cannot be run, or one runs already.
    pub fn launch_daemon(&self) {
        let other = self.c_daemon.as_deref().or(self.program.as_deref());
        let binary = other.unwrap_or_else(|| daemon::binary());
        let variables = self.shim();
        let arrange = move |command: &mut Command| {
            let append = || -> File {
                let mut options = OpenOptions::new();
                options.create(true).append(true);
                options.open(LOG).expect("the log can be written")
            };
            command
                .arg("-f")
                .env("PATH", PATH)
                .envs(variables)
                .stdin(Stdio::null())
                .stdout(append())
                .stderr(append());
        };
        let mut daemon = self.daemon.lock();
        assert!(daemon.is_none(), "{} has a daemon", self.name);
        *daemon = Some(if self.is_supervised && !self.is_c() {
            self.manager.spawn(binary, arrange)
        } else {
            let mut command = Command::new(binary);
            self.inside(|| arrange(&mut command));
            self.place.spawn(command)
        });
    }

    /// Starts a daemon in the place of one that was killed, and waits until it says that it is ready. Unlike
    /// [`Self::start_daemon`], this does not wait in the mount.
    ///
    /// # Panics
    /// If it ends instead, or takes too long; or without a service manager.
    #[track_caller]
    pub fn relaunch_daemon(&self) {
        let before = self.ready_count();
        self.launch_daemon();
        self.await_ready(before);
    }

    /// Has the daemon change to the program that is installed, and waits until that is ready.
    ///
    /// # Panics
    /// If it does not, or without a service manager.
    #[track_caller]
    pub fn reload_daemon(&self) {
        let before = self.ready_count();
        let program = daemon::control_program().display().to_string();
        let output = self.run(&program, &["reload"]);
        assert!(output.status.success(), "{output:?}\n{}", self.log());
        self.await_ready(before);
    }

    /// How often daemons have said that they are ready.
    fn ready_count(&self) -> u64 {
        assert!(self.is_supervised, "{} has no service manager", self.name);
        self.manager.heard().ready_count
    }

    #[track_caller]
    fn await_ready(&self, before: u64) {
        let is_ready = wait::try_until(LIMIT, || {
            let ended = self.daemon.lock().as_mut().expect("started").try_wait();
            if let Some(status) = ended.expect("a child can be waited for") {
                panic!(
                    "the daemon of {} ended: {status}\n{}",
                    self.name,
                    self.log()
                );
            }
            (self.ready_count() > before).then_some(())
        });
        assert!(
            is_ready.is_some(),
            "{} is not ready\n{}",
            self.name,
            self.log()
        );
    }

    /// Whether the mount answers.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.inside(|| fs::read_link(format!("{MOUNT}/local")).is_ok())
    }

    /// Whether a daemon was started and not ended since.
    #[must_use]
    pub fn has_daemon(&self) -> bool {
        self.daemon.lock().is_some()
    }

    /// Process id of the daemon.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.lock().as_ref().expect("a daemon runs").id()
    }

    /// Sends the daemon a signal.
    ///
    /// # Panics
    /// If there is none.
    pub fn signal_daemon(&self, signal: Signal) {
        send(self.daemon.lock().as_ref().expect("a daemon runs"), signal);
    }

    /// Stops the daemon as systemd does, and tells how long that took. The C daemon, which sometimes ignores SIGTERM, gets
    /// SIGKILL after 15 s; that is counted in [`ignored_stops`].
    ///
    /// # Panics
    /// If it does not end, or not with status 0.
    #[track_caller]
    pub fn stop_daemon(&self) -> Duration {
        let mut child = self.take_daemon();
        let from = Instant::now();
        send(&child, Signal::SIGTERM);
        if self.is_c() && end_within(C_STOP_LIMIT, &mut child).is_none() {
            IGNORED_STOPS.fetch_add(1, Ordering::Relaxed);
            send(&child, Signal::SIGKILL);
            self.await_end(&mut child);
            return from.elapsed();
        }
        let status = self.await_end(&mut child);
        let elapsed = from.elapsed();
        assert_eq!(status.code(), Some(0), "{}\n{}", self.name, self.log());
        elapsed
    }

    /// Ends the daemon the hard way.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn kill_daemon(&self) {
        let mut child = self.take_daemon();
        send(&child, Signal::SIGKILL);
        self.await_end(&mut child);
    }

    /// For who ends one at a time when another waits for it.
    fn take_daemon(&self) -> Child {
        self.daemon.lock().take().expect("a daemon runs")
    }

    #[track_caller]
    fn await_end(&self, child: &mut Child) -> ExitStatus {
        end_within(LIMIT, child)
            .unwrap_or_else(|| panic!("{} does not end\n{}", self.name, self.log()))
    }

    /// What the daemon logged, over all of its starts.
    #[must_use]
    pub fn log(&self) -> String {
        let log = self.inside(|| fs::read(LOG).unwrap_or_default());
        String::from_utf8_lossy(&log).into_owned()
    }

    /// How often the log contains a text.
    #[must_use]
    pub fn log_count(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }
}
