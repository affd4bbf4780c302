//! The driver of a replication group: one task that owns a connection to corosync and a protocol machine.
//!
//! It turns readiness, requests and time into events, and carries out actions in their order. The protocol's decisions are all
//! in [`Machine`]; what is here is about the connection: that quorum is looked at before anything is delivered, that what
//! corosync refuses is given back in order, that each join has a connection of its own, and that nothing waits while
//! corosync does.
//!
//! Callers hand in whatever they want done through a [`GroupHandle`] and do not wait. The [`GroupHost`] keeps them until
//! they are answered.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pmxcfs_api_types::FsError;
use pmxcfs_api_types::time::wall_clock_secs;
use pmxcfs_dfsm::app::Application;
use pmxcfs_dfsm::core::{Action, Actions, Event, LogLevel, Machine, Mode, Now, RequestId, Status};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::corosync::{CorosyncError, Cpg, CpgEvent, SendError};
use crate::framework::{Context, Failure, Service, ServiceState};
use crate::quorum::QuorumMonitor;

/// Time between two looks at the clock while nothing happens.
const TICK: Duration = Duration::from_secs(1);

/// The same while corosync asks to try again.
const BLOCKED_TICK: Duration = Duration::from_millis(5);

/// How long a request may wait for the group to be joined, on a node that is quorate. A rejoin takes a fraction of this.
const HOLD: Duration = Duration::from_secs(5);

/// Most requests that are taken in before deliveries are looked at again.
const REQUEST_BATCH: usize = 64;

/// Attempts to join on a connection that corosync is not ready to let join, and the time between them.
const JOIN_ATTEMPTS: u32 = 50;
const JOIN_PAUSE: Duration = Duration::from_millis(20);

/// Who the driver works for. All methods are called from the driver's task and must not wait.
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

/// What reaches the driver from other threads.
#[derive(Debug)]
enum Command<I> {
    Submit(I),
    Mended,
}

/// Hands requests to a group. Cheap to clone; usable from any thread.
#[derive(Debug)]
pub struct GroupHandle<I> {
    commands: mpsc::UnboundedSender<Command<I>>,
    status: Arc<Mutex<Option<Status>>>,
}

impl<I> Clone for GroupHandle<I> {
    fn clone(&self) -> Self {
        Self {
            commands: self.commands.clone(),
            status: Arc::clone(&self.status),
        }
    }
}

impl<I> GroupHandle<I> {
    /// Hands something in. Order is kept.
    ///
    /// # Errors
    /// Gives it back if the driver has ended.
    pub fn submit(&self, input: I) -> Result<(), I> {
        match self.commands.send(Command::Submit(input)) {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendError(Command::Submit(input))) => Err(input),
            Err(_) => Ok(()),
        }
    }

    /// What made this member give up was mended.
    pub fn mended(&self) {
        // A driver that has ended needs to know nothing.
        let _sent = self.commands.send(Command::Mended);
    }

    /// Mode, members and queues as they were at the last change, or about a second ago. `None` before the driver runs.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.status.lock().clone()
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

/// A group, ready to be run.
pub struct Group<H: GroupHost> {
    config: GroupConfig,
    host: H,
    machine: Machine<H::App>,
    commands: mpsc::UnboundedReceiver<Command<H::Input>>,
    connection: Option<Cpg>,
    connecting: Option<JoinHandle<Result<Cpg, CorosyncError>>>,
    /// When to connect and join.
    join_at: Option<tokio::time::Instant>,
    /// Requests that wait for the group to be joined, with the time at which they stop waiting.
    held: VecDeque<(Instant, H::Input)>,
    is_quorate: bool,
    /// Corosync asked to try again.
    is_blocked: bool,
    next_tick: tokio::time::Instant,
    status: Arc<Mutex<Option<Status>>>,
    /// A failed connection was logged; the next one that succeeds ends the silence.
    is_failure_told: bool,
}

impl<H: GroupHost> std::fmt::Debug for Group<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group")
            .field("name", &self.config.name)
            .field("mode", &self.machine.mode())
            .finish_non_exhaustive()
    }
}

