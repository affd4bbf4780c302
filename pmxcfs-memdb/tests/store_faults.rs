//! The daemon dies, or a write fails, at every single step that the store makes. Afterwards nothing that was
//! acknowledged may be missing, and nothing may be there that was never done.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod store_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use pmxcfs_api_types::FsError;
use pmxcfs_memdb::store::{ShutdownOutcome, Store, StoreConfig, Warning};
use pmxcfs_memdb::{Change, EntryKind};
use store_support::broken::BrokenDatabase;
use store_support::fault::{Fault, FaultyMedium};
use store_support::{Fixture, PATIENCE, Place, State};

/// One operation of the script.
type Operation = fn(&mut State) -> Vec<Change>;

/// Operations that touch each other: files that are made, grow, are cut, replaced and removed.
const SCRIPT: [Operation; 16] = [
    |state| state.create(b"a", EntryKind::File).1,
    |state| state.write(inode(state, b"a"), 0, b"first content", false),
    |state| state.create(b"dir", EntryKind::Directory).1,
    |state| state.write(inode(state, b"a"), 6, b"CONTENT, longer", false),
    |state| state.create(b"b", EntryKind::File).1,
    |state| state.write(inode(state, b"b"), 0, &[b'b'; 9000], false),
    |state| state.write(inode(state, b"a"), 3, b"", true),
    |state| state.rename(inode(state, b"b"), b"a"),
    |state| state.write(inode(state, b"a"), 8000, &[b'c'; 2000], false),
    |state| state.create(b"other", EntryKind::Directory).1,
    // What a rename leaves that a C peer refuses after it removed its target: no version step.
    |state| vec![state.drop_silently(inode(state, b"dir"))],
    |state| state.write(inode(state, b"a"), 0, b"", true),
    |state| state.remove(inode(state, b"other")),
    |state| state.create(b"dir", EntryKind::Directory).1,
    |state| state.write(inode(state, b"a"), 5, b"holes are zero", false),
    |state| state.remove(inode(state, b"a")),
];

/// The same file again and again, in the same size: records of all uses of the journal's files are alike.
const OVERWRITES: [Operation; 13] = {
    let write: Operation = |state| {
        let text = format!("{:>12}", state.root.version);
        state.write(inode(state, b"a"), 0, text.as_bytes(), true)
    };
    let mut script = [write; 13];
    script[0] = |state| state.create(b"a", EntryKind::File).1;
    script
};

fn inode(state: &State, name: &[u8]) -> u64 {
    let entry = state.entries.values().find(|entry| entry.name == name);
    entry.expect("the script made it").inode
}

/// What a run did.
struct Run {
    /// The states after each operation; the first is the one at the start.
    history: Vec<State>,
    /// How many of them were acknowledged, the first included.
    acknowledged: usize,
    fixture: Fixture,
}

/// Runs a script until it ends or the process is dead. A commit is forced after every `commit_every`th operation.
fn run(
    config: StoreConfig,
    medium: &FaultyMedium,
    script: &[Operation],
    commit_every: usize,
) -> Option<Run> {
    let (store, loaded) = Store::open(config).ok()?;
    let fixture = Fixture::start(store, &loaded);
    let mut run = Run {
        history: vec![fixture.state()],
        acknowledged: 1,
        fixture,
    };
    for (index, operation) in script.iter().enumerate() {
        let ((), ticket) = run.fixture.record(|state| ((), operation(state)));
        run.history.push(run.fixture.state());
        let mut answer = outcome(medium, |done| run.fixture.store.acknowledge(ticket, done));
        if answer == Some(Ok(())) {
            run.acknowledged = run.history.len();
        }
        if answer.is_some() && (index + 1) % commit_every == 0 {
            answer = outcome(medium, |done| run.fixture.store.sync(done));
        }
        if answer.is_none() {
            break;
        }
    }
    Some(run)
}

/// Waits for an answer, or for the death of the process.
fn outcome(
    medium: &FaultyMedium,
    call: impl FnOnce(Box<dyn FnOnce(Result<(), FsError>) + Send>),
) -> Option<Result<(), FsError>> {
    let (sender, receiver) = mpsc::channel();
    call(Box::new(move |result| {
        let _sent = sender.send(result);
    }));
    loop {
        match receiver.recv_timeout(Duration::from_millis(1)) {
            Ok(answer) => return Some(answer),
            Err(RecvTimeoutError::Timeout) if medium.is_dead() => return None,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => panic!("nobody answered"),
        }
    }
}

fn with_medium(place: &Place, medium: &Arc<FaultyMedium>) -> StoreConfig {
    StoreConfig {
        medium: medium.shared(),
        ..place.config()
    }
}

