//! The answers of each operation, as root.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use integration_tests::identity::Identity;
use integration_tests::{Check, Host, raw};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, FallocateFlags, Flock, FlockArg, OFlag, RenameFlags, renameat2};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, makedev, mknod, utimensat};
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::unistd::{Whence, mkfifo};

use crate::{make_directories, mode, names};

fn write_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(path)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

#[test]
fn making_and_removing() {
    let host = Host::new();
    let daemon = host.start();
    let at = |path: &str| host.path(path);
    make_directories(&host.mount_dir(), &["d/sub", "empty"]);
    fs::write(at("f"), "x").unwrap();
    let mut check = Check::new();

    check.errno(
        "mkdir over a directory",
        Errno::EEXIST,
        fs::create_dir(at("d")),
    );
    check.errno("mkdir over a file", Errno::EEXIST, fs::create_dir(at("f")));
    check.errno(
        "mkdir in a missing directory",
        Errno::ENOENT,
        fs::create_dir(at("missing/x")),
    );
    check.errno(
        "mkdir below a file",
        Errno::ENOTDIR,
        fs::create_dir(at("f/x")),
    );
    check.errno(
        "stat of a missing name",
        Errno::ENOENT,
        fs::metadata(at("missing")),
    );
    check.errno("stat below a file", Errno::ENOTDIR, fs::metadata(at("f/x")));
    check.errno("readlink of a file", Errno::EINVAL, fs::read_link(at("f")));

    let (longest, too_long) = ("n".repeat(1024), "n".repeat(1025));
    check.errno(
        "mkdir with 1025 bytes",
        Errno::ENAMETOOLONG,
        fs::create_dir(at(&too_long)),
    );
    check.errno(
        "create with 1025 bytes",
        Errno::ENAMETOOLONG,
        create(&at(&too_long)),
    );
    check.ok("create with 1024 bytes", create(&at(&longest)));
    check.ok("unlink it", fs::remove_file(at(&longest)));
    check.ok("mkdir with 1024 bytes", fs::create_dir(at(&longest)));
    check.ok("rmdir it", fs::remove_dir(at(&longest)));

    check.errno(
        "rmdir of a full directory",
        Errno::ENOTEMPTY,
        fs::remove_dir(at("d")),
    );
    check.errno("rmdir of a file", Errno::ENOTDIR, fs::remove_dir(at("f")));
    check.errno(
        "rmdir of a missing name",
        Errno::ENOENT,
        fs::remove_dir(at("missing")),
    );
    check.errno("rmdir of x/.", Errno::EINVAL, fs::remove_dir(at("empty/.")));
    check.ok("rmdir of an empty directory", fs::remove_dir(at("empty")));
    check.errno(
        "unlink of a directory",
        Errno::EISDIR,
        fs::remove_file(at("d")),
    );
    check.errno(
        "unlink of a missing name",
        Errno::ENOENT,
        fs::remove_file(at("missing")),
    );

    check.errno("create over a directory", Errno::EISDIR, create(&at("d")));
    check.errno(
        "create in a missing directory",
        Errno::ENOENT,
        create(&at("missing/x")),
    );
    check.errno("create below a file", Errno::ENOTDIR, create(&at("f/x")));
    check.errno(
        "create exclusively over a file",
        Errno::EEXIST,
        File::create_new(at("f")),
    );
    check.errno(
        "open a directory for writing",
        Errno::EISDIR,
        write_to(&at("d")),
    );
    check.errno(
        "open a missing file",
        Errno::ENOENT,
        write_to(&at("missing")),
    );

    let plain = Mode::from_bits_truncate(0o644);
    check.ok(
        "mknod of a file",
        mknod(&at("made"), SFlag::S_IFREG, plain, 0),
    );
    check.equal(
        "mknod makes an empty file",
        fs::read(at("made")).ok(),
        Some(Vec::new()),
    );
    check.errno(
        "mknod over a file",
        Errno::EEXIST,
        mknod(&at("made"), SFlag::S_IFREG, plain, 0),
    );
    check.errno("mkfifo", Errno::ENOSYS, mkfifo(&at("fifo"), plain));
    check.errno(
        "a device",
        Errno::ENOSYS,
        mknod(&at("device"), SFlag::S_IFCHR, plain, makedev(1, 3)),
    );
    check.errno("a socket", Errno::ENOSYS, UnixListener::bind(at("socket")));
    check.errno("symlink", Errno::ENOSYS, symlink("f", at("link")));
    check.errno(
        "hard link",
        Errno::EPERM,
        fs::hard_link(at("f"), at("link")),
    );
    let unnamed = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .open(at("d"));
    check.errno("a file without a name", Errno::EOPNOTSUPP, unnamed);
    drop(check);
    daemon.stop();
}

