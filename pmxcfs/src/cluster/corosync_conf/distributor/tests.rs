use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Instant;

use pmxcfs_api_types::sync::{Mutex, Rank};
use tokio::sync::mpsc::channel as mpsc_channel;

use super::super::tests::{Log, conf};
use super::*;

/// Longer than anything takes on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A host directory and a database.
struct Bench {
    directory: tempfile::TempDir,
    database: Arc<Mutex<Option<Bytes>>>,
}

impl Bench {
    fn new(host_version: Option<u64>) -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let bench = Self {
            directory,
            database: Arc::new(Mutex::new(Rank::QuorumConnection, None)),
        };
        if let Some(version) = host_version {
            std::fs::write(bench.host_file(), conf(version, "")).expect("written");
        }
        bench
    }

    fn host_file(&self) -> PathBuf {
        self.directory.path().join("corosync.conf")
    }

    fn path(&self, name: &str) -> String {
        let path = self.directory.path().join(name);
        path.to_str().expect("a plain name").to_owned()
    }

    fn set(&self, text: &str) {
        *self.database.lock() = Some(Bytes::copy_from_slice(text.as_bytes()));
    }

    /// A reload that runs a shell script with this directory as `$1`.
    fn reload(&self, script: &str, delay: Duration) -> ReloadCommand {
        let arguments = ["-c", script, "reload", &self.path("")];
        ReloadCommand {
            program: "sh".to_owned(),
            arguments: arguments.map(str::to_owned).to_vec(),
            delay,
            ..ReloadCommand::default()
        }
    }

    fn start(&self, reload: ReloadCommand) -> Running {
        let database = Arc::clone(&self.database);
        self.start_with(reload, move || database.lock().clone())
    }

    fn start_with(
        &self,
        reload: ReloadCommand,
        read: impl Fn() -> Option<Bytes> + Send + Sync + 'static,
    ) -> Running {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let files = Files {
            cluster: "/etc/pve/corosync.conf".into(),
            host: self.host_file(),
        };
        let (distributor, task) = Distributor::start(runtime.handle(), files, reload, read);
        Running {
            runtime,
            distributor,
            task,
        }
    }

    fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.path(name)).ok()
    }

    fn await_content(&self, name: &str, expected: &str) {
        await_that(&format!("{name} has its content"), || {
            self.read(name).as_deref() == Some(expected)
        });
    }
}

/// A distributor on a runtime of its own.
struct Running {
    runtime: tokio::runtime::Runtime,
    distributor: Distributor,
    task: JoinHandle<()>,
}

impl Running {
    fn changed(&self, reload: bool) {
        self.distributor.changed(reload);
    }

    /// Has it do what was ordered, and waits for the end.
    fn stop(self) {
        self.distributor.stop();
        let ended = async { timeout(PATIENCE, self.task).await };
        let ended = self.runtime.block_on(ended).expect("it ends");
        ended.expect("it does not panic");
    }
}