/// Makes a driver and the handle to it. Requests are taken from now on, and dealt with once it runs.
pub fn group<H: GroupHost>(
    config: GroupConfig,
    host: H,
    app: H::App,
) -> (Group<H>, GroupHandle<H::Input>) {
    let (sender, commands) = mpsc::unbounded_channel();
    let status = Arc::new(Mutex::new(None));
    let handle = GroupHandle {
        commands: sender,
        status: Arc::clone(&status),
    };
    let join_at = config.join_after.is_none().then(tokio::time::Instant::now);
    let group = Group {
        config,
        host,
        machine: Machine::new(app),
        commands,
        connection: None,
        connecting: None,
        join_at,
        held: VecDeque::new(),
        is_quorate: false,
        is_blocked: false,
        next_tick: tokio::time::Instant::now(),
        status,
        is_failure_told: false,
    };
    (group, handle)
}

impl<H: GroupHost> Service for Group<H> {
    const NAME: &'static str = H::NAME;

    /// Leaves the group and answers everybody at its end. Connections that are lost or refused are its own business.
    async fn run(&mut self, context: &mut Context) -> Result<(), Failure> {
        context.ready();
        self.drive(context).await;
        Ok(())
    }
}

/// Why the driver woke up.
enum Wake<I> {
    Stop,
    MayJoin,
    Received(Result<Vec<CpgEvent>, CorosyncError>),
    Command(Command<I>),
    Quorum,
    Connected(Result<Cpg, CorosyncError>),
    JoinDue,
    Tick,
}

impl<H: GroupHost> Group<H> {
    async fn drive(&mut self, context: &mut Context) {
        let mut quorum = self.config.quorum.subscribe();
        self.publish();
        loop {
            match self.wait(context, &mut quorum).await {
                Wake::Stop => break,
                Wake::MayJoin => {
                    self.config.join_after = None;
                    self.join_at = Some(tokio::time::Instant::now());
                }
                Wake::Received(Ok(events)) => self.deliver(events),
                Wake::Received(Err(error)) => self.disconnect(&error),
                Wake::Command(command) => self.take_command(command),
                Wake::Quorum => self.note_quorum(),
                Wake::Connected(Ok(connection)) => self.connected(connection),
                Wake::Connected(Err(error)) => self.connect_failed(&error),
                Wake::JoinDue => self.connect(),
                Wake::Tick => self.tick(),
            }
            self.release_held();
            self.take_commands();
            self.host.settle(self.machine.app_mut());
            self.publish_change();
        }
        self.stop();
    }

    async fn wait(
        &mut self,
        context: &mut Context,
        quorum: &mut watch::Receiver<bool>,
    ) -> Wake<H::Input> {
        let next_tick = self.next_tick;
        let join_at = self.join_at;
        tokio::select! {
            biased;
            () = context.stopped() => Wake::Stop,
            () = has_worked(self.config.join_after.as_mut()) => Wake::MayJoin,
            received = receive(self.connection.as_ref()) => Wake::Received(received),
            Ok(()) = quorum.changed() => Wake::Quorum,
            connected = connected(&mut self.connecting) => Wake::Connected(connected),
            Some(command) = self.commands.recv() => Wake::Command(command),
            () = at(join_at) => Wake::JoinDue,
            () = tokio::time::sleep_until(next_tick) => Wake::Tick,
        }
    }

    fn now(&self) -> Now {
        let monotonic_ms = self.config.started.elapsed().as_millis();
        Now {
            monotonic_ms: u64::try_from(monotonic_ms).unwrap_or(u64::MAX),
            wall_secs: wall_clock_secs(),
        }
    }

    fn handle(&mut self, event: Event<<H::App as Application>::Request>) {
        let mut actions = Actions::new();
        self.machine.handle(self.now(), event, &mut actions);
        while let Some(refused) = self.carry_out(&mut actions) {
            self.machine.handle(self.now(), refused, &mut actions);
        }
    }

