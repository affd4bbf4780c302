//! Changes are done once, also if the kernel asks for one twice.
//!
//! When a process ends, the next one gets the requests again that the former has not answered. It may have carried them out: a
//! directory that is a lock must not answer that it exists to the one who has just made it. So a change keeps its outcome until its
//! reply has been written, with the version of the database that has it: a database without that version does not have the change
//! either. On a member of a cluster, a request is noted before it is sent. What is noted there without an outcome, or with
//! one that this node's database has lost, may or may not be done by others, and is answered with `EBUSY`.

use std::collections::HashMap;

use pmxcfs_api_types::sync::{Mutex, Rank};
use pmxcfs_api_types::{FsError, Result};
use pmxcfs_memdb::{Rules, Tree};

use super::request_header::RequestHeader;
use super::tables::{AnswerRecords, Outcome};

/// A request for a change, until it is answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) request: RequestHeader,
    slot: u32,
}

/// Changes that are not answered.
#[derive(Debug)]
pub(super) struct Answers {
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    records: AnswerRecords,
    /// Slots and results of former processes, by the numbers of the requests.
    former: HashMap<u64, (u32, Result<u32>)>,
}

impl Answers {
    /// What a former process has left, seen from the version of the database that was loaded.
    pub(super) fn new(mut records: AnswerRecords, loaded_version: u64) -> Self {
        let left: Vec<_> = records.all().collect();
        let mut former = HashMap::new();
        for (request, slot, outcome) in left {
            let result = match outcome {
                Some(it) if it.version <= loaded_version => it.result.map_err(error_of),
                Some(it) if it.is_alone => {
                    records.give_back(slot);
                    continue;
                }
                _ => {
                    // A later process may see a database that has the version, and in it another change.
                    records.begin(slot, request);
                    Err(FsError::Busy)
                }
            };
            former.insert(request, (slot, result));
        }
        Self {
            table: Mutex::new(Rank::FsAnswers, Table { records, former }),
        }
    }

    /// A request for a change comes in. Gives the result as well if a former process has carried it out. [Ends](Self::end) with its
    /// answer. `None` if more changes wait for their answers than there is room for.
    pub(super) fn ask(&self, request: RequestHeader) -> Option<(Asked, Option<Result<u32>>)> {
        let mut table = self.table.lock();
        let former = match request.is_resent() {
            true => table.former.remove(&request.key()),
            false => None,
        };
        let (slot, result) = match former {
            Some((slot, result)) => (slot, Some(result)),
            None => (table.take()?, None),
        };
        Some((Asked { request, slot }, result))
    }

    /// A request is about to be carried out. Alone, that and its outcome are one step.
    pub(super) fn plan(&self, asked: Asked, tree: &Tree) {
        if tree.rules() == Rules::Replicated {
            let mut table = self.table.lock();
            table.records.begin(asked.slot, asked.request.key());
        }
    }

    /// A request has been carried out, and the tree is as it leaves it. Without a result it turns out that nothing has been done so
    /// far.
    pub(super) fn note(&self, asked: Asked, tree: &Tree, result: Option<Result<u32>>) {
        let mut table = self.table.lock();
        let Some(result) = result else {
            return table.records.clear(asked.slot);
        };
        let outcome = Outcome {
            result: result.map_err(|error| error.errno().unsigned_abs()),
            is_alone: tree.rules() == Rules::Local,
            version: tree.root().version,
        };
        let request = asked.request.key();
        table.records.end(asked.slot, request, outcome);
    }

    /// The answer has been written.
    pub(super) fn end(&self, asked: Asked) {
        self.table.lock().records.give_back(asked.slot);
    }
}

impl Table {
    fn take(&mut self) -> Option<u32> {
        if let Some(slot) = self.records.take() {
            return Some(slot);
        }
        // Answered before their process ended. What the kernel wants to know has been asked long ago.
        for (_, (slot, _)) in self.former.drain() {
            self.records.give_back(slot);
        }
        self.records.take()
    }
}

fn error_of(errno: u32) -> FsError {
    FsError::try_from(errno.cast_signed()).unwrap_or(FsError::Io)
}