/// The state that a start after the death finds must be one that was, and not older than what was acknowledged.
fn assert_survived(place: &Place, run: &Run, case: &str) {
    let (store, loaded) = Store::open(place.config()).expect(case);
    let found = State::of(&loaded);
    let known = &run.history[run.acknowledged - 1..];
    assert!(
        known.iter().any(|state| same(state, &found)),
        "{case}: found {found:?}\nafter {} acknowledged operations, warnings {:?}",
        run.acknowledged - 1,
        loaded.warnings,
    );
    // The next life brings it into the database, whatever the first one left behind.
    let fixture = Fixture::start(store, &loaded);
    assert_eq!(
        fixture.store.shutdown(PATIENCE),
        ShutdownOutcome::Clean,
        "{case}"
    );
    assert_eq!(place.files(), ["config.db", "run"], "{case}");
    assert!(same(&place.stored(), &found), "{case}");
}

/// Equal but for the mtime of a new database, which memory does not have.
fn same(a: &State, b: &State) -> bool {
    let root = |state: &State| {
        if state.root.version == 1 {
            (1, 0, 0)
        } else {
            (state.root.version, state.root.writer, state.root.mtime)
        }
    };
    a.entries == b.entries && root(a) == root(b)
}

fn die_at_every_step(fault: Fault, commit_every: usize, limit_bytes: u64) {
    let mut reached = 0;
    for at in 1.. {
        let case = format!("{fault:?} at step {at}, commit every {commit_every}");
        let place = Place::new();
        let medium = FaultyMedium::new(fault, at);
        let config = StoreConfig {
            journal_limit_bytes: limit_bytes,
            ..with_medium(&place, &medium)
        };
        let Some(run) = run(config, &medium, &SCRIPT, commit_every) else {
            continue;
        };
        let outcome = run.fixture.store.shutdown(if medium.is_dead() {
            Duration::ZERO
        } else {
            PATIENCE
        });
        assert_survived(&place, &run, &case);
        if !medium.was_reached() {
            assert_eq!(outcome, ShutdownOutcome::Clean, "{case}");
            assert_eq!(run.acknowledged, run.history.len(), "{case}");
            break;
        }
        reached = at;
    }
    assert!(reached > 30, "the script makes many steps, not {reached}");
}

const NO_LIMIT: u64 = 1 << 20;

#[test]
fn a_death_before_any_step_loses_nothing_acknowledged() {
    for commit_every in [2, 100] {
        die_at_every_step(Fault::DieBefore, commit_every, NO_LIMIT);
    }
}

#[test]
fn a_death_during_any_step_loses_nothing_acknowledged() {
    for commit_every in [2, 100] {
        die_at_every_step(Fault::DieDuring, commit_every, NO_LIMIT);
    }
}

#[test]
fn a_death_while_the_journal_overflows_loses_nothing_acknowledged() {
    // Room for some of the operations; the one of 9000 bytes never fits.
    for fault in [Fault::DieBefore, Fault::DieDuring] {
        die_at_every_step(fault, 5, 700);
    }
}

/// Where a write may be cut short: everywhere, in the middle of long ones not quite.
fn tears(length: usize) -> impl Iterator<Item = usize> {
    (0..=length).filter(move |at| *at < 200 || at + 200 > length || at % 331 == 0)
}

/// Kills the process before a write to the journal, then does every part of that write. Returns how often a part went over
/// something older, or `None` behind the last step.
fn tear_at_step(script: &[Operation], commit_every: usize, at: u64) -> Option<usize> {
    let place = Place::new();
    let medium = FaultyMedium::new(Fault::DieBefore, at);
    let run = run(with_medium(&place, &medium), &medium, script, commit_every);
    if !medium.was_reached() {
        return None;
    }
    let Some((run, last)) = run.zip(medium.last_write()) else {
        return Some(0);
    };
    run.fixture.store.shutdown(Duration::ZERO);
    let paths = ["memdb-journal.0", "memdb-journal.1"].map(|name| place.run().join(name));
    let files = paths
        .clone()
        .map(|path| std::fs::read(path).unwrap_or_default());
    let known = &run.history[run.acknowledged - 1..];
    let start = usize::try_from(last.offset).unwrap();
    for written in tears(last.bytes.len()) {
        for (path, content) in paths.iter().zip(&files) {
            let mut content = content.clone();
            if *path == last.path {
                content.resize(content.len().max(start + written), 0);
                content[start..start + written].copy_from_slice(&last.bytes[..written]);
            }
            std::fs::write(path, content).unwrap();
        }
        let case = format!(
            "step {at}, {written} of {} bytes at {start}",
            last.bytes.len()
        );
        let (_store, loaded) = Store::open(place.config()).expect(&case);
        let found = State::of(&loaded);
        assert!(
            known.iter().any(|state| same(state, &found)),
            "{case}: found {found:?}"
        );
        let refused = |warning: &Warning| matches!(warning, Warning::JournalRefused { .. });
        assert!(
            !loaded.warnings.iter().any(refused),
            "{case}: {:?}",
            loaded.warnings
        );
    }
    let file = paths
        .iter()
        .zip(&files)
        .find(|(path, _)| **path == last.path);
    Some(usize::from(
        file.is_some_and(|(_, file)| file.len() > start),
    ))
}

