//! What other nodes have changed is seen at once, although a kernel believes names, sizes and attributes for a second.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::thread;

use integration_tests::{Cluster, Over};
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use crate::{alone, beside_others};

#[test]
fn who_reads_while_a_synchronisation_replaces_all_finds_everything() {
    const FILE_COUNT: usize = 20;
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    let (one, three) = (cluster.host(1), cluster.host(3));
    let make = |data: &[u8]| {
        one.mkdir("there").unwrap();
        for number in 0..FILE_COUNT {
            one.write(&format!("there/{number}"), data).unwrap();
        }
        one.mkdir("there/directory").unwrap();
    };
    let remove_directory = |name: &str| one.inside(|| fs::remove_dir(format!("/etc/pve/{name}")));
    make(b"old");
    cluster.await_synced();
    let over = Over::new();
    thread::scope(|scope| {
        let work = over.begin();
        let reader = scope.spawn(|| {
            three.inside(|| {
                let mut failures = Vec::new();
                // Over and over, so that the kernel takes every name for granted when it comes to stand for something else.
                while !over.is_over() {
                    for number in 0..FILE_COUNT {
                        let path = format!("/etc/pve/there/{number}");
                        let meta = fs::metadata(&path).map(drop);
                        let data = fs::read(&path).map(drop);
                        let opened = OpenOptions::new().append(true).open(&path).map(drop);
                        failures.extend([meta, data, opened].into_iter().filter_map(Result::err));
                    }
                    let error = fs::create_dir("/etc/pve/there/directory").unwrap_err();
                    if error.kind() != ErrorKind::AlreadyExists {
                        failures.push(error);
                    }
                }
                failures
            })
        });
        three.kill_corosync();
        cluster.expect("node 3 to be alone", || {
            three.write("alone", b"x").is_err().then_some(())
        });
        cluster.expect("a majority", || remove_directory("there/directory").ok());
        for number in 0..FILE_COUNT {
            one.remove(&format!("there/{number}")).unwrap();
        }
        remove_directory("there").unwrap();
        make(b"new");
        cluster.await_departure(3);
        three.start_corosync();
        cluster.await_synced();
        drop(work);
        let failures = reader.join().expect("the reader does not panic");
        assert!(failures.is_empty(), "{failures:?}");
    });
    assert_eq!(three.read("there/0").unwrap(), b"new");
    cluster.stop_and_compare();
}

#[test]
fn what_another_node_has_replaced_is_read_anew_at_once() {
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    let (one, three) = (cluster.host(1), cluster.host(3));
    for round in 0..50 {
        let data = format!("round {round}");
        one.write("file.tmp", data.as_bytes()).unwrap();
        one.rename("file.tmp", "file").unwrap();
        // What the daemon has, whatever the kernel thinks.
        three.ipc(|ipc| {
            cluster.expect("the file to come", || {
                (ipc.config("file").ok()? == data.as_bytes()).then_some(())
            });
        });
        assert_eq!(three.read("file").unwrap(), data.as_bytes());
    }
    one.rename("file", "moved").unwrap();
    three.ipc(|ipc| {
        cluster.expect("the file to be moved", || ipc.config("moved").ok());
    });
    let error = three.read("file").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    three.read("moved").unwrap();
    one.remove("moved").unwrap();
    three.ipc(|ipc| {
        cluster.expect("the file to go", || ipc.config("moved").err());
    });
    let error = three.read("moved").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    one.mkdir("directory").unwrap();
    three.inside(|| {
        cluster.expect("the directory", || File::open("/etc/pve/directory").ok());
    });
    one.inside(|| fs::remove_dir("/etc/pve/directory")).unwrap();
    one.write("mark", b"x").unwrap();
    three.ipc(|ipc| {
        cluster.expect("the mark", || ipc.config("mark").ok());
    });
    let error = three.inside(|| File::open("/etc/pve/directory").unwrap_err());
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    cluster.stop_and_compare();
}

