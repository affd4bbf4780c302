//! A private rrdcached, and the tools that say what is in a file.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use integration_tests::{Host, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longer than anything here takes on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Where a host's RRD files and its rrdcached are. Not the default places: the options are tested, too.
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    pub(crate) socket: PathBuf,
}

impl Place {
    /// An empty directory for files, and a place for a socket.
    pub(crate) fn new(host: &Host) -> Self {
        let place = Self::without_directory(host);
        fs::create_dir_all(&place.directory).unwrap();
        place
    }

    /// The same, but the directory is not there.
    pub(crate) fn without_directory(host: &Host) -> Self {
        Self {
            directory: host.root().join("rrd/db"),
            socket: host.root().join("rrdcached.sock"),
        }
    }

    /// The daemon's options.
    pub(crate) fn options(&self) -> [&str; 6] {
        let (directory, socket) = (self.directory.to_str(), self.socket.to_str());
        [
            "-f",
            "-l",
            "--rrd-dir",
            directory.unwrap(),
            "--rrdcached-socket",
            socket.unwrap(),
        ]
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Files below the directory, as relative paths in order.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut directories = vec![self.directory.clone()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else {
                    let relative = path.strip_prefix(&self.directory).unwrap();
                    found.push(relative.to_str().unwrap().to_owned());
                }
            }
        }
        found.sort();
        found
    }

    pub(crate) fn await_files(&self, expected: &[&str]) {
        wait::until("the RRD files", LIMIT, || {
            (self.files() == expected).then_some(())
        });
    }

    /// Starts rrdcached, which keeps values for an hour unless told to write them.
    pub(crate) fn rrdcached(&self) -> Rrdcached {
        // One that was killed leaves its socket.
        drop(fs::remove_file(&self.socket));
        let child = Command::new("rrdcached")
            .args(["-g", "-w", "3600", "-f", "7200", "-B", "-l"])
            .arg(format!("unix:{}", self.socket.display()))
            .arg("-b")
            .arg(&self.directory)
            .arg("-p")
            .arg(self.socket.with_extension("pid"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("rrdcached (Debian package rrdcached) is needed for this test");
        let rrdcached = Rrdcached {
            child,
            socket: self.socket.clone(),
        };
        wait::until("rrdcached to answer", LIMIT, || {
            UnixStream::connect(&self.socket).ok()
        });
        rrdcached
    }
}

/// A running rrdcached, killed when dropped.
pub(crate) struct Rrdcached {
    child: Child,
    socket: PathBuf,
}

impl Rrdcached {
    /// Kills it; what it has not written is lost.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Makes it write what it holds for a file.
    pub(crate) fn flush(&self, file: &Path) {
        let address = format!("unix:{}", self.socket.display());
        rrdtool(&["flushcached", "--daemon", &address, file.to_str().unwrap()]);
    }
}

impl Drop for Rrdcached {
    fn drop(&mut self) {
        // Both fail only if it was killed before.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs the tool, which must succeed, and returns its output.
pub(crate) fn rrdtool(arguments: &[&str]) -> String {
    try_rrdtool(arguments).unwrap_or_else(|stderr| panic!("{arguments:?}: {stderr}"))
}

fn try_rrdtool(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("rrdtool")
        .args(arguments)
        .output()
        .expect("rrdtool (Debian package rrdtool) is needed for this test");
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Whether the file's last value has this time. It has none while somebody writes to it: the tool then gets no lock.
pub(crate) fn ends_at(file: &Path, time: i64) -> bool {
    match try_rrdtool(&["last", file.to_str().unwrap()]) {
        Ok(text) => text.trim() == time.to_string(),
        Err(stderr) if stderr.contains("could not lock RRD") => false,
        Err(stderr) => panic!("{}: {stderr}", file.display()),
    }
}

/// `rrdtool info` without what differs from file to file: the name, and the rows that a new file begins with.
pub(crate) fn info(file: &Path) -> Vec<String> {
    rrdtool(&["info", file.to_str().unwrap()])
        .lines()
        .filter(|line| !line.starts_with("filename = ") && !line.contains(".cur_row = "))
        .map(ToOwned::to_owned)
        .collect()
}

/// `rrdtool dump`: all definitions and all values.
pub(crate) fn dump(file: &Path) -> String {
    rrdtool(&["dump", file.to_str().unwrap()])
}
