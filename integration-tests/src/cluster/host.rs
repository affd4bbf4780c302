//! A host of a cluster.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::corosync::{address, configuration};
use super::namespaces::{Place, Switch};
use super::{Cluster, LIMIT};
use crate::{IpcClient, daemon, wait};

/// Time in which a daemon has to obey SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// Where the daemon mounts.
const MOUNT: &str = "/etc/pve";

/// Where it keeps its database.
const DATABASE: &str = "/var/lib/pve-cluster/config.db";

/// A node as `.members` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Node id.
    pub id: u64,
    /// Whether it is in the group.
    pub is_online: bool,
    /// Its address, if it told one.
    pub address: Option<String>,
}

/// Namespaces with a corosync and a daemon.
#[derive(Debug)]
pub struct ClusterHost {
    number: usize,
    name: String,
    c_daemon: Option<PathBuf>,
    daemon: Option<Child>,
    corosync: parking_lot::Mutex<Option<Child>>,
    logs: tempfile::TempDir,
    place: Place,
}

impl ClusterHost {
    pub(super) fn new(switch: &Switch, number: usize, size: usize) -> Self {
        let flags = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS;
        let place = Place::new(flags);
        let name = format!("node{number}");
        let mut hosts = "127.0.0.1 localhost\n".to_owned();
        for other in 1..=size {
            hosts.push_str(&format!("{} node{other}\n", address(other)));
        }
        let text = configuration(size, 1);
        place.script(&format!(
            "mount --make-rprivate /
             hostname {name}
             mount -t tmpfs tmpfs /run
             mkdir -p /run/lock /run/etc/upper /run/etc/work
             mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work /etc
             for directory in /dev/shm /etc/corosync /var/lib/corosync /var/lib/pve-cluster /var/lib/rrdcached; do
               mkdir -p $directory
               mount -t tmpfs tmpfs $directory
             done
             mkdir -p /var/lib/rrdcached/db /etc/pve
             printf '%s' '{hosts}' > /etc/hosts
             printf '%s' '{text}' > /etc/corosync/corosync.conf
             # Nobody can write below an absent mount.
             mount -o remount,ro /etc"
        ));
        switch.connect(number, &place, address(number));
        Self {
            number,
            name,
            c_daemon: None,
            daemon: None,
            corosync: parking_lot::Mutex::new(None),
            logs: tempfile::tempdir().expect("a directory for logs"),
            place,
        }
    }

    /// Its name, which is also that of the node.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes the C daemon at the next start.
    pub fn use_c_daemon(&mut self, binary: PathBuf) {
        self.c_daemon = Some(binary);
    }

    /// Whether the daemon is the C daemon: then it may be slower, and say other things.
    #[must_use]
    pub fn is_c(&self) -> bool {
        self.c_daemon.is_some()
    }

    /// Runs something with the host's network, files and name. More than one caller at a time is fine.
    pub fn inside<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        self.place.inside(action)
    }

    /// Runs a program to its end.
    ///
    /// # Panics
    /// If it cannot be run.
    #[must_use]
    pub fn run(&self, program: &str, arguments: &[&str]) -> Output {
        self.inside(|| {
            Command::new(program)
                .args(arguments)
                .stdin(Stdio::null())
                .output()
                .unwrap_or_else(|error| panic!("cannot run {program}: {error}"))
        })
    }

    /// Starts a program that ends with the host at the latest.
    #[must_use]
    pub fn spawn(&self, command: Command) -> Child {
        self.place.spawn(command)
    }
}

/// Corosync and the network.
impl ClusterHost {
    /// Starts corosync and waits until it answers.
    ///
    /// # Panics
    /// If it does not.
    pub fn start_corosync(&self) {
        let mut command = Command::new("corosync");
        command
            .arg("-f")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        *self.corosync.lock() = Some(self.place.spawn(command));
        wait::until("corosync to answer", LIMIT, || {
            let output = self.run("corosync-cfgtool", &["-s"]);
            output.status.success().then_some(())
        });
    }

    /// Ends corosync the hard way.
    pub fn kill_corosync(&self) {
        self.end_corosync(Signal::SIGKILL);
    }

    /// Ends corosync in order.
    pub fn stop_corosync(&self) {
        self.end_corosync(Signal::SIGTERM);
    }

    fn end_corosync(&self, signal: Signal) {
        if let Some(mut child) = self.corosync.lock().take() {
            send(&child, signal);
            child.wait().expect("a child can be waited for");
        }
    }

    /// Stops and continues corosync, as a stalled machine would.
    ///
    /// # Panics
    /// If it does not run.
    pub fn signal_corosync(&self, signal: Signal) {
        let corosync = self.corosync.lock();
        send(corosync.as_ref().expect("corosync runs"), signal);
    }

    /// Waits until corosync is quorate or not.
    ///
    /// # Panics
    /// If it does not become so.
    pub fn await_quorum(&self, is_quorate: bool) {
        let expected = if is_quorate { "Yes" } else { "No" };
        wait::until("corosync's quorum", LIMIT, || {
            let output = self.run("corosync-quorumtool", &["-s"]);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.lines()
                .any(|line| line.starts_with("Quorate:") && line.ends_with(expected))
                .then_some(())
        });
    }

