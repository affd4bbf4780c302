//! Lock directories: taken by mkdir, refreshed by utime, given back by rmdir.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use integration_tests::{Check, Host};
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::{TimeSpec, TimeValLike};

use crate::make_directories;

fn utime(path: &Path, seconds: i64) -> nix::Result<()> {
    let stamp = TimeSpec::seconds(seconds);
    utimensat(
        AT_FDCWD,
        path,
        &stamp,
        &stamp,
        UtimensatFlags::FollowSymlink,
    )
}

fn now() -> i64 {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    i64::try_from(seconds).unwrap()
}

#[test]
fn a_lock_is_a_directory() {
    let host = Host::new();
    let daemon = host.start();
    make_directories(&host.mount_dir(), &["priv/lock"]);
    let lock = host.path("priv/lock/storage-x");
    let mut check = Check::new();
    check.ok("take", fs::create_dir(&lock));
    check.errno("take it again", Errno::EEXIST, fs::create_dir(&lock));
    check.errno(
        "ask for it while it is fresh",
        Errno::EACCES,
        utime(&lock, 0),
    );
    check.ok("it is still held", fs::metadata(&lock));
    let held = fs::metadata(&lock).unwrap().mtime();
    check.errno(
        "a refresh with an older time",
        Errno::EACCES,
        utime(&lock, held - 1),
    );
    check.ok("a refresh with the same time", utime(&lock, held));
    check.ok("a refresh with the present time", utime(&lock, now()));
    check.ok("a refresh with a future time", utime(&lock, now() + 100));
    check.errno(
        "then one with the present time",
        Errno::EACCES,
        utime(&lock, now()),
    );
    check.errno(
        "renaming",
        Errno::EACCES,
        fs::rename(&lock, host.path("priv/lock/other")),
    );
    check.ok("give back", fs::remove_dir(&lock));
    check.errno(
        "ask for a lock that nobody holds",
        Errno::ENOENT,
        utime(&lock, 0),
    );
    check.ok("take it after that", fs::create_dir(&lock));
    drop(check);
    daemon.stop();
}

#[test]
fn only_directories_directly_in_the_lock_directory_have_rules() {
    let host = Host::new();
    let daemon = host.start();
    make_directories(
        &host.mount_dir(),
        &["priv/lock/a/nested", "elsewhere/d", "priv/locks/d"],
    );
    fs::write(host.path("priv/lock/file"), "x").unwrap();
    let mut check = Check::new();
    for path in [
        "priv/lock/a/nested",
        "priv/lock/file",
        "elsewhere/d",
        "priv/locks/d",
        "priv/lock",
    ] {
        check.ok(&format!("utime 0 of {path}"), utime(&host.path(path), 0));
        check.equal(
            path,
            fs::metadata(host.path(path)).ok().map(|data| data.mtime()),
            Some(0),
        );
    }
    check.errno(
        "rename of a nested directory",
        Errno::EACCES,
        fs::rename(host.path("priv/lock/a/nested"), host.path("x")),
    );
    check.ok(
        "rename of a file",
        fs::rename(host.path("priv/lock/file"), host.path("x")),
    );
    check.errno(
        "a lock with content",
        Errno::ENOTEMPTY,
        fs::remove_dir(host.path("priv/lock/a")),
    );
    drop(check);
    daemon.stop();
}

#[test]
fn whoever_refreshes_a_lock_that_is_gone_learns_it() {
    let host = Host::new();
    let daemon = host.start();
    let lock = host.path("priv/lock/a");
    make_directories(&host.mount_dir(), &["priv/lock/a"]);
    let held = File::open(&lock).unwrap();
    fs::remove_dir(&lock).unwrap();
    let mut check = Check::new();
    check.errno(
        "refresh",
        Errno::ENOENT,
        held.set_modified(SystemTime::now()),
    );
    check.errno("refresh by path", Errno::ENOENT, utime(&lock, now() + 1));
    drop(check);
    drop(held);
    daemon.stop();
}

#[test]
fn locks_outlive_the_daemon() {
    let host = Host::new();
    let daemon = host.start();
    make_directories(&host.mount_dir(), &["priv/lock/a"]);
    daemon.stop();
    let daemon = host.start();
    let lock = host.path("priv/lock/a");
    let mut check = Check::new();
    check.errno("take", Errno::EEXIST, fs::create_dir(&lock));
    check.errno("ask for it", Errno::EACCES, utime(&lock, 0));
    check.ok("refresh", utime(&lock, now() + 1));
    check.ok("give back", fs::remove_dir(&lock));
    drop(check);
    daemon.stop();
}
