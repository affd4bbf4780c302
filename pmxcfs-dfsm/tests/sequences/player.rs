//! Feeds one group of a recording to a machine and compares what both sent.

use bytes::Bytes;
use pmxcfs_dfsm::{
    app::Application,
    core::{Action, Event, Machine, MemberId, Mode, Now, QuorumView},
    wire::{Header, MessageKind, NormalMessage},
};

use super::recording::Seen;

/// What a group adds to the replay.
pub(crate) trait Group {
    type App: Application;

    /// A machine for a process that starts now, on what the process before left. `ahead` are its events.
    fn start(
        &mut self,
        former: Option<Machine<Self::App>>,
        ahead: &[(f64, Seen)],
    ) -> Machine<Self::App>;

    /// What the application needs to know before an event: data that other parts of the daemon would make.
    fn prepare(&mut self, machine: &mut Machine<Self::App>, reactions: &[Bytes]);

    /// The request that made the daemon send a message, unless the message was injected.
    fn request(
        &mut self,
        machine: &mut Machine<Self::App>,
        message: &Bytes,
        ahead: &[(f64, Seen)],
    ) -> Option<<Self::App as Application>::Request>;

    /// A message without bytes that mean nothing.
    fn normalise(&self, message: &Bytes) -> Bytes;
}

pub(crate) struct Player<'a, G: Group> {
    pub(crate) group: &'a mut G,
    machine: Option<Machine<G::App>>,
    node: u32,
    pid: u32,
    /// Sent by the machine, not yet found in the recording.
    sent: Vec<Bytes>,
    /// Recorded messages with what the machine sent in their place.
    replaced: Vec<(Bytes, Bytes)>,
    /// Recorded messages that the machine sends only when it is synced.
    held: Vec<NormalMessage>,
    /// Own messages of the recording so far.
    recorded: Vec<Bytes>,
    wall_secs: u32,
    ms: u64,
    pub(crate) deviations: Vec<&'static str>,
}

impl<'a, G: Group> Player<'a, G> {
    pub(crate) fn new(group: &'a mut G, node: u32) -> Self {
        Self {
            group,
            machine: None,
            node,
            pid: 0,
            sent: Vec::new(),
            replaced: Vec::new(),
            held: Vec::new(),
            recorded: Vec::new(),
            wall_secs: 0,
            ms: 0,
            deviations: Vec::new(),
        }
    }

    pub(crate) fn run(&mut self, events: &[(f64, Seen)]) -> Machine<G::App> {
        for (index, (time, event)) in events.iter().enumerate() {
            let ahead = &events[index + 1..];
            self.step(*time, event, ahead);
        }
        self.drop_late();
        let left: Vec<MessageKind> = self.sent.drain(..).map(|sent| kind(&sent)).collect();
        match &left[..] {
            [] => {}
            [MessageKind::UpdateComplete] => {
                self.deviations.push("killed before it ended its update");
            }
            _ => panic!("sent and not recorded: {left:?}"),
        }
        self.machine.take().unwrap()
    }

    fn step(&mut self, time: f64, event: &Seen, ahead: &[(f64, Seen)]) {
        let is_input = !matches!(event, Seen::Sent { .. });
        if is_input {
            self.drop_late();
            assert!(
                self.sent.is_empty(),
                "at {time}: sent and not recorded: {:?}",
                self.sent
            );
            let reactions = reactions(ahead);
            self.set_time(time, reactions.first());
            if let Some(machine) = &mut self.machine {
                self.group.prepare(machine, &reactions);
            }
        }
        match event {
            Seen::Join => self.join(ahead),
            Seen::Leave => self.leave(ahead),
            Seen::Lost => self.feed(Event::Disconnected),
            Seen::Membership {
                members,
                has_joined,
            } => self.feed(Event::Membership {
                members: members.clone(),
                has_joined: *has_joined,
            }),
            Seen::Delivered { sender, message } => {
                let own = self
                    .replaced
                    .iter()
                    .find(|(recorded, _)| recorded == message);
                let message = match own {
                    Some((_, replacement)) if sender.node == self.node => replacement.clone(),
                    _ => message.clone(),
                };
                self.feed(Event::Delivered {
                    sender: *sender,
                    message,
                });
            }
            Seen::Sent {
                message,
                is_blocked,
            } => self.compare(message, *is_blocked, ahead),
        }
    }

    /// Monotonic time follows the wall clock, also where the recording shifts that.
    fn set_time(&mut self, time: f64, reaction: Option<&Bytes>) {
        let stamp = reaction.map(|message| Header::decode(message).unwrap().time_secs);
        self.wall_secs = stamp.unwrap_or(time as u32);
        let ms = ((time * 1000.0) as u64).max(u64::from(self.wall_secs) * 1000);
        self.ms = self.ms.max(ms);
    }

    fn join(&mut self, ahead: &[(f64, Seen)]) {
        let pid = own_pid(self.node, ahead);
        if pid != self.pid {
            self.pid = pid;
            let former = self.machine.take();
            self.machine = Some(self.group.start(former, ahead));
            self.feed(Event::Quorum(QuorumView::default().followed_by(true, [])));
        }
        let local = MemberId {
            node: self.node,
            pid,
        };
        self.feed(Event::Connected { local });
    }