fn await_that(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Notes what corosync would read.
const NOTE: &str = "cat $1/corosync.conf >> $1/read";

#[test]
fn a_change_is_written_and_corosync_reads_it() {
    let bench = Bench::new(Some(3));
    let distributor = bench.start(bench.reload(NOTE, Duration::from_millis(10)));
    bench.set(&conf(4, ""));
    distributor.changed(true);
    bench.await_content("corosync.conf", &conf(4, ""));
    bench.await_content("read", &conf(4, ""));
}

#[test]
fn corosync_is_told_only_by_the_sender_and_only_of_a_change_of_what_it_had() {
    for (host_version, notify) in [
        (None, true),
        (Some(3), false),
        (Some(4), true),
        (Some(5), true),
    ] {
        let bench = Bench::new(host_version);
        let distributor = bench.start(bench.reload(NOTE, Duration::ZERO));
        bench.set(&conf(4, ""));
        distributor.changed(notify);
        distributor.stop();
        let expected = conf(host_version.unwrap_or(0).max(4), "");
        bench.await_content("corosync.conf", &expected);
        assert_eq!(bench.read("read"), None, "{host_version:?} {notify}");
    }
}

#[test]
fn nobody_waits_and_a_burst_is_one_change() {
    let bench = Bench::new(Some(3));
    let (reached, reads) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let released = Mutex::new(Rank::QuorumConnection, released);
    let database = Arc::clone(&bench.database);
    let read = move || {
        reached.send(()).expect("the test listens");
        released.lock().recv().expect("the test answers");
        database.lock().clone()
    };
    let distributor = bench.start_with(bench.reload(NOTE, Duration::from_millis(10)), read);
    distributor.changed(false);
    reads.recv_timeout(PATIENCE).expect("the first one is read");
    for version in 4..1000 {
        bench.set(&conf(version, ""));
        distributor.changed(version == 500);
    }
    release.send(()).expect("it waits");
    reads.recv_timeout(PATIENCE).expect("the rest is read once");
    assert_eq!(bench.read("corosync.conf"), Some(conf(999, "")));
    bench.set(&conf(1000, ""));
    release.send(()).expect("it waits");
    bench.await_content("read", &conf(1000, ""));
    distributor.stop();
    assert!(reads.try_recv().is_err(), "nothing else was read");
}

#[test]
fn a_stop_does_what_was_ordered() {
    let bench = Bench::new(Some(3));
    let distributor = bench.start(bench.reload(NOTE, Duration::from_secs(600)));
    bench.set(&conf(4, ""));
    distributor.changed(true);
    distributor.stop();
    bench.await_content("corosync.conf", &conf(4, ""));
    bench.await_content("read", &conf(4, ""));
}

#[test]
fn a_runtime_ends_without_waiting_for_corosync_or_the_disk() {
    let bench = Bench::new(Some(3));
    nix::unistd::mkfifo(
        Path::new(&bench.path("gate")),
        nix::sys::stat::Mode::S_IRWXU,
    )
    .expect("made");
    let script = "touch $1/started; read line < $1/gate; touch $1/ended";
    let distributor = bench.start(bench.reload(script, Duration::ZERO));
    bench.set(&conf(4, ""));
    distributor.changed(true);
    bench.await_content("started", "");
    distributor.distributor.stop();
    distributor
        .runtime
        .shutdown_timeout(Duration::from_millis(20));
    assert_eq!(bench.read("ended"), None);
    std::fs::write(bench.path("gate"), "go\n").expect("it still runs");
    bench.await_content("ended", "");

    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(Rank::QuorumConnection, released);
    let read = move || {
        // Ends when the test does.
        let _released = released.lock().recv();
        None
    };
    let distributor = bench.start_with(ReloadCommand::default(), read);
    distributor.changed(true);
    distributor.distributor.stop();
    distributor
        .runtime
        .shutdown_timeout(Duration::from_millis(20));
    drop(release);
}

#[tokio::test(start_paused = true)]
async fn a_text_that_was_written_later_gets_its_own_time() {
    let delay = Duration::from_secs(1);
    let start = tokio::time::Instant::now();
    let (written, to_read) = mpsc_channel(1);
    let (started, mut starts) = mpsc_channel(10);
    let reload = async move || {
        let told = started.send(start.elapsed()).await;
        told.expect("the test listens");
    };
    let reloads = tokio::spawn(reload_what_is_written(to_read, delay, reload));
    for _ in 0..3 {
        written.send(()).await.expect("it listens");
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    // The texts of 0.4 and 0.8 s share a reload.
    assert_eq!(starts.recv().await, Some(delay));
    assert_eq!(starts.recv().await, Some(2 * delay));
    written.send(()).await.expect("it listens");
    drop(written);
    assert_eq!(
        starts.recv().await,
        Some(2 * delay),
        "the end is in a hurry"
    );
    assert_eq!(starts.recv().await, None);
    reloads.await.expect("it does not panic");
}

/// Runs one reload to its end and gives the log.
fn log_of(command: &ReloadCommand) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let ((), log) = Log::of(|| runtime.block_on(command.run()));
    log
}

#[test]
fn the_log_says_how_a_reload_ended() {
    let bench = Bench::new(None);
    let log = |script| log_of(&bench.reload(script, Duration::ZERO));
    let failed = log("echo 'Could not reload' >&2; exit 3");
    assert!(
        failed.contains("ERROR") && failed.contains("exit status: 3"),
        "{failed}"
    );
    assert!(failed.contains("Could not reload"), "{failed}");
    let killed = log("kill -KILL $$");
    assert!(
        killed.contains("ERROR") && killed.contains("signal: 9"),
        "{killed}"
    );
    let good = log("echo chatter >&2");
    assert!(good.contains("INFO") && !good.contains("chatter"), "{good}");

    let missing = log_of(&ReloadCommand {
        program: "corosync-cfgtool-that-is-not-there".to_owned(),
        ..ReloadCommand::default()
    });
    assert!(
        missing.contains("ERROR") && missing.contains("cannot run"),
        "{missing}"
    );
}

#[test]
fn a_reload_that_never_ends_is_ended() {
    let bench = Bench::new(None);
    let hanging = ReloadCommand {
        patience: Duration::from_millis(20),
        ..bench.reload("exec sleep 600", Duration::ZERO)
    };
    let log = log_of(&hanging);
    assert!(log.contains("does not finish"), "{log}");
}
