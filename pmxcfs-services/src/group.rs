//! The driver of a replication group: a connection to corosync, a protocol machine, and whoever waits for them.
//!
//! It turns readiness, requests and time into events, and carries out actions in their order. The protocol's decisions are all
//! in [`Machine`](pmxcfs_dfsm::core::Machine); what is here is about the connection: that quorum is looked at before anything
//! is delivered, that what corosync refuses is given back in order, that each join has a connection of its own, and that
//! nothing waits while corosync does.
//!
//! Callers hand in whatever they want done through a [`GroupHandle`] and do not wait. The [`GroupHost`] keeps them until
//! they are answered.
//!
//! `driver` is all of that as a plain value; `task` waits on its behalf, as a service. A caller that finds the driver idle uses
//! it on the spot and so saves a change of threads on the way of its message; one that finds it busy leaves its request for
//! the task.

mod driver;
mod task;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use pmxcfs_api_types::FsError;
use pmxcfs_dfsm::app::Application;
use pmxcfs_dfsm::core::{RequestId, Status};
use tokio::sync::{Notify, mpsc, watch};

use crate::framework::ServiceState;
use crate::quorum::QuorumMonitor;
use driver::Driver;
pub use task::Group;

/// Who the driver works for. No two methods are called at a time; none may wait.
pub trait GroupHost: Send + 'static {
    /// What people call the service.
    const NAME: &'static str;

    /// What the group replicates.
    type App: Application<Request: Send, Notice: Send> + Send;
    /// What callers hand in.
    type Input: Send;

    /// Turns what a caller wants into a request. The caller is kept under the id until [`answer`](Self::answer). `None` if it
    /// was dealt with already.
    fn accept(
        &mut self,
        input: Self::Input,
        app: &mut Self::App,
    ) -> Option<(RequestId, <Self::App as Application>::Request)>;

    /// Tells a caller that nothing was or will be done.
    fn refuse(&mut self, input: Self::Input, error: FsError);

    /// A request is over. Replies may be put off until [`settle`](Self::settle).
    fn answer(&mut self, id: RequestId, result: Result<u32, FsError>, app: &mut Self::App);

    /// The application has something to tell.
    fn notice(&mut self, notice: <Self::App as Application>::Notice, app: &mut Self::App);

    /// Everything that came in together was handled: the moment to do once what would else be done for each message.
    fn settle(&mut self, app: &mut Self::App);

    /// Corosync is gone, and with it all that it told of the group.
    fn disconnected(&mut self, app: &mut Self::App);
}

/// What an observer may know of a group.
#[derive(Debug, Clone)]
pub struct GroupStatus {
    /// What the protocol's core says.
    pub machine: Status,
    /// The moment of which all this is true. It is long ago only if the group's task is held up.
    pub at: Instant,
    /// Whether there is a connection to corosync.
    pub is_connected: bool,
    /// Whether corosync asks to send no more for now.
    pub is_blocked: bool,
    /// Requests that wait for the group to be joined.
    pub joining_count: usize,
}

/// What waits for the task.
#[derive(Debug)]
enum Command<I> {
    Submit(I),
    Mended,
}

/// What callers and the task share.
struct Shared<H: GroupHost> {
    /// Held while one event is dealt with. Callers only ever try it: they never wait for each other or for the task.
    driver: Mutex<Driver<H>>,
    commands: mpsc::UnboundedSender<Command<H::Input>>,
    /// Commands that the task has not taken. While there are any, nobody may overtake them.
    command_count: AtomicUsize,
    /// A caller has changed what the task waits for.
    changed: Notify,
    /// As it was at the last change, or about a second ago. A leaf lock.
    status: Mutex<Option<GroupStatus>>,
}

impl<H: GroupHost> Shared<H> {
    fn leave(&self, command: Command<H::Input>) -> Result<(), Command<H::Input>> {
        self.command_count.fetch_add(1, Ordering::AcqRel);
        self.commands.send(command).map_err(|unsent| {
            self.command_count.fetch_sub(1, Ordering::AcqRel);
            unsent.0
        })
    }
}

/// What a handle needs of a group, whatever it replicates.
trait Port<I>: Send + Sync {
    fn submit(&self, input: I) -> Result<(), I>;
    fn mended(&self);
    fn status(&self) -> Option<GroupStatus>;
}

impl<H: GroupHost> Port<H::Input> for Shared<H> {
    fn submit(&self, input: H::Input) -> Result<(), H::Input> {
        if self.command_count.load(Ordering::Acquire) == 0
            && let Some(mut driver) = self.driver.try_lock()
            && driver.is_running()
        {
            driver.submit(input);
            if driver.settle() {
                self.changed.notify_one();
            }
            return Ok(());
        }
        match self.leave(Command::Submit(input)) {
            Err(Command::Submit(input)) => Err(input),
            Ok(()) | Err(Command::Mended) => Ok(()),
        }
    }

    fn mended(&self) {
        // A task that has ended needs to know nothing.
        let _left = self.leave(Command::Mended);
    }

    fn status(&self) -> Option<GroupStatus> {
        self.status.lock().clone()
    }
}

/// Hands requests to a group. Cheap to clone; usable from any thread.
pub struct GroupHandle<I>(Arc<dyn Port<I>>);

impl<I> Clone for GroupHandle<I> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<I> std::fmt::Debug for GroupHandle<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupHandle").finish_non_exhaustive()
    }
}

impl<I> GroupHandle<I> {
    /// Hands something in. The order of one caller is kept. Returns at once; the host may be called before that, on the
    /// caller's thread.
    ///
    /// # Errors
    /// Gives it back if the group was stopped.
    pub fn submit(&self, input: I) -> Result<(), I> {
        self.0.submit(input)
    }

    /// What made this member give up was mended.
    pub fn mended(&self) {
        self.0.mended();
    }

    /// Mode, members and queues as they were at the last change, or about a second ago. `None` before the group runs.
    #[must_use]
    pub fn status(&self) -> Option<GroupStatus> {
        self.0.status()
    }
}

/// What a driver is made of.
#[derive(Debug)]
pub struct GroupConfig {
    /// Name of the group, without the NUL that belongs to it.
    pub name: &'static str,
    /// Word that log lines begin with.
    pub domain: &'static str,
    /// Moment that monotonic times count from.
    pub started: Instant,
    /// Where the quorum is known.
    pub quorum: QuorumMonitor,
    /// A service that has to have worked once before the group is joined.
    pub join_after: Option<watch::Receiver<ServiceState>>,
}

/// Makes a group and the handle to it. Requests are taken from now on, and dealt with once it runs.
pub fn group<H: GroupHost>(
    config: GroupConfig,
    host: H,
    app: H::App,
) -> (Group<H>, GroupHandle<H::Input>) {
    let (sender, commands) = mpsc::unbounded_channel();
    let join_after = config.join_after.clone();
    let shared = Arc::new(Shared {
        driver: Mutex::new(Driver::new(config, host, app)),
        commands: sender,
        command_count: AtomicUsize::new(0),
        changed: Notify::new(),
        status: Mutex::new(None),
    });
    let handle = GroupHandle(Arc::clone(&shared) as Arc<dyn Port<H::Input>>);
    (Group::new(shared, commands, join_after), handle)
}
