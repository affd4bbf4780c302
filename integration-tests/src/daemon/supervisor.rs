//! Daemons of one host whose mount goes from one to the next.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Host, START_LIMIT, STOP_LIMIT, watchdog};
use crate::manager::Manager;
use crate::watchdog::Watchdog;
use crate::{proc, wait};

/// Starts daemons of one host, one after the other, under a service manager. Dropping it kills the present one.
#[derive(Debug)]
pub struct Supervisor<'a> {
    host: &'a Host,
    options: Vec<String>,
    variables: Vec<(String, String)>,
    manager: Manager,
    child: Option<(Child, Watchdog)>,
}

impl<'a> Supervisor<'a> {
    /// One whose daemons have these options, `-f` among them. None is started yet.
    ///
    /// # Panics
    /// If there cannot be a socket.
    #[must_use]
    pub fn new<const N: usize>(host: &'a Host, options: [&str; N]) -> Self {
        Self {
            host,
            options: options.map(str::to_owned).to_vec(),
            variables: Vec::new(),
            manager: Manager::start(host.root().join("manager")),
            child: None,
        }
    }

    /// Sets a variable for later daemons.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Starts a daemon with what is kept, without waiting for it.
    ///
    /// # Panics
    /// If the program cannot be run.
    pub fn spawn(&mut self) {
        self.spawn_with(|_command| {});
    }

    /// The same, after a last word on its command, which must not hold descriptors that are opened elsewhere.
    ///
    /// # Panics
    /// If the program cannot be run.
    pub fn spawn_with(&mut self, change: impl FnOnce(&mut Command) + Send + 'static) {
        let given = self.host.command(&self.options);
        let arguments: Vec<OsString> = given.get_args().map(OsString::from).collect();
        let (variables, log) = (self.variables.clone(), self.host.log_file());
        let child = self
            .manager
            .spawn(given.get_program().as_ref(), move |command| {
                let append = || {
                    let log = OpenOptions::new().append(true).open(&log);
                    log.expect("the log can be written")
                };
                command
                    .args(arguments)
                    .envs(variables)
                    .stdin(Stdio::null())
                    .stdout(append())
                    .stderr(append());
                change(command);
            });
        let pid = child.id();
        self.host.pids.lock().push(pid);
        self.child = Some((child, watchdog(pid)));
    }

    /// Starts a daemon with what is kept, and waits until it says that it is ready.
    ///
    /// # Panics
    /// If it does not.
    pub fn start(&mut self) {
        let before = self.ready_count();
        self.spawn();
        self.await_ready(before);
    }

    /// How often daemons have said that they are ready.
    #[must_use]
    pub fn ready_count(&self) -> u64 {
        self.manager.heard().ready_count
    }

    /// How often daemons have said that they live.
    #[must_use]
    pub fn alive_count(&self) -> u64 {
        self.manager.heard().alive_count
    }

    /// Waits until a daemon says that it is ready more often than `before`.
    ///
    /// # Panics
    /// If it ends instead, or takes too long.
    pub fn await_ready(&mut self, before: u64) {
        wait::until("the daemon to be ready", START_LIMIT, || {
            let (child, _) = self.child.as_mut().expect("started");
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                panic!("the daemon ended: {status}\n{}", self.host.log());
            }
            (self.manager.heard().ready_count > before).then_some(())
        });
    }

    /// Id of the present daemon.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("started").0.id()
    }

    /// Sends a signal to the present daemon.
    ///
    /// # Panics
    /// If it is gone.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).expect("process ids are positive");
        kill(Pid::from_raw(pid), signal).expect("the daemon runs");
    }

    /// Waits until the present daemon has ended.
    ///
    /// # Panics
    /// If that takes too long.
    pub fn await_exit(&mut self) -> ExitStatus {
        let (mut child, _watchdog) = self.child.take().expect("started");
        wait::until("the daemon to end", STOP_LIMIT, || {
            child.try_wait().expect("a child can be waited for")
        })
    }

    /// Kills the present daemon. Its mount stays, and waits.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.await_exit();
    }

    /// Stops the daemon as systemd does.
    ///
    /// # Panics
    /// If it does not end with status 0, or leaves its mount or a descriptor behind.
    pub fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.await_exit();
        assert_eq!(status.code(), Some(0), "{}", self.host.log());
        assert!(!proc::is_mounted(&self.host.mount_dir()));
        wait::until("the store to be empty", Duration::from_secs(20), || {
            self.kept().is_empty().then_some(())
        });
    }

    /// Names of what is kept.
    #[must_use]
    pub fn kept(&self) -> Vec<String> {
        self.manager.kept()
    }

    /// Keeps something else under a name.
    pub fn keep(&self, name: &str, descriptor: impl AsFd) {
        self.manager.keep(name, descriptor.as_fd());
    }

    /// Keeps what is kept for another host under that name.
    pub fn keep_that_of(&self, other: &Supervisor<'_>, name: &str) {
        self.manager.keep_that_of(&other.manager, name);
    }

    /// Closes what is kept under a name.
    pub fn let_go(&self, name: &str) {
        self.manager.let_go(name);
    }
}

impl Drop for Supervisor<'_> {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.child {
            // Both fail only when the process has been waited for already.
            drop(child.kill());
        }
        // Programs that wait in the mount get an error.
        self.manager.empty();
        if let Some((child, _)) = &mut self.child {
            drop(child.wait());
        }
    }
}
