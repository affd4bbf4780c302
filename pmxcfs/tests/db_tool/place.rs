//! Databases to try the tool on, and calls of it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use pmxcfs_memdb::store::{Store, StoreConfig, create};
use pmxcfs_memdb::{Change, Entry, EntryKind, RootState};
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

/// The program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_pmxcfs-db");

const TABLE: &str = "CREATE TABLE tree (inode INTEGER PRIMARY KEY NOT NULL, parent INTEGER, version INTEGER, \
                     writer INTEGER, mtime INTEGER, type INTEGER, name TEXT, data BLOB)";

/// A good version row.
pub(crate) const VERSION_ROW: &str = "(0, 0, 50, 2, 99, 8, '__version__', NULL)";

/// What a call left.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) notes: String,
}

impl Answer {
    /// The answer, if the status is this.
    #[track_caller]
    pub(crate) fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(
            self.out.contains(text) || self.notes.contains(text),
            "nothing of '{text}' in {self:#?}"
        );
        self
    }
}

/// Calls the tool.
pub(crate) fn tool<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Answer {
    answer(Command::new(PROGRAM).args(arguments))
}

pub(crate) fn answer(command: &mut Command) -> Answer {
    let output = command.output().expect("the program can be started");
    Answer {
        // A signal is told apart from all statuses.
        status: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).expect("the tool writes UTF-8"),
        notes: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A state directory and a run directory.
pub(crate) struct Place {
    directory: TempDir,
}

impl Place {
    /// In memory where that is possible: syncs cost time, and nothing here depends on them.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir_in("/dev/shm")
            .or_else(|_missing| tempfile::tempdir())
            .unwrap();
        fs::create_dir(directory.path().join("state")).unwrap();
        fs::create_dir(directory.path().join("run")).unwrap();
        Self { directory }
    }

    /// With a database of these rows, whatever they are.
    pub(crate) fn with_rows<S: AsRef<str>>(rows: &[S]) -> Self {
        let place = Self::new();
        let connection = Connection::open(place.database()).unwrap();
        connection.execute_batch(TABLE).unwrap();
        connection.execute_batch("BEGIN").unwrap();
        for row in rows {
            connection
                .execute_batch(&format!("INSERT INTO tree VALUES {}", row.as_ref()))
                .unwrap();
        }
        connection.execute_batch("COMMIT").unwrap();
        place
    }

    /// With a copy of another place's database.
    pub(crate) fn with_copy(original: &Self) -> Self {
        let place = Self::new();
        fs::copy(original.database(), place.database()).unwrap();
        place
    }

    /// With a good database of these entries.
    pub(crate) fn with_entries(root: RootState, entries: &[Entry]) -> Self {
        let place = Self::new();
        create(&place.database(), root, entries).unwrap();
        place
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path("state/config.db")
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.path("run")
    }

    pub(crate) fn lock_file(&self) -> PathBuf {
        self.path("state/.pmxcfs.lockfile")
    }

    /// Calls a command on the database.
    pub(crate) fn tool<S: AsRef<OsStr>>(&self, command: &str, arguments: &[S]) -> Answer {
        answer(&mut self.command(command, arguments))
    }

    pub(crate) fn command<S: AsRef<OsStr>>(&self, command: &str, arguments: &[S]) -> Command {
        let mut call = Command::new(PROGRAM);
        call.arg(command)
            .arg("--db")
            .arg(self.database())
            .arg("--run-dir")
            .arg(self.run_dir())
            .args(arguments);
        call
    }

    /// The database as the tool shows it.
    pub(crate) fn dump(&self) -> Value {
        let dump = self.tool("dump", &["--json", "--contents"]).expect(0);
        serde_json::from_str(&dump.out).unwrap()
    }

    /// Files beside the database, without the lock file.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("state")).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != ".pmxcfs.lockfile")
            .collect();
        names.sort();
        names
    }

    /// Leaves a crash journal: files with these names and contents were made in the root directory, and the daemon was
    /// killed before anything of that was in the database.
    pub(crate) fn leave_journal(&self, files: &[(&str, &str)]) {
        let config = StoreConfig::new(self.database(), self.run_dir());
        let (store, loaded) = Store::open(config).expect("the database is good");
        let handle = store.handle();
        let mut root = loaded.root;
        let mut entries: BTreeMap<u64, Entry> = BTreeMap::new();
        for (name, content) in files {
            root.version += 1;
            root.mtime += 1;
            let inode = root.version;
            let entry = entry(
                inode,
                0,
                EntryKind::File,
                name.as_bytes(),
                content.as_bytes(),
            );
            entries.insert(inode, entry);
            let change = Change::Content {
                inode,
                keep: 0,
                offset: 0,
                data: Bytes::copy_from_slice(content.as_bytes()),
                size: u32::try_from(content.len()).unwrap(),
            };
            let ticket = handle.record(root, &[change], &|inode| entries.get(&inode));
            let (sender, receiver) = std::sync::mpsc::channel();
            handle.acknowledge(ticket, move |result| sender.send(result).unwrap());
            receiver.try_recv().expect("the journal took it").unwrap();
        }
    }
}

/// An entry that was last changed when it was made.
pub(crate) fn entry(inode: u64, parent: u64, kind: EntryKind, name: &[u8], data: &[u8]) -> Entry {
    Entry {
        inode,
        parent,
        version: inode,
        writer: 1,
        mtime: 1_700_000_000,
        size: u32::try_from(data.len()).unwrap(),
        kind,
        name: Bytes::copy_from_slice(name),
        data: Bytes::copy_from_slice(data),
    }
}

/// Databases that C daemons left, with what is in them.
///
/// `PMXCFS_VECTORS` may name a directory of further recordings with the same layout.
pub(crate) fn recordings() -> Vec<(PathBuf, Value)> {
    let root = std::env::var_os("PMXCFS_VECTORS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../pmxcfs-memdb/tests/vectors"),
        PathBuf::from,
    );
    let directory = root.join("db");
    let mut found = Vec::new();
    for file in fs::read_dir(&directory).expect("recordings") {
        let path = file.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            let expected: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            found.push((
                directory.join(expected["database"].as_str().unwrap()),
                expected,
            ));
        }
    }
    assert!(
        !found.is_empty(),
        "no recordings in {}",
        directory.display()
    );
    found
}
