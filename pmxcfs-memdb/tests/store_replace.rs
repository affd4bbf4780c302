//! A sync takes another member's tree over: one transaction, durable before anybody is told, and no trace of it if that
//! cannot be done.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod store_support;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use pmxcfs_api_types::FsError;
use pmxcfs_memdb::EntryKind;
use pmxcfs_memdb::store::{ShutdownOutcome, Store, StoreConfig, Warning};
use rusqlite::Connection;
use store_support::fault::{Fault, FaultyMedium};
use store_support::{Fixture, PATIENCE, Place, State};

/// Another member's tree: entries that are equal, changed, new and gone, and other root state.
fn others(own: &State) -> State {
    let mut new = own.clone();
    new.entries.retain(|_, entry| entry.name != "gone");
    for entry in new.entries.values_mut() {
        if entry.name == "changed" {
            entry.data = vec![b'n'; 5000].into();
            entry.size = 5000;
            entry.writer = 2;
        }
    }
    new.root.version = 100;
    new.create(b"new", EntryKind::File);
    new.create(b"newdir", EntryKind::Directory);
    new
}

/// A tree of three files, of which the disk does not have everything yet.
fn fill(fixture: &Fixture) {
    for name in ["equal", "changed", "gone"] {
        let inode = fixture.create(name);
        fixture.write(inode, 0, name.as_bytes());
    }
}

fn kind_of_version_row(place: &Place) -> i64 {
    Connection::open(place.database())
        .unwrap()
        .query_row("SELECT type FROM tree WHERE inode=0", [], |row| row.get(0))
        .unwrap()
}

#[test]
fn the_new_tree_is_in_the_database_and_durable_when_the_call_returns() {
    let place = Place::new();
    let medium = FaultyMedium::healthy();
    let fixture = Fixture::open(StoreConfig {
        medium: medium.shared(),
        ..place.config()
    });
    fill(&fixture);
    let expected = others(&fixture.state());
    let syncs = medium.sync_count();
    fixture.replace(expected.clone()).unwrap();
    assert_eq!(medium.sync_count(), syncs + 1);
    assert_eq!(place.stored(), expected);
    assert_eq!(kind_of_version_row(&place), 4);
    // Killed at once, or after the journal took more.
    let (_store, loaded) = Store::open(place.config()).unwrap();
    assert_eq!(State::of(&loaded), expected);
    assert_eq!(loaded.warnings, []);
}

#[test]
fn what_comes_after_a_replacement_goes_to_the_journal_again() {
    let place = Place::new();
    let fixture = Fixture::open(place.config());
    fill(&fixture);
    let new = others(&fixture.state());
    fixture.replace(new).unwrap();
    let before = fixture.store.stats().journaled_bytes;
    let after = fixture.create("after");
    assert!(after > 100);
    assert!(fixture.store.stats().journaled_bytes > before);
    assert_eq!(fixture.store.shutdown(PATIENCE), ShutdownOutcome::Clean);
    assert_eq!(place.stored(), fixture.state());
    assert_eq!(kind_of_version_row(&place), 8);
}

#[test]
fn a_replacement_of_the_root_state_alone_is_one_too() {
    let place = Place::new();
    let fixture = Fixture::open(place.config());
    fill(&fixture);
    let mut new = fixture.state();
    new.root.mtime += 1;
    new.root.writer = 3;
    fixture.replace(new.clone()).unwrap();
    assert_eq!(place.stored(), new);
    assert_eq!(kind_of_version_row(&place), 4);
    assert_eq!(fixture.store.shutdown(PATIENCE), ShutdownOutcome::Clean);
    assert_eq!(place.stored(), new);
}

