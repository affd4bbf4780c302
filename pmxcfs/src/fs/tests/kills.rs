//! The process is killed at each moment, and another one goes on with what it has left.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::fs::tables::{Killer, NewName, TablesError};
use pmxcfs_memdb::{EntryKind, Plan, Reply};

/// A request that a process was killed in.
struct Killed {
    /// The database with and without its effect.
    after: Arc<TempDir>,
    before: Arc<TempDir>,
    killer: Killer,
    /// How many stores there were before it, and at the end.
    stores: (usize, usize),
    /// How many there were when the crash journal had its effect.
    durable: usize,
    request: RequestHeader,
}

/// Notes how many stores there were when a change became durable.
pub(super) struct Watched {
    pub(super) caller: Box<dyn Caller>,
    pub(super) killer: Killer,
    pub(super) durable: Arc<AtomicUsize>,
}

impl Caller for Watched {
    fn plan(&mut self, tree: &mut Tree) -> Result<Plan, FsError> {
        self.caller.plan(tree)
    }

    fn answer(
        self: Box<Self>,
        tree: &mut Tree,
        changes: &[Change],
        result: Result<u32, FsError>,
    ) -> Reply {
        let Self {
            caller,
            killer,
            durable,
        } = *self;
        let reply = caller.answer(tree, changes, result);
        Box::new(move |result| {
            durable.store(killer.store_count(), Ordering::Relaxed);
            reply(result);
        })
    }

    fn refuse(self: Box<Self>, error: FsError) {
        self.caller.refuse(error);
    }
}

fn copy(place: &TempDir) -> Arc<TempDir> {
    let copy = TempDir::new().unwrap();
    for file in fs::read_dir(place.path()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    Arc::new(copy)
}

impl Killed {
    /// Carries a request out, after some others.
    fn run(prepare: impl FnOnce(&Bench), act: impl FnOnce(&Bench)) -> Self {
        let bench = Bench::new();
        prepare(&bench);
        wait(|reply| bench.fs.sync(reply)).unwrap();
        let before = copy(&bench.place);
        let killer = bench.killer.clone();
        let begun = killer.store_count();
        act(&bench);
        let last = bench.last_request.load(Ordering::Relaxed);
        bench.db.shutdown(Duration::from_secs(10));
        Self {
            after: copy(&bench.place),
            before,
            stores: (begun, killer.store_count()),
            durable: bench.durable.load(Ordering::Relaxed),
            killer,
            request: RequestHeader::new(last | 1 << 63, 0, None),
        }
    }

    /// What a process finds that comes after a kill at each moment.
    fn each(&self, check: impl Fn(&Bench)) {
        for stores in self.stores.0..=self.stores.1 {
            let left = || self.killer.killed_after(stores, 0).unwrap();
            // Nothing is in the database before its outcome is noted.
            if self.is_noted(stores) || stores >= self.durable {
                check(&Bench::start(copy(&self.after), left(), b""));
            }
            if stores <= self.durable {
                check(&Bench::start(copy(&self.before), left(), b""));
            }
        }
    }

    /// The same, as long as the kernel has no answer and asks again.
    fn each_without_answer(mut self, check: impl Fn(&Bench)) {
        while !self.is_noted(self.stores.1) && self.stores.1 >= self.durable {
            self.stores.1 -= 1;
        }
        assert!(self.stores.1 > self.stores.0, "something is noted");
        self.each(check);
    }

    fn is_noted(&self, stores: usize) -> bool {
        let left = self.killer.killed_after(stores, 0).unwrap();
        left.answers.all().next().is_some()
    }
}

fn make(bench: &Bench, parent: u64, name: &str, text: &str) -> u64 {
    let made = bench.create(parent, name, IfExists::Refuse).unwrap();
    bench.write(made.handle, WriteAt::End, text).unwrap();
    bench.fs.close(made.handle);
    made.attributes.id
}

/// What the kernel knows before the request: names, their ids, and the sizes of what they may lead to afterwards.
type Known = BTreeMap<&'static str, (u64, &'static [u64])>;