#[test]
fn a_write_to_the_journal_that_is_torn_at_any_byte_loses_nothing_acknowledged() {
    for (script, commit_every) in [(&SCRIPT[..], 5), (&OVERWRITES, 3)] {
        let next = AtomicU64::new(1);
        let overwriting: usize = std::thread::scope(|scope| {
            let work = || {
                let tear = || {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    tear_at_step(script, commit_every, at)
                };
                std::iter::from_fn(tear).sum::<usize>()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            let counts = threads.into_iter().map(|thread| thread.join().unwrap());
            counts.sum()
        });
        assert!(
            overwriting > 8,
            "files are used again: {overwriting} writes went over older bytes"
        );
    }
}

#[test]
fn steps_that_fail_once_or_for_a_while_leave_no_trace() {
    for at in 1.. {
        let case = format!("two failing steps from step {at}");
        let place = Place::new();
        let medium = FaultyMedium::new(Fault::Outage(2), at);
        let Some(run) = run(with_medium(&place, &medium), &medium, &SCRIPT, 3) else {
            continue;
        };
        let expected = run.fixture.state();
        assert_eq!(
            run.fixture.store.shutdown(PATIENCE),
            ShutdownOutcome::Clean,
            "{case}"
        );
        assert!(same(&place.stored(), &expected), "{case}");
        if !medium.was_reached() {
            break;
        }
    }
}

#[test]
fn an_outage_refuses_changes_and_ends_by_itself() {
    let place = Place::new();
    let medium = FaultyMedium::healthy();
    let fixture = Fixture::open(with_medium(&place, &medium));
    let (sender, told) = mpsc::channel();
    fixture.store.watch(move |failed| {
        let _sent = sender.send(failed);
    });
    let a = fixture.create("a");
    fixture.sync().unwrap();
    medium.break_database(true);
    let ((), first) = fixture.record(|state| ((), state.write(a, 0, b"in time", false)));
    assert_eq!(fixture.wait(first), Ok(()), "the journal takes it");
    assert_eq!(told.recv_timeout(PATIENCE), Ok(true));
    assert!(fixture.store.is_failed());
    let failure = fixture.store.stats().failure.expect("there is a reason");
    assert!(!failure.is_empty());
    assert_eq!(fixture.sync(), Err(FsError::Io));
    let ((), second) = fixture.record(|state| ((), state.write(a, 0, b"late", false)));
    assert!(fixture.store.stats().failed_commit_count >= 4);

    medium.break_database(false);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(false));
    assert!(!fixture.store.is_failed());
    assert_eq!(fixture.store.stats().failure, None);
    assert_eq!(fixture.wait(second), Ok(()));
    assert_eq!(fixture.sync(), Ok(()));
    assert_eq!(fixture.store.shutdown(PATIENCE), ShutdownOutcome::Clean);
    assert_eq!(place.stored(), fixture.state());
}

#[test]
fn what_the_journal_cannot_take_is_refused_while_the_database_is_broken() {
    let place = Place::new();
    let medium = FaultyMedium::healthy();
    let fixture = Fixture::open(StoreConfig {
        journal_limit_bytes: 4096,
        ..with_medium(&place, &medium)
    });
    let a = fixture.create("a");
    fixture.sync().unwrap();
    medium.break_database(true);
    let ((), large) = fixture.record(|state| ((), state.write(a, 0, &[1; 9000], false)));
    assert_eq!(fixture.wait(large), Err(FsError::Io));
    assert!(fixture.store.is_failed());
    let ((), next) = fixture.record(|state| ((), state.write(a, 0, b"x", false)));
    assert_eq!(fixture.wait(next), Err(FsError::Io));
    let outcome = fixture.store.shutdown(PATIENCE);
    assert!(
        matches!(outcome, ShutdownOutcome::Lost { .. }),
        "{outcome:?}"
    );
    // Only what was refused is missing.
    let (_store, loaded) = Store::open(place.config()).unwrap();
    assert_eq!(loaded.entries[0].name, "a");
    assert_eq!(loaded.entries[0].data, "");
}

