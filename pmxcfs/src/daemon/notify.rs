//! Messages to the service manager: the daemon serves, it stops, it is alive, its health in one line.
//!
//! The manager names a datagram socket in the environment; one datagram holds lines of `NAME=value` (sd_notify(3)). The
//! protocol is a few lines, so the daemon does not link libsystemd for it. Nothing here can fail the daemon: without a manager it
//! sends nothing, and it logs once that a message did not arrive.
//!
//! Only the process that the manager has started says that the daemon is ready. A start in the background is over when that
//! process ends; until then the manager complains about messages of any other.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Path of the manager's socket, or `@` and a name without a file.
const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";

/// Microseconds after which the manager takes a silent daemon for dead.
const WATCHDOG_VARIABLE: &str = "WATCHDOG_USEC";

/// Process that the manager watches.
const WATCHDOG_PID_VARIABLE: &str = "WATCHDOG_PID";

/// How long a message may wait for a manager that does not read.
const SEND_PATIENCE: Duration = Duration::from_secs(1);

/// Signs of life within the manager's limit: two may be late or lost.
const SIGNS_PER_WATCHDOG: u32 = 3;

/// The service manager, if there is one.
#[derive(Debug, Default)]
pub struct Notifier {
    /// The first message logs an error: there is no log yet when the variables are read.
    manager: Option<io::Result<Manager>>,
    has_told_failure: AtomicBool,
    watchdog: Option<Duration>,
    /// The process that the manager has started.
    started_pid: u32,
}

/// Not connected, so that messages reach a manager that has bound its socket again.
#[derive(Debug)]
struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Notifier {
    /// Takes the manager's variables out of the environment, so that programs started later do not speak for this daemon.
    ///
    /// Call from `main` before a fork (the watchdog names the first process) and before any thread is started: while there
    /// are several, the environment cannot be changed and the variables stay.
    #[must_use]
    pub fn take_from_environment() -> Self {
        let [socket, watchdog_usec, watchdog_pid] =
            [SOCKET_VARIABLE, WATCHDOG_VARIABLE, WATCHDOG_PID_VARIABLE].map(take_variable);
        Self::new(socket, watchdog_usec, watchdog_pid, std::process::id())
    }

    /// From the values of the variables and the id of this process.
    fn new(
        socket: Option<OsString>,
        watchdog_usec: Option<OsString>,
        watchdog_pid: Option<OsString>,
        pid: u32,
    ) -> Self {
        let number = |text: OsString| text.to_str()?.parse::<u64>().ok();
        let manager = socket.map(|name| Manager::open(&name));
        let is_watched = matches!(manager, Some(Ok(_)))
            && watchdog_pid.is_none_or(|meant| number(meant) == Some(pid.into()));
        let limit_usec = watchdog_usec.and_then(number).filter(|limit| *limit > 0);
        Self {
            manager,
            has_told_failure: AtomicBool::new(false),
            watchdog: limit_usec.filter(|_| is_watched).map(Duration::from_micros),
            started_pid: pid,
        }
    }

    /// Whether there is a manager.
    #[must_use]
    pub const fn has_manager(&self) -> bool {
        self.manager.is_some()
    }

    /// Longest time between two calls of [`Notifier::alive`]. `None`: the manager does not watch.
    #[must_use]
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / SIGNS_PER_WATCHDOG)
    }

    /// The start is over, everything answers. After a fork, the end of the first process says so instead.
    pub fn ready(&self) {
        if self.started_pid == std::process::id() {
            self.send("READY=1");
        }
    }

    /// The stop has begun.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// A sign of life. Check first that there is any.
    pub fn alive(&self) {
        if self.watchdog.is_some() {
            self.send("WATCHDOG=1");
        }
    }

    /// One line for operators, shown by `systemctl status`.
    pub fn status(&self, text: &str) {
        // A line break would start another assignment.
        self.send(&format!("STATUS={}", text.replace(char::is_control, " ")));
    }

    fn send(&self, message: &str) {
        let sent = match &self.manager {
            None => return,
            Some(Ok(manager)) => manager
                .socket
                .send_to_addr(message.as_bytes(), &manager.address),
            Some(Err(error)) => Err(error.kind().into()),
        };
        if let Err(error) = sent
            && !self.has_told_failure.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(%error, "cannot speak to the service manager");
        }
    }
}

impl Manager {
    fn open(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_PATIENCE))?;
        Ok(Self { socket, address })
    }
}

/// The value of a variable, which is gone afterwards.
fn take_variable(name: &str) -> Option<OsString> {
    let value = std::env::var_os(name)?;
    if is_single_threaded() {
        remove_variable(name);
    } else {
        tracing::warn!("{name} stays in the environment: there are several threads");
    }
    Some(value)
}

