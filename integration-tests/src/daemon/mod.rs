//! Starting, watching and ending real daemons in throw-away directories.
#![expect(clippy::disallowed_types, reason = "a lock of a test has no rank")]

mod programs;
mod supervisor;

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use tempfile::TempDir;

pub use programs::{binary, control_program, database_program};
pub use supervisor::Supervisor;

use crate::ipc_client::IpcClient;
use crate::signals::restore_stop_signals;
use crate::tell::tell;
use crate::watchdog::Watchdog;
use crate::{proc, wait};

/// Name of the node that test daemons believe to be.
pub const NODE_NAME: &str = "node1";

/// A node name that leads to an address that is not loopback, whatever this machine's resolver knows: it is itself an
/// address, of the range for documentation.
pub const RESOLVABLE_NAME: &str = "192.0.2.1";

/// How long a daemon may take to answer its first request, on a busy machine and without optimisation.
pub const START_LIMIT: Duration = Duration::from_secs(20);

/// How long any daemon may take to end after a signal before the harness gives up on it.
pub const STOP_LIMIT: Duration = Duration::from_secs(20);

/// A daemon that has not ended by then is killed, so that no test blocks for ever in a system call on its mount.
const WATCHDOG_LIMIT: Duration = Duration::from_secs(240);

static HOST_COUNT: AtomicU32 = AtomicU32::new(0);

/// A directory that stands for a host's root directory: mount point, state and run directories lie below it. It
/// outlives the daemons started in it and is removed, mounts first, when it is dropped.
#[derive(Debug)]
pub struct Host {
    directory: TempDir,
    ram_directory: Option<TempDir>,
    service: String,
    node_name: &'static str,
    /// The daemon's program, if it is not the one of this build.
    program: Option<PathBuf>,
    /// Daemons that have run here.
    pids: Mutex<Vec<u32>>,
}

