//! What becomes of changes that a former process did not answer: each state, alone and on a member.

use super::*;
use crate::fs::answers::Answers;
use crate::fs::tables::Agreement;
use pmxcfs_memdb::RootState;

const REQUEST: RequestHeader = RequestHeader::new(6, 0, None);
const AGAIN: RequestHeader = RequestHeader::new(6 | 1 << 63, 0, None);

fn tree(rules: Rules, version: u64) -> Tree {
    let root = RootState {
        version,
        ..RootState::default()
    };
    Tree::from_entries(root, Vec::new(), rules, 0).unwrap()
}

/// What a process did with a request until it was killed.
#[derive(Debug, Clone, Copy)]
enum Done {
    Asked,
    Planned,
    /// Carried out, which made version 10.
    Noted(Option<Result<u32, FsError>>),
    Answered,
}

/// Gives what the next process does that has loaded a version.
fn after(rules: Rules, done: Done, loaded: u64) -> Option<Result<u32, FsError>> {
    let tables = Tables::create().unwrap();
    let descriptor = tables.descriptor().try_clone_to_owned().unwrap();
    let answers = Answers::new(tables.answers, 9);
    let Some((asked, None)) = answers.ask(REQUEST) else {
        panic!("a new request is done");
    };
    if !matches!(done, Done::Asked) {
        answers.plan(asked, &tree(rules, 9));
    }
    if let Done::Noted(result) = done {
        answers.note(asked, &tree(rules, 10), result);
    }
    if let Done::Answered = done {
        answers.note(asked, &tree(rules, 10), Some(Ok(1)));
        answers.end(asked);
    }
    let next = || {
        let tables = Tables::open(descriptor.try_clone().unwrap()).unwrap();
        Answers::new(tables.answers, loaded)
    };
    // Whatever it says, it says so until it has been written.
    let step = |answers: &Answers| {
        let (asked, result) = answers.ask(AGAIN).expect("there is room");
        result.map(|result| (asked, result))
    };
    let first = step(&next());
    let answers = next();
    let second = step(&answers);
    let result = second.map(|(_, result)| result);
    assert_eq!(first.map(|(_, result)| result), result);
    if let Some((asked, _)) = second {
        answers.end(asked);
        assert!(step(&next()).is_none(), "an answered request is not kept");
    }
    result
}

#[test]
fn a_request_that_comes_again_is_repeated_done_or_left_open() {
    use Done::{Answered, Asked, Noted, Planned};
    use Rules::{Local, Replicated};
    let exists = Err(FsError::Exists);
    let unknown = Some(Err(FsError::Busy));
    let table = [
        (Local, Asked, 9, None),
        (Local, Planned, 9, None),
        (Local, Noted(Some(Ok(7))), 10, Some(Ok(7))),
        (Local, Noted(Some(exists)), 10, Some(exists)),
        (Local, Noted(Some(Ok(7))), 9, None),
        (Local, Noted(None), 10, None),
        (Local, Answered, 10, None),
        (Replicated, Asked, 9, None),
        (Replicated, Planned, 9, unknown),
        (Replicated, Planned, 12, unknown),
        (Replicated, Noted(Some(Ok(7))), 10, Some(Ok(7))),
        (Replicated, Noted(Some(Ok(7))), 9, unknown),
        (Replicated, Noted(None), 10, None),
        (Replicated, Answered, 10, None),
    ];
    for (rules, done, loaded, expected) in table {
        let found = after(rules, done, loaded);
        assert_eq!(found, expected, "{rules:?} {done:?} {loaded}");
    }
}

#[test]
fn an_outcome_that_was_lost_stays_lost_when_others_reach_its_version() {
    let tables = Tables::create().unwrap();
    let descriptor = tables.descriptor().try_clone_to_owned().unwrap();
    let answers = Answers::new(tables.answers, 9);
    let Some((asked, None)) = answers.ask(REQUEST) else {
        panic!("a new request is done");
    };
    answers.note(asked, &tree(Rules::Replicated, 10), Some(Ok(0)));
    for loaded in [9, 10] {
        let tables = Tables::open(descriptor.try_clone().unwrap()).unwrap();
        let answers = Answers::new(tables.answers, loaded);
        let step = answers.ask(AGAIN);
        assert!(matches!(step, Some((_, Some(Err(FsError::Busy))))));
    }
}

#[test]
fn more_changes_than_there_is_room_for_are_refused_until_one_is_answered() {
    let answers = Answers::new(Tables::create().unwrap().answers, 0);
    let mut asked = Vec::new();
    while let Some((one, former)) = answers.ask(REQUEST) {
        assert_eq!(former, None, "nothing is repeated");
        asked.push(one);
    }
    assert!(asked.len() >= 1 << 15);
    answers.end(asked[0]);
    assert!(answers.ask(REQUEST).is_some());
}

#[test]
fn what_was_agreed_with_the_kernel_is_kept_whole_or_not_at_all() {
    let agreed = b"seventeen bytes..".to_vec();
    let tables = Tables::create().unwrap();
    let (killer, agreement) = (tables.killer(), tables.agreement());
    assert_eq!(agreement.read(), None);
    let begun = killer.store_count();
    agreement.keep(&agreed).unwrap();
    for stores in begun..=killer.store_count() {
        let left = killer.killed_after(stores, 0).unwrap();
        let read = Agreement::read(&left.agreement());
        assert_eq!(
            read,
            (stores == killer.store_count()).then(|| agreed.clone())
        );
    }
}

#[test]
fn a_descriptor_of_something_else_is_refused() {
    use crate::fs::tables::TablesError;
    let file = tempfile::tempfile().unwrap();
    let refused = Tables::open(file.into());
    assert!(matches!(refused, Err(TablesError::NotTables)));
}