#[test]
fn renaming() {
    let host = Host::new();
    let daemon = host.start();
    let at = |path: &str| host.path(path);
    make_directories(
        &host.mount_dir(),
        &["full/sub", "empty", "empty2", "priv/lock/taken"],
    );
    fs::write(at("f"), "f").unwrap();
    fs::write(at("g"), "g").unwrap();
    let mut check = Check::new();
    let rename = |from: &str, to: &str| fs::rename(at(from), at(to));
    let flagged =
        |from: &str, to: &str, flags| renameat2(AT_FDCWD, &at(from), AT_FDCWD, &at(to), flags);

    check.errno("of a missing name", Errno::ENOENT, rename("missing", "x"));
    check.errno(
        "into a missing directory",
        Errno::ENOENT,
        rename("f", "missing/x"),
    );
    check.errno("to below a file", Errno::ENOTDIR, rename("f", "g/x"));
    check.errno("of a full directory", Errno::ENOTEMPTY, rename("full", "x"));
    check.errno(
        "of a full directory onto an empty one",
        Errno::ENOTEMPTY,
        rename("full", "empty"),
    );
    check.ok("and the target is still there", fs::metadata(at("empty")));
    check.errno(
        "onto a full directory",
        Errno::ENOTEMPTY,
        rename("empty", "full"),
    );
    check.errno(
        "of a file onto a directory",
        Errno::EISDIR,
        rename("f", "empty"),
    );
    check.errno(
        "of a directory onto a file",
        Errno::ENOTDIR,
        rename("empty", "f"),
    );
    check.errno("into itself", Errno::EINVAL, rename("empty", "empty/x"));
    check.ok("onto itself", rename("f", "f"));
    check.equal(
        "onto itself keeps it",
        fs::read(at("f")).ok(),
        Some(b"f".to_vec()),
    );
    check.errno(
        "of a lock",
        Errno::EACCES,
        rename("priv/lock/taken", "priv/lock/other"),
    );
    check.errno(
        "NOREPLACE onto a file",
        Errno::EEXIST,
        flagged("f", "g", RenameFlags::RENAME_NOREPLACE),
    );
    check.errno(
        "NOREPLACE",
        Errno::EINVAL,
        flagged("f", "x", RenameFlags::RENAME_NOREPLACE),
    );
    check.errno(
        "EXCHANGE",
        Errno::EINVAL,
        flagged("f", "g", RenameFlags::RENAME_EXCHANGE),
    );
    check.errno(
        "EXCHANGE with nothing",
        Errno::ENOENT,
        flagged("f", "x", RenameFlags::RENAME_EXCHANGE),
    );
    check.errno(
        "WHITEOUT",
        Errno::EINVAL,
        flagged("f", "x", RenameFlags::RENAME_WHITEOUT),
    );
    check.equal(
        "nothing has moved",
        (fs::read(at("f")).ok(), fs::read(at("g")).ok()),
        (Some(b"f".to_vec()), Some(b"g".to_vec())),
    );
    check.ok(
        "of an empty directory onto an empty one",
        rename("empty", "empty2"),
    );
    check.ok("of a file onto a file", rename("f", "g"));
    check.equal("replaces it", fs::read(at("g")).ok(), Some(b"f".to_vec()));
    check.ok(
        "of a directory into the lock directory",
        rename("empty2", "priv/lock/new"),
    );
    drop(check);
    daemon.stop();
    let daemon = host.start();
    assert_eq!(names(&host.path("priv/lock")), ["new", "taken"]);
    assert_eq!(names(&host.path("full")), ["sub"]);
    daemon.stop();
}