impl Host {
    /// An empty host: no database, nothing mounted.
    ///
    /// # Panics
    /// If this process cannot mount: tests that cannot run must not pass.
    #[must_use]
    pub fn new() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests mount a filesystem: run them as root"
        );
        assert!(
            Path::new("/dev/fuse").exists(),
            "these tests mount a filesystem: /dev/fuse is missing (modprobe fuse)"
        );
        let directory = throw_away_directory(&std::env::temp_dir());
        // What every system has; the daemon makes only what lies below.
        for standard in ["etc", "run", "var/lib"] {
            fs::create_dir_all(directory.path().join(standard))
                .expect("an own directory can be filled");
        }
        Self {
            directory,
            ram_directory: None,
            service: format!(
                "pve2-{}-{}",
                std::process::id(),
                HOST_COUNT.fetch_add(1, Ordering::Relaxed)
            ),
            node_name: NODE_NAME,
            program: None,
            pids: Mutex::new(Vec::new()),
        }
    }

    /// The same host, on which another daemon than that of this build runs.
    #[must_use]
    pub fn with_program(mut self, program: &Path) -> Self {
        self.program = Some(program.to_owned());
        self
    }

    /// A host whose node name is this one.
    ///
    /// # Panics
    /// As [`Host::new`].
    #[must_use]
    pub fn with_node_name(name: &'static str) -> Self {
        let mut host = Self::new();
        host.node_name = name;
        host
    }

    /// A host that uses the IPC service name of another one.
    ///
    /// # Panics
    /// As [`Host::new`].
    #[must_use]
    pub fn with_service_of(other: &Self) -> Self {
        let mut host = Self::new();
        host.service.clone_from(&other.service);
        host
    }

    /// A host whose run directory lies in memory, as on a real one.
    ///
    /// # Panics
    /// As [`Host::new`], and without `/dev/shm`.
    #[must_use]
    pub fn with_run_directory_in_ram() -> Self {
        let mut host = Self::new();
        host.ram_directory = Some(throw_away_directory(Path::new("/dev/shm")));
        host
    }

    /// The directory that stands for `/`.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    /// The mount point.
    #[must_use]
    pub fn mount_dir(&self) -> PathBuf {
        self.root().join("etc/pve")
    }

    /// A path in the mounted filesystem.
    #[must_use]
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.mount_dir().join(relative)
    }

    /// Directory of the database and the instance lock.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.root().join("var/lib/pve-cluster")
    }

    /// The database file.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.state_dir().join("config.db")
    }

    /// Directory of the crash journal and the restart flag.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        match &self.ram_directory {
            Some(directory) => directory.path().join("pve-cluster"),
            None => self.root().join("run/pve-cluster"),
        }
    }

    /// The PID file.
    #[must_use]
    pub fn pid_file(&self) -> PathBuf {
        self.root().join("run/pve-cluster.pid")
    }

    /// The restart flag.
    #[must_use]
    pub fn restart_flag(&self) -> PathBuf {
        self.run_dir().join("cfs-restart-flag")
    }

    /// corosync's configuration on this host.
    #[must_use]
    pub fn corosync_conf(&self) -> PathBuf {
        self.root().join("etc/corosync/corosync.conf")
    }

    /// Name of the IPC service, unique on this machine.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.service
    }

    /// Connects to the IPC service.
    ///
    /// # Panics
    /// If it cannot.
    #[must_use]
    pub fn ipc(&self) -> IpcClient {
        IpcClient::connect(&self.service).expect("the daemon's IPC service accepts root")
    }

    /// What the daemons of this host have printed.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(self.log_file()).map_or_else(
            |_none| String::new(),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    /// A command that runs the daemon on this host. Its output goes to the host's log.
    ///
    /// # Panics
    /// If the log cannot be written.
    #[must_use]
    pub fn command<I, A>(&self, options: I) -> Command
    where
        I: IntoIterator<Item = A>,
        A: AsRef<OsStr>,
    {
        let mut command = Command::new(self.program.as_deref().unwrap_or_else(|| binary()));
        command
            .arg("--root-dir")
            .arg(self.root())
            .args(["--node-name", self.node_name, "--ipc-name", &self.service])
            .stdin(Stdio::null())
            .stdout(self.log_stream())
            .stderr(self.log_stream());
        if self.ram_directory.is_some() {
            command.arg("--run-dir").arg(self.run_dir());
        }
        command.args(options);
        command
    }

    /// Starts a daemon in local mode, in the foreground, and waits until its mount answers.
    ///
    /// # Panics
    /// If it ends or does not answer in time.
    #[must_use]
    pub fn start(&self) -> Daemon<'_> {
        self.start_with(["-f", "-l"])
    }

    /// Starts a daemon with these options, `-f` among them, and waits until its mount answers.
    ///
    /// # Panics
    /// If it ends or does not answer in time.
    #[must_use]
    pub fn start_with<const N: usize>(&self, options: [&str; N]) -> Daemon<'_> {
        let mut daemon = self.spawn(options);
        daemon.await_mount();
        daemon
    }

    /// Starts a daemon in the foreground without waiting for anything.
    ///
    /// # Panics
    /// If the program cannot be run.
    #[must_use]
    pub fn spawn<const N: usize>(&self, options: [&str; N]) -> Daemon<'_> {
        restore_stop_signals();
        let started = Instant::now();
        let child = self
            .command(options)
            .spawn()
            .expect("the daemon's binary can be run");
        let pid = child.id();
        self.pids.lock().push(pid);
        Daemon {
            host: self,
            pid,
            child: Some(child),
            started,
            _watchdog: watchdog(pid),
        }
    }

    /// Runs a daemonizing start (no `-f`) to its end and takes charge of the process in the PID file.
    ///
    /// # Panics
    /// If the start fails or there is no PID file when it returns.
    #[must_use]
    pub fn start_in_background(&self) -> Daemon<'_> {
        let started = Instant::now();
        let status = self
            .command(["-l"])
            .status()
            .expect("the daemon's binary can be run");
        assert!(status.success(), "start: {status}\n{}", self.log());
        let pid = self
            .recorded_pid()
            .expect("a PID file when the start has returned");
        self.pids.lock().push(pid);
        Daemon {
            host: self,
            pid,
            child: None,
            started,
            _watchdog: watchdog(pid),
        }
    }

    /// The PID in the PID file, if there is one.
    ///
    /// # Panics
    /// If the file holds anything but a decimal number and a newline.
    #[must_use]
    pub fn recorded_pid(&self) -> Option<u32> {
        let text = fs::read_to_string(self.pid_file()).ok()?;
        let digits = text
            .strip_suffix('\n')
            .expect("the PID file ends with a newline");
        Some(digits.parse().expect("the PID file holds a decimal number"))
    }

    /// Runs a start that must fail, to its end, and returns its exit status.
    ///
    /// # Panics
    /// If it is still running after the start limit.
    pub fn failed_start<const N: usize>(&self, options: [&str; N]) -> ExitStatus {
        let mut daemon = self.spawn(options);
        daemon
            .await_exit()
            .status
            .expect("a child's status is known")
    }

    fn log_stream(&self) -> File {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_file())
            .expect("the log can be written")
    }

    fn log_file(&self) -> PathBuf {
        self.root().join("daemon.log")
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // One mount per killed daemon may lie on top of another.
        while proc::is_mounted(&self.mount_dir())
            && umount2(&self.mount_dir(), MntFlags::MNT_DETACH).is_ok()
        {}
        for pid in self.pids.get_mut() {
            remove_ipc_files(*pid);
        }
        if std::thread::panicking() {
            eprintln!("--- daemon's log\n{}---", self.log());
        }
    }
}