#[test]
fn a_journal_with_a_gap_takes_nothing_until_a_commit() {
    let place = Place::new();
    let medium = FaultyMedium::healthy();
    let fixture = Fixture::open(StoreConfig {
        journal_limit_bytes: 4096,
        ..with_medium(&place, &medium)
    });
    let a = fixture.create("a");
    fixture.sync().unwrap();
    medium.break_database(true);
    let another_try = || {
        let tries = fixture.store.stats().failed_commit_count;
        while fixture.store.stats().failed_commit_count < tries + 2 {
            std::thread::yield_now();
        }
    };
    // Both files have records that no commit took over.
    let ((), before) = fixture.record(|state| ((), state.write(a, 0, b"one", false)));
    assert_eq!(fixture.wait(before), Ok(()));
    another_try();
    let ((), before) = fixture.record(|state| ((), state.write(a, 3, b"two", false)));
    assert_eq!(fixture.wait(before), Ok(()));
    let acknowledged = fixture.state();
    let ((), gap) = fixture.record(|state| ((), state.write(a, 0, &[1; 9000], false)));
    assert_eq!(fixture.wait(gap), Err(FsError::Io));
    another_try();
    let ((), after) = fixture.record(|state| ((), state.write(a, 0, b"three", false)));
    assert_eq!(fixture.wait(after), Err(FsError::Io));
    fixture.store.shutdown(Duration::ZERO);
    let (_store, loaded) = Store::open(place.config()).unwrap();
    assert_eq!(State::of(&loaded), acknowledged);
}

#[test]
fn operations_that_a_failed_batch_took_are_in_the_journal() {
    let place = Place::new();
    let medium = FaultyMedium::healthy();
    let fixture = Fixture::open(with_medium(&place, &medium));
    let a = fixture.create("a");
    fixture.sync().unwrap();
    medium.break_database(true);
    // Nobody has asked for an acknowledgement when the batch is taken.
    let ((), taken) = fixture.record(|state| ((), state.write(a, 0, b"one", false)));
    while fixture.store.stats().failed_commit_count == 0 {
        std::thread::yield_now();
    }
    let ((), next) = fixture.record(|state| ((), state.write(a, 3, b"two", false)));
    assert_eq!(fixture.wait(next), Ok(()));
    assert_eq!(fixture.wait(taken), Ok(()));
    let expected = fixture.state();
    fixture.store.shutdown(Duration::ZERO);
    let (_store, loaded) = Store::open(place.config()).unwrap();
    assert_eq!(State::of(&loaded), expected);
}

#[test]
fn whoever_asks_for_durability_gets_it() {
    let place = Place::new();
    let medium = FaultyMedium::healthy();
    let fixture = Fixture::open(with_medium(&place, &medium));
    let a = fixture.create("a");
    for round in 0..10_u32 {
        fixture.write(a, round, b"x");
        // Nothing new is done the second time, but what was done must still be durable.
        for _ in 0..2 {
            let before = medium.sync_count();
            assert_eq!(fixture.sync(), Ok(()));
            assert!(medium.sync_count() > before);
        }
    }
    assert_eq!(fixture.store.shutdown(PATIENCE), ShutdownOutcome::Clean);
}

#[test]
fn what_is_committed_reaches_the_disk_without_being_asked_and_without_delaying_anybody() {
    for operation_count in [1, 100] {
        let place = Place::new();
        let medium = FaultyMedium::healthy();
        let fixture = Fixture::open(with_medium(&place, &medium));
        let held = medium.hold_syncs();
        for index in 0..operation_count {
            fixture.create(&format!("f{index}"));
        }
        let deadline = Instant::now() + PATIENCE;
        while !medium.has_begun_sync() {
            assert!(Instant::now() < deadline, "nothing was synced");
            std::thread::yield_now();
        }
        // The journal acknowledges while the disk takes its time.
        for index in 0..100 {
            fixture.create(&format!("during{index}"));
        }
        assert_eq!(medium.sync_count(), 0);
        drop(held);
        while medium.sync_count() == 0 {
            assert!(Instant::now() < deadline, "the sync does not end");
            std::thread::yield_now();
        }
        assert_eq!(fixture.store.shutdown(PATIENCE), ShutdownOutcome::Clean);
    }
}

#[test]
fn a_shutdown_during_an_outage_keeps_the_journal() {
    let place = Place::new();
    let fixture = Fixture::open(StoreConfig {
        medium: BrokenDatabase::shared(),
        ..place.config()
    });
    let a = fixture.create("a");
    fixture.write(a, 0, b"kept");
    let expected = fixture.state();
    let outcome = fixture.store.shutdown(PATIENCE);
    assert!(
        matches!(outcome, ShutdownOutcome::JournalKept { .. }),
        "{outcome:?}"
    );
    assert!(place.stored().entries.is_empty());
    let (_store, loaded) = Store::open(place.config()).unwrap();
    assert_eq!(State::of(&loaded), expected);
}
