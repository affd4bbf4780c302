//! What a program sees of names that another node has removed, renamed or replaced, once its own daemon knows: the truth, at once,
//! although the kernel has believed otherwise a moment before.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use integration_tests::cluster::Random;
use integration_tests::{Cluster, Over, wait};

use crate::{alone, beside_others};

/// Where everything happens.
const ROOM: &str = "/etc/pve/room";

fn at(name: &str) -> String {
    format!("{ROOM}/{name}")
}

/// A cluster of which node 3 looks at what node 1 does.
struct View<'a> {
    cluster: &'a Cluster,
    marks: AtomicU64,
}

impl View<'_> {
    /// Node 1 does something to what node 3 has left, and the daemon of node 3 knows it.
    fn peer(&self, action: impl FnOnce() -> io::Result<()> + Send) {
        self.pass(3, 1);
        let one = self.cluster.host(1);
        one.inside(action).expect("node 1 can do it");
        self.pass(1, 3);
    }

    /// Waits until one node has all that another one has done.
    fn pass(&self, from: usize, to: usize) {
        let [from, to] = [from, to].map(|number| self.cluster.host(number));
        let mark = self.marks.fetch_add(1, Ordering::Relaxed).to_string();
        from.write("mark", mark.as_bytes()).expect("it can write");
        to.ipc(|ipc| {
            self.cluster.expect("the mark", || {
                (ipc.config("mark").ok()? == mark.as_bytes()).then_some(())
            });
        });
    }

    /// Node 1 replaces a file by rename.
    fn replace(&self, name: &str, content: &str) {
        self.peer(|| {
            fs::write(at("new"), content)?;
            fs::rename(at("new"), at(name))
        });
    }
}

type Case = fn(&View<'_>);

/// Runs each case on node 3 some times, with names that start anew.
fn each(cases: &[(&str, Case)]) {
    const ROUND_COUNT: usize = 3;
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    let view = View {
        cluster: &cluster,
        marks: AtomicU64::new(0),
    };
    for (name, case) in cases {
        for round in 0..ROUND_COUNT {
            println!("{name}, round {round}");
            view.peer(|| {
                if fs::exists(ROOM)? {
                    fs::remove_dir_all(ROOM)?;
                }
                fs::create_dir(ROOM)
            });
            cluster.host(3).inside(|| case(&view));
        }
    }
    cluster.stop_and_compare();
}

#[track_caller]
fn gone<T: Debug>(result: io::Result<T>) {
    assert_eq!(result.unwrap_err().kind(), ErrorKind::NotFound);
}

fn size(name: &str) -> io::Result<u64> {
    fs::metadata(at(name)).map(|meta| meta.len())
}

fn text(name: &str) -> io::Result<String> {
    fs::read_to_string(at(name))
}

fn entry_count(name: &str) -> usize {
    fs::read_dir(at(name)).unwrap().count()
}

fn open_both(name: &str) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).open(at(name)).unwrap()
}