/// Removes the shared memory of connections that a killed daemon has left.
fn remove_ipc_files(pid: u32) {
    let prefix = format!("qb-{pid}-");
    let Ok(entries) = fs::read_dir("/dev/shm") else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            // A client that is still there may remove them at the same time.
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

fn throw_away_directory(parent: &Path) -> TempDir {
    let directory = tempfile::Builder::new()
        .prefix("pmxcfs-")
        .tempdir_in(parent)
        .expect("a throw-away directory can be made");
    // Other users must reach the mount for its own modes to decide.
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))
        .expect("the mode of an own directory can be set");
    directory
}

fn watchdog(pid: u32) -> Watchdog {
    Watchdog::new(WATCHDOG_LIMIT, move || {
        tell(&format!(
            "daemon {pid} has run for {WATCHDOG_LIMIT:?}: killing it"
        ));
        proc::kill(pid);
    })
}

/// How a daemon ended.
#[derive(Debug, Clone, Copy)]
pub struct Exit {
    /// Its status; unknown for one that ran in the background.
    pub status: Option<ExitStatus>,
    /// Time from the signal, or from the call, to the end of the process.
    pub elapsed: Duration,
}

/// A running daemon. Dropping it kills it.
#[derive(Debug)]
pub struct Daemon<'a> {
    host: &'a Host,
    pid: u32,
    child: Option<Child>,
    started: Instant,
    _watchdog: Watchdog,
}

impl Daemon<'_> {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Time since it was started.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Waits until the mount answers: `local` is a symbolic link, which is how clients ask.
    ///
    /// # Panics
    /// If the daemon ends first or takes too long.
    pub fn await_mount(&mut self) {
        let local = self.host.path("local");
        wait::until("the mount to answer", START_LIMIT, || {
            if fs::read_link(&local).is_ok() {
                return Some(());
            }
            if let Some(status) = self
                .child
                .as_mut()
                .and_then(|child| child.try_wait().ok().flatten())
            {
                panic!("the daemon ended: {status}\n{}", self.host.log());
            }
            None
        });
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// If the process is gone.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid).expect("process ids are positive");
        kill(Pid::from_raw(pid), signal).expect("the daemon runs");
    }

    /// Waits until the process has ended.
    ///
    /// # Panics
    /// If that takes too long.
    pub fn await_exit(&mut self) -> Exit {
        let from = Instant::now();
        let status = wait::until("the daemon to end", STOP_LIMIT, || match &mut self.child {
            Some(child) => child
                .try_wait()
                .expect("a child can be waited for")
                .map(Some),
            None => (!proc::is_running(self.pid)).then_some(None),
        });
        Exit {
            status,
            elapsed: from.elapsed(),
        }
    }

    /// Sends a signal and waits for the end.
    pub fn end_with(mut self, signal: Signal) -> Exit {
        self.signal(signal);
        self.await_exit()
    }

    /// Stops it as systemd does.
    ///
    /// # Panics
    /// If it does not end with status 0, or leaves its mount behind.
    pub fn stop(self) -> Duration {
        let host = self.host;
        let exit = self.end_with(Signal::SIGTERM);
        if let Some(status) = exit.status {
            assert_eq!(
                status.code(),
                Some(0),
                "a stop's status; log:\n{}",
                host.log()
            );
        }
        assert!(
            !proc::is_mounted(&host.mount_dir()),
            "the mount is gone after a stop"
        );
        exit.elapsed
    }

    /// Ends it the hard way. The dead mount stays.
    pub fn kill(self) {
        self.end_with(Signal::SIGKILL);
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Both fail only when the process has been waited for already.
            drop(child.kill());
            drop(child.wait());
        } else if proc::is_running(self.pid) {
            self.signal(Signal::SIGKILL);
        }
    }
}
