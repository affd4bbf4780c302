//! The database of a host, and what can happen to it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::ClusterHost;

/// Where the daemon keeps its database.
const DATABASE: &str = "/var/lib/pve-cluster/config.db";

/// Takes up what is left of the filesystem with the database.
const BALLAST: &str = "/var/lib/pve-cluster/ballast";

/// A process in the middle of a transaction on a database, until it is dropped.
#[derive(Debug)]
pub struct DatabaseHolder(Child);

impl Drop for DatabaseHolder {
    fn drop(&mut self) {
        // Both fail only when the process has ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl ClusterHost {
    /// Removes the database, as one does before joining another cluster.
    ///
    /// # Panics
    /// If a daemon runs.
    pub fn remove_database(&self) {
        assert!(!self.has_daemon(), "the daemon uses it");
        self.inside(|| {
            for entry in fs::read_dir("/var/lib/pve-cluster").expect("the state directory") {
                let path = entry.expect("an entry").path();
                if path.is_file() {
                    fs::remove_file(path).expect("root may remove it");
                }
            }
        });
    }

    /// Adds files to the database, see [`fill`](crate::database::fill).
    ///
    /// # Panics
    /// If a daemon runs, or the database cannot be written.
    pub fn fill_database(&self, count: usize, size: usize) {
        assert!(!self.has_daemon(), "the daemon uses it");
        self.inside(|| crate::database::fill(Path::new(DATABASE), count, size));
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

    /// Keeps the daemon from writing to its database, as a backup in a bad moment would.
    ///
    /// # Panics
    /// If the lock is not had.
    #[must_use]
    pub fn hold_database(&self) -> DatabaseHolder {
        self.begin_transaction("BEGIN EXCLUSIVE; SELECT 'begun';")
    }

    /// Reads from the database without an end: what is written meanwhile cannot be put into the place of what was.
    ///
    /// # Panics
    /// If it cannot be read.
    #[must_use]
    pub fn hold_snapshot(&self) -> DatabaseHolder {
        self.begin_transaction("BEGIN; SELECT substr('begun' || count(*), 1, 5) FROM tree;")
    }

    fn begin_transaction(&self, statements: &str) -> DatabaseHolder {
        let mut command = Command::new("sqlite3");
        command
            .args([DATABASE, "-cmd", ".timeout 10000", "-cmd", statements])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut holder = DatabaseHolder(self.spawn(command));
        let stdout = holder.0.stdout.take().expect("a pipe");
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("a pipe can be read");
        assert_eq!(line.trim(), "begun", "sqlite3 on {}", self.name);
        holder
    }

    /// Leaves the database no room to grow.
    ///
    /// # Panics
    /// If that fails.
    pub fn fill_disk(&self) {
        let output = self.run("dd", &["if=/dev/zero", &format!("of={BALLAST}"), "bs=4k"]);
        assert!(!output.status.success(), "a full disk ends dd");
    }

    /// Gives the room back.
    ///
    /// # Panics
    /// If it was not taken.
    pub fn empty_disk(&self) {
        self.inside(|| fs::remove_file(BALLAST).expect("the disk was filled"));
    }
}
