//! A host with a corosync.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::runtime::Runtime;

/// Longest wait for anything: the machine may be busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

const CONFIGURATION: &str = "/etc/corosync/corosync.conf";

/// What a configuration can be like.
pub(crate) struct Configuration<'a> {
    pub(crate) cluster: &'static str,
    pub(crate) version: u32,
    /// Names of the nodes; ids count from 1. Only the first one exists.
    pub(crate) nodes: &'a [&'a [u8]],
    pub(crate) has_quorum_provider: bool,
}

impl Default for Configuration<'_> {
    fn default() -> Self {
        Self {
            cluster: "test",
            version: 1,
            nodes: &[b"node1"],
            has_quorum_provider: true,
        }
    }
}

impl Configuration<'_> {
    fn render(&self) -> Vec<u8> {
        let Self {
            cluster, version, ..
        } = self;
        let provider = if self.has_quorum_provider {
            "provider: corosync_votequorum"
        } else {
            ""
        };
        let mut text = format!(
            "totem {{\n version: 2\n cluster_name: {cluster}\n config_version: {version}\n transport: knet\n}}\n\
             quorum {{\n {provider}\n}}\n\
             logging {{\n to_syslog: no\n to_stderr: no\n to_logfile: yes\n logfile: /run/corosync.log\n}}\n\
             nodelist {{\n"
        )
        .into_bytes();
        for (id, name) in (1..).zip(self.nodes) {
            text.extend_from_slice(b" node {\n  name: ");
            text.extend_from_slice(name);
            let rest =
                format!("\n  nodeid: {id}\n  quorum_votes: 1\n  ring0_addr: 127.0.0.{id}\n }}\n");
            text.extend_from_slice(rest.as_bytes());
        }
        text.extend_from_slice(b"}\n");
        text
    }
}

/// The thread that has it, and everything that thread starts, is on this host.
pub(crate) struct Host {
    corosync: Option<Child>,
}

/// Runs a test on a host of its own, where corosync runs.
pub(crate) fn on_host(configuration: &Configuration<'_>, test: impl FnOnce(&mut Host) + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut host = Host::new(configuration);
            host.start_corosync();
            test(&mut host);
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

impl Host {
    fn new(configuration: &Configuration<'_>) -> Self {
        let spaces = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS;
        unshare(spaces).expect("root can make namespaces");
        let host = Self { corosync: None };
        host.run(
            "bash",
            &[
                "-euc",
                "mount --make-rprivate /
                 hostname node1
                 for directory in /run /dev/shm /etc/corosync /var/lib/corosync; do
                   mount -t tmpfs tmpfs $directory
                 done
                 ip link set lo up",
            ],
        );
        host.configure(configuration);
        host
    }

    /// Writes corosync's configuration.
    pub(crate) fn configure(&self, configuration: &Configuration<'_>) {
        std::fs::write(CONFIGURATION, configuration.render()).expect("root may write it");
    }

    /// Starts corosync and waits until it answers.
    pub(crate) fn start_corosync(&mut self) {
        // The kernel ends it with this thread, whatever happens.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "corosync", "-f"])
            .stdin(Stdio::null())
            .spawn()
            .expect("setpriv of util-linux is installed");
        let child = self.corosync.insert(child);
        wait_until("corosync to answer", || {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                let log = std::fs::read_to_string("/run/corosync.log").unwrap_or_default();
                panic!("corosync ended: {status}\n{log}");
            }
            succeeds("corosync-cfgtool", &["-s"])
                && succeeds("corosync-cmapctl", &["totem.version"])
        });
    }

    /// Ends corosync without a word to its clients.
    pub(crate) fn kill_corosync(&mut self) {
        let mut child = self.corosync.take().expect("corosync runs");
        child.kill().expect("a child can be killed");
        child.wait().expect("a child can be waited for");
    }

    /// Sends it a signal.
    pub(crate) fn signal_corosync(&self, signal: Signal) {
        let child = self.corosync.as_ref().expect("corosync runs");
        let pid = i32::try_from(child.id()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("it has not been waited for");
    }

    /// Runs a program, which must succeed, and returns what it wrote.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        String::from_utf8(output.stdout).expect("a text")
    }

    /// Makes this side quorate or not, by the votes that are expected.
    pub(crate) fn set_quorate(&self, is_quorate: bool) {
        self.change_quorum([is_quorate]);
    }

    /// The same, as fast as corosync can.
    pub(crate) fn change_quorum(&self, states: impl IntoIterator<Item = bool>) {
        let set = |is_quorate| {
            let votes = if is_quorate { 1 } else { 3 };
            format!("quorum.expected_votes u32 {votes}\n")
        };
        let commands: String = states.into_iter().map(set).collect();
        std::fs::write("/run/votes", commands).expect("root may write it");
        self.run("corosync-cmapctl", &["-p", "/run/votes"]);
    }

    /// Runs a test's tasks as the daemon runs its own: on one worker.
    pub(crate) fn runtime(&self) -> Runtime {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("threads can be started")
    }

    /// Local sockets in use on this host, by which corosync and its clients talk.
    pub(crate) fn socket_count(&self) -> usize {
        let sockets = std::fs::read_to_string("/proc/thread-self/net/unix");
        sockets.expect("an own network").lines().count() - 1
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.corosync.is_some() {
            self.kill_corosync();
        }
    }
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap_or_else(|error| panic!("cannot run {program}: {error}"))
        .success()
}

/// Asks until the answer is yes.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Waits for something that must come.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LIMIT, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}