#[test]
fn changing_attributes() {
    let host = Host::new();
    let daemon = host.start();
    let at = |path: &str| host.path(path);
    let www_data = Identity::www_data().gid;
    make_directories(&host.mount_dir(), &["d", "priv/d"]);
    fs::write(at("f"), "x").unwrap();
    fs::write(at("priv/f"), "x").unwrap();
    let mut check = Check::new();

    for (path, accepted, shown) in [
        ("f", 0o640, 0o640),
        ("d", 0o640, 0o755),
        ("priv/f", 0o600, 0o600),
        ("priv/d", 0o600, 0o700),
    ] {
        for bits in [0o600, 0o640, 0o644, 0o700, 0o755, 0o777, 0o444, 0] {
            let row = format!("chmod {bits:o} {path}");
            let done = fs::set_permissions(at(path), fs::Permissions::from_mode(bits));
            if bits == accepted {
                check.ok(&row, done);
            } else {
                check.errno(&row, Errno::EPERM, done);
            }
        }
        check.equal(
            &format!("mode of {path} afterwards"),
            mode(&at(path)).ok(),
            Some(shown),
        );
        for (uid, gid) in [
            (Some(0), None),
            (None, Some(www_data)),
            (Some(0), Some(www_data)),
            (None, None),
        ] {
            check.ok(
                &format!("chown {uid:?}:{gid:?} {path}"),
                chown(at(path), uid, gid),
            );
        }
        for (uid, gid) in [(Some(33), None), (None, Some(0)), (Some(0), Some(65534))] {
            check.errno(
                &format!("chown {uid:?}:{gid:?} {path}"),
                Errno::EPERM,
                chown(at(path), uid, gid),
            );
        }
    }
    let missing = fs::set_permissions(at("missing"), fs::Permissions::from_mode(0o640));
    check.errno("chmod of a missing file", Errno::ENOENT, missing);
    check.errno(
        "chown of a missing file",
        Errno::ENOENT,
        chown(at("missing"), Some(0), None),
    );

    let stamp = TimeSpec::seconds(5);
    let touch = |path: &str| {
        utimensat(
            AT_FDCWD,
            &at(path),
            &stamp,
            &stamp,
            UtimensatFlags::FollowSymlink,
        )
    };
    check.errno("utime of the root", Errno::EACCES, touch(""));
    check.errno("utime of a missing file", Errno::ENOENT, touch("missing"));
    check.ok("utime of a file", touch("f"));
    check.ok("utime of a directory", touch("d"));

    for name in ["user.test", "trusted.test", "security.test"] {
        check.errno(
            &format!("setxattr {name}"),
            Errno::EOPNOTSUPP,
            raw::set_xattr(&at("f"), name, b"v"),
        );
        check.errno(
            &format!("getxattr {name}"),
            Errno::EOPNOTSUPP,
            raw::xattr_size(&at("f"), name),
        );
        check.errno(
            &format!("removexattr {name}"),
            Errno::EOPNOTSUPP,
            raw::remove_xattr(&at("f"), name),
        );
    }
    check.errno(
        "listxattr",
        Errno::EOPNOTSUPP,
        raw::xattr_list_size(&at("f")),
    );
    drop(check);
    daemon.stop();
}