    fn leave(&mut self, ahead: &[(f64, Seen)]) {
        // After a leave the old membership may still be told.
        let rejoin = ahead
            .iter()
            .position(|(_, event)| matches!(event, Seen::Join));
        let is_stop = rejoin.is_none_or(|index| own_pid(self.node, &ahead[index..]) != self.pid);
        let machine = self.machine.as_ref().unwrap();
        let is_lost = machine.mode() == Mode::Start;
        if is_stop || is_lost || machine.mode().is_error() {
            return;
        }
        self.deviations.push("stays in the group");
        self.feed(Event::Disconnected);
    }

    fn feed(&mut self, event: Event) {
        self.drive(|machine, now| machine.handle(now, event));
    }

    fn drive(&mut self, call: impl FnOnce(&mut Machine<G::App>, Now) -> Vec<Action>) {
        let now = Now {
            monotonic_ms: self.ms,
            wall_secs: self.wall_secs,
        };
        let machine = self.machine.as_mut().unwrap();
        let mut actions = call(machine, now);
        actions.extend(machine.settle());
        machine.flush();
        for action in actions {
            match action {
                Action::Multicast(message) => self.sent.push(message),
                Action::Log { text, .. } => eprintln!("    {text}"),
                _ => {}
            }
        }
    }

    fn compare(&mut self, recorded: &Bytes, is_blocked: bool, ahead: &[(f64, Seen)]) {
        let is_repeated = self.recorded.contains(recorded);
        self.recorded.push(recorded.clone());
        if self.find(recorded).is_none() {
            if is_repeated {
                return self.deviations.push("does not send a write again");
            }
            let waiting_count = self.waiting_count();
            self.provoke(recorded, ahead);
            if self.waiting_count() > waiting_count && self.sent.is_empty() {
                self.held.push(NormalMessage::decode(recorded).unwrap());
                return self.deviations.push("holds a write until it is synced");
            }
        }
        if is_blocked {
            let unsent = std::mem::take(&mut self.sent);
            self.feed(Event::SendBlocked { unsent });
            self.ms += 150;
            return self.feed(Event::Tick);
        }
        let kind = Header::decode(recorded).unwrap().kind;
        if let Some(index) = self.find(recorded) {
            let skipped = &self.sent[..index];
            let is_update =
                |message: &Bytes| Header::decode(message).unwrap().kind == MessageKind::Update;
            assert!(
                kind == MessageKind::Normal || skipped.iter().all(is_update),
                "{kind:?} was sent before {skipped:?}"
            );
            let own = self.sent.remove(index);
            self.replaced.push((recorded.clone(), own));
        } else if kind == MessageKind::State && self.sent.len() == 1 {
            self.deviations.push("other state");
            self.replaced.push((recorded.clone(), self.sent.remove(0)));
        } else if kind == MessageKind::Normal && self.sent.is_empty() {
            // Injected: no daemon sends it by itself.
        } else {
            panic!("recorded {recorded:?}, sent {:?}", self.sent);
        }
    }

    fn waiting_count(&self) -> usize {
        self.machine.as_ref().unwrap().status().pending_count
    }

    /// What was held is in the recording already, at another place.
    fn drop_late(&mut self) {
        let held = &mut self.held;
        self.sent.retain(|sent| {
            let Ok(sent) = NormalMessage::decode(sent) else {
                return true;
            };
            let is_same = |held: &NormalMessage| {
                sent.header.kind == MessageKind::Normal
                    && (held.count, &held.payload) == (sent.count, &sent.payload)
            };
            let place = held.iter().position(is_same);
            place.map(|index| held.remove(index)).is_none()
        });
    }

    fn find(&self, recorded: &Bytes) -> Option<usize> {
        let wanted = self.group.normalise(recorded);
        self.sent
            .iter()
            .position(|sent| self.group.normalise(sent) == wanted)
    }

    /// Does what made the daemon send this, since no event of the group did.
    fn provoke(&mut self, recorded: &Bytes, ahead: &[(f64, Seen)]) {
        let header = Header::decode(recorded).unwrap();
        self.wall_secs = header.time_secs;
        self.ms = self.ms.max(u64::from(self.wall_secs) * 1000);
        match header.kind {
            MessageKind::VerifyRequest => {
                self.ms += 3_600_000;
                self.feed(Event::Tick);
            }
            MessageKind::Normal => {
                let machine = self.machine.as_mut().unwrap();
                if let Some(request) = self.group.request(machine, recorded, ahead) {
                    self.drive(|machine, now| machine.request(now, request));
                }
            }
            _ => {}
        }
    }
}

/// What the daemon sent before the next event of the group.
fn reactions(ahead: &[(f64, Seen)]) -> Vec<Bytes> {
    let sent = ahead.iter().map_while(|(_, event)| match event {
        Seen::Sent { message, .. } => Some(message.clone()),
        _ => None,
    });
    sent.collect()
}

/// Process id of this node in the next membership that has it.
fn own_pid(node: u32, ahead: &[(f64, Seen)]) -> u32 {
    let pids = ahead.iter().filter_map(|(_, event)| match event {
        Seen::Membership { members, .. } => members.iter().find(|member| member.node == node),
        _ => None,
    });
    pids.map(|member| member.pid).next().unwrap()
}

fn kind(message: &Bytes) -> MessageKind {
    Header::decode(message).unwrap().kind
}