/// A life with a replacement in the middle. Returns the states that a start may find when the process has died: what was
/// acknowledged is in all of them.
fn life(fixture: &Fixture, medium: &FaultyMedium) -> (Vec<State>, Option<Result<(), FsError>>) {
    let mut possible = vec![fixture.state()];
    let apply = |possible: &mut Vec<State>, name: &[u8]| {
        let (_inode, ticket) = fixture.record(|state| state.create(name, EntryKind::File));
        possible.push(fixture.state());
        let (sender, receiver) = mpsc::channel();
        fixture.store.acknowledge(ticket, move |result| {
            let _sent = sender.send(result);
        });
        let deadline = Instant::now() + PATIENCE;
        loop {
            match receiver.recv_timeout(Duration::from_millis(1)) {
                Ok(Ok(())) => {
                    possible.drain(..possible.len() - 1);
                    return true;
                }
                Ok(Err(_)) => return !medium.is_dead(),
                Err(_) if medium.is_dead() => return false,
                Err(_) => assert!(Instant::now() < deadline, "nobody answers"),
            }
        }
    };
    for name in ["equal", "changed", "gone"] {
        if !apply(&mut possible, name.as_bytes()) {
            return (possible, None);
        }
    }
    let new = others(&fixture.state());
    possible.push(new.clone());
    let result = fixture.replace(new);
    if medium.is_dead() {
        return (possible, None);
    }
    let present = fixture.state();
    assert!(possible.contains(&present));
    if result.is_ok() {
        possible = vec![present];
    }
    for name in ["after", "later"] {
        if !apply(&mut possible, name.as_bytes()) {
            return (possible, Some(result));
        }
    }
    (possible, Some(result))
}

/// One run with a fault, which ends with a start that finds one of the possible states.
struct Run {
    fault_was_reached: bool,
    /// Answer of the replacement, if the process lived that long.
    answer: Option<Result<(), FsError>>,
}

fn run(fault: Fault, at: u64) -> Option<Run> {
    let case = format!("{fault:?}, step {at}");
    let place = Place::new();
    let medium = FaultyMedium::new(fault, at);
    let config = StoreConfig {
        medium: medium.shared(),
        ..place.config()
    };
    let (store, loaded) = Store::open(config).ok()?;
    let fixture = Fixture::start(store, &loaded);
    let (possible, answer) = life(&fixture, &medium);
    let outcome = fixture.store.shutdown(if medium.is_dead() {
        Duration::ZERO
    } else {
        PATIENCE
    });
    let (_store, loaded) = Store::open(place.config()).expect(&case);
    let found = State::of(&loaded);
    assert!(
        possible.iter().any(|state| same(state, &found)),
        "{case}: {found:?}"
    );
    let refused = loaded
        .warnings
        .iter()
        .any(|warning| matches!(warning, Warning::JournalRefused { .. }));
    assert!(!refused, "{case}: {:?}", loaded.warnings);
    if outcome == ShutdownOutcome::Clean {
        let present = fixture.state();
        assert!(same(&found, &present), "{case}: {answer:?} {found:?}");
    }
    Some(Run {
        fault_was_reached: medium.was_reached(),
        answer,
    })
}

