//! A host of a cluster.
#![expect(clippy::disallowed_types, reason = "a lock of a test has no rank")]

mod corosync;
mod daemon;
mod mount;
mod shim;
mod store;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;

pub use daemon::ignored_stops;
pub use mount::Member;
pub use store::DatabaseHolder;

use super::configuration::{address, configuration};
use super::namespaces::{Place, Switch};
use crate::manager::Manager;
use crate::{proc, wait};

/// Size of the filesystem that holds the database.
const STATE_SIZE: &str = "256m";

/// Time after which a host with the C daemon shows names as they are.
const C_NAMES_LIMIT: Duration = Duration::from_secs(2);

/// Namespaces with a corosync and a daemon.
#[derive(Debug)]
pub struct ClusterHost {
    number: usize,
    name: String,
    c_daemon: Option<PathBuf>,
    program: Option<PathBuf>,
    /// Whether the manager starts the daemons, so that the mount goes from one to the next.
    is_supervised: bool,
    daemon: Mutex<Option<Child>>,
    corosync: Mutex<Option<Child>>,
    manager: Manager,
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
             mount -o remount,size={STATE_SIZE} /var/lib/pve-cluster
             mkdir -p /var/lib/rrdcached/db /etc/pve
             printf '%s' '{hosts}' > /etc/hosts
             printf '%s' '{text}' > /etc/corosync/corosync.conf
             # Nobody can write below an absent mount.
             mount -o remount,ro /etc"
        ));
        switch.connect(number, &place, address(number));
        let manager = place.inside(|| Manager::start("/run/manager".into()));
        Self {
            number,
            name,
            c_daemon: None,
            program: None,
            is_supervised: false,
            daemon: Mutex::new(None),
            corosync: Mutex::new(None),
            manager,
            place,
        }
    }

    /// Something that ends all of its processes, and its mount.
    pub(super) fn killer(&self) -> impl FnOnce() + Send + use<> {
        let threads = [self.place.tid, self.manager.tid];
        let empty_store = self.manager.emptier();
        move || {
            let children = threads.into_iter().flat_map(proc::children_of_thread);
            children.for_each(proc::kill);
            empty_store();
        }
    }

    /// Its name, which is also that of the node.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number, which is also the id of the node.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    /// Takes the C daemon at the next start.
    pub fn use_c_daemon(&mut self, binary: PathBuf) {
        self.c_daemon = Some(binary);
    }

    /// Takes another build of this daemon at the next start.
    pub fn use_program(&mut self, program: &Path) {
        self.program = Some(program.to_owned());
    }

    /// Has a service manager start the daemons from now on: the mount outlives them.
    pub fn supervise(&mut self) {
        self.is_supervised = true;
    }

    /// Whether the daemon is the C daemon: then it may be slower, and say other things.
    #[must_use]
    pub fn is_c(&self) -> bool {
        self.c_daemon.is_some()
    }

    /// Looks at what other nodes have brought about. On a host with the C daemon it looks again for two seconds before it
    /// gives up: the kernel there shows names for up to a second after another node has removed or renamed them.
    pub fn look<T>(&self, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
        if self.is_c() {
            wait::try_until(C_NAMES_LIMIT, probe)
        } else {
            probe()
        }
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

    /// Runs a shell script in the host.
    ///
    /// # Panics
    /// If it fails.
    pub fn script(&self, script: &str) {
        self.place.script(script);
    }

    /// Starts a program that ends with the host at the latest.
    #[must_use]
    pub fn spawn(&self, command: Command) -> Child {
        self.place.spawn(command)
    }
}

impl Drop for ClusterHost {
    fn drop(&mut self) {
        let daemon = self.daemon.get_mut();
        let corosync = self.corosync.get_mut();
        for child in daemon.iter_mut().chain(corosync.iter_mut()) {
            // Both fail only when the process has ended.
            drop(child.kill());
            // Programs that wait in the mount get an error.
            self.manager.empty();
            drop(child.wait());
        }
    }
}

fn send(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).expect("process ids are positive");
    kill(Pid::from_raw(pid), signal).expect("the process runs");
}
