//! A member of a group, without anything that waits.
//!
//! All decisions of the protocol are in [`Machine`]; the driver knows the connection: it looks at the quorum before it
//! delivers, gives messages that corosync refuses back in order, and has a new connection for each join.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pmxcfs_api_types::time::{millis, wall_clock_secs};
use pmxcfs_dfsm::app::Application;
use pmxcfs_dfsm::core::{Action, Event, LogLevel, Machine, Mode, Now, Status};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;

use crate::corosync::{CorosyncError, Cpg, SendError};
use crate::framework::ServiceState;
use crate::quorum::QuorumMonitor;

/// Time between two looks at the clock while nothing happens.
const TICK: Duration = Duration::from_secs(1);

/// The same while corosync asks to try again.
const BLOCKED_TICK: Duration = Duration::from_millis(5);

/// Most commands that are carried out before deliveries are looked at again.
const COMMAND_BATCH: usize = 64;

/// Settings of a group.
#[derive(Clone)]
pub struct GroupConfig {
    /// Name of the service for operators.
    pub name: &'static str,
    /// Name of the group, without the NUL that belongs to it.
    pub group: &'static str,
    /// Word that log lines begin with.
    pub domain: &'static str,
    /// Moment that monotonic times count from.
    pub started: Instant,
    /// Where the quorum is known.
    pub quorum: QuorumMonitor,
    /// A service that is to work before the group is joined; each attempt waits at most 5 s for it.
    pub join_after: watch::Receiver<ServiceState>,
}

/// A group as an observer sees it.
#[derive(Debug, Clone)]
pub struct GroupStatus {
    /// The state of the protocol's core.
    pub machine: Status,
    /// The moment of which all this is true. It is long ago only if the group's task is held up.
    pub at: Instant,
    /// Whether there is a connection to corosync.
    pub is_connected: bool,
    /// Whether corosync asks to send no more for now.
    pub is_blocked: bool,
}

/// A command to a group.
pub(super) enum Command<R> {
    Submit(R),
    Mended,
}

/// The things that the task waits for.
#[derive(Clone)]
pub(super) struct Waits {
    pub(super) connection: Option<Arc<Cpg>>,
    /// When to connect and join.
    pub(super) join_at: Option<Instant>,
    pub(super) tick_at: Instant,
}

/// A protocol machine with its connection and its queue.
pub(super) struct Driver<A: Application> {
    config: GroupConfig,
    machine: Machine<A>,
    commands: UnboundedReceiver<Command<A::Request>>,
    waits: Waits,
    /// The task must ask again for the things that it waits for.
    has_changed: bool,
    /// Corosync asked to try again.
    is_blocked: bool,
    /// A failed connection was logged; the next one that succeeds ends the silence.
    is_failure_told: bool,
}

impl<A: Application> Driver<A> {
    pub(super) fn new(
        config: GroupConfig,
        app: A,
        commands: UnboundedReceiver<Command<A::Request>>,
    ) -> Self {
        Self {
            config,
            machine: Machine::new(app),
            commands,
            waits: Waits {
                connection: None,
                join_at: None,
                tick_at: Instant::now(),
            },
            has_changed: false,
            is_blocked: false,
            is_failure_told: false,
        }
    }

    /// The group may be joined from now on.
    pub(super) fn join_now(&mut self) {
        self.waits.join_at = Some(Instant::now());
    }

    /// The task connects: it need not be told again.
    pub(super) const fn connecting(&mut self) {
        self.waits.join_at = None;
    }

    pub(super) fn waits(&mut self) -> Waits {
        self.has_changed = false;
        self.waits.clone()
    }

    pub(super) fn status(&self) -> GroupStatus {
        GroupStatus {
            machine: self.machine.status(),
            at: Instant::now(),
            is_connected: self.waits.connection.is_some(),
            is_blocked: self.is_blocked,
        }
    }

    pub(super) fn mode(&self) -> Mode {
        self.machine.mode()
    }

    fn now(&self) -> Now {
        Now {
            monotonic_ms: millis(self.config.started.elapsed()),
            wall_secs: wall_clock_secs(),
        }
    }
}

/// Events.
impl<A: Application> Driver<A> {
    pub(super) fn connected(&mut self, connection: Cpg) {
        if std::mem::take(&mut self.is_failure_told) {
            tracing::info!(group = self.config.domain, "connected to corosync");
        }
        let local = connection.local();
        self.waits.connection = Some(Arc::new(connection));
        self.handle(Event::Connected { local });
    }

    pub(super) fn connect_failed(&mut self, error: &CorosyncError) {
        if !std::mem::replace(&mut self.is_failure_told, true) {
            tracing::warn!(group = self.config.domain, %error, "can't initialize service, trying again");
        }
        self.handle(Event::ConnectFailed);
    }

