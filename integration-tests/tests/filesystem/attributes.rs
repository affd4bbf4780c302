//! Modes, owners, times, sizes and numbers.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{DirEntryExt, FileTypeExt, MetadataExt};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use integration_tests::identity::Identity;
use integration_tests::{Check, Host, proc};
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::statvfs::statvfs;
use nix::sys::time::{TimeSpec, TimeValLike};

use crate::{make_directories, mode, names};

const GENERATED: [&str; 6] = [
    ".version",
    ".members",
    ".vmlist",
    ".rrd",
    ".clusterlog",
    ".debug",
];
const LINKS: [&str; 4] = ["local", "qemu-server", "lxc", "openvz"];

#[test]
fn mount_line_is_the_one_programs_know() {
    let host = Host::new();
    let daemon = host.start();
    let line = proc::mount_line(&host.mount_dir()).expect("mounted");
    let fields: Vec<&str> = line.split(' ').collect();
    assert_eq!(fields[0], "/dev/fuse");
    assert_eq!(fields[2], "fuse");
    assert_eq!(
        fields[3],
        "rw,nosuid,nodev,relatime,user_id=0,group_id=0,default_permissions,allow_other"
    );
    daemon.stop();
}

#[test]
fn modes_and_owners_follow_kind_and_path() {
    let host = Host::new();
    let daemon = host.start();
    let www_data = Identity::www_data().gid;
    make_directories(
        &host.mount_dir(),
        &[
            "d/priv",
            "priv/sub",
            "privx",
            "nodes/n/priv/sub",
            "nodes/n/privx",
            "nodes/n/sub/priv",
            "nodes/priv",
            "nodes/b_x/priv",
        ],
    );
    let files = [
        "f",
        "d/f",
        "d/priv/f",
        "priv/f",
        "priv/sub/f",
        "privx/f",
        "nodes/n/f",
        "nodes/n/priv/f",
        "nodes/n/priv/sub/f",
        "nodes/n/privx/f",
        "nodes/n/sub/priv/f",
        "nodes/priv/f",
        "nodes/b_x/priv/f",
        "101.mount",
        "vps.umount",
    ];
    for file in files {
        fs::write(host.path(file), "x").unwrap();
    }
    let modes = [
        ("", 0o755),
        ("f", 0o640),
        ("101.mount", 0o640),
        ("vps.umount", 0o640),
        ("d", 0o755),
        ("d/f", 0o640),
        ("d/priv", 0o755),
        ("d/priv/f", 0o640),
        ("priv", 0o700),
        ("priv/f", 0o600),
        ("priv/sub", 0o700),
        ("priv/sub/f", 0o600),
        ("privx", 0o755),
        ("privx/f", 0o640),
        ("nodes", 0o755),
        ("nodes/n", 0o755),
        ("nodes/n/f", 0o640),
        ("nodes/n/priv", 0o700),
        ("nodes/n/priv/f", 0o600),
        ("nodes/n/priv/sub", 0o700),
        ("nodes/n/priv/sub/f", 0o600),
        ("nodes/n/privx", 0o755),
        ("nodes/n/privx/f", 0o640),
        ("nodes/n/sub/priv", 0o755),
        ("nodes/n/sub/priv/f", 0o640),
        ("nodes/priv", 0o755),
        ("nodes/priv/f", 0o640),
        ("nodes/b_x/priv", 0o700),
        ("nodes/b_x/priv/f", 0o600),
        (".version", 0o440),
        (".members", 0o440),
        (".vmlist", 0o440),
        (".rrd", 0o440),
        (".clusterlog", 0o440),
        (".debug", 0o640),
        ("local", 0o755),
        ("qemu-server", 0o755),
        ("lxc", 0o755),
        ("openvz", 0o755),
    ];
    let mut check = Check::new();
    for (path, expected) in modes {
        let row = format!("mode of {path:?}");
        check.equal(&row, mode(&host.path(path)).ok(), Some(expected));
        let owner = fs::symlink_metadata(host.path(path))
            .map(|data| (data.uid(), data.gid()))
            .ok();
        check.equal(&format!("owner of {path:?}"), owner, Some((0, www_data)));
    }
    drop(check);
    daemon.stop();
}

#[test]
fn the_mode_and_owner_a_program_asks_for_do_not_count() {
    let host = Host::new();
    let daemon = host.start();
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    fs::DirBuilder::new()
        .mode(0o700)
        .create(host.path("d"))
        .unwrap();
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o777)
        .open(host.path("f"))
        .unwrap();
    assert_eq!(mode(&host.path("d")).unwrap(), 0o755);
    assert_eq!(mode(&host.path("f")).unwrap(), 0o640);
    daemon.stop();
}

