//! The history: who changed what, and when.
//!
//! The store's thread tells each commit, after it, to the thread `history`, which keeps records in `history.db` beside the
//! database. No write waits for it, and the daemon never needs it. `docs/operations.md` shows what operators do with it.
//!
//! | module | job |
//! |---|---|
//! | `settings` | what is kept |
//! | `asker` | which program asks for a change |
//! | `window` | changes of the last moments; writes to one file are one |
//! | `busy` | files that change all the time |
//! | `write`, `compare` | changes become records |
//! | `entries` | the state that the next record follows |
//! | `schema`, `record`, `prune` | the file, its rows, their end |
//! | `recorder` | what is written when: changes, synchronisations, gaps, summaries |
//! | `worker`, `shared` | the thread, what others see of it |
//! | `query` | questions, answered from the file and the tree |
//! | `serve`, `pieces` | questions and followers at the control socket |

pub(crate) mod asker;
mod busy;
mod compare;
mod entries;
pub(crate) mod pieces;
mod prune;
pub(crate) mod query;
pub(crate) mod record;
mod recorder;
pub(crate) mod schema;
pub(crate) mod serve;
pub(crate) mod settings;
mod shared;
#[cfg(test)]
mod tests;
mod window;
mod worker;
mod write;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use pmxcfs_memdb::MemDb;
use pmxcfs_memdb::store::{CommitSink, Committed};

use recorder::Recorder;
use settings::Settings;
use shared::{Shared, Subscription};
use tokio::sync::oneshot;
use worker::{Message, Worker};
use write::NodeName;

/// The nice value of the thread.
const LOWEST_PRIORITY: i32 = 19;

/// The running history.
pub(crate) struct History {
    messages: Sender<Message>,
    tree: Arc<MemDb>,
    file: PathBuf,
    pub(crate) shared: Arc<Shared>,
}

/// What the store tells of commits.
struct Sink {
    told: Arc<Shared>,
    sender: Sender<Message>,
}

impl CommitSink for Sink {
    fn is_wanted(&self) -> bool {
        !self.told.is_lossy()
    }

    fn committed(&self, committed: Committed) {
        let message = match self.told.admit(&committed) {
            Some(size) => Message::Committed(committed, size),
            None => Message::Lost,
        };
        // Fails once the thread has ended.
        let _sent = self.sender.send(message);
    }
}

impl History {
    /// Starts the thread. From now on it is told each commit of the tree's store.
    ///
    /// # Errors
    /// If the system refuses a thread or memory.
    pub(crate) fn start(
        settings: Settings,
        tree: &Arc<MemDb>,
        node_name: NodeName,
    ) -> io::Result<Self> {
        let file = settings.file.clone();
        let (messages, received) = mpsc::channel();
        let shared = Arc::new(Shared::new());
        let (told, sender) = (Arc::clone(&shared), messages.clone());
        tree.tell_history(Box::new(Sink { told, sender }));
        // The base is taken before anybody can change the tree.
        let recorder = Recorder::new(settings, Arc::clone(tree), Arc::clone(&shared), node_name)?;
        let worker = Worker::new(recorder);
        let body = move || {
            // Others go first. Refused, the priority stays.
            let _refused = rustix::process::setpriority_process(None, LOWEST_PRIORITY);
            drop(worker.run(&received));
        };
        // Not joined: a disk may never answer.
        let _detached = thread::Builder::new()
            .name("history".to_owned())
            .spawn(body)?;
        Ok(Self {
            messages,
            tree: Arc::clone(tree),
            file,
            shared,
        })
    }

    /// Waits until everything acknowledged so far is written, or for so long.
    pub(crate) fn flush(&self, patience: Duration) {
        let (done, is_done) = mpsc::channel::<()>();
        self.send_after_all(Message::Flush(done));
        // An error in any case: nothing is ever sent.
        let _closed = is_done.recv_timeout(patience);
    }

    /// What comes after everything acknowledged so far. `None` once the thread has ended.
    async fn follow(&self) -> Option<Subscription> {
        let (follower, subscription) = oneshot::channel();
        self.send_after_all(Message::Follow(follower));
        subscription.await.ok()
    }

    /// Sends a message behind everything acknowledged so far.
    fn send_after_all(&self, message: Message) {
        let messages = self.messages.clone();
        self.tree.sync(move |_result| {
            // Fails once the thread has ended.
            let _sent = messages.send(message);
        });
    }

    /// Ends the thread, or leaves it behind.
    pub(crate) fn stop(&self, patience: Duration) {
        let (done, is_done) = mpsc::channel();
        let sent = self.messages.send(Message::Stop(done));
        if sent.is_ok() && is_done.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::warn!("the history was not written to its end; the next start notes a gap");
        }
    }
}