    pub(super) fn disconnected(&mut self, error: &CorosyncError) {
        tracing::debug!(group = self.config.domain, %error, "connection lost");
        self.waits.connection = None;
        self.handle(Event::Disconnected);
    }

    pub(super) fn deliver(&mut self, from: &Arc<Cpg>, events: Vec<Event>) {
        self.note_quorum();
        for event in events {
            // This member has left the group on that connection.
            let is_present = self.waits.connection.as_ref();
            if is_present.is_none_or(|present| !Arc::ptr_eq(present, from)) {
                break;
            }
            self.handle(event);
        }
    }

    pub(super) fn note_quorum(&mut self) {
        let view = self.config.quorum.drain();
        self.handle(Event::Quorum(view));
    }

    pub(super) fn tick(&mut self) {
        self.handle(Event::Tick);
        let pause = if self.is_blocked { BLOCKED_TICK } else { TICK };
        self.waits.tick_at = Instant::now() + pause;
    }

    /// Leaves the group and answers all callers. The queue takes no more commands, and is given back with those left in it.
    pub(super) fn stop(&mut self) -> UnboundedReceiver<Command<A::Request>> {
        self.handle(Event::Stop);
        self.flush();
        self.waits.join_at = None;
        self.commands.close();
        let (_closed, nothing) = tokio::sync::mpsc::unbounded_channel();
        std::mem::replace(&mut self.commands, nothing)
    }

    /// Carries out the commands that have come meanwhile, and ends the batch: replies go out. Says whether the
    /// task has to look again: there are more commands, or other things to wait for.
    pub(super) fn end_batch(&mut self) -> bool {
        if self.has_commands() {
            // Callers that waited for the quorum may be awake before the task.
            self.handle(Event::Quorum(self.config.quorum.view()));
        }
        for _ in 0..COMMAND_BATCH {
            match self.commands.try_recv() {
                Ok(Command::Submit(request)) => self.request(request),
                Ok(Command::Mended) => self.handle(Event::Mended),
                Err(_) => break,
            }
        }
        self.flush();
        self.has_changed || self.has_commands()
    }

    pub(super) fn has_commands(&self) -> bool {
        !self.commands.is_empty()
    }
}

/// Actions.
impl<A: Application> Driver<A> {
    fn handle(&mut self, event: Event) {
        let actions = self.machine.handle(self.now(), event);
        self.carry_out(actions);
    }

    fn flush(&mut self) {
        let actions = self.machine.settle();
        self.carry_out(actions);
        self.machine.flush();
    }

    fn request(&mut self, request: A::Request) {
        let actions = self.machine.request(self.now(), request);
        self.carry_out(actions);
    }

    /// Carries out actions in their order. Messages that corosync does not take go back as an event, which leads to more actions.
    fn carry_out(&mut self, mut actions: Vec<Action>) {
        while let Some(refused) = self.try_all(actions) {
            actions = self.machine.handle(self.now(), refused);
        }
    }

    fn try_all(&mut self, actions: Vec<Action>) -> Option<Event> {
        let mut refusal = None;
        let mut unsent = Vec::new();
        for action in actions {
            match action {
                Action::Multicast(message) if refusal.is_some() => unsent.push(message),
                Action::Multicast(message) => match self.send(&message) {
                    Ok(()) => self.is_blocked = false,
                    Err(error) => {
                        refusal = Some(error);
                        unsent.push(message);
                    }
                },
                // The task wakes up and lets go of it, too.
                Action::Leave => self.has_changed |= self.waits.connection.take().is_some(),
                Action::Join { delay_ms } => {
                    let delay = Duration::from_millis(delay_ms);
                    self.waits.join_at = Some(Instant::now() + delay);
                    self.has_changed = true;
                }
                Action::Log { level, text } => self.log(level, &text),
            }
        }
        match refusal? {
            SendError::Blocked => {
                self.is_blocked = true;
                let soon = Instant::now() + BLOCKED_TICK;
                if soon < self.waits.tick_at {
                    self.waits.tick_at = soon;
                    self.has_changed = true;
                }
                Some(Event::SendBlocked { unsent })
            }
            SendError::Failed(error) => {
                tracing::warn!(group = self.config.domain, %error, "unable to send to the cluster");
                Some(Event::SendFailed { unsent })
            }
        }
    }

    fn send(&self, message: &[u8]) -> Result<(), SendError> {
        let connection = self.waits.connection.as_ref();
        connection.ok_or(SendError::Blocked)?.send(message)
    }

    fn log(&self, level: LogLevel, text: &str) {
        let group = self.config.domain;
        match level {
            LogLevel::Error => tracing::error!(group, "{text}"),
            LogLevel::Warn => tracing::warn!(group, "{text}"),
            LogLevel::Info => tracing::info!(group, "{text}"),
        }
    }
}