fn check_knowledge(bench: &Bench, known: &Known) {
    let ids = bench.fs.known_ids();
    for (path, (id, sizes)) in known {
        assert!(ids.contains(id), "{path} is known");
        match bench.fs.attributes(*id, None) {
            Ok(found) => {
                assert_eq!(found.id, *id, "{path}");
                assert!(sizes.contains(&found.size), "{path} has {}", found.size);
            }
            Err(error) => assert!(
                matches!(error, FsError::Stale | FsError::NotFound),
                "{path}: {error}"
            ),
        }
    }
}

const LONG: &str = "a-name-that-does-not-fit-into-one-record-of-the-table-and-that-needs-a-second-and-a-\
    third-one-for-the-rest-of-it-since-a-record-has-room-for-seventy-two-bytes-of-a-name-and-a-piece-for-\
    one-hundred-and-twelve";

#[test]
fn node_ids_and_handles_mean_the_same_after_a_kill_at_any_moment() {
    type Act = fn(&Bench);
    let acts: [(&str, Act); 8] = [
        ("look up", |bench| {
            bench.walk("d/new").unwrap();
        }),
        ("look up a long name", |bench| {
            bench.walk(LONG).unwrap();
        }),
        ("create", |bench| {
            bench.create(ROOT_ID, "made", IfExists::Refuse).unwrap();
        }),
        ("rename", |bench| {
            let directory = bench.id("d");
            bench.rename((ROOT_ID, "f"), (directory, LONG)).unwrap();
        }),
        ("replace", |bench| {
            let directory = bench.id("d");
            bench.rename((ROOT_ID, "f"), (directory, "g")).unwrap();
        }),
        ("remove", |bench| bench.remove(ROOT_ID, "f").unwrap()),
        ("open and close", |bench| {
            let handle = bench.open(bench.id("f")).unwrap();
            bench.fs.close(handle);
        }),
        ("forget", |bench| bench.forget(&[bench.id("e")])),
    ];
    for (what, act) in acts {
        let ids = Arc::new(Mutex::new((Known::new(), Vec::new())));
        let known = Arc::clone(&ids);
        let prepare = move |bench: &Bench| {
            let directory = bench.mkdir(ROOT_ID, "d").unwrap().id;
            let file = make(bench, ROOT_ID, "f", "text");
            let other = make(bench, directory, "g", "other");
            bench.peer_makes("d/new", "new");
            bench.peer_makes(LONG, "long");
            bench.peer_makes("e", "forgotten");
            let names = Known::from([
                ("d", (directory, &[0][..])),
                ("f", (file, &[4])),
                // Or what has replaced it.
                ("d/g", (other, &[5, 4])),
            ]);
            let handles = vec![
                (bench.open(file).unwrap(), "text"),
                (bench.open(other).unwrap(), "other"),
            ];
            *known.lock() = (names, handles);
        };
        let killed = Killed::run(prepare, act);
        assert!(killed.stores.1 > killed.stores.0, "{what} stores something");
        killed.each(|bench| {
            let (names, handles) = ids.lock().clone();
            check_knowledge(bench, &names);
            for (handle, text) in handles {
                match bench.read(handle) {
                    Ok(found) => assert_eq!(found, text, "{what}"),
                    Err(error) => assert_eq!(error, FsError::Stale, "{what}"),
                }
            }
            // Everything has a name that works, and new numbers are new.
            for path in ["d", "d/new", LONG] {
                bench.walk(path).unwrap();
            }
            let handle = bench.open(bench.id("d/new")).unwrap();
            assert_eq!(bench.read(handle).unwrap(), "new");
            assert!(ids.lock().1.iter().all(|(known, _)| *known < handle));
        });
    }
}

#[test]
fn a_record_that_is_written_half_is_told_from_a_whole_one_at_every_byte() {
    let killed = Killed::run(
        |bench| bench.peer_makes(LONG, "long"),
        |bench| {
            bench.walk(LONG).unwrap();
        },
    );
    let (begun, ended) = killed.stores;
    for stores in begun..ended {
        for bytes in 0..8 {
            match killed.killer.killed_after(stores, bytes) {
                Ok(tables) => {
                    let names = &tables.names;
                    for slot in names.all() {
                        let name = names.name(slot);
                        assert!(name.is_empty() || name[..] == *LONG.as_bytes());
                    }
                }
                Err(error) => assert!(matches!(error, TablesError::Damaged(_)), "{error}"),
            }
        }
    }
}