    /// Takes the network away.
    pub fn cut(&self) {
        self.place.script("ip link set eth0 down");
    }

    /// Gives the network back.
    pub fn heal(&self) {
        let address = address(self.number);
        self.place.script(&format!(
            "ip link set eth0 up; ip addr replace {address}/24 dev eth0"
        ));
    }

    /// A configuration of corosync with another version.
    #[must_use]
    pub fn corosync_conf(size: usize, version: u32) -> String {
        configuration(size, version)
    }
}

/// The daemon.
impl ClusterHost {
    /// Starts the daemon and waits until its mount answers.
    ///
    /// # Panics
    /// If that fails.
    pub fn start_daemon(&mut self) {
        let mut child = self.spawn_daemon();
        let answers = wait::try_until(LIMIT, || {
            if self.answers() {
                return Some(());
            }
            let ended = child.try_wait().expect("a child can be waited for");
            if let Some(status) = ended {
                panic!(
                    "the daemon of {} ended: {status}\n{}",
                    self.name,
                    self.log()
                );
            }
            None
        });
        assert!(
            answers.is_some(),
            "no mount on {}\n{}",
            self.name,
            self.log()
        );
        self.daemon = Some(child);
    }

    /// Starts the daemon and leaves it to the caller.
    ///
    /// # Panics
    /// If it cannot be run.
    #[must_use]
    pub fn spawn_daemon(&self) -> Child {
        let append = || -> File {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(self.log_file())
                .expect("the log can be written")
        };
        let binary = match &self.c_daemon {
            Some(binary) => binary.as_path(),
            None => daemon::binary(),
        };
        let mut command = Command::new(binary);
        command
            .arg("-f")
            .stdin(Stdio::null())
            .stdout(append())
            .stderr(append());
        self.place.spawn(command)
    }

    pub(super) fn take_daemon(&mut self) -> Child {
        self.daemon.take().expect("a daemon runs")
    }

    pub(super) fn return_daemon(&mut self, daemon: Child) {
        self.daemon = Some(daemon);
    }

    /// Whether the mount answers.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.inside(|| fs::read_link(format!("{MOUNT}/local")).is_ok())
    }

    /// Whether a daemon was started and not ended since.
    #[must_use]
    pub fn has_daemon(&self) -> bool {
        self.daemon.is_some()
    }

    /// Process id of the daemon.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().expect("a daemon runs").id()
    }

    /// Sends the daemon a signal.
    ///
    /// # Panics
    /// If there is none.
    pub fn signal_daemon(&self, signal: Signal) {
        send(self.daemon.as_ref().expect("a daemon runs"), signal);
    }

    /// Stops the daemon as systemd does.
    ///
    /// # Panics
    /// If it takes 2 s or its status is not 0.
    pub fn stop_daemon(&mut self) -> Duration {
        let mut child = self.daemon.take().expect("a daemon runs");
        let from = Instant::now();
        send(&child, Signal::SIGTERM);
        let status = self.await_end(&mut child);
        let elapsed = from.elapsed();
        assert_eq!(status.code(), Some(0), "{}\n{}", self.name, self.log());
        assert!(
            self.is_c() || elapsed < STOP_LIMIT,
            "{} took {elapsed:?} to stop\n{}",
            self.name,
            self.log()
        );
        elapsed
    }

    /// Ends the daemon the hard way.
    ///
    /// # Panics
    /// If there is none.
    pub fn kill_daemon(&mut self) {
        let mut child = self.daemon.take().expect("a daemon runs");
        send(&child, Signal::SIGKILL);
        self.await_end(&mut child);
    }

    /// Waits for a daemon that was sent a signal it does not survive.
    ///
    /// # Panics
    /// If there is none.
    pub fn reap_daemon(&mut self) {
        let mut child = self.daemon.take().expect("a daemon runs");
        self.await_end(&mut child);
    }

    fn await_end(&self, child: &mut Child) -> ExitStatus {
        let ended = wait::try_until(LIMIT, || {
            child.try_wait().expect("a child can be waited for")
        });
        ended.unwrap_or_else(|| panic!("{} does not end\n{}", self.name, self.log()))
    }

    /// What the daemon logged, over all of its starts.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.logs.path().join("daemon.log")
    }

    /// Removes the database, as one does before joining another cluster.
    ///
    /// # Panics
    /// If a daemon runs.
    pub fn remove_database(&self) {
        assert!(self.daemon.is_none(), "the daemon uses it");
        self.inside(|| {
            for entry in fs::read_dir("/var/lib/pve-cluster").expect("the state directory") {
                let path = entry.expect("an entry").path();
                if path.is_file() {
                    fs::remove_file(path).expect("root may remove it");
                }
            }
        });
    }

    /// All rows of the database, as text. The type of the version row may be 4 or 8.
    ///
    /// # Panics
    /// If it cannot be read.
    #[must_use]
    pub fn database_rows(&self) -> String {
        let rows = "SELECT inode, parent, version, writer, mtime, \
                    CASE inode WHEN 0 THEN 0 ELSE type END, name, hex(data) FROM tree ORDER BY inode";
        self.inside(|| crate::database::query(Path::new(DATABASE), rows))
    }

    /// Path of the database within the host.
    #[must_use]
    pub const fn database() -> &'static str {
        DATABASE
    }
}