#[test]
fn operations_on_descriptors() {
    let host = Host::new();
    let daemon = host.start();
    let at = |path: &str| host.path(path);
    fs::create_dir(at("d")).unwrap();
    fs::write(at("f"), "content").unwrap();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(at("f"))
        .unwrap();
    let mut check = Check::new();

    check.errno(
        "truncate of a directory",
        Errno::EISDIR,
        nix::unistd::truncate(&at("d"), 0),
    );
    check.errno(
        "truncate of a missing file",
        Errno::ENOENT,
        nix::unistd::truncate(&at("missing"), 0),
    );
    check.errno(
        "truncate above 1 MiB",
        Errno::EFBIG,
        nix::unistd::truncate(&at("f"), 1024 * 1024 + 1),
    );
    check.errno(
        "ftruncate above 1 MiB",
        Errno::EFBIG,
        file.set_len(1024 * 1024 + 1),
    );
    check.errno(
        "write behind 1 MiB",
        Errno::EFBIG,
        file.write_at(b"x", 1024 * 1024),
    );
    check.errno("write at 4 GiB", Errno::EFBIG, file.write_at(b"x", 1 << 32));
    check.errno("truncate to 4 GiB", Errno::EFBIG, file.set_len(1 << 32));
    check.equal(
        "none of them changed it",
        fs::read(at("f")).ok(),
        Some(b"content".to_vec()),
    );

    check.errno(
        "fallocate",
        Errno::EOPNOTSUPP,
        nix::fcntl::fallocate(&file, FallocateFlags::empty(), 0, 100),
    );
    let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    check.errno(
        "fallocate to punch a hole",
        Errno::EOPNOTSUPP,
        nix::fcntl::fallocate(&file, punch, 0, 1),
    );
    check.ok(
        "posix_fallocate",
        nix::fcntl::posix_fallocate(&file, 0, 100),
    );
    check.equal(
        "posix_fallocate extends",
        file.metadata().map(|data| data.len()).ok(),
        Some(100),
    );
    check.errno("ioctl", Errno::ENOTTY, raw::unknown_ioctl(file.as_fd()));
    check.ok("fsync", file.sync_all());
    check.ok("fdatasync", file.sync_data());
    check.ok(
        "fsync of a directory",
        File::open(at("d")).and_then(|directory| directory.sync_all()),
    );
    check.ok("syncfs", nix::unistd::syncfs(&file));
    check.equal(
        "lseek to data",
        nix::unistd::lseek(&file, 0, Whence::SeekData).ok(),
        Some(0),
    );
    check.equal(
        "lseek to a hole",
        nix::unistd::lseek(&file, 0, Whence::SeekHole).ok(),
        Some(100),
    );
    check.equal(
        "private mapping",
        raw::first_byte_mapped(file.as_fd(), false).ok(),
        Some(b'c'),
    );
    check.errno(
        "shared mapping",
        Errno::ENODEV,
        raw::first_byte_mapped(file.as_fd(), true),
    );

    for flags in [
        OFlag::O_DIRECT,
        OFlag::O_SYNC,
        OFlag::O_NOATIME,
        OFlag::O_APPEND,
    ] {
        let opened = OpenOptions::new()
            .write(true)
            .custom_flags(flags.bits())
            .open(at("f"));
        check.ok(&format!("open with {flags:?}"), opened);
    }
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_file, errno)| errno);
    let other = File::open(at("f")).unwrap();
    let second =
        Flock::lock(other, FlockArg::LockExclusiveNonblock).map_err(|(_file, errno)| errno);
    check.errno("flock while it is held", Errno::EWOULDBLOCK, second);
    check.ok("flock", lock);

    check.errno("execute", Errno::EACCES, Command::new(at("f")).spawn());
    drop(check);
    daemon.stop();
}

#[test]
fn names_are_bytes_and_paths_may_be_deep() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let host = Host::new();
    let daemon = host.start();
    let strange = [
        b"latin-\xe9".as_slice(),
        b"new\nline",
        b" ",
        b"\xff\xfe",
        b"-rf",
        b"a\\b\"c",
    ];
    for name in strange {
        fs::write(host.path(OsStr::from_bytes(name)), name).unwrap();
    }
    let depth = 60;
    let component = "c".repeat(100);
    std::thread::scope(|scope| {
        // Far longer than PATH_MAX: only reachable step by step.
        scope.spawn(|| {
            let mut directory = File::open(host.mount_dir()).unwrap();
            for _ in 0..depth {
                nix::sys::stat::mkdirat(
                    &directory,
                    component.as_str(),
                    Mode::from_bits_truncate(0o755),
                )
                .unwrap();
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
                directory =
                    nix::fcntl::openat(&directory, component.as_str(), flags, Mode::empty())
                        .unwrap()
                        .into();
            }
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT;
            let file: File = nix::fcntl::openat(&directory, "f", flags, Mode::empty())
                .unwrap()
                .into();
            file.write_at(b"deep", 0).unwrap();
        });
    });
    daemon.stop();
    let daemon = host.start();
    for name in strange {
        assert_eq!(fs::read(host.path(OsStr::from_bytes(name))).unwrap(), name);
    }
    let mut directory = File::open(host.mount_dir()).unwrap();
    for _ in 0..depth {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        directory = nix::fcntl::openat(&directory, component.as_str(), flags, Mode::empty())
            .unwrap()
            .into();
    }
    let file: File = nix::fcntl::openat(&directory, "f", OFlag::O_RDONLY, Mode::empty())
        .unwrap()
        .into();
    assert_eq!(io::read_to_string(file).unwrap(), "deep");
    daemon.stop();
}