#[test]
fn a_change_is_done_once_even_if_the_kernel_asks_twice() {
    let prepare = |bench: &Bench| {
        let directory = bench.mkdir(ROOT_ID, "d").unwrap().id;
        make(bench, ROOT_ID, "f", "text");
        make(bench, directory, "g", "other");
    };
    let killed = Killed::run(prepare, |bench| {
        bench.mkdir(ROOT_ID, "lock").unwrap();
    });
    let request = killed.request;
    killed.each_without_answer(|bench| {
        let made = wait(|reply| {
            bench
                .fs
                .make(request, ROOT_ID, b"lock", EntryKind::Directory, reply)
        });
        assert_eq!(made.unwrap().id, bench.id("lock"));
        let other = bench.mkdir(ROOT_ID, "lock");
        assert_eq!(other.unwrap_err(), FsError::Exists);
    });
    let killed = Killed::run(prepare, |bench| bench.remove(ROOT_ID, "f").unwrap());
    let request = killed.request;
    killed.each_without_answer(|bench| {
        let removed = wait(|reply| bench.fs.remove(request, ROOT_ID, b"f", reply));
        assert_eq!(removed, Ok(()));
        assert_eq!(bench.walk("f").unwrap_err(), FsError::NotFound);
    });
    let killed = Killed::run(prepare, |bench| {
        bench.rename((ROOT_ID, "f"), (ROOT_ID, "h")).unwrap();
    });
    let request = killed.request;
    killed.each_without_answer(|bench| {
        let (from, to) = ((ROOT_ID, &b"f"[..]), (ROOT_ID, &b"h"[..]));
        let renamed = wait(|reply| bench.fs.rename(request, from, to, reply));
        assert_eq!(renamed, Ok(()));
        assert_eq!(bench.read_id(bench.id("h")).unwrap(), "text");
    });
}

#[test]
fn what_opens_and_writes_does_so_once() {
    let prepare = |bench: &Bench| {
        make(bench, ROOT_ID, "f", "text");
    };
    let killed = Killed::run(prepare, |bench| {
        bench.create(ROOT_ID, "new", IfExists::Refuse).unwrap();
    });
    let request = killed.request;
    killed.each_without_answer(|bench| {
        let created = wait(|reply| {
            let refuse = IfExists::Refuse;
            bench.fs.create(request, ROOT_ID, b"new", refuse, reply)
        });
        let created = created.unwrap();
        bench.write(created.handle, WriteAt::End, "x").unwrap();
        assert_eq!(bench.read_id(bench.id("new")).unwrap(), "x");
    });
    let id = Arc::new(AtomicU64::new(0));
    let known = Arc::clone(&id);
    let prepare = move |bench: &Bench| {
        let id = make(bench, ROOT_ID, "f", "text");
        known.store(id, Ordering::Relaxed);
    };
    let killed = Killed::run(&prepare, |bench| {
        bench.open_cut(id.load(Ordering::Relaxed)).unwrap();
    });
    let request = killed.request;
    killed.each_without_answer(|bench| {
        // Somebody else writes before the request comes once more; if it was done, that stays.
        let id = id.load(Ordering::Relaxed);
        let was_done = bench.read_id(id).unwrap().is_empty();
        let other = bench.open(id).unwrap();
        bench.write(other, WriteAt::End, "line").unwrap();
        let handle = wait(|reply| bench.fs.open(request, id, true, reply)).unwrap();
        let left = if was_done { "line" } else { "" };
        assert_eq!(bench.read(handle).unwrap(), left);
    });
    let handle = Arc::new(AtomicU64::new(0));
    let known = Arc::clone(&handle);
    let prepare = move |bench: &Bench| {
        let id = make(bench, ROOT_ID, "f", "text");
        known.store(bench.open(id).unwrap(), Ordering::Relaxed);
    };
    let killed = Killed::run(prepare, |bench| {
        let handle = handle.load(Ordering::Relaxed);
        assert_eq!(bench.write(handle, WriteAt::End, "ure"), Ok(3));
    });
    let request = killed.request;
    killed.each_without_answer(|bench| {
        let handle = handle.load(Ordering::Relaxed);
        let data = b"ure";
        let written = wait(|reply| bench.fs.write(request, handle, WriteAt::End, data, reply));
        assert_eq!(written, Ok(3));
        assert_eq!(bench.read(handle).unwrap(), "texture");
    });
}