/// What is in the mount.
impl ClusterHost {
    /// Reads a file below the mount.
    ///
    /// # Errors
    /// As the system calls.
    pub fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        self.inside(|| fs::read(format!("{MOUNT}/{path}")))
    }

    /// Writes a file below the mount: open with truncation, write, close.
    ///
    /// # Errors
    /// As the system calls.
    pub fn write(&self, path: &str, data: &[u8]) -> io::Result<()> {
        self.inside(|| {
            let mut file = File::create(format!("{MOUNT}/{path}"))?;
            file.write_all(data)
        })
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// As the system call.
    pub fn mkdir(&self, path: &str) -> io::Result<()> {
        self.inside(|| fs::create_dir(format!("{MOUNT}/{path}")))
    }

    /// Makes a directory and those above it.
    ///
    /// # Errors
    /// As the system calls.
    pub fn mkdir_all(&self, path: &str) -> io::Result<()> {
        self.inside(|| fs::create_dir_all(format!("{MOUNT}/{path}")))
    }

    /// Removes a file or an empty directory.
    ///
    /// # Errors
    /// As the system calls.
    pub fn remove(&self, path: &str) -> io::Result<()> {
        self.inside(|| {
            let path = format!("{MOUNT}/{path}");
            match fs::symlink_metadata(&path)?.is_dir() {
                true => fs::remove_dir(path),
                false => fs::remove_file(path),
            }
        })
    }

    /// Renames.
    ///
    /// # Errors
    /// As the system call.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inside(|| fs::rename(format!("{MOUNT}/{from}"), format!("{MOUNT}/{to}")))
    }

    /// Permission bits.
    ///
    /// # Errors
    /// As the system call.
    pub fn mode(&self, path: &str) -> io::Result<u32> {
        self.inside(|| {
            let meta = fs::symlink_metadata(format!("{MOUNT}/{path}"))?;
            Ok(meta.permissions().mode() & 0o7777)
        })
    }

    /// All replicated files and directories with their contents. Generated files and links are left out.
    ///
    /// # Errors
    /// If something cannot be read.
    pub fn tree(&self) -> io::Result<BTreeMap<PathBuf, Option<Vec<u8>>>> {
        self.inside(|| {
            let mut tree = BTreeMap::new();
            collect(Path::new(MOUNT), true, &mut tree)?;
            Ok(tree)
        })
    }

    /// Nodes as `.members` shows them. Empty if it shows none.
    ///
    /// # Errors
    /// If it cannot be read or is no JSON.
    pub fn members(&self) -> io::Result<BTreeMap<String, Member>> {
        let document: serde_json::Value = serde_json::from_slice(&self.read(".members")?)?;
        let Some(nodes) = document["nodelist"].as_object() else {
            return Ok(BTreeMap::new());
        };
        let member = |value: &serde_json::Value| Member {
            id: value["id"].as_u64().unwrap_or(0),
            is_online: value["online"] == 1,
            address: value["ip"].as_str().map(str::to_owned),
        };
        let members = nodes.iter();
        Ok(members
            .map(|(name, value)| (name.clone(), member(value)))
            .collect())
    }

    /// Does something with an IPC connection to the daemon.
    ///
    /// # Panics
    /// If it cannot be had.
    pub fn ipc<T: Send>(&self, action: impl FnOnce(&mut IpcClient) -> T + Send) -> T {
        self.inside(|| {
            let mut client = IpcClient::connect("pve2").expect("the daemon serves IPC");
            action(&mut client)
        })
    }
}

impl Drop for ClusterHost {
    fn drop(&mut self) {
        for child in self
            .daemon
            .iter_mut()
            .chain(self.corosync.get_mut().iter_mut())
        {
            // Both fail only when the process has ended.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn send(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).expect("process ids are positive");
    kill(Pid::from_raw(pid), signal).expect("the process runs");
}

fn collect(
    directory: &Path,
    is_root: bool,
    tree: &mut BTreeMap<PathBuf, Option<Vec<u8>>>,
) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let path = entry.path();
        let is_generated = is_root && entry.file_name().to_string_lossy().starts_with('.');
        if kind.is_symlink() || is_generated {
            continue;
        }
        if kind.is_dir() {
            collect(&path, false, tree)?;
            tree.insert(path, None);
        } else {
            let data = fs::read(&path)?;
            tree.insert(path, Some(data));
        }
    }
    Ok(())
}

/// So that a failing test can show everything.
impl std::fmt::Display for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.logs())
    }
}