fn is_single_threaded() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
}

#[expect(
    unsafe_code,
    reason = "changing the environment is unsafe in programs with threads"
)]
fn remove_variable(name: &str) {
    // SAFETY: the caller has seen that there is only this thread, so nobody reads the environment meanwhile.
    unsafe { std::env::remove_var(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A notifier of this process.
    fn own(socket: &OsStr) -> Notifier {
        Notifier::new(Some(socket.to_owned()), None, None, std::process::id())
    }

    fn watched(usec: &str, pid: Option<&str>) -> Notifier {
        let socket = Some("@nobody-listens".into());
        Notifier::new(socket, Some(usec.into()), pid.map(Into::into), 77)
    }

    fn next(manager: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let size = manager.recv(&mut buffer).expect("a message in time");
        String::from_utf8(buffer[..size].to_vec()).unwrap()
    }

    #[test]
    fn messages_reach_sockets_of_both_kinds() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("manager");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("pmxcfs-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let by_name = UnixDatagram::bind_addr(&address).unwrap();
        for (manager, name) in [
            (by_path, path.into_os_string()),
            (by_name, format!("@{name}").into()),
        ] {
            manager.set_read_timeout(Some(PATIENCE)).unwrap();
            let usec = Some("30000000".into());
            let notifier = Notifier::new(Some(name), usec, None, std::process::id());
            notifier.ready();
            notifier.alive();
            notifier.status("synced");
            notifier.stopping();
            let messages: Vec<_> = (0..4).map(|_| next(&manager)).collect();
            assert_eq!(
                messages,
                ["READY=1", "WATCHDOG=1", "STATUS=synced", "STOPPING=1"]
            );
        }
    }

    #[test]
    fn a_status_is_one_assignment() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("manager");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        own(path.as_os_str()).status("a\nMAINPID=1\r\0b");
        assert_eq!(next(&manager), "STATUS=a MAINPID=1  b");
    }

    #[test]
    fn a_process_that_the_manager_did_not_start_says_nothing_of_readiness() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("manager");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        let parent = std::os::unix::process::parent_id();
        let notifier = Notifier::new(Some(path.into_os_string()), None, None, parent);
        notifier.ready();
        notifier.stopping();
        assert_eq!(next(&manager), "STOPPING=1");
    }

    #[test]
    fn a_manager_that_makes_its_socket_anew_is_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("manager");
        let notifier = own(path.as_os_str());
        notifier.ready();
        for _ in 0..2 {
            let manager = UnixDatagram::bind(&path).unwrap();
            manager.set_read_timeout(Some(PATIENCE)).unwrap();
            notifier.stopping();
            assert_eq!(next(&manager), "STOPPING=1");
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_manager_that_does_not_read_holds_nobody_up_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("manager");
        let _manager = UnixDatagram::bind(&path).unwrap();
        let notifier = own(path.as_os_str());
        let failed = || notifier.has_told_failure.load(Ordering::Relaxed);
        // The kernel holds as many datagrams as net.unix.max_dgram_qlen says, far fewer than these.
        for _ in 0..1_000_000 {
            notifier.ready();
            if failed() {
                return;
            }
        }
        panic!("more messages were taken than a queue can hold");
    }

    #[test]
    fn without_a_manager_nothing_is_sent_or_watched() {
        let nobody = Notifier::new(None, None, None, std::process::id());
        nobody.ready();
        assert!(nobody.manager.is_none());
        assert_eq!(nobody.watchdog_interval(), None);
        for name in ["", "relative/path", "vsock:2:1234", &"/long".repeat(40)] {
            let notifier = own(OsStr::new(name));
            assert!(matches!(notifier.manager, Some(Err(_))), "{name:?}");
            notifier.ready();
            assert!(
                notifier.has_told_failure.load(Ordering::Relaxed),
                "{name:?}"
            );
        }
    }

    #[test]
    fn watchdog_is_for_the_process_it_names() {
        for (usec, pid, interval) in [
            ("30000000", None, Some(Duration::from_secs(10))),
            ("30000000", Some("77"), Some(Duration::from_secs(10))),
            ("30000000", Some("78"), None),
            ("30000000", Some("x"), None),
            ("0", Some("77"), None),
            ("-1", Some("77"), None),
            ("99999999999999999999", Some("77"), None),
            ("", None, None),
        ] {
            assert_eq!(
                watched(usec, pid).watchdog_interval(),
                interval,
                "{usec} {pid:?}"
            );
        }
    }
}