#[test]
fn what_another_node_has_renamed_is_overwritten_at_once() {
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    let (one, three) = (cluster.host(1), cluster.host(3));
    for round in 0..20 {
        let data = format!("round {round}");
        one.write("file.tmp", data.as_bytes()).unwrap();
        three.inside(|| {
            cluster.expect("the new file", || File::open("/etc/pve/file.tmp").ok());
        });
        one.rename("file.tmp", "file").unwrap();
        three.ipc(|ipc| {
            cluster.expect("the file to be replaced", || {
                (ipc.config("file").ok()? == data.as_bytes()).then_some(())
            });
        });
        three.write("file", b"from here").unwrap();
        assert_eq!(three.read("file").unwrap(), b"from here");
    }
    cluster.stop_and_compare();
}

type Work = fn() -> io::Result<()>;

/// What a program may do by path, on names that other nodes give to something else all the time.
const WORKS: [(&str, Work); 13] = [
    ("stat", || fs::metadata(FILE).map(drop)),
    ("read", || fs::read(FILE).map(drop)),
    ("overwrite", || fs::write(FILE, b"from three")),
    ("append", || {
        let mut file = OpenOptions::new().append(true).open(FILE)?;
        file.write_all(b"and more")
    }),
    ("truncate", || Ok(nix::unistd::truncate(FILE, 1)?)),
    ("touch", || {
        let now = TimeSpec::UTIME_NOW;
        Ok(utimensat(
            AT_FDCWD,
            FILE,
            &now,
            &now,
            UtimensatFlags::FollowSymlink,
        )?)
    }),
    ("make", || File::create_new(FILE).map(drop)),
    ("move away", || fs::rename(FILE, AWAY)),
    ("move back", || fs::rename(AWAY, FILE)),
    ("remove", || fs::remove_file(FILE)),
    ("list", || fs::read_dir(DIRECTORY).map(drop)),
    ("write below", || fs::write(BELOW, b"from three")),
    ("read below", || fs::read(BELOW).map(drop)),
];
const FILE: &str = "/etc/pve/there/file";
const AWAY: &str = "/etc/pve/there/away";
const DIRECTORY: &str = "/etc/pve/there/directory";
const BELOW: &str = "/etc/pve/there/directory/below";

#[test]
fn who_works_on_what_other_nodes_replace_all_the_time_gets_no_strange_errors() {
    const ROUND_COUNT: usize = 300;
    const MAX_STALE_COUNT: usize = 4;
    let _turn = alone();
    let cluster = Cluster::running(3);
    let (one, two, three) = (cluster.host(1), cluster.host(2), cluster.host(3));
    one.mkdir("there").unwrap();
    cluster.await_synced();
    let over = Over::new();
    // How often it went well: others come in its way.
    let over_and_over = |change: Work| {
        let mut count = 0;
        while !over.is_over() {
            count += usize::from(change().is_ok());
        }
        count
    };
    let replace = || {
        fs::write("/etc/pve/there/new", b"from one")?;
        fs::rename("/etc/pve/there/new", FILE)
    };
    let renew = || {
        let _there = fs::create_dir(DIRECTORY);
        let _lacks = fs::rename(FILE, BELOW);
        let _lacks = fs::remove_file(BELOW);
        fs::remove_dir(DIRECTORY)
    };
    let usual = [ErrorKind::NotFound, ErrorKind::AlreadyExists];
    let mut strange = BTreeMap::<(&str, String), usize>::new();
    thread::scope(|scope| {
        let work = over.begin();
        let replaced = scope.spawn(|| one.inside(|| over_and_over(replace)));
        let renewed = scope.spawn(|| two.inside(|| over_and_over(renew)));
        three.inside(|| {
            for _ in 0..ROUND_COUNT {
                for (name, work) in WORKS {
                    if let Err(error) = work()
                        && !usual.contains(&error.kind())
                    {
                        *strange.entry((name, error.to_string())).or_default() += 1;
                    }
                }
            }
        });
        drop(work);
        assert!(replaced.join().expect("node 1 does not panic") > 0);
        assert!(renewed.join().expect("node 2 does not panic") > 0);
    });
    // A name that goes again in the middle of the second walk of one system call gives ESTALE, if that walk takes long.
    let stale = nix::errno::Errno::ESTALE as i32;
    let stale = io::Error::from_raw_os_error(stale).to_string();
    let mut stale_count = 0;
    strange.retain(|(_, error), count| {
        let is_stale = *error == stale;
        stale_count += if is_stale { *count } else { 0 };
        !is_stale
    });
    assert!(
        strange.is_empty() && stale_count <= MAX_STALE_COUNT,
        "{stale_count} {strange:?}\n{cluster}"
    );
    cluster.stop_and_compare();
}

