//! A request for a change, from the kernel's question to the reply.
//!
//! It is planned against the tree at the moment when it is applied or sent. Its answer is made of the tree right after the change,
//! and given when the crash journal has it. Until the reply has been written, its outcome is kept for a later process.

use std::sync::Arc;

use pmxcfs_api_types::{FsError, Result};
use pmxcfs_memdb::store::Asker;
use pmxcfs_memdb::{Caller, Change, Plan, Reply, Tree};

use super::answers::Asked;
use super::attributes::Attributes;
use super::filesystem::Filesystem;
use super::names::ChangedBy;
use super::request_header::RequestHeader;
use super::ways::Moved;

/// Takes the answer to a request, on whatever thread it is made.
pub trait Respond<T>: FnOnce(Result<T>) + Send + 'static {}

impl<T, F: FnOnce(Result<T>) + Send + 'static> Respond<T> for F {}

/// The answer that a change leads to.
pub(super) trait Answer: Sized + Send + 'static {
    /// Takes back what it hands to the kernel beyond its words, since it becomes an error.
    fn take_back(self, _fs: &Filesystem) {}

    /// How a later process answers if the kernel asks again; `None` if it has to carry the change out, since nothing has been
    /// done so far.
    fn repeated(&self) -> Option<Result<u32>> {
        Some(Ok(0))
    }
}

impl Answer for () {}

impl Answer for u32 {
    fn repeated(&self) -> Option<Result<u32>> {
        Some(Ok(*self))
    }
}

impl Answer for Attributes {}

impl Answer for Moved {
    fn take_back(self, fs: &Filesystem) {
        fs.names.settle(self);
    }
}

impl Filesystem {
    /// Takes in a request for a change, whose reply ends it. `again` makes the answer once more if a former process has carried
    /// it out; then there is nothing to do.
    pub(super) fn ask<T>(
        self: &Arc<Self>,
        request: RequestHeader,
        again: impl FnOnce(u32) -> Result<T>,
        reply: impl Respond<T>,
    ) -> Option<(Asked, impl Respond<T>)> {
        let Some((asked, former)) = self.answers.ask(request) else {
            reply(Err(FsError::Busy));
            return None;
        };
        let fs = Arc::clone(self);
        let ended = Ended { fs, asked };
        let reply = move |result| {
            reply(result);
            drop(ended);
        };
        match former {
            None => Some((asked, reply)),
            Some(result) => {
                if result.is_err()
                    && let Some((opened, _)) = self.handles.opened_by(request)
                {
                    self.close(opened);
                }
                reply(result.and_then(again));
                None
            }
        }
    }

    /// Sends a change of a subject on its way: a name, or something that is open.
    pub(super) fn change<S: Send + 'static, T: Answer>(
        self: &Arc<Self>,
        asked: Asked,
        subject: Result<S>,
        plan: impl Fn(&Self, &Tree, &S) -> Result<Plan> + Send + 'static,
        answer: impl FnOnce(&Self, &mut Tree, &S, Result<u32>) -> Result<T> + Send + 'static,
        reply: impl FnOnce(&Arc<Self>, Result<T>) + Send + 'static,
    ) {
        match subject {
            Ok(subject) => (self.submit)(Box::new(Request {
                fs: Arc::clone(self),
                asked,
                subject,
                plan,
                answer,
                reply,
            })),
            Err(error) => reply(self, Err(error)),
        }
    }
}

/// Ends a request for a change when its reply has been written.
struct Ended {
    fs: Arc<Filesystem>,
    asked: Asked,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.fs.answers.end(self.asked);
    }
}

/// A change on its way.
struct Request<S, P, A, R> {
    fs: Arc<Filesystem>,
    asked: Asked,
    subject: S,
    plan: P,
    answer: A,
    reply: R,
}

impl<S, T, P, A, R> Caller for Request<S, P, A, R>
where
    S: Send,
    T: Answer,
    P: Fn(&Filesystem, &Tree, &S) -> Result<Plan> + Send,
    A: FnOnce(&Filesystem, &mut Tree, &S, Result<u32>) -> Result<T> + Send,
    R: FnOnce(&Arc<Filesystem>, Result<T>) + Send + 'static,
{
    fn plan(&mut self, tree: &mut Tree) -> Result<Plan> {
        let plan = (self.plan)(&self.fs, tree, &self.subject)?;
        self.fs.answers.plan(self.asked, tree);
        Ok(plan)
    }

    fn answer(self: Box<Self>, tree: &mut Tree, changes: &[Change], result: Result<u32>) -> Reply {
        let this = *self;
        let (fs, reply) = (this.fs, this.reply);
        let shown = fs.names.changed(changes, ChangedBy::Kernel);
        let answer = (this.answer)(&fs, tree, &this.subject, result);
        let repeated = answer
            .as_ref()
            .map_or_else(|error| Some(Err(*error)), T::repeated);
        fs.answers.note(this.asked, tree, repeated);
        Box::new(move |durable| {
            fs.tell_changed(&shown);
            match (durable, answer) {
                (Ok(()), answer) => reply(&fs, answer),
                (Err(error), answer) => {
                    if let Ok(answer) = answer {
                        answer.take_back(&fs);
                    }
                    reply(&fs, Err(error));
                }
            }
        })
    }

    fn asker(&self) -> Option<Asker> {
        self.asked.request.asker
    }

    fn refuse(self: Box<Self>, error: FsError) {
        (self.reply)(&self.fs, Err(error));
    }
}