#[test]
fn names_that_another_node_takes_away_are_gone_and_free() {
    each(&[
        ("stat", |view| {
            view.peer(|| fs::write(at("f"), "x"));
            size("f").unwrap();
            view.peer(|| fs::remove_file(at("f")));
            gone(size("f"));
        }),
        ("open", |view| {
            view.peer(|| fs::write(at("f"), "x"));
            text("f").unwrap();
            view.peer(|| fs::remove_file(at("f")));
            gone(text("f"));
        }),
        ("open with O_CREAT", |view| {
            view.peer(|| fs::write(at("f"), "x"));
            size("f").unwrap();
            view.peer(|| fs::remove_file(at("f")));
            fs::write(at("f"), "mine").unwrap();
            assert_eq!(text("f").unwrap(), "mine");
            view.cluster.expect("the file on the other node", || {
                (view.cluster.host(1).read("room/f").ok()? == b"mine").then_some(())
            });
        }),
        ("open with O_CREAT, again and again", |view| {
            for _ in 0..5 {
                view.peer(|| fs::write(at("f"), "x"));
                size("f").unwrap();
                view.peer(|| fs::remove_file(at("f")));
                fs::write(at("f"), "mine").unwrap();
                assert_eq!(text("f").unwrap(), "mine");
                view.peer(|| fs::remove_file(at("f")));
            }
        }),
        ("open with O_CREAT, renamed", |view| {
            view.peer(|| fs::write(at("f"), "x"));
            size("f").unwrap();
            view.peer(|| fs::rename(at("f"), at("g")));
            fs::write(at("f"), "mine").unwrap();
            assert_eq!(text("f").unwrap(), "mine");
            assert_eq!(text("g").unwrap(), "x");
        }),
        ("open with O_CREAT and O_APPEND", |view| {
            view.peer(|| fs::write(at("f"), "x"));
            size("f").unwrap();
            view.peer(|| fs::remove_file(at("f")));
            let mut options = OpenOptions::new();
            let mut file = options.append(true).create(true).open(at("f")).unwrap();
            file.write_all(b"mine").unwrap();
            assert_eq!(text("f").unwrap(), "mine");
        }),
        ("open with O_EXCL, mkdir", |view| {
            view.peer(|| {
                fs::write(at("f"), "x")?;
                fs::write(at("d"), "x")
            });
            size("f").unwrap();
            size("d").unwrap();
            view.peer(|| {
                fs::remove_file(at("f"))?;
                fs::remove_file(at("d"))
            });
            File::create_new(at("f")).unwrap();
            fs::create_dir(at("d")).unwrap();
        }),
        ("renamed", |view| {
            view.peer(|| fs::write(at("f"), "x"));
            size("f").unwrap();
            view.peer(|| fs::rename(at("f"), at("g")));
            gone(size("f"));
            size("g").unwrap();
            gone(text("f"));
        }),
        ("a directory", |view| {
            view.peer(|| fs::create_dir(at("d")));
            assert_eq!(entry_count("d"), 0);
            view.peer(|| fs::remove_dir(at("d")));
            gone(fs::read_dir(at("d")).map(drop));
            gone(size("d"));
        }),
        ("changes of them", |view| {
            view.peer(|| {
                ["a", "b", "c"]
                    .iter()
                    .try_for_each(|it| fs::write(at(it), "1"))
            });
            for name in ["a", "b", "c"] {
                size(name).unwrap();
            }
            view.peer(|| {
                ["a", "b", "c"]
                    .iter()
                    .try_for_each(|it| fs::remove_file(at(it)))
            });
            gone(fs::remove_file(at("a")));
            gone(fs::rename(at("b"), at("z")));
            gone(nix::unistd::truncate(at("c").as_str(), 1).map_err(Into::into));
        }),
        ("removed and made again", |view| {
            view.peer(|| fs::write(at("f"), "x"));
            size("f").unwrap();
            view.peer(|| fs::remove_file(at("f")));
            gone(size("f"));
            view.peer(|| fs::write(at("f"), "again"));
            assert_eq!(size("f").unwrap(), 5);
            assert_eq!(text("f").unwrap(), "again");
        }),
        ("renamed and back", |view| {
            view.peer(|| fs::write(at("f"), "x"));
            size("f").unwrap();
            view.peer(|| fs::rename(at("f"), at("g")));
            size("g").unwrap();
            view.peer(|| fs::rename(at("g"), at("f")));
            size("f").unwrap();
            gone(size("g"));
            assert_eq!(text("f").unwrap(), "x");
        }),
        ("not there before", |view| {
            gone(size("f"));
            view.peer(|| fs::write(at("f"), "x"));
            size("f").unwrap();
            text("f").unwrap();
        }),
    ]);
}