#[test]
fn sizes_links_and_blocks() {
    let host = Host::new();
    let daemon = host.start();
    make_directories(&host.mount_dir(), &["d/e"]);
    fs::write(host.path("empty"), "").unwrap();
    fs::write(host.path("small"), [0; 5]).unwrap();
    fs::write(host.path("large"), vec![0; 1024 * 1024]).unwrap();
    let mut check = Check::new();
    let data = |path: &str| fs::symlink_metadata(host.path(path)).unwrap();
    for (path, size, link_count) in [
        ("empty", 0, 1),
        ("small", 5, 1),
        ("large", 1024 * 1024, 1),
        ("d", 0, 2),
        ("", 0, 2),
        ("local", "nodes/node1".len() as u64, 1),
        ("qemu-server", "nodes/node1/qemu-server".len() as u64, 1),
        (".debug", 2, 1),
    ] {
        let data = data(path);
        check.equal(&format!("size of {path:?}"), data.size(), size);
        check.equal(&format!("links of {path:?}"), data.nlink(), link_count);
        check.equal(&format!("block size of {path:?}"), data.blksize(), 4096);
        if data.is_file() {
            let used = data.blocks() * 512;
            check.holds(
                &format!("du of {path:?}"),
                used >= size && used < size + 4096,
            );
        }
    }
    for path in [".version", ".members", ".vmlist", ".clusterlog"] {
        let content = fs::read(host.path(path)).unwrap();
        check.equal(
            &format!("size of {path}"),
            data(path).size(),
            content.len() as u64,
        );
    }
    drop(check);
    daemon.stop();
}

#[test]
fn times_are_the_entrys_whole_seconds() {
    let host = Host::new();
    let daemon = host.start();
    let before = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs() as i64;
    fs::create_dir(host.path("d")).unwrap();
    fs::write(host.path("f"), "x").unwrap();
    let after = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs() as i64;

    let mut check = Check::new();
    let times = |path: &str| {
        let data = fs::symlink_metadata(host.path(path)).unwrap();
        [
            (data.atime(), data.atime_nsec()),
            (data.mtime(), data.mtime_nsec()),
            (data.ctime(), data.ctime_nsec()),
        ]
    };
    for path in ["d", "f"] {
        let [atime, mtime, ctime] = times(path);
        check.holds(&format!("{path}: now"), (before..=after).contains(&mtime.0));
        check.equal(&format!("{path}: whole seconds"), mtime.1, 0);
        check.equal(
            &format!("{path}: all three equal"),
            (atime, ctime),
            (mtime, mtime),
        );
    }
    for path in [""].iter().chain(&GENERATED).chain(&LINKS) {
        check.equal(&format!("{path:?}: 1970"), times(path), [(0, 0); 3]);
    }

    // Both stamps; of them only the second one's seconds count, modulo 2^32.
    for (given, shown) in [(123_456, 123_456), (-5, 4_294_967_291), ((1 << 32) + 9, 9)] {
        let stamp = TimeSpec::seconds(given);
        let other = TimeSpec::seconds(77);
        for path in ["d", "f"] {
            let done = utimensat(
                nix::fcntl::AT_FDCWD,
                &host.path(path),
                &other,
                &stamp,
                UtimensatFlags::FollowSymlink,
            );
            check.ok(&format!("utime of {path} to {given}"), done);
            check.equal(
                &format!("{path} after utime to {given}"),
                times(path),
                [(shown, 0); 3],
            );
        }
    }

    // One stamp only, as `touch -m` does.
    let file = File::options().write(true).open(host.path("f")).unwrap();
    let stamp = UNIX_EPOCH + Duration::from_secs(1_000_000);
    check.ok(
        "touch -m",
        file.set_times(FileTimes::new().set_modified(stamp)),
    );
    check.equal("touch -m applies", times("f")[1], (1_000_000, 0));
    drop(check);
    drop(file);
    daemon.stop();
}

#[test]
fn parents_keep_their_times_when_children_come_and_go() {
    let host = Host::new();
    let daemon = host.start();
    fs::create_dir(host.path("d")).unwrap();
    let stamp = TimeSpec::seconds(1_000);
    utimensat(
        nix::fcntl::AT_FDCWD,
        &host.path("d"),
        &stamp,
        &stamp,
        UtimensatFlags::FollowSymlink,
    )
    .unwrap();
    fs::write(host.path("d/f"), "x").unwrap();
    fs::remove_file(host.path("d/f")).unwrap();
    assert_eq!(fs::metadata(host.path("d")).unwrap().mtime(), 1_000);
    daemon.stop();
}

