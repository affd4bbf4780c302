//! Threads that live in namespaces of their own.

use std::fs::File;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, setns, unshare};

use crate::children::bind_to_this_thread;

/// Work for a thread.
type Job = Box<dyn FnOnce() + Send>;

/// A thread in namespaces of its own. What it starts ends with it.
#[derive(Debug)]
pub(super) struct Place {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// Thread id, by which `ip` finds the network namespace and everybody the processes.
    pub(super) tid: i32,
    namespaces: Vec<(File, CloneFlags)>,
}

impl Place {
    pub(super) fn new(flags: CloneFlags) -> Self {
        let (jobs, todo) = mpsc::channel::<Job>();
        let (ready, is_ready) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            unshare(flags | CloneFlags::CLONE_FS).expect("root can make namespaces");
            let open = |name: &str| {
                File::open(format!("/proc/thread-self/ns/{name}")).expect("an own namespace")
            };
            let namespaces = [
                ("net", CloneFlags::CLONE_NEWNET),
                ("uts", CloneFlags::CLONE_NEWUTS),
                ("mnt", CloneFlags::CLONE_NEWNS),
            ]
            .map(|(name, flag)| (open(name), flag));
            let tid = nix::unistd::gettid().as_raw();
            ready.send((tid, namespaces)).expect("the maker waits");
            for job in todo {
                job();
            }
        });
        let (tid, namespaces) = is_ready.recv().expect("the thread is alive");
        Self {
            jobs: Some(jobs),
            thread: Some(thread),
            tid,
            namespaces: namespaces.into_iter().collect(),
        }
    }

    /// Runs something on the place's own thread.
    fn on_thread<T: Send + 'static>(&self, action: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        let job = Box::new(move || {
            // The caller waits for the result.
            let _received = done.send(action());
        });
        let jobs = self.jobs.as_ref().expect("the place exists");
        jobs.send(job).expect("the thread is alive");
        result.recv().expect("the job does not panic")
    }

    /// Starts a process that lives no longer than this place.
    pub(super) fn spawn(&self, mut command: Command) -> Child {
        bind_to_this_thread(&mut command);
        let spawned = self.on_thread(move || {
            let child = command.spawn();
            (child, format!("{command:?}"))
        });
        let (child, command) = spawned;
        child.unwrap_or_else(|error| panic!("cannot run {command}: {error}"))
    }

    /// Runs a shell script; it must succeed.
    pub(super) fn script(&self, script: &str) {
        let mut command = Command::new("bash");
        command.args(["-euc", script]).stdin(Stdio::null());
        let status = self
            .spawn(command)
            .wait()
            .expect("a child can be waited for");
        assert!(status.success(), "failed: {script}");
    }

    /// Runs something on another thread in the same namespaces.
    pub(super) fn inside<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                unshare(CloneFlags::CLONE_FS).expect("a thread can have a root of its own");
                for (namespace, kind) in &self.namespaces {
                    setns(namespace, *kind).expect("root can enter a namespace");
                }
                action()
            });
            match thread.join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported where it was waited for.
            let _result = thread.join();
        }
    }
}

/// Names of the switch that all hosts are connected to at first, and of the one for those that are parted from them.
const SWITCH: &str = "switch";
const OTHER_SWITCH: &str = "other";

/// The network between the hosts.
#[derive(Debug)]
pub(super) struct Switch(Place);

impl Switch {
    pub(super) fn new() -> Self {
        let place = Place::new(CloneFlags::CLONE_NEWNET);
        for switch in [SWITCH, OTHER_SWITCH] {
            place.script(&format!(
                "ip link add {switch} type bridge && ip link set {switch} up"
            ));
        }
        Self(place)
    }

    /// Has these hosts see each other and nobody else.
    pub(super) fn part(&self, numbers: &[usize]) {
        self.plug(numbers, OTHER_SWITCH);
    }

    /// Has these hosts see those that were never parted.
    pub(super) fn join(&self, numbers: &[usize]) {
        self.plug(numbers, SWITCH);
    }

    fn plug(&self, numbers: &[usize], switch: &str) {
        for number in numbers {
            self.0
                .script(&format!("ip link set port{number} master {switch}"));
        }
    }

    /// Connects a host.
    pub(super) fn connect(&self, number: usize, place: &Place, address: Ipv4Addr) {
        let tid = place.tid;
        self.0.script(&format!(
            "ip link add port{number} type veth peer name eth0 netns {tid}
             ip link set port{number} master {SWITCH} up"
        ));
        place.script(&format!(
            "ip addr add {address}/24 dev eth0; ip link set eth0 up; ip link set lo up"
        ));
    }
}
