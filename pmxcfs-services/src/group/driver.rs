//! A member of a group, without anything that waits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pmxcfs_api_types::FsError;
use pmxcfs_api_types::time::wall_clock_secs;
use pmxcfs_dfsm::app::Application;
use pmxcfs_dfsm::core::{Action, Actions, Event, LogLevel, Machine, Mode, Now};

use super::{GroupConfig, GroupHost, GroupStatus};
use crate::corosync::{CorosyncError, Cpg, CpgEvent, SendError};
use crate::quorum::QuorumMonitor;

/// Time between two looks at the clock while nothing happens.
const TICK: Duration = Duration::from_secs(1);

/// The same while corosync asks to try again.
const BLOCKED_TICK: Duration = Duration::from_millis(5);

/// How long a request may wait for the group to be joined, on a node that is quorate. A rejoin takes a fraction of this.
const HOLD: Duration = Duration::from_secs(5);

/// What the task has to wait for.
#[derive(Debug, Clone)]
pub(super) struct Waits {
    pub(super) connection: Option<Arc<Cpg>>,
    /// When to connect and join.
    pub(super) join_at: Option<Instant>,
    pub(super) tick_at: Instant,
}

/// A protocol machine with its connection and its host.
pub(super) struct Driver<H: GroupHost> {
    config: GroupConfig,
    host: H,
    machine: Machine<H::App>,
    waits: Waits,
    /// What the task waits for is not what it was when the task last asked.
    has_changed: bool,
    /// Requests that wait for the group to be joined, with the time at which they stop waiting.
    held: VecDeque<(Instant, H::Input)>,
    is_running: bool,
    is_quorate: bool,
    /// Corosync asked to try again.
    is_blocked: bool,
    /// A failed connection was logged; the next one that succeeds ends the silence.
    is_failure_told: bool,
}

type EventOf<H> = Event<<<H as GroupHost>::App as Application>::Request>;
type ActionsOf<H> = Actions<<<H as GroupHost>::App as Application>::Notice>;

impl<H: GroupHost> Driver<H> {
    pub(super) fn new(config: GroupConfig, host: H, app: H::App) -> Self {
        Self {
            config,
            host,
            machine: Machine::new(app),
            waits: Waits {
                connection: None,
                join_at: None,
                tick_at: Instant::now(),
            },
            has_changed: false,
            held: VecDeque::new(),
            is_running: false,
            is_quorate: false,
            is_blocked: false,
            is_failure_told: false,
        }
    }

    pub(super) const fn name(&self) -> &'static str {
        self.config.name
    }

    pub(super) const fn quorum(&self) -> &QuorumMonitor {
        &self.config.quorum
    }

    /// Whether requests may be handed in.
    pub(super) const fn is_running(&self) -> bool {
        self.is_running
    }

    pub(super) fn start(&mut self) {
        self.is_running = true;
    }

    /// The group may be joined from now on.
    pub(super) fn join_now(&mut self) {
        self.waits.join_at = Some(Instant::now());
    }

    /// The task connects: it need not be told again.
    pub(super) fn connecting(&mut self) {
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
            joining_count: self.held.len(),
        }
    }

    pub(super) fn mode(&self) -> Mode {
        self.machine.mode()
    }

    fn now(&self) -> Now {
        let monotonic_ms = self.config.started.elapsed().as_millis();
        Now {
            monotonic_ms: u64::try_from(monotonic_ms).unwrap_or(u64::MAX),
            wall_secs: wall_clock_secs(),
        }
    }
}

/// What happens to it.
impl<H: GroupHost> Driver<H> {
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
        self.host.disconnected(self.machine.app_mut());
    }

    pub(super) fn deliver(&mut self, from: &Arc<Cpg>, events: Vec<CpgEvent>) {
        self.note_quorum();
        for event in events {
            // What comes from a connection that was left is nobody's any more.
            let is_present = self.waits.connection.as_ref();
            if is_present.is_none_or(|present| !Arc::ptr_eq(present, from)) {
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

    pub(super) fn note_quorum(&mut self) {
        let is_quorate = self.config.quorum.drain();
        if is_quorate != self.is_quorate {
            self.is_quorate = is_quorate;
            self.handle(Event::Quorum(is_quorate));
        }
    }

    pub(super) fn mended(&mut self) {
        self.handle(Event::Mended);
    }

    pub(super) fn tick(&mut self) {
        self.handle(Event::Tick);
        let pause = if self.is_blocked { BLOCKED_TICK } else { TICK };
        self.waits.tick_at = Instant::now() + pause;
    }

    pub(super) fn submit(&mut self, input: H::Input) {
        if self.held.is_empty() && !self.is_joining() {
            self.request(input);
        } else {
            self.held.push_back((Instant::now() + HOLD, input));
        }
    }

    /// Tells a caller that nothing will be done.
    pub(super) fn refuse(&mut self, input: H::Input) {
        self.host.refuse(input, FsError::Io);
    }

    /// Leaves the group and answers everybody.
    pub(super) fn stop(&mut self) {
        self.is_running = false;
        self.handle(Event::Disconnected);
        self.waits.join_at = None;
        self.leave();
        while let Some((_, input)) = self.held.pop_front() {
            self.refuse(input);
        }
    }

    /// Ends what came in together: replies go out. Says whether the task has to look again at what it waits for.
    pub(super) fn settle(&mut self) -> bool {
        self.release_held();
        self.host.settle(self.machine.app_mut());
        self.has_changed
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
                self.refuse(input);
            } else {
                self.request(input);
            }
        }
    }
}

/// What it does.
impl<H: GroupHost> Driver<H> {
    fn handle(&mut self, event: EventOf<H>) {
        let mut actions = Actions::new();
        self.machine.handle(self.now(), event, &mut actions);
        while let Some(refused) = self.carry_out(&mut actions) {
            self.machine.handle(self.now(), refused, &mut actions);
        }
    }

    /// Carries out actions in their order. Messages that corosync did not take come back as an event.
    fn carry_out(&mut self, actions: &mut ActionsOf<H>) -> Option<EventOf<H>> {
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
                    self.waits.join_at = Some(Instant::now() + delay);
                    self.has_changed = true;
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

    /// A message above libcpg's limit is cut there, with a round trip for each piece: other tasks are let go on meanwhile.
    fn send(&self, message: &[u8]) -> Result<(), SendError> {
        let Some(connection) = &self.waits.connection else {
            return Err(SendError::Blocked);
        };
        if message.len() > connection.max_atomic_size() {
            tokio::task::block_in_place(|| connection.send(message))
        } else {
            connection.send(message)
        }
    }

    fn leave(&mut self) {
        // The task wakes up and lets go of it, too.
        self.has_changed |= self.waits.connection.take().is_some();
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
