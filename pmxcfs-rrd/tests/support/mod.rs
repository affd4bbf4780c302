//! What the tests with real files share: the command line tools, and a private rrdcached.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pmxcfs_rrd::{RrdConfig, RrdWriter};
use tempfile::TempDir;

/// More than anything here takes on a slow machine.
pub(crate) fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// Waits until everything submitted before has been handed to RRD.
pub(crate) fn wait_until_written(writer: &RrdWriter) {
    let deadline = deadline();
    while writer.stats().queued_count > 0 {
        assert!(Instant::now() < deadline, "{:?}", writer.stats());
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// A top directory for RRD files and a place for sockets.
pub(crate) struct Site {
    root: TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(root.path().join("db")).expect("an empty directory");
        Self { root }
    }

    pub(crate) fn db(&self) -> PathBuf {
        self.root.path().join("db")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.root.path().join("rrdcached.sock")
    }

    pub(crate) fn config(&self) -> RrdConfig {
        RrdConfig::new(self.db(), self.socket())
    }

    pub(crate) fn writer(&self) -> RrdWriter {
        RrdWriter::start(self.config()).expect("a thread")
    }

    /// Starts rrdcached below this directory and waits until it takes connections.
    pub(crate) fn rrdcached(&self) -> Rrdcached {
        let mut child = Command::new("rrdcached")
            .arg("-g")
            .args(["-w", "3600", "-f", "7200", "-B"])
            .arg("-l")
            .arg(format!("unix:{}", self.socket().display()))
            .arg("-b")
            .arg(self.db())
            .arg("-p")
            .arg(self.root.path().join("rrdcached.pid"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("rrdcached (Debian package rrdcached) is needed for this test");
        let deadline = deadline();
        while UnixStream::connect(self.socket()).is_err() {
            if let Some(status) = child.try_wait().expect("our child") {
                panic!("rrdcached ended: {status}");
            }
            assert!(Instant::now() < deadline, "rrdcached does not answer");
            thread::park_timeout(Duration::from_millis(2));
        }
        Rrdcached {
            child,
            socket: self.socket(),
        }
    }
}

/// A running rrdcached, killed when dropped.
pub(crate) struct Rrdcached {
    child: Child,
    socket: PathBuf,
}

impl Rrdcached {
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("our child");
        self.child.wait().expect("our child");
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        run(Command::new("kill").args(["-s", name, &self.child.id().to_string()]));
    }

    /// Makes rrdcached write what it holds for a file.
    pub(crate) fn flush(&self, file: &Path) {
        let address = format!("unix:{}", self.socket.display());
        run(Command::new("rrdtool")
            .args(["flushcached", "--daemon", &address])
            .arg(file));
    }
}

impl Drop for Rrdcached {
    fn drop(&mut self) {
        // It may have been killed before.
        let _killed = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Runs a command that must succeed, returns its output.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error} (Debian package rrdtool is needed)"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8(output.stdout).expect("text")
}

/// `rrdtool info` without what differs from file to file: its name and the random first rows.
pub(crate) fn info(file: &Path) -> Vec<String> {
    comparable(&run(Command::new("rrdtool").arg("info").arg(file)))
}

/// The lines of `rrdtool info` that can be compared between files.
pub(crate) fn comparable(info: &str) -> Vec<String> {
    info.lines()
        .filter(|line| !line.starts_with("filename = ") && !line.contains(".cur_row = "))
        .map(String::from)
        .collect()
}

/// `rrdtool dump`: all definitions and all rows.
pub(crate) fn dump(file: &Path) -> String {
    run(Command::new("rrdtool").arg("dump").arg(file))
}

/// Time of the last value in the file.
pub(crate) fn last_update(file: &Path) -> i64 {
    let text = run(Command::new("rrdtool").arg("last").arg(file));
    text.trim().parse().expect("a time")
}
