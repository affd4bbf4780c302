//! A service manager of the tests' own: it keeps the descriptors that a daemon sends, and gives them to the next one.
#![expect(
    unsafe_code,
    reason = "descriptors get the numbers that the protocol has between fork and exec"
)]

use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::Pid;
use parking_lot::Mutex;

use super::{Host, START_LIMIT, STOP_LIMIT, watchdog};
use crate::watchdog::Watchdog;
use crate::{proc, wait};

/// The first descriptor that is passed.
const FIRST: RawFd = 3;

/// Out of the way of those.
const ABOVE: RawFd = 100;

/// What the daemons have said.
#[derive(Debug, Default)]
struct Heard {
    store: BTreeMap<String, OwnedFd>,
    ready_count: u64,
    alive_count: u64,
    stopping_count: u64,
}

/// Starts daemons of one host, one after the other. Dropping it kills the present one.
#[derive(Debug)]
pub struct Supervisor<'a> {
    host: &'a Host,
    options: Vec<String>,
    variables: Vec<(String, String)>,
    heard: Arc<Mutex<Heard>>,
    child: Option<(Child, Watchdog)>,
}

impl<'a> Supervisor<'a> {
    /// One whose daemons have these options, `-f` among them. None is started yet.
    ///
    /// # Panics
    /// If there cannot be a socket.
    #[must_use]
    pub fn new<const N: usize>(host: &'a Host, options: [&str; N]) -> Self {
        let socket = UnixDatagram::bind(host.root().join("manager")).expect("a socket");
        let heard = Arc::default();
        let listening = Arc::clone(&heard);
        std::thread::spawn(move || listen(&socket, &listening));
        Self {
            host,
            options: options.map(str::to_owned).to_vec(),
            variables: Vec::new(),
            heard,
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

    /// The same, after a last word on its command.
    ///
    /// # Panics
    /// If the program cannot be run.
    pub fn spawn_with(&mut self, change: impl FnOnce(&mut Command)) {
        let given = self.host.command(&self.options);
        // The daemon's id is known to a shell only, which becomes the daemon.
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "LISTEN_PID=$$ exec \"$@\"", "sh"])
            .arg(given.get_program())
            .args(given.get_args())
            .stdin(std::process::Stdio::null())
            .stdout(self.host.log_stream())
            .stderr(self.host.log_stream())
            .env("NOTIFY_SOCKET", self.host.root().join("manager"))
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        let (names, copies): (Vec<String>, Vec<OwnedFd>) = {
            let heard = self.heard.lock();
            let store = heard.store.iter();
            store.map(|(name, kept)| (name.clone(), copy(kept))).unzip()
        };
        if !names.is_empty() {
            command
                .env("LISTEN_FDS", names.len().to_string())
                .env("LISTEN_FDNAMES", names.join(":"));
        }
        let numbers: Vec<RawFd> = copies.iter().map(AsRawFd::as_raw_fd).collect();
        let pass = move || {
            for (place, number) in (FIRST..).zip(&numbers) {
                // SAFETY: two numbers; the process that runs this is about to become another program.
                nix::errno::Errno::result(unsafe { libc::dup2(*number, place) })?;
            }
            Ok(())
        };
        // SAFETY: it only makes system calls, which are allowed after a fork.
        unsafe { command.pre_exec(pass) };
        change(&mut command);
        let child = command.spawn().expect("the daemon's binary can be run");
        let pid = child.id();
        self.host.pids.lock().push(pid);
        self.child = Some((child, watchdog(pid)));
    }

    /// Starts a daemon with what is kept, and waits until it says that it is ready.
    ///
    /// # Panics
    /// If it does not.
    pub fn start(&mut self) {
        let before = self.heard.lock().ready_count;
        self.spawn();
        self.await_ready(before);
    }

    /// How often daemons have said that they are ready.
    #[must_use]
    pub fn ready_count(&self) -> u64 {
        self.heard.lock().ready_count
    }

    /// How often daemons have said that they live.
    #[must_use]
    pub fn alive_count(&self) -> u64 {
        self.heard.lock().alive_count
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
            (self.heard.lock().ready_count > before).then_some(())
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
        self.heard.lock().store.keys().cloned().collect()
    }

    /// Keeps something else under a name. Returns what was there.
    pub fn replace(&self, name: &str, descriptor: Option<OwnedFd>) -> Option<OwnedFd> {
        let mut heard = self.heard.lock();
        match descriptor {
            Some(descriptor) => heard.store.insert(name.to_owned(), descriptor),
            None => heard.store.remove(name),
        }
    }
}

impl Drop for Supervisor<'_> {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.child {
            // Both fail only when the process has been waited for already.
            drop(child.kill());
        }
        // Whoever waits in the mount gets an error.
        self.heard.lock().store.clear();
        if let Some((child, _)) = &mut self.child {
            drop(child.wait());
        }
    }
}

fn copy(descriptor: &OwnedFd) -> OwnedFd {
    let number = fcntl(descriptor, FcntlArg::F_DUPFD_CLOEXEC(ABOVE)).expect("a descriptor");
    // SAFETY: the kernel has just made it.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Hears what daemons say, for as long as the test runs.
fn listen(socket: &UnixDatagram, heard: &Mutex<Heard>) {
    let mut buffer = [0; 4096];
    loop {
        let mut space = nix::cmsg_space!([RawFd; 4]);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let Ok(message) = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)
        else {
            return;
        };
        let mut descriptors = Vec::new();
        for part in message.cmsgs().into_iter().flatten() {
            if let ControlMessageOwned::ScmRights(numbers) = part {
                // SAFETY: the kernel has just made them for this process.
                let own = |number| unsafe { OwnedFd::from_raw_fd(number) };
                descriptors.extend(numbers.into_iter().map(own));
            }
        }
        let size = message.bytes;
        let text = String::from_utf8_lossy(&buffer[..size]).into_owned();
        let value = |name: &str| {
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        };
        let mut heard = heard.lock();
        let name = value("FDNAME").unwrap_or("stored").to_owned();
        if value("FDSTORE") == Some("1") {
            assert_eq!(value("FDPOLL"), Some("0"), "the device must not be watched");
            // systemd keeps both if two have one name.
            heard
                .store
                .extend(descriptors.pop().map(|kept| (name.clone(), kept)));
        }
        if value("FDSTOREREMOVE") == Some("1") {
            heard.store.remove(&name);
        }
        heard.ready_count += u64::from(value("READY") == Some("1"));
        heard.alive_count += u64::from(value("WATCHDOG") == Some("1"));
        heard.stopping_count += u64::from(value("STOPPING") == Some("1"));
    }
}