/// Not a test of its own unless the other one starts it: works on tables until it is killed.
#[test]
fn a_process_that_is_killed_at_random_moments_leaves_whole_records() {
    const CHILD: &str = "PMXCFS_TEST_TABLES";
    if std::env::var_os(CHILD).is_some() {
        use std::os::fd::AsFd as _;
        let tables = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
        change_for_ever(Tables::open(tables).unwrap());
    }
    let mut tables = Tables::create().unwrap();
    let root = NewName {
        id: ROOT_ID,
        parent: ROOT_ID,
        name: b"",
        kind: EntryKind::Directory,
        origin: 0,
    };
    tables.names.add(&root).unwrap();
    let descriptor = tables.descriptor().try_clone_to_owned().unwrap();
    drop(tables);
    let mut changed = 0;
    for round in 0..30_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &test_name()])
            .env(CHILD, "1")
            .stdin(descriptor.try_clone().unwrap())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // It works for a while that is another one each time.
        let wanted = changed + 1 + 131 * round % 1000;
        let deadline = Instant::now() + Duration::from_secs(30);
        while changed < wanted && Instant::now() < deadline {
            std::thread::yield_now();
            changed = Tables::drawn_count(descriptor.try_clone().unwrap()).unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let tables = Tables::open(descriptor.try_clone().unwrap()).unwrap();
        for slot in tables
            .names
            .all()
            .filter(|slot| tables.names.id(*slot) != ROOT_ID)
        {
            let name = String::from_utf8(tables.names.name(slot).to_vec()).unwrap();
            let id: u64 = name.split('-').next().unwrap().parse().unwrap();
            assert_eq!(tables.names.id(slot), id, "{name}");
            assert_eq!(name, name_of(id, name.contains("renamed")));
        }
        for (_, handle) in tables.handles.all() {
            assert_eq!(handle.number, handle.opened_by);
        }
    }
    assert!(changed > 0);
}

fn test_name() -> String {
    let module = module_path!().split_once("::").unwrap().1;
    format!("{module}::a_process_that_is_killed_at_random_moments_leaves_whole_records")
}

fn name_of(id: u64, is_renamed: bool) -> String {
    let what = if is_renamed { "renamed" } else { "made" };
    format!("{id}-{what}-{}", "x".repeat((id * 37 % 900) as usize))
}

fn change_for_ever(mut tables: Tables) -> ! {
    use crate::fs::tables::{HandleRecord, Opened};
    use std::collections::VecDeque;
    let names = tables.names.all();
    let mut names: VecDeque<u32> = names
        .filter(|slot| tables.names.id(*slot) != ROOT_ID)
        .collect();
    let mut handles: VecDeque<u32> = tables.handles.all().map(|(slot, _)| slot).collect();
    loop {
        let id = tables.names.draw() + 2;
        let name = name_of(id, false);
        let new = NewName {
            id,
            parent: ROOT_ID,
            name: name.as_bytes(),
            kind: EntryKind::File,
            origin: id,
        };
        let slot = tables.names.add(&new).unwrap();
        let name = name_of(id, true);
        let follower = tables.names.add_follower(slot, ROOT_ID, name.as_bytes(), 1);
        tables.names.remove(slot);
        let slot = follower.unwrap();
        names.push_back(slot);
        if names.len() > 20 {
            tables.names.remove(names.pop_front().unwrap());
        }
        let number = tables.handles.draw();
        let record = HandleRecord {
            number,
            opened_by: number,
            uid: 0,
            opened: Opened::Plugin,
            id: 1,
            inode: None,
        };
        handles.push_back(tables.handles.add(&record).unwrap());
        if handles.len() > 20 {
            tables.handles.remove(handles.pop_front().unwrap());
        }
    }
}
