//! Messages to the service manager: the daemon serves, it stops, it is alive, its health in one line.
//!
//! The manager names a datagram socket in the environment; one datagram holds lines of `NAME=value` (sd_notify(3)). The
//! protocol is a few lines, so the daemon does not link libsystemd for it. Nothing here can fail the daemon: without a manager it
//! sends nothing, and it logs once that a message did not arrive.
//!
//! Only the process that the manager has started says that the daemon is ready. A start in the background is over when that
//! process ends; until then the manager complains about messages of any other.

use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};

use super::environment::{self, ManagerVariables};
use super::restart;

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
    unit: Option<String>,
}

/// Not connected, so that messages reach a manager that has bound its socket again.
#[derive(Debug)]
struct Manager {
    socket: UnixDatagram,
    address: UnixAddr,
}

impl Notifier {
    /// The manager of the variables that this process was started with. Call before a fork: the watchdog names the first process.
    pub fn new(variables: &ManagerVariables) -> Self {
        let pid = std::process::id();
        let manager = variables.get(environment::SOCKET).map(Manager::open);
        let meant = variables.get(environment::WATCHDOG_PID);
        let is_watched = matches!(manager, Some(Ok(_)))
            && (meant.is_none() || variables.number(environment::WATCHDOG_PID) == Some(pid.into()));
        let limit_usec = variables.number(environment::WATCHDOG);
        let limit_usec = limit_usec.filter(|limit| *limit > 0 && is_watched);
        Self {
            manager,
            has_told_failure: AtomicBool::new(false),
            watchdog: limit_usec.map(Duration::from_micros),
            started_pid: pid,
            unit: variables
                .get(environment::UNIT)
                .and_then(|unit| unit.to_str().map(str::to_owned)),
        }
    }

    /// Whether the manager has said that it starts the daemon again when this process has ended. Call it on a runtime.
    pub(super) async fn starts_again(&self) -> bool {
        match &self.unit {
            Some(unit) if self.has_manager() => restart::is_under_way(unit).await,
            _ => false,
        }
    }

    /// Whether there is a manager.
    pub const fn has_manager(&self) -> bool {
        self.manager.is_some()
    }

    /// Longest time between two calls of [`Notifier::alive`]. `None`: the manager does not watch.
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

    /// Has the manager keep a descriptor beyond the end of this process, and give it to the next one under this name. Only the
    /// process that the manager has started may ask for that. The manager does not watch the descriptor, so that a device may be one.
    pub fn keep(&self, name: &str, descriptor: BorrowedFd<'_>) {
        if self.started_pid == std::process::id() {
            let message = format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0");
            self.send_with(&message, Some(descriptor));
        }
    }

    /// Has the manager close what it keeps under this name.
    pub fn let_go(&self, name: &str) {
        if self.started_pid == std::process::id() {
            self.send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"));
        }
    }

    fn send(&self, message: &str) {
        self.send_with(message, None);
    }

    fn send_with(&self, message: &str, descriptor: Option<BorrowedFd<'_>>) {
        let sent = match &self.manager {
            None => return,
            Some(Ok(manager)) => manager.send(message, descriptor),
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
            [b'@', name @ ..] => UnixAddr::new_abstract(name)?,
            [b'/', ..] => UnixAddr::new(Path::new(name))?,
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_PATIENCE))?;
        Ok(Self { socket, address })
    }

    fn send(&self, message: &str, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let descriptors: Vec<_> = descriptor.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&descriptors)];
        sendmsg(
            self.socket.as_raw_fd(),
            &[IoSlice::new(message.as_bytes())],
            &rights[..descriptors.len().min(1)],
            MsgFlags::empty(),
            Some(&self.address),
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn variables(values: &[(&'static str, &OsStr)]) -> ManagerVariables {
        let none = ManagerVariables::default();
        values
            .iter()
            .fold(none, |all, (name, value)| all.with(name, value))
    }

    /// A notifier of this process.
    fn own(socket: &OsStr) -> Notifier {
        Notifier::new(&variables(&[(environment::SOCKET, socket)]))
    }

    fn watched(usec: &str, pid: Option<String>) -> Notifier {
        let mut all = variables(&[
            (environment::SOCKET, "@nobody-listens".as_ref()),
            (environment::WATCHDOG, usec.as_ref()),
        ]);
        if let Some(pid) = pid {
            all = all.with(environment::WATCHDOG_PID, pid);
        }
        Notifier::new(&all)
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
            let notifier = Notifier::new(&variables(&[
                (environment::SOCKET, &name),
                (environment::WATCHDOG, "30000000".as_ref()),
            ]));
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
        let notifier = Notifier {
            started_pid: std::os::unix::process::parent_id(),
            ..own(path.as_os_str())
        };
        notifier.ready();
        notifier.keep("null", File::open("/dev/null").unwrap().as_fd());
        notifier.let_go("null");
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
        let nobody = Notifier::new(&ManagerVariables::default());
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
        let own = Some(std::process::id().to_string());
        for (usec, pid, interval) in [
            ("30000000", None, Some(Duration::from_secs(10))),
            ("30000000", own.clone(), Some(Duration::from_secs(10))),
            ("30000000", Some("1".to_owned()), None),
            ("30000000", Some("x".to_owned()), None),
            ("0", own.clone(), None),
            ("-1", own.clone(), None),
            ("99999999999999999999", own, None),
            ("", None, None),
        ] {
            assert_eq!(
                watched(usec, pid.clone()).watchdog_interval(),
                interval,
                "{usec} {pid:?}"
            );
        }
    }
}
