use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use pmxcfs_api_types::sync::{Mutex, Rank};

use super::*;

/// What the calling thread logs.
#[derive(Clone)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(super) fn of<T>(call: impl FnOnce() -> T) -> (T, String) {
        let log = Self(Arc::new(Mutex::new(Rank::QuorumConnection, Vec::new())));
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        let result = tracing::subscriber::with_default(subscriber, call);
        let text = String::from_utf8(log.0.lock().clone()).expect("text");
        (result, text)
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Two nodes, nothing wrong, with a comment to tell texts of one version apart.
pub(super) fn conf(version: u64, comment: &str) -> String {
    let node = |id: u32| {
        format!(
            "  node {{\n    name: node{id}\n    nodeid: {id}\n    ring0_addr: 10.0.0.{id}\n  }}\n"
        )
    };
    format!(
        "# {comment}\ntotem {{\n  version: 2\n  cluster_name: lab\n  config_version: {version}\n}}\n\
         nodelist {{\n{}{}}}\nquorum {{\n  provider: corosync_votequorum\n}}\n",
        node(1),
        node(2),
    )
}

struct Host {
    directory: tempfile::TempDir,
    file: PathBuf,
}

fn host(text: Option<&str>) -> Host {
    let directory = tempfile::tempdir().expect("temporary directory");
    let file = directory.path().join("corosync.conf");
    if let Some(text) = text {
        std::fs::write(&file, text).expect("written");
    }
    Host { directory, file }
}

impl Host {
    fn files(&self) -> Files {
        Files {
            cluster: "/etc/pve/corosync.conf".into(),
            host: self.file.clone(),
        }
    }

    fn text(&self) -> Option<String> {
        std::fs::read_to_string(&self.file).ok()
    }

    fn file_count(&self) -> usize {
        let entries = std::fs::read_dir(self.directory.path());
        entries.expect("listable").count()
    }
}

/// Whether a text is written, and whether corosync has to read it then.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Kept,
    Written { is_reload_due: bool },
}

#[test]
fn newer_and_different_texts_are_written_and_others_are_not() {
    let written = |is_reload_due| Outcome::Written { is_reload_due };
    let (v3, v3_other, v4) = (&conf(3, ""), &conf(3, "other"), &conf(4, ""));
    let table: [(&str, &str, Option<&str>, Outcome); 12] = [
        ("first", v3, None, written(false)),
        ("newer", v4, Some(v3), written(true)),
        (
            "same version, other text",
            v3_other,
            Some(v3),
            written(true),
        ),
        (
            "host without version",
            v3,
            Some("totem {\n}\n"),
            written(false),
        ),
        (
            "host with version 0",
            v3,
            Some("config_version: 0"),
            written(false),
        ),
        ("empty host file", v3, Some(""), written(false)),
        ("equal", v3, Some(v3), Outcome::Kept),
        ("older", v3, Some(v4), Outcome::Kept),
        ("empty", "", Some(v3), Outcome::Kept),
        ("no version", "totem {\n}\n", Some(v3), Outcome::Kept),
        ("version 0", "config_version: 0", Some(v3), Outcome::Kept),
        (
            "no version, same bytes",
            "totem {\n}\n",
            Some("totem {\n}\n"),
            Outcome::Kept,
        ),
    ];
    for (name, database, on_host, expected) in table {
        let host = host(on_host);
        let inode = || {
            std::fs::metadata(&host.files().host)
                .map(|data| data.ino())
                .ok()
        };
        let before = inode();
        let is_reload_due = host.files().distribute(database.as_bytes());
        let outcome = match inode() == before {
            true => Outcome::Kept,
            false => Outcome::Written { is_reload_due },
        };
        let text = if outcome == Outcome::Kept {
            on_host
        } else {
            Some(database)
        };
        assert_eq!(outcome, expected, "{name}");
        assert_eq!(host.text().as_deref(), text, "{name}");
        assert_eq!(host.file_count(), usize::from(text.is_some()), "{name}");
    }
}

#[test]
fn every_spelling_that_corosync_accepts_is_written_without_a_word_about_it() {
    let texts = [
        // An FQDN, a tab, a comment, several rings, a name that nobody resolves, no node list at all.
        "totem {\n\tversion: 2\n\tconfig_version:4\n}\nnodelist {\n  node {\n    name: a.example.org\n    nodeid: 1\n    ring0_addr: nowhere.invalid\n    ring1_addr: fe80::1\n  }\n}\n",
        "# by hand\nconfig_version: 4\n",
        "totem{\n  version: 2\n  config_version : 4\n  transport: udpu\n}\nquorum {\n}\nsystem {\n}\n",
    ];
    for text in texts {
        let host = host(Some(&conf(3, "")));
        let (is_reload_due, log) = Log::of(|| host.files().distribute(text.as_bytes()));
        assert!(is_reload_due);
        assert_eq!(host.text().as_deref(), Some(text));
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(log.contains("INFO") && log.contains("wrote new"), "{log}");
    }
}

#[test]
fn the_file_is_a_new_one_that_everybody_may_read() {
    let host = host(Some(&conf(3, "")));
    std::fs::set_permissions(&host.file, Permissions::from_mode(0o600)).expect("set");
    let before = std::fs::metadata(&host.file).expect("there").ino();
    host.files().distribute(conf(4, "").as_bytes());
    let metadata = std::fs::metadata(&host.file).expect("there");
    assert_ne!(metadata.ino(), before);
    assert_eq!((metadata.uid(), metadata.gid()), (0, 0));
    assert_eq!(metadata.mode() & 0o7777, 0o644);
}

#[test]
fn a_host_file_that_cannot_be_replaced_leaves_nothing_behind() {
    let host = host(None);
    std::fs::create_dir(&host.file).expect("made");
    let (is_reload_due, log) = Log::of(|| host.files().distribute(conf(3, "").as_bytes()));
    assert!(!is_reload_due);
    assert_eq!(host.file_count(), 1);
    assert!(log.contains("unable to write corosync config"), "{log}");

    let missing = Files {
        host: host.directory.path().join("missing/corosync.conf"),
        ..host.files()
    };
    let (_, log) = Log::of(|| missing.distribute(conf(3, "").as_bytes()));
    assert!(log.contains("unable to write corosync config"), "{log}");
}

#[test]
fn the_log_says_what_happened_in_the_words_that_operators_search_for() {
    let log_of = |database: &str, on_host: &str| {
        let host = host(Some(on_host));
        let (_, log) = Log::of(|| host.files().distribute(database.as_bytes()));
        log.replace(&host.file.display().to_string(), "FILE")
    };
    let v3 = &conf(3, "");
    let table = [
        (
            conf(4, ""),
            "INFO",
            "wrote new corosync config 'FILE' (version = 4)",
        ),
        (
            conf(2, ""),
            "ERROR",
            "local corosync.conf is newer: FILE has config_version 3, /etc/pve/corosync.conf has 2; FILE stays as it is",
        ),
        (
            "totem {".to_owned(),
            "ERROR",
            "unable to parse cluster config_version: /etc/pve/corosync.conf has none; FILE stays as it is",
        ),
    ];
    for (text, level, expected) in table {
        let log = log_of(&text, v3);
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(log.contains(level) && log.contains(expected), "{log}");
    }
    assert_eq!(log_of(v3, v3), "");
}