#[test]
fn listings_tell_names_numbers_and_types() {
    let host = Host::new();
    let daemon = host.start();
    make_directories(&host.mount_dir(), &["d/e"]);
    fs::write(host.path("f"), "x").unwrap();
    fs::write(host.path("d/g"), "x").unwrap();

    let mut expected: Vec<&str> = GENERATED
        .into_iter()
        .chain(LINKS)
        .chain(["d", "f"])
        .collect();
    expected.sort_unstable();
    assert_eq!(names(&host.mount_dir()), expected);
    assert_eq!(names(&host.path("d")), ["e", "g"]);

    let mut check = Check::new();
    let mut numbers = BTreeMap::new();
    for directory in ["", "d"] {
        for entry in fs::read_dir(host.path(directory)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let data = fs::symlink_metadata(entry.path()).unwrap();
            let kind = entry.file_type().unwrap();
            check.equal(
                &format!("{name}: number in the listing"),
                entry.ino(),
                data.ino(),
            );
            check.equal(
                &format!("{name}: type in the listing"),
                (
                    kind.is_dir(),
                    kind.is_file(),
                    kind.is_symlink(),
                    kind.is_fifo(),
                ),
                (
                    data.is_dir(),
                    data.is_file(),
                    data.file_type().is_symlink(),
                    false,
                ),
            );
            if let Some(other) = numbers.insert(data.ino(), name.clone()) {
                check.holds(&format!("{name} and {other} have the same number"), false);
            }
        }
    }
    drop(check);
    daemon.stop();
}

#[test]
fn a_large_directory_lists_completely_while_it_changes() {
    let host = Host::new();
    let daemon = host.start();
    fs::create_dir(host.path("d")).unwrap();
    let count = 3_000;
    for number in 0..count {
        fs::write(host.path(format!("d/stays-{number:05}")), "").unwrap();
    }
    let mut seen = BTreeMap::new();
    for (position, entry) in fs::read_dir(host.path("d")).unwrap().enumerate() {
        *seen
            .entry(entry.unwrap().file_name().into_string().unwrap())
            .or_insert(0) += 1;
        if position % 50 == 0 {
            fs::write(host.path(format!("d/comes-{position}")), "").unwrap();
            fs::remove_file(host.path(format!("d/comes-{position}"))).unwrap();
        }
    }
    seen.retain(|name, _count| name.starts_with("stays-"));
    assert_eq!(seen.len(), count);
    assert!(
        seen.values().all(|times| *times == 1),
        "a name was listed twice"
    );
    daemon.stop();
}

#[test]
fn numbers_survive_a_rename() {
    let host = Host::new();
    let daemon = host.start();
    make_directories(&host.mount_dir(), &["d", "e"]);
    fs::write(host.path("f"), "x").unwrap();
    let file = fs::metadata(host.path("f")).unwrap().ino();
    let directory = fs::metadata(host.path("e")).unwrap().ino();
    fs::rename(host.path("f"), host.path("d/g")).unwrap();
    fs::rename(host.path("e"), host.path("d/h")).unwrap();
    assert_eq!(fs::metadata(host.path("d/g")).unwrap().ino(), file);
    assert_eq!(fs::metadata(host.path("d/h")).unwrap().ino(), directory);
    daemon.stop();
}

#[test]
fn statfs_counts_content_and_entries() {
    let host = Host::new();
    let daemon = host.start();
    let usage = || {
        let usage = statvfs(&host.mount_dir()).unwrap();
        (
            usage.blocks_free(),
            usage.blocks_available(),
            usage.files_free(),
            usage.files_available(),
        )
    };
    let total = statvfs(&host.mount_dir()).unwrap();
    assert_eq!((total.block_size(), total.fragment_size()), (4096, 4096));
    assert_eq!(
        (total.blocks(), total.files(), total.name_max()),
        (32_768, 262_144, 256)
    );
    assert_eq!(
        usage(),
        (32_768, 32_768, 262_143, 262_143),
        "the root counts"
    );
    // One rounding over the sum, not one per file.
    fs::write(host.path("a"), [0; 1]).unwrap();
    fs::write(host.path("b"), [0; 4095]).unwrap();
    assert_eq!(usage(), (32_767, 32_767, 262_141, 262_141));
    fs::write(host.path("c"), [0; 1]).unwrap();
    fs::create_dir(host.path("d")).unwrap();
    assert_eq!(usage(), (32_766, 32_766, 262_139, 262_139));
    fs::remove_file(host.path("b")).unwrap();
    assert_eq!(usage(), (32_767, 32_767, 262_140, 262_140));
    daemon.stop();
}