/// Runs with the fault at every `stride`th step there is. Many at once, since a store that fails waits.
fn run_all(fault: Fault, stride: usize) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut steps = (1..).step_by(stride);
    loop {
        let some: Vec<u64> = steps.by_ref().take(16).collect();
        let done: Vec<Option<Run>> = std::thread::scope(|scope| {
            let threads: Vec<_> = some
                .into_iter()
                .map(|at| scope.spawn(move || run(fault, at)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        let is_last = done.iter().flatten().any(|run| !run.fault_was_reached);
        runs.extend(done.into_iter().flatten());
        if is_last {
            return runs;
        }
    }
}

#[test]
fn a_death_at_any_step_leaves_one_of_the_two_trees() {
    for fault in [Fault::DieBefore, Fault::DieDuring] {
        let runs = run_all(fault, 1);
        let reached = runs.iter().filter(|run| run.fault_was_reached).count();
        assert!(reached > 25, "only {reached} steps");
    }
}

/// Equal but for the mtime of a new database, which memory does not have.
fn same(a: &State, b: &State) -> bool {
    a.entries == b.entries && (a.root == b.root || (a.root.version, b.root.version) == (1, 1))
}

#[test]
fn steps_that_fail_lead_to_the_tree_that_the_answer_tells() {
    for (fault, stride) in [
        (Fault::Outage(1), 1),
        (Fault::Misreport(1), 1),
        (Fault::Outage(12), 3),
        (Fault::Misreport(12), 3),
    ] {
        let is_short = stride == 1;
        let mut answers: Vec<_> = run_all(fault, stride)
            .into_iter()
            .map(|run| run.answer.expect("nobody dies").is_ok())
            .collect();
        answers.sort_unstable();
        answers.dedup();
        let expected = if is_short {
            &[true][..]
        } else {
            &[false, true]
        };
        assert_eq!(answers, expected, "{fault:?}");
    }
}

#[test]
fn a_failure_is_told_and_the_recovery_too() {
    let place = Place::new();
    let medium = FaultyMedium::healthy();
    let fixture = Fixture::open(StoreConfig {
        medium: medium.shared(),
        ..place.config()
    });
    fill(&fixture);
    fixture.sync().unwrap();
    let (sender, told) = mpsc::channel();
    fixture.store.watch(move |failed| {
        let _sent = sender.send(failed);
    });
    let former = fixture.state();
    let new = others(&former);
    medium.break_database(true);
    assert_eq!(fixture.replace(new.clone()), Err(FsError::Io));
    assert_eq!(told.recv_timeout(PATIENCE), Ok(true));
    assert!(fixture.store.is_failed());
    assert_eq!(fixture.state(), former);
    assert_eq!(
        fixture.replace(new.clone()),
        Err(FsError::Io),
        "refused at once"
    );

    medium.break_database(false);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(false));
    assert_eq!(place.stored(), former);
    assert_eq!(fixture.replace(new.clone()), Ok(()));
    assert_eq!(place.stored(), new);
    assert_eq!(fixture.store.shutdown(PATIENCE), ShutdownOutcome::Clean);
}

#[test]
fn a_process_that_holds_the_database_for_a_moment_is_waited_for() {
    let place = Place::new();
    let fixture = Fixture::open(place.config());
    fill(&fixture);
    let new = others(&fixture.state());
    let other = Connection::open(place.database()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    std::thread::scope(|scope| {
        let replaced = scope.spawn(|| fixture.replace(new.clone()));
        let deadline = Instant::now() + PATIENCE;
        while fixture.store.stats().failed_commit_count < 3 {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        assert!(!replaced.is_finished());
        other.execute_batch("ROLLBACK").unwrap();
        assert_eq!(replaced.join().unwrap(), Ok(()));
    });
    assert_eq!(place.stored(), new);
}

#[test]
fn a_stop_does_not_wait_for_a_replacement() {
    let place = Place::new();
    let fixture = Fixture::open(place.config());
    fill(&fixture);
    let former = fixture.state();
    let other = Connection::open(place.database()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    std::thread::scope(|scope| {
        let replaced = scope.spawn(|| fixture.replace(others(&former)));
        let deadline = Instant::now() + PATIENCE;
        while fixture.store.stats().failed_commit_count < 3 {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        let outcome = fixture.store.shutdown(Duration::from_millis(50));
        assert!(
            matches!(outcome, ShutdownOutcome::JournalKept { .. }),
            "{outcome:?}"
        );
        assert_eq!(replaced.join().unwrap(), Err(FsError::Io));
    });
    drop(other);
    let (_store, loaded) = Store::open(place.config()).unwrap();
    assert_eq!(State::of(&loaded), former);
    let late = Fixture::open(place.config());
    assert_eq!(late.store.shutdown(PATIENCE), ShutdownOutcome::Clean);
    assert_eq!(late.replace(former), Err(FsError::Io));
}
