//! A history that cannot be written, or whose readers are cut off.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

use super::*;

/// A small filesystem.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new(size: &str) -> Self {
        let disk = Self(tempfile::tempdir().unwrap());
        disk.mount(MsFlags::empty(), size);
        disk
    }

    fn mount(&self, flags: MsFlags, size: &str) {
        let kind = Some("tmpfs");
        let options = format!("size={size}");
        mount(kind, self.0.path(), kind, flags, Some(&*options)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount2(self.0.path(), MntFlags::MNT_DETACH).unwrap();
    }
}

fn status(host: &Host) -> String {
    run(&mut command(host, ["status"])).1
}

#[test]
fn a_disk_that_is_full_for_the_history_alone_stops_nothing_else() {
    let host = Host::new();
    let disk = SmallDisk::new("1m");
    fs::create_dir_all(host.state_dir()).unwrap();
    fs::write(disk.path("history.db"), "").unwrap();
    symlink(disk.path("history.db"), host.state_dir().join("history.db")).unwrap();
    let daemon = host.start();
    fs::write(host.path("first.cfg"), "first").unwrap();
    ask(&host, ["history"]);
    fs::write(disk.path("ballast"), vec![b'x'; 1 << 20]).unwrap_err();
    let mut count = 0;
    wait::until("the problem to be told", PATIENCE, || {
        count += 1;
        fs::write(host.path(format!("f{count}")), "x").unwrap();
        status(&host).contains("history-failed").then_some(())
    });
    // The database takes what the history cannot.
    let file = fs::File::open(host.path("f1")).unwrap();
    file.sync_all().unwrap();
    drop(file);
    disk.mount(MsFlags::MS_REMOUNT, "64m");
    wait::until("the history to work", PATIENCE, || {
        (!status(&host).contains("history-failed")).then_some(())
    });
    for number in 1..=count {
        let all = records(&host, &format!("f{number}"));
        assert_eq!(operations(&all), ["create"], "f{number}");
    }
    daemon.stop();
}

#[test]
fn a_reader_is_told_when_the_daemon_dies_before_its_answer_ends() {
    let host = Host::new();
    let daemon = host.start();
    fs::write(host.path("a.cfg"), "one").unwrap();
    let begin = records(&host, "a.cfg").remove(0)["version"].to_string();
    let mut follower = command(&host, ["follow", "--from", &begin])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    fs::write(host.path("b.cfg"), "two").unwrap();
    let mut first = String::new();
    let mut out = BufReader::new(follower.stdout.take().unwrap());
    out.read_line(&mut first).unwrap();
    assert!(first.contains("b.cfg"), "{first}");
    daemon.kill();
    let ended = follower.wait_with_output().unwrap();
    let told = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(2));
    assert!(told.contains("in the middle of its answer"), "{told}");
}
