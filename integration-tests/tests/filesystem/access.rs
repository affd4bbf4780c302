//! What users other than root may do.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use integration_tests::identity::Identity;
use integration_tests::{Check, Host};
use nix::errno::Errno;

use crate::make_directories;

fn fill(host: &Host) {
    make_directories(
        &host.mount_dir(),
        &["d", "priv/lock", "nodes/node1/priv", "nodes/node1/lxc"],
    );
    for path in [
        "f",
        "d/f",
        "priv/f",
        "nodes/node1/priv/f",
        "nodes/node1/lxc/100.conf",
    ] {
        fs::write(host.path(path), "content").unwrap();
    }
}

fn write_attempts(check: &mut Check, at: &dyn Fn(&str) -> PathBuf) {
    let write = |path: &Path| OpenOptions::new().write(true).open(path);
    check.errno("write", Errno::EACCES, write(&at("d/f")));
    check.errno("create", Errno::EACCES, File::create_new(at("d/new")));
    check.errno("mkdir", Errno::EACCES, fs::create_dir(at("d/new")));
    check.errno("unlink", Errno::EACCES, fs::remove_file(at("d/f")));
    check.errno("rename", Errno::EACCES, fs::rename(at("d/f"), at("d/g")));
    check.errno(
        "truncate",
        Errno::EACCES,
        nix::unistd::truncate(&at("d/f"), 0),
    );
    check.errno("switch debugging on", Errno::EACCES, write(&at(".debug")));
    check.errno(
        "open a directory for writing",
        Errno::EISDIR,
        write(&at("d")),
    );
    let chmod = fs::set_permissions(at("f"), fs::Permissions::from_mode(0o640));
    check.errno("chmod", Errno::EPERM, chmod);
    check.errno("chown", Errno::EPERM, chown(at("f"), Some(0), None));
    for private in ["priv", "nodes/node1/priv"] {
        check.ok(
            &format!("stat of {private} itself"),
            fs::metadata(at(private)),
        );
        check.errno(
            &format!("list {private}"),
            Errno::EACCES,
            fs::read_dir(at(private)),
        );
        check.errno(
            &format!("stat in {private}"),
            Errno::EACCES,
            fs::metadata(at(private).join("f")),
        );
        check.errno(
            &format!("read in {private}"),
            Errno::EACCES,
            fs::read(at(private).join("f")),
        );
        check.errno(
            &format!("mkdir in {private}"),
            Errno::EACCES,
            fs::create_dir(at(private).join("x")),
        );
    }
}

#[test]
fn the_web_servers_group_reads_what_is_not_private() {
    let host = Host::new();
    let daemon = host.start();
    fill(&host);
    Identity::www_data().run(|| {
        let at = |path: &str| host.path(path);
        let mut check = Check::new();
        for path in ["f", "d/f", "nodes/node1/lxc/100.conf", "lxc/100.conf"] {
            check.equal(path, fs::read(at(path)).ok(), Some(b"content".to_vec()));
        }
        for path in [
            ".version",
            ".members",
            ".vmlist",
            ".rrd",
            ".clusterlog",
            ".debug",
        ] {
            check.ok(path, fs::read(at(path)));
        }
        check.ok("list", fs::read_dir(at("nodes/node1")));
        write_attempts(&mut check, &at);
    });
    daemon.stop();
}

#[test]
fn others_look_at_names_but_not_into_files() {
    let host = Host::new();
    let daemon = host.start();
    fill(&host);
    Identity::NOBODY.run(|| {
        let at = |path: &str| host.path(path);
        let mut check = Check::new();
        for path in ["", "d", "nodes/node1", "local/lxc"] {
            check.ok(&format!("list {path:?}"), fs::read_dir(at(path)));
        }
        for path in ["f", "d/f", "lxc/100.conf", ".version"] {
            check.ok(&format!("stat {path}"), fs::metadata(at(path)));
        }
        for path in [
            "f",
            "d/f",
            "lxc/100.conf",
            ".version",
            ".members",
            ".vmlist",
            ".clusterlog",
            ".rrd",
            ".debug",
        ] {
            check.errno(&format!("read {path}"), Errno::EACCES, fs::read(at(path)));
        }
        check.ok("is it mounted", fs::read_link(at("local")));
        write_attempts(&mut check, &at);
    });
    daemon.stop();
}

#[test]
fn what_a_user_keeps_by_open_files_has_a_bound() {
    const FILE_COUNT: usize = 66;
    let host = Host::new();
    let _daemon = host.start();
    let content = vec![b'x'; 1024 * 1024];
    let as_user = |path: &str| {
        let path = host.path(path);
        Identity::www_data().run(move || File::open(path))
    };
    fs::write(host.path("small"), "x").unwrap();
    let mut open = Vec::new();
    for _ in 0..FILE_COUNT {
        fs::write(host.path("f"), &content).unwrap();
        open.push(as_user("f"));
        fs::remove_file(host.path("f")).unwrap();
    }
    // One more than the bound has room for: it is looked at before.
    let refused = open.pop().unwrap().unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(Errno::ENFILE as i32));
    assert!(open.iter().all(Result::is_ok));
    assert!(as_user("small").is_err());
    File::open(host.path("small")).unwrap();
    fs::write(host.path("small"), "changed").unwrap();
    open.truncate(FILE_COUNT / 2);
    as_user("small").unwrap();
}
