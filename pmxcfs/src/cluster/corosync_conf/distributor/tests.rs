use std::path::Path;
use std::sync::mpsc;

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
            database: Arc::default(),
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
        }
    }

    fn start(&self, reload: ReloadCommand) -> Distributor {
        let database = Arc::clone(&self.database);
        let read = move || database.lock().clone();
        Distributor::start(self.host_file(), "node1".to_owned(), reload, read).expect("started")
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
        let mut distributor = bench.start(bench.reload(NOTE, Duration::ZERO));
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
    let database = Arc::clone(&bench.database);
    let read = move || {
        reached.send(()).expect("the test listens");
        released.recv().expect("the test answers");
        database.lock().clone()
    };
    let reload = bench.reload(NOTE, Duration::from_millis(10));
    let mut distributor =
        Distributor::start(bench.host_file(), "node1".to_owned(), reload, read).expect("started");
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
    let mut distributor = bench.start(bench.reload(NOTE, Duration::from_secs(600)));
    bench.set(&conf(4, ""));
    distributor.changed(true);
    distributor.stop();
    bench.await_content("corosync.conf", &conf(4, ""));
    bench.await_content("read", &conf(4, ""));
}

#[test]
fn a_stop_waits_neither_for_corosync_nor_for_the_disk() {
    let bench = Bench::new(Some(3));
    nix::unistd::mkfifo(
        Path::new(&bench.path("gate")),
        nix::sys::stat::Mode::S_IRWXU,
    )
    .expect("made");
    let script = "touch $1/started; read line < $1/gate; touch $1/ended";
    let mut distributor = bench.start(bench.reload(script, Duration::ZERO));
    bench.set(&conf(4, ""));
    distributor.changed(true);
    bench.await_content("started", "");
    distributor.stop();
    assert_eq!(bench.read("ended"), None);
    std::fs::write(bench.path("gate"), "go\n").expect("it still runs");
    bench.await_content("ended", "");

    let (release, released) = mpsc::channel::<()>();
    let read = move || {
        // Ends when the test does.
        let _released = released.recv();
        None
    };
    let mut distributor = Distributor::start(
        bench.host_file(),
        "node1".to_owned(),
        ReloadCommand::default(),
        read,
    )
    .expect("started");
    distributor.changed(true);
    distributor.stop();
    drop(release);
}

#[test]
fn a_text_that_was_written_later_gets_its_own_time() {
    let bench = Bench::new(None);
    let mut reloads = Reloads::new(bench.reload("", Duration::from_secs(1)));
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    reloads.order(at(0));
    reloads.order(at(400));
    reloads.order(at(900));
    assert_eq!(reloads.due, Some(at(1000)));
    reloads.progress(at(999));
    assert!(reloads.running.is_none());
    reloads.progress(at(1000));
    assert!(reloads.running.is_some());
    assert_eq!(reloads.due, Some(at(1900)));
    await_that("the first reload ends", || {
        let running = reloads.running.as_ref().expect("it was started");
        let pid = running.child.id();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("not reaped yet");
        stat.contains(") Z")
    });
    reloads.progress(at(1899));
    assert!(reloads.running.is_none());
    reloads.progress(at(1900));
    assert!(reloads.running.is_some());
    assert_eq!((reloads.due, reloads.last_order), (None, None));
}

/// Runs one reload to its end and gives the log.
fn log_of(command: ReloadCommand, after: Duration) -> String {
    let ((), log) = Log::of(|| {
        let mut reloads = Reloads::new(command);
        let deadline = Instant::now() + PATIENCE;
        reloads.order(Instant::now());
        reloads.progress(Instant::now() + reloads.command.delay);
        while reloads.running.is_some() {
            assert!(Instant::now() < deadline, "it ends");
            reloads.progress(Instant::now() + after);
        }
    });
    log
}

#[test]
fn the_log_says_how_a_reload_ended() {
    let bench = Bench::new(None);
    let log = |script| log_of(bench.reload(script, Duration::ZERO), Duration::ZERO);
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

    let missing = ReloadCommand {
        program: "corosync-cfgtool-that-is-not-there".to_owned(),
        ..ReloadCommand::default()
    };
    let missing = log_of(missing, Duration::ZERO);
    assert!(
        missing.contains("ERROR") && missing.contains("cannot run"),
        "{missing}"
    );
}

#[test]
fn a_reload_that_never_ends_is_ended() {
    let bench = Bench::new(None);
    let hanging = bench.reload("exec sleep 600", Duration::ZERO);
    let log = log_of(hanging, RELOAD_PATIENCE);
    assert!(log.contains("does not finish"), "{log}");
}