#[test]
fn names_that_another_node_gives_to_something_else_lead_there() {
    each(&[
        ("replaced", |view| {
            view.peer(|| fs::write(at("f"), "x"));
            size("f").unwrap();
            view.replace("f", "longer");
            assert_eq!(size("f").unwrap(), 6);
            assert_eq!(text("f").unwrap(), "longer");
        }),
        ("a file that is a directory now", |view| {
            view.peer(|| fs::write(at("f"), "x"));
            size("f").unwrap();
            view.peer(|| {
                fs::remove_file(at("f"))?;
                fs::create_dir(at("f"))?;
                fs::write(at("f/g"), "y")
            });
            assert!(fs::metadata(at("f")).unwrap().is_dir());
            assert_eq!(entry_count("f"), 1);
            assert_eq!(text("f/g").unwrap(), "y");
        }),
        ("a directory that is a file now", |view| {
            view.peer(|| fs::create_dir(at("d")));
            size("d").unwrap();
            view.peer(|| {
                fs::remove_dir(at("d"))?;
                fs::write(at("d"), "y")
            });
            assert_eq!(text("d").unwrap(), "y");
            assert!(fs::metadata(at("d")).unwrap().is_file());
        }),
        ("a directory in place of another one", |view| {
            view.peer(|| {
                fs::create_dir(at("e"))?;
                fs::write(at("e/f"), "old")
            });
            text("e/f").unwrap();
            view.peer(|| {
                fs::remove_dir_all(at("e"))?;
                fs::create_dir(at("e"))?;
                fs::write(at("e/f"), "newer")
            });
            assert_eq!(size("e/f").unwrap(), 5);
            assert_eq!(text("e/f").unwrap(), "newer");
            assert_eq!(entry_count("e"), 1);
            fs::write(at("e/mine"), "m").unwrap();
            assert_eq!(entry_count("e"), 2);
        }),
        ("swapped, then written here", |view| {
            view.peer(|| {
                fs::write(at("a"), "a")?;
                fs::write(at("b"), "bbb")
            });
            text("a").unwrap();
            text("b").unwrap();
            view.peer(|| {
                fs::rename(at("a"), at("t"))?;
                fs::rename(at("b"), at("a"))?;
                fs::rename(at("t"), at("b"))
            });
            assert_eq!((size("a").unwrap(), size("b").unwrap()), (3, 1));
            assert_eq!(text("a").unwrap(), "bbb");
            assert_eq!(text("b").unwrap(), "a");
            fs::write(at("a"), "mine").unwrap();
            assert_eq!(text("a").unwrap(), "mine");
            assert_eq!(text("b").unwrap(), "a");
            assert_eq!(size("a").unwrap(), 4);
        }),
        ("swapped directories", |view| {
            view.peer(|| {
                fs::create_dir(at("a"))?;
                fs::create_dir(at("b"))
            });
            size("a").unwrap();
            size("b").unwrap();
            view.peer(|| {
                fs::rename(at("a"), at("t"))?;
                fs::rename(at("b"), at("a"))?;
                fs::rename(at("t"), at("b"))?;
                fs::write(at("a/in-a"), "x")
            });
            assert_eq!((entry_count("a"), entry_count("b")), (1, 0));
            text("a/in-a").unwrap();
            gone(text("b/in-a"));
        }),
        ("renamed here", |view| {
            view.peer(|| fs::write(at("a"), "old"));
            size("a").unwrap();
            view.replace("a", "newer");
            fs::rename(at("a"), at("z")).unwrap();
            assert_eq!(size("z").unwrap(), 5);
            assert_eq!(text("z").unwrap(), "newer");
            gone(size("a"));
        }),
        ("renamed here, of another kind", |view| {
            view.peer(|| fs::write(at("a"), "old"));
            size("a").unwrap();
            view.peer(|| {
                fs::remove_file(at("a"))?;
                fs::create_dir(at("a"))
            });
            fs::rename(at("a"), at("z")).unwrap();
            assert!(fs::metadata(at("z")).unwrap().is_dir());
        }),
        ("replaced here", |view| {
            view.peer(|| {
                fs::write(at("source"), "source")?;
                fs::write(at("target"), "target")
            });
            size("source").unwrap();
            size("target").unwrap();
            gone(size("other"));
            view.peer(|| {
                fs::remove_file(at("target"))?;
                fs::write(at("other"), "other")
            });
            fs::rename(at("source"), at("target")).unwrap();
            fs::rename(at("target"), at("other")).unwrap();
            assert_eq!(text("other").unwrap(), "source");
            gone(size("target"));
        }),
    ]);
}