    /// Carries out actions in their order. Messages that corosync did not take come back as an event.
    fn carry_out(
        &mut self,
        actions: &mut Actions<<H::App as Application>::Notice>,
    ) -> Option<Event<<H::App as Application>::Request>> {
        let mut refusal = None;
        let mut unsent = Vec::new();
        for action in actions.take() {
            match action {
                Action::Multicast(message) if refusal.is_some() => unsent.push(message),
                Action::Multicast(message) => match self.send(&message) {
                    Ok(()) => self.is_blocked = false,
                    Err(error) => {
                        refusal = Some(error);
                        unsent.push(message);
                    }
                },
                Action::Leave => self.leave(),
                Action::Join { delay_ms } => {
                    let delay = Duration::from_millis(delay_ms);
                    self.join_at = Some(tokio::time::Instant::now() + delay);
                }
                Action::Answer { id, result } => {
                    self.host.answer(id, result, self.machine.app_mut());
                }
                Action::Notice(notice) => self.host.notice(notice, self.machine.app_mut()),
                Action::Log { level, text } => self.log(level, &text),
            }
        }
        match refusal? {
            SendError::Blocked => {
                self.is_blocked = true;
                self.next_tick = self
                    .next_tick
                    .min(tokio::time::Instant::now() + BLOCKED_TICK);
                Some(Event::SendBlocked { unsent })
            }
            SendError::Failed(error) => {
                tracing::warn!(group = self.config.domain, %error, "unable to send to the cluster");
                Some(Event::SendFailed { unsent })
            }
        }
    }

    /// A message above libcpg's limit is cut there, with a round trip for each piece: other tasks are let go on meanwhile.
    fn send(&self, message: &[u8]) -> Result<(), SendError> {
        let Some(connection) = &self.connection else {
            return Err(SendError::Blocked);
        };
        if message.len() > connection.max_atomic_size() {
            tokio::task::block_in_place(|| connection.send(message))
        } else {
            connection.send(message)
        }
    }

    fn deliver(&mut self, events: Vec<CpgEvent>) {
        self.note_quorum();
        for event in events {
            // What follows on a connection that was just left is nobody's any more.
            if self.connection.is_none() {
                break;
            }
            self.handle(match event {
                CpgEvent::Membership {
                    members,
                    has_joined,
                } => Event::Membership {
                    members,
                    has_joined,
                },
                CpgEvent::Delivered { sender, message } => Event::Delivered { sender, message },
            });
        }
    }

    fn note_quorum(&mut self) {
        let is_quorate = self.config.quorum.drain();
        if is_quorate != self.is_quorate {
            self.is_quorate = is_quorate;
            self.handle(Event::Quorum(is_quorate));
        }
    }

    /// What callers have handed in meanwhile: deliveries that come one after the other must not keep it waiting.
    fn take_commands(&mut self) {
        for _ in 0..REQUEST_BATCH {
            match self.commands.try_recv() {
                Ok(command) => self.take_command(command),
                Err(_) => break,
            }
        }
    }

    fn take_command(&mut self, command: Command<H::Input>) {
        match command {
            Command::Submit(input) if self.held.is_empty() && !self.is_joining() => {
                self.request(input);
            }
            Command::Submit(input) => self.held.push_back((Instant::now() + HOLD, input)),
            Command::Mended => self.handle(Event::Mended),
        }
    }

    fn request(&mut self, input: H::Input) {
        if let Some((id, request)) = self.host.accept(input, self.machine.app_mut()) {
            self.handle(Event::Request { id, request });
        }
    }

    /// Whether a request would only fail because the group is just being joined.
    fn is_joining(&self) -> bool {
        H::App::NEEDS_QUORUM
            && self.is_quorate
            && matches!(self.machine.mode(), Mode::Start | Mode::Leave)
    }

    fn release_held(&mut self) {
        while let Some((until, _)) = self.held.front() {
            let is_over = *until <= Instant::now();
            if self.is_joining() && !is_over {
                return;
            }
            let Some((_, input)) = self.held.pop_front() else {
                return;
            };
            if self.is_joining() {
                self.host.refuse(input, FsError::Io);
            } else {
                self.request(input);
            }
        }
    }

