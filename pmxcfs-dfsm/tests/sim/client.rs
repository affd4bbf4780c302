//! A process that wants the tree changed and notes its answer.

use std::sync::mpsc::{Receiver, Sender, channel};

use pmxcfs_api_types::FsError;
use pmxcfs_dfsm::core::RequestId;
use pmxcfs_memdb::{Caller, Change, Operation, Plan, Reply, Tree};

type Answer = (RequestId, Result<u32, FsError>);

/// Answers that came, until somebody takes them.
#[derive(Debug)]
pub(crate) struct Answers {
    sender: Sender<Answer>,
    receiver: Receiver<Answer>,
}

impl Default for Answers {
    fn default() -> Self {
        let (sender, receiver) = channel();
        Self { sender, receiver }
    }
}

impl Answers {
    pub(crate) fn take(&self) -> Vec<Answer> {
        self.receiver.try_iter().collect()
    }

    /// A caller that answers here.
    pub(crate) fn client(&self, id: RequestId, operation: Operation) -> Box<dyn Caller> {
        Box::new(Client {
            id,
            operation,
            answers: self.sender.clone(),
        })
    }
}

struct Client {
    id: RequestId,
    operation: Operation,
    answers: Sender<Answer>,
}

impl Client {
    fn tell(&self, result: Result<u32, FsError>) {
        // Nobody listens any more if the daemon is dead.
        let _sent = self.answers.send((self.id, result));
    }
}

impl Caller for Client {
    fn plan(&mut self, _tree: &mut Tree) -> Result<Plan, FsError> {
        Ok(Plan::Apply(self.operation.clone()))
    }

    fn answer(
        self: Box<Self>,
        _tree: &mut Tree,
        _changes: &[Change],
        result: Result<u32, FsError>,
    ) -> Reply {
        Box::new(move |durable| self.tell(durable.and(result)))
    }

    fn refuse(self: Box<Self>, error: FsError) {
        self.tell(Err(error));
    }
}