#[test]
fn open_files_stay_what_they_are_when_another_node_takes_their_names() {
    each(&[
        ("removed", |view| {
            view.peer(|| fs::write(at("f"), "data"));
            let mut file = File::open(at("f")).unwrap();
            view.peer(|| fs::remove_file(at("f")));
            assert_eq!(file.metadata().unwrap().len(), 4);
            let again = format!("/proc/self/fd/{}", file.as_raw_fd());
            assert_eq!(fs::read(again).unwrap(), b"data");
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "data");
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        }),
        ("removed, its name", |view| {
            view.peer(|| fs::write(at("f"), "data"));
            let _file = File::open(at("f")).unwrap();
            view.peer(|| fs::remove_file(at("f")));
            gone(text("f"));
            // The open has made the kernel look the name up.
            gone(size("f"));
        }),
        ("replaced", |view| {
            view.peer(|| fs::write(at("f"), "data"));
            let file = open_both("f");
            view.replace("f", "longer");
            file.write_at(b"X", 0).unwrap();
            let mut old = [0; 10];
            let count = file.read_at(&mut old, 0).unwrap();
            assert_eq!(&old[..count], b"Xata");
            assert_eq!(size("f").unwrap(), 6);
            assert_eq!(text("f").unwrap(), "longer");
        }),
        ("replaced, once the kernel has looked the name up", |view| {
            view.peer(|| fs::write(at("f"), "data"));
            let file = File::open(at("f")).unwrap();
            let number = file.metadata().unwrap().ino();
            view.replace("f", "longer");
            view.cluster.expect("the number of the new file", || {
                (fs::metadata(at("f")).ok()?.ino() != number).then_some(())
            });
            // Until then the kernel shows one file's attributes for both, and remembers them for a second.
            view.cluster.expect("the attributes of the old file", || {
                (file.metadata().ok()?.len() == 4).then_some(())
            });
            assert_eq!(size("f").unwrap(), 6);
        }),
        ("renamed: two names of one file", |view| {
            view.peer(|| fs::write(at("a"), "data"));
            let file = open_both("a");
            view.peer(|| fs::rename(at("a"), at("b")));
            let other = open_both("b");
            file.write_at(b"from a, longer", 0).unwrap();
            assert_eq!(size("b").unwrap(), 14);
            assert_eq!(text("b").unwrap(), "from a, longer");
            other.write_at(b"FROM B", 0).unwrap();
            let mut first = [0; 6];
            file.read_exact_at(&mut first, 0).unwrap();
            assert_eq!(&first, b"FROM B");
            assert_eq!(file.metadata().unwrap().len(), 14);
            file.set_len(3).unwrap();
            assert_eq!(size("b").unwrap(), 3);
        }),
        ("a directory, renamed and back", |view| {
            view.peer(|| fs::create_dir(at("d")));
            let open = File::open(at("d")).unwrap();
            view.peer(|| {
                fs::rename(at("d"), at("e"))?;
                fs::write(at("e/f"), "in e")
            });
            size("e").unwrap();
            assert_eq!(text("e/f").unwrap(), "in e");
            gone(text("d/f"));
            view.peer(|| {
                fs::remove_file(at("e/f"))?;
                fs::rename(at("e"), at("d"))?;
                fs::write(at("d/g"), "in d")
            });
            assert_eq!(text("d/g").unwrap(), "in d");
            gone(size("e"));
            let inside = format!("/proc/self/fd/{}/g", open.as_raw_fd());
            assert_eq!(fs::read(inside).unwrap(), b"in d");
        }),
    ]);
}

