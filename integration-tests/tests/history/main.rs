//! What the history tells operators: who changed what, how to see it, undo it, follow it.
#![expect(clippy::unwrap_used, reason = "what does not hold here fails the test")]

mod cluster;
mod faults;
mod names;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use integration_tests::{Host, daemon, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// How long what the daemon does on its own may take.
const PATIENCE: Duration = Duration::from_secs(30);

fn command<A: AsRef<OsStr>>(host: &Host, arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(daemon::control_program());
    command.arg("--root-dir").arg(host.root());
    command.arg("--run-dir").arg(host.run_dir());
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Status, standard output, standard error.
fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// What a command that has worked printed.
fn ask<A: AsRef<OsStr>>(host: &Host, arguments: impl IntoIterator<Item = A>) -> String {
    let (status, out, notes) = run(&mut command(host, arguments));
    assert_eq!((status, notes.as_str()), (Some(0), ""), "{out}");
    out
}

/// What a command that has failed said.
fn refused<A: AsRef<OsStr>>(host: &Host, arguments: impl IntoIterator<Item = A>) -> String {
    let (status, out, notes) = run(&mut command(host, arguments));
    assert_eq!((status, out.as_str()), (Some(2), ""), "{notes}");
    notes
}

/// Records of a path, the oldest first.
fn records(host: &Host, path: &str) -> Vec<Value> {
    let lines = ask(host, ["history", path, "--json"]);
    let lines = lines.lines().rev();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn text<'a>(record: &'a Value, field: &str) -> &'a str {
    record[field].as_str().unwrap_or_default()
}

fn operations(records: &[Value]) -> Vec<&str> {
    let operations = records.iter().map(|record| text(record, "operation"));
    operations.collect()
}

fn at(path: &str, record: &Value) -> String {
    format!("{path}@{}", record["version"])
}

/// Programs replace files like this.
fn replace(host: &Host, path: &str, content: &str) {
    let new = host.path(format!("{path}.tmp.1"));
    fs::write(&new, content).unwrap();
    fs::rename(&new, host.path(path)).unwrap();
}

#[test]
fn a_change_is_shown_with_its_author_and_can_be_undone() {
    let host = Host::new();
    let daemon = host.start();
    fs::write(host.path("storage.cfg"), "one\n").unwrap();
    let created = records(&host, "storage.cfg").remove(0);
    assert_eq!(text(&created, "operation"), "create");
    assert_eq!(created["uid"], 0);
    assert_eq!(created["size"], 4);
    assert!(!text(&created, "program").is_empty(), "{created}");
    replace(&host, "storage.cfg", "two\n");
    let all = records(&host, "storage.cfg");
    assert_eq!(operations(&all), ["create", "rename"]);

    assert_eq!(ask(&host, ["show", "storage.cfg"]), "two\n");
    let first = at("storage.cfg", &created);
    assert_eq!(ask(&host, ["show", &first]), "one\n");
    let since = created["version"].to_string();
    let diff = ask(&host, ["diff", "storage.cfg", "--since", &since]);
    assert!(diff.contains("\n-one\n+two\n"), "{diff}");
    assert_eq!(
        ask(&host, ["restore", &first, "--dry-run"]).lines().count(),
        5
    );

    // What has changed since is only overwritten when somebody insists.
    let refusal = refused(&host, ["restore", &first]);
    assert!(refusal.contains("--force"), "{refusal}");
    assert_eq!(
        fs::read_to_string(host.path("storage.cfg")).unwrap(),
        "two\n"
    );
    ask(&host, ["restore", &first, "--force"]);
    assert_eq!(
        fs::read_to_string(host.path("storage.cfg")).unwrap(),
        "one\n"
    );
    ask(&host, ["restore", &first, "--to", "copy.cfg"]);
    assert_eq!(fs::read_to_string(host.path("copy.cfg")).unwrap(), "one\n");
    // Only what has changed after that version needs it.
    let last = records(&host, "copy.cfg").pop().unwrap();
    let second = at("storage.cfg", &all[1]);
    refused(&host, ["restore", &second, "--to", "copy.cfg"]);
    fs::write(host.path("later"), "").unwrap();
    replace(&host, "storage.cfg", "three\n");
    let third = records(&host, "storage.cfg").pop().unwrap();
    assert!(third["version"].as_u64() > last["version"].as_u64());
    ask(
        &host,
        ["restore", &at("storage.cfg", &third), "--to", "copy.cfg"],
    );
    assert_eq!(
        fs::read_to_string(host.path("copy.cfg")).unwrap(),
        "three\n"
    );
    daemon.stop();
    let status = Command::new(daemon::database_program())
        .args(["history", "--show", &first, "--database"])
        .arg(host.database())
        .output()
        .unwrap();
    assert_eq!(status.stdout, b"one\n", "{status:?}");
}

#[test]
fn a_removed_guest_comes_back_unless_its_id_is_taken() {
    let host = Host::new();
    let daemon = host.start();
    for node in ["a", "b"] {
        fs::create_dir_all(host.path(format!("nodes/{node}/qemu-server"))).unwrap();
    }
    let config = "nodes/a/qemu-server/100.conf";
    fs::write(host.path(config), "memory: 512\n").unwrap();
    let made = records(&host, config).pop().unwrap();
    fs::remove_file(host.path(config)).unwrap();
    assert_eq!(operations(&records(&host, config)), ["create", "remove"]);
    fs::write(host.path("nodes/b/qemu-server/100.conf"), "").unwrap();
    refused(&host, ["restore", &at(config, &made)]);
    assert_eq!(
        fs::read_dir(host.path("nodes/a/qemu-server"))
            .unwrap()
            .count(),
        0
    );
    fs::remove_file(host.path("nodes/b/qemu-server/100.conf")).unwrap();
    ask(&host, ["restore", &at(config, &made)]);
    assert_eq!(
        fs::read_to_string(host.path(config)).unwrap(),
        "memory: 512\n"
    );
    daemon.stop();
}

#[test]
fn keys_are_recorded_without_their_content_and_locks_not_at_all() {
    let host = Host::new();
    let daemon = host.start();
    fs::create_dir_all(host.path("priv/lock/x")).unwrap();
    fs::write(host.path("priv/a.pw"), "secret-1").unwrap();
    let made = records(&host, "priv/a.pw").pop().unwrap();
    assert_eq!(text(&made, "sha256").len(), 64);
    fs::write(host.path("priv/a.pw"), "secret-2").unwrap();
    let refusal = refused(&host, ["show", &at("priv/a.pw", &made)]);
    assert!(refusal.contains("not kept"), "{refusal}");
    assert!(records(&host, "priv/lock/x").is_empty());
    daemon.stop();
    let file = fs::read(host.state_dir().join("history.db")).unwrap();
    let has_secret = file.windows(8).any(|bytes| bytes.starts_with(b"secret-"));
    assert!(!has_secret);
}

#[test]
fn a_killed_daemon_leaves_a_history_that_goes_on() {
    let host = Host::new();
    let daemon = host.start();
    fs::write(host.path("a.cfg"), "one").unwrap();
    ask(&host, ["history"]);
    fs::write(host.path("a.cfg"), "two").unwrap();
    fs::write(host.path("b.cfg"), "new").unwrap();
    daemon.kill();
    let daemon = host.start();
    let of_a = records(&host, "a.cfg");
    let last = of_a.last().unwrap();
    assert_eq!(text(last, "operation"), "content");
    let before = at("a.cfg", &of_a[0]);
    assert_eq!(ask(&host, ["show", &before]), "one");
    assert_eq!(operations(&records(&host, "b.cfg")), ["create"]);
    daemon.stop();
}

#[test]
fn the_daemon_serves_without_a_history() {
    let host = Host::new();
    fs::create_dir_all(host.state_dir()).unwrap();
    let history = host.state_dir().join("history.db");
    // Nothing can be made or moved there.
    fs::create_dir(&history).unwrap();
    fs::write(history.join("x"), "").unwrap();
    let daemon = host.start();
    fs::write(host.path("a.cfg"), "one").unwrap();
    wait::until("the problem to be told", PATIENCE, || {
        let (_, out, _) = run(&mut command(&host, ["status"]));
        out.contains("history-failed").then_some(())
    });
    // As soon as that is mended, it goes on.
    fs::remove_dir_all(&history).unwrap();
    wait::until("the history to work", PATIENCE, || {
        let (status, out, _) = run(&mut command(&host, ["status"]));
        (status == Some(0) && !out.contains("history-failed")).then_some(())
    });
    fs::write(host.path("a.cfg"), "two").unwrap();
    assert_eq!(
        operations(&records(&host, "a.cfg")).last(),
        Some(&"content")
    );
    // It is missing while the daemon runs.
    fs::remove_file(&history).unwrap();
    fs::write(host.path("a.cfg"), "three").unwrap();
    wait::until("a new history", PATIENCE, || {
        let (status, out, _) = run(&mut command(&host, ["history"]));
        (status == Some(0) && out.contains("gap")).then_some(())
    });
    daemon.stop();
    let daemon = host.start_with(["-l", "-f", "--history", "off"]);
    let refusal = refused(&host, ["history"]);
    assert!(refusal.contains("off"), "{refusal}");
    daemon.stop();
}

/// A follower that is ended with the test.
struct Follower(Child);

impl Follower {
    fn start(host: &Host, arguments: &[&str]) -> Self {
        let arguments = ["follow", "--json"].iter().chain(arguments);
        let child = command(host, arguments).stdout(Stdio::piped()).spawn();
        Self(child.unwrap())
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        kill(pid, signal).unwrap();
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn a_follower_misses_nothing_that_many_writers_do() {
    const WRITERS: usize = 20;
    const FILES: usize = 30;
    let host = Host::new();
    let daemon = host.start();
    fs::write(host.path("begin"), "").unwrap();
    let begin = records(&host, "begin").pop().unwrap()["version"].to_string();
    let mut follower = Follower::start(&host, &["--from", &begin]);
    let many: Vec<Follower> = (0..50).map(|_| Follower::start(&host, &[])).collect();
    many[0].signal(Signal::SIGSTOP);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let host = &host;
            scope.spawn(move || {
                for file in 0..FILES {
                    let path = host.path(format!("f-{writer}-{file}"));
                    fs::write(&path, "x").unwrap();
                    fs::remove_file(&path).unwrap();
                }
            });
        }
    });
    // Neither many nor stopped ones keep others from an answer.
    ask(&host, ["status"]);
    fs::write(host.path("end"), "").unwrap();
    let lines = BufReader::new(follower.0.stdout.take().unwrap()).lines();
    let mut seen = BTreeSet::new();
    for line in lines {
        let record: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let (operation, path) = (text(&record, "operation"), text(&record, "path"));
        assert!(operation != "gap", "{record}");
        if path == "end" {
            break;
        }
        seen.insert((operation.to_owned(), path.to_owned()));
    }
    for writer in 0..WRITERS {
        for file in 0..FILES {
            let path = format!("f-{writer}-{file}");
            for operation in ["create", "remove"] {
                assert!(
                    seen.contains(&(operation.to_owned(), path.clone())),
                    "{operation} {path}"
                );
            }
        }
    }
    many[0].signal(Signal::SIGCONT);
    drop(many);
    daemon.stop();
}