#[test]
fn nodes_that_append_in_turns_lose_no_line() {
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    let (one, three) = (cluster.host(1), cluster.host(3));
    one.write("log", b"").unwrap();
    let mut expected = Vec::new();
    for round in 0..50 {
        // Far more often than once in a second, for which a kernel believes in the size that it knows.
        for host in [one, three] {
            host.ipc(|ipc| {
                cluster.expect("the line of the other node", || {
                    (ipc.config("log").ok()? == expected).then_some(())
                });
            });
            let line = format!("{round} of {}\n", host.name());
            host.inside(|| {
                let mut file = OpenOptions::new().append(true).open("/etc/pve/log")?;
                file.write_all(line.as_bytes())
            })
            .unwrap();
            expected.extend_from_slice(line.as_bytes());
        }
    }
    assert_eq!(three.read("log").unwrap(), expected);
    cluster.stop_and_compare();
}

#[test]
fn what_another_node_changes_shows_in_stat_without_delay() {
    const ROUND_COUNT: u64 = 100;
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    let (one, three) = (cluster.host(1), cluster.host(3));
    let size = || fs::metadata("/etc/pve/there/file").map(|meta| meta.len());
    let is_there = || fs::metadata("/etc/pve/there").is_ok();
    three.ipc(|ipc| {
        let mut mark_count = 0;
        // Node 3 has all that node 1 has done.
        let mut pass = || {
            mark_count += 1;
            let mark = mark_count.to_string();
            one.write("mark", mark.as_bytes()).unwrap();
            cluster.expect("the mark", || {
                (ipc.config("mark").ok()? == mark.as_bytes()).then_some(())
            });
        };
        for round in 0..ROUND_COUNT {
            one.mkdir("there").unwrap();
            one.write("there/file", b"x").unwrap();
            for new in [2, 1 + round] {
                let data = vec![b'x'; usize::try_from(new).unwrap()];
                one.write("there/file", &data).unwrap();
                pass();
                assert_eq!(size().unwrap(), new);
            }
            one.remove("there/file").unwrap();
            pass();
            assert_eq!(size().unwrap_err().kind(), ErrorKind::NotFound);
            assert!(is_there());
            one.remove("there").unwrap();
            pass();
            assert!(!is_there());
            assert!(fs::read_dir("/etc/pve/there").is_err());
        }
    });
    cluster.stop_and_compare();
}

#[test]
fn who_has_a_directory_open_that_another_node_removes_is_led_by_its_path() {
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    let (one, three) = (cluster.host(1), cluster.host(3));
    one.mkdir("there").unwrap();
    one.write("outside", b"x").unwrap();
    cluster.await_synced();
    three.inside(|| {
        let open = cluster.expect("the directory", || File::open("/etc/pve/there").ok());
        one.inside(|| fs::remove_dir("/etc/pve/there")).unwrap();
        cluster.expect("the directory to be gone", || {
            fs::metadata("/etc/pve/there").err()
        });
        let inside = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()));
        assert!(open.metadata().unwrap().is_dir());
        assert_eq!(fs::read_dir(&inside).unwrap().count(), 0);
        let results = [
            fs::read(inside.join("file")).map(drop),
            fs::write(inside.join("file"), b"x"),
            fs::create_dir(inside.join("directory")),
            fs::remove_file(inside.join("file")),
            fs::rename("/etc/pve/outside", inside.join("file")),
        ];
        for result in results {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::NotFound);
        }
        // The path counts, as with a daemon that knows nothing but paths.
        one.mkdir("there").unwrap();
        one.write("there/file", b"new").unwrap();
        cluster.expect("the new directory", || {
            (fs::read("/etc/pve/there/file").ok()? == b"new").then_some(())
        });
        assert_eq!(fs::read(inside.join("file")).unwrap(), b"new");
        fs::create_dir(inside.join("directory")).unwrap();
    });
    one.inside(|| {
        cluster.expect("the directory of node 3", || {
            Path::new(DIRECTORY).is_dir().then_some(())
        });
    });
    cluster.stop_and_compare();
}