    fn connect(&mut self) {
        self.join_at = None;
        if self.connecting.is_some() {
            return;
        }
        self.connecting = Some(tokio::spawn(connect_and_join(self.config.name)));
    }

    fn connected(&mut self, connection: Cpg) {
        if std::mem::take(&mut self.is_failure_told) {
            tracing::info!(group = self.config.domain, "connected to corosync");
        }
        let local = connection.local();
        self.connection = Some(connection);
        self.handle(Event::Connected { local });
    }

    fn connect_failed(&mut self, error: &CorosyncError) {
        if !std::mem::replace(&mut self.is_failure_told, true) {
            tracing::warn!(group = self.config.domain, %error, "can't initialize service, trying again");
        }
        self.handle(Event::ConnectFailed);
    }

    fn disconnect(&mut self, error: &CorosyncError) {
        tracing::debug!(group = self.config.domain, %error, "connection lost");
        self.connection = None;
        self.handle(Event::Disconnected);
        self.host.disconnected(self.machine.app_mut());
    }

    fn leave(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.leave();
        }
    }

    fn tick(&mut self) {
        self.handle(Event::Tick);
        let pause = if self.is_blocked { BLOCKED_TICK } else { TICK };
        self.next_tick = tokio::time::Instant::now() + pause;
        self.publish();
    }

    fn stop(&mut self) {
        self.handle(Event::Disconnected);
        self.join_at = None;
        self.leave();
        self.commands.close();
        while let Some((_, input)) = self.held.pop_front() {
            self.host.refuse(input, FsError::Io);
        }
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Submit(input) = command {
                self.host.refuse(input, FsError::Io);
            }
        }
        self.host.settle(self.machine.app_mut());
        self.publish();
    }

    fn publish_change(&self) {
        let published = self.status.lock().as_ref().map(|status| status.mode);
        if published != Some(self.machine.mode()) {
            self.publish();
        }
    }

    fn publish(&self) {
        *self.status.lock() = Some(self.machine.status());
    }

    fn log(&self, level: LogLevel, text: &str) {
        let group = self.config.domain;
        match level {
            LogLevel::Error => tracing::error!(group, "{text}"),
            LogLevel::Warn => tracing::warn!(group, "{text}"),
            LogLevel::Info => tracing::info!(group, "{text}"),
            LogLevel::Debug => tracing::debug!(group, "{text}"),
        }
    }
}

/// Both calls wait for an answer of corosync. It can be busy right after a membership change.
async fn connect_and_join(group: &'static str) -> Result<Cpg, CorosyncError> {
    let connection = tokio::task::spawn_blocking(Cpg::connect).await;
    let connection =
        connection.map_err(|_panicked| CorosyncError::from_panic("cpg_model_initialize"))??;
    let mut attempt = 1;
    loop {
        match tokio::task::block_in_place(|| connection.join(group)) {
            Err(error) if error.is_try_again() && attempt < JOIN_ATTEMPTS => {
                tokio::time::sleep(JOIN_PAUSE).await;
                attempt += 1;
            }
            Err(error) => return Err(error),
            Ok(()) => return Ok(connection),
        }
    }
}

async fn has_worked(service: Option<&mut watch::Receiver<ServiceState>>) {
    match service {
        // A service that is gone will not work any more: go on without.
        Some(state) => drop(state.wait_for(ServiceState::is_running).await),
        None => pending().await,
    }
}

async fn receive(connection: Option<&Cpg>) -> Result<Vec<CpgEvent>, CorosyncError> {
    match connection {
        Some(connection) => connection.receive().await,
        None => pending().await,
    }
}

async fn connected(
    connecting: &mut Option<JoinHandle<Result<Cpg, CorosyncError>>>,
) -> Result<Cpg, CorosyncError> {
    let Some(task) = connecting else {
        return pending().await;
    };
    let result = task.await;
    *connecting = None;
    match result {
        Ok(result) => result,
        Err(_panicked) => Err(CorosyncError::from_panic("connecting")),
    }
}

async fn at(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => pending().await,
    }
}