#[test]
fn after_a_storm_of_renames_every_name_is_right() {
    const ROUND_COUNT: u64 = 10;
    const NAME_COUNT: u64 = 12;
    let _turn = alone();
    let cluster = Cluster::running(3);
    let name = |number: u64| at(&format!("f{number}"));
    cluster.host(1).inside(|| fs::create_dir(ROOM).unwrap());
    for round in 0..ROUND_COUNT {
        let over = Over::new();
        let storm = |number: usize| {
            let mut random = Random::new(round * 10 + number as u64);
            while !over.is_over() {
                let (a, b) = (random.below(NAME_COUNT), random.below(NAME_COUNT));
                // Others come in its way.
                let _result = match random.below(8) {
                    0 => fs::remove_file(name(a)),
                    1 => fs::write(name(a), vec![b'x'; random.index(50)]),
                    _ => fs::rename(name(a), name(b)),
                };
            }
        };
        thread::scope(|scope| {
            let _work = over.begin();
            for host in cluster.hosts() {
                scope.spawn(|| host.inside(|| storm(host.number())));
            }
            cluster.host(3).inside(|| {
                for number in (0..NAME_COUNT).cycle().take(2000) {
                    let _seen = fs::metadata(name(number));
                    let _read = fs::read(name(number));
                }
            });
        });
        // Behind everything that the others have done.
        for host in cluster.hosts() {
            let mark = format!("mark{}", host.number());
            host.write(&mark, round.to_string().as_bytes()).unwrap();
        }
        let truth: Vec<_> = cluster.host(3).ipc(|ipc| {
            for number in [1, 2] {
                cluster.expect("the marks", || {
                    let mark = ipc.config(&format!("mark{number}")).ok()?;
                    (mark == round.to_string().as_bytes()).then_some(())
                });
            }
            let names = (0..NAME_COUNT).map(|number| format!("room/f{number}"));
            names.map(|name| ipc.config(&name).ok()).collect()
        });
        cluster.host(3).inside(|| {
            for (number, truth) in (0..).zip(&truth) {
                let size = truth.as_ref().map(|text| text.len() as u64);
                let shown = fs::metadata(name(number)).ok().map(|meta| meta.len());
                assert_eq!(shown, size, "{}", name(number));
                assert_eq!(fs::read(name(number)).ok(), *truth, "{}", name(number));
            }
            assert_eq!(entry_count("."), truth.iter().flatten().count());
        });
    }
    cluster.stop_and_compare();
}

#[test]
fn a_file_that_changes_while_the_kernel_learns_its_name_shows_the_change() {
    const ROUND_COUNT: usize = 150;
    const LOOKER_COUNT: usize = 2;
    /// Half the time for which the kernel trusts attributes. The tree shows a change a moment before the kernel does.
    const SOON: Duration = Duration::from_millis(500);
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    let (one, three) = (cluster.host(1), cluster.host(3));
    one.mkdir("room").unwrap();
    let round = AtomicU64::new(0);
    let over = Over::new();
    let look = || {
        while !over.is_over() {
            let name = format!("f{}", round.load(Ordering::Acquire));
            // Not there yet, of one size, or of the other.
            let _seen = size(&name);
        }
    };
    let mut late = Vec::new();
    thread::scope(|scope| {
        let _work = over.begin();
        for _ in 0..LOOKER_COUNT {
            scope.spawn(|| three.inside(look));
        }
        for number in 0..ROUND_COUNT {
            let name = format!("f{number}");
            one.inside(|| {
                fs::write(at(&name), "x")?;
                fs::write(at(&name), "longer")
            })
            .unwrap();
            let path = format!("room/{name}");
            three.ipc(|ipc| {
                cluster.expect("the change", || {
                    (ipc.config(&path).ok()? == b"longer").then_some(())
                });
            });
            let is_shown = || three.inside(|| size(&name).is_ok_and(|size| size == 6));
            let shown = wait::try_until(SOON, || is_shown().then_some(()));
            if shown.is_none() && !is_shown() {
                late.push(name);
            }
            round.store(number as u64 + 1, Ordering::Release);
        }
    });
    assert!(late.is_empty(), "{late:?}");
    cluster.stop_and_compare();
}
