//! Every mode with every event: the mode that follows and what is done.

use bytes::Bytes;
use pmxcfs_dfsm::{
    core::{Action, Event, Machine, MemberId, Mode, Now, QuorumView, RequestId},
    database::{Database, wire::OperationMessage},
    wire::{Epoch, Header, MessageKind, NormalMessage, StateMessage},
};
use pmxcfs_memdb::{Operation, RootState, Rules, Stamp, Tree};

use super::sim::disk::Disk;

type Subject = Machine<Database<Disk>>;

const SELF: MemberId = MemberId { node: 1, pid: 10 };
const PEER: MemberId = MemberId { node: 2, pid: 20 };
const STRANGER: MemberId = MemberId { node: 3, pid: 30 };
const MODES: [Mode; 7] = [
    Mode::Start,
    Mode::StartSync,
    Mode::Synced,
    Mode::Update,
    Mode::Leave,
    Mode::VersionError,
    Mode::Error,
];

fn now(ms: u64) -> Now {
    Now {
        monotonic_ms: 1_000_000 + ms,
        wall_secs: 5000,
    }
}

fn feed(subject: &mut Subject, ms: u64, event: Event) -> Vec<Action> {
    let mut actions = subject.handle(now(ms), event);
    actions.extend(subject.settle());
    subject.flush();
    actions
}

fn ask(subject: &mut Subject, ms: u64) -> Vec<Action> {
    let operation = Operation::Mkdir {
        path: Bytes::from_static(b"wanted"),
    };
    let request = subject
        .app()
        .store()
        .answers
        .client(RequestId(1), operation);
    let mut actions = subject.request(now(ms), request);
    actions.extend(subject.settle());
    subject.flush();
    actions
}

fn tree() -> Tree {
    let root = RootState {
        version: 1,
        writer: 0,
        mtime: 4000,
    };
    Tree::from_entries(root, [], Rules::Replicated, 0).unwrap()
}

/// The state of a member that has made one change more.
fn newer_state() -> Bytes {
    let mut tree = tree();
    let operation = Operation::Mkdir {
        path: Bytes::from_static(b"newer"),
    };
    let stamp = Stamp {
        writer: 2,
        mtime: 4500,
    };
    tree.apply(&operation, stamp, 0, &mut Vec::new()).unwrap();
    tree.index().bytes().clone()
}

fn delivered(sender: MemberId, message: Bytes) -> Event {
    Event::Delivered { sender, message }
}

fn membership(members: &[MemberId], has_joined: bool) -> Event {
    Event::Membership {
        members: members.to_vec(),
        has_joined,
    }
}

fn state(kind: MessageKind, epoch: Epoch, payload: Bytes) -> Bytes {
    StateMessage::new(kind, 1, 5000, epoch, payload).encode()
}

fn write(protocol: u32) -> Bytes {
    let operation = Operation::Mkdir {
        path: Bytes::from_static(b"dir"),
    };
    let payload = OperationMessage::new(&operation).unwrap().encode();
    NormalMessage::new(protocol, 2, 4999, 7, payload).encode()
}

/// A member in a mode, and the epoch that it is in.
fn subject(mode: Mode) -> (Subject, Epoch) {
    let mut subject = Machine::new(Database::new(Disk::new(tree()), Box::new(drop)));
    let mut epoch = Epoch::default();
    feed(
        &mut subject,
        0,
        Event::Quorum(QuorumView::default().followed_by(true, [])),
    );
    feed(&mut subject, 0, Event::Connected { local: SELF });
    if mode != Mode::Start {
        let actions = feed(&mut subject, 0, membership(&[SELF, PEER], true));
        let [.., Action::Multicast(start)] = &actions[..] else {
            panic!("the lowest member starts the synchronisation");
        };
        epoch = StateMessage::decode(start).unwrap().epoch;
        feed(&mut subject, 0, delivered(SELF, start.clone()));
    }
    let own = tree().index().bytes().clone();
    let finish = |subject: &mut Subject, theirs: Bytes| {
        feed(
            subject,
            0,
            delivered(SELF, state(MessageKind::State, epoch, own.clone())),
        );
        feed(
            subject,
            0,
            delivered(PEER, state(MessageKind::State, epoch, theirs)),
        );
    };
    match mode {
        Mode::Start | Mode::StartSync => {}
        Mode::Synced => finish(&mut subject, own.clone()),
        Mode::Update => finish(&mut subject, newer_state()),
        Mode::Leave => drop(feed(&mut subject, 0, membership(&[PEER], false))),
        Mode::VersionError => drop(feed(&mut subject, 0, delivered(PEER, write(2)))),
        Mode::Error => {
            finish(&mut subject, own.clone());
            subject.app_mut().store_mut().is_failed = true;
            feed(&mut subject, 0, delivered(PEER, write(1)));
        }
    }
    assert_eq!(subject.mode(), mode);
    (subject, epoch)
}

/// All events, and `None` for a request.
fn events(epoch: Epoch) -> Vec<(&'static str, Option<Event>)> {
    let other = Epoch {
        number: 77,
        ..epoch
    };
    let of_peer = |kind, payload| delivered(PEER, state(kind, epoch, payload));
    let none = Bytes::new;
    let own = tree().index().bytes().clone();
    let id = || Bytes::from(1u64.to_le_bytes().to_vec());
    let verify = Bytes::from([1u64.to_le_bytes().to_vec(), vec![0; 32]].concat());
    let start = state(MessageKind::SyncStart, epoch, none());
    vec![
        ("connected", Some(Event::Connected { local: SELF })),
        ("connect failed", Some(Event::ConnectFailed)),
        ("disconnected", Some(Event::Disconnected)),
        ("alone", Some(membership(&[SELF], false))),
        ("peer joined", Some(membership(&[SELF, PEER], true))),
        ("third left", Some(membership(&[SELF, PEER], false))),
        ("not in the list", Some(membership(&[PEER], false))),
        ("write of member", Some(delivered(PEER, write(1)))),
        ("write of stranger", Some(delivered(STRANGER, write(1)))),
        ("newer protocol", Some(delivered(PEER, write(2)))),
        ("older protocol", Some(delivered(PEER, write(0)))),
        (
            "short message",
            Some(delivered(PEER, Bytes::from_static(b"short"))),
        ),
        ("sync start", Some(of_peer(MessageKind::SyncStart, none()))),
        (
            "sync start, other epoch",
            Some(delivered(
                PEER,
                state(MessageKind::SyncStart, other, none()),
            )),
        ),
        ("state", Some(of_peer(MessageKind::State, own.clone()))),
        (
            "state, other epoch",
            Some(delivered(PEER, state(MessageKind::State, other, own))),
        ),
        (
            "state of stranger",
            Some(delivered(
                STRANGER,
                state(MessageKind::State, epoch, none()),
            )),
        ),
        ("bad update", Some(of_peer(MessageKind::Update, none()))),
        (
            "update complete",
            Some(of_peer(MessageKind::UpdateComplete, none())),
        ),
        (
            "verify request",
            Some(of_peer(MessageKind::VerifyRequest, id())),
        ),
        (
            "verify request, long",
            Some(of_peer(MessageKind::VerifyRequest, verify.clone())),
        ),
        ("verify", Some(of_peer(MessageKind::Verify, verify))),
        ("verify, short", Some(of_peer(MessageKind::Verify, id()))),
        (
            "unknown kind",
            Some(of_peer(MessageKind::Unknown(7), none())),
        ),
        ("request", None),
        (
            "send blocked",
            Some(Event::SendBlocked {
                unsent: vec![start.clone()],
            }),
        ),
        (
            "send failed",
            Some(Event::SendFailed {
                unsent: vec![start],
            }),
        ),
        (
            "quorum lost",
            Some(Event::Quorum(QuorumView::default().followed_by(false, []))),
        ),
        ("mended", Some(Event::Mended)),
        ("tick", Some(Event::Tick)),
        ("tick after an hour", Some(Event::Tick)),
    ]
}

fn describe(action: &Action) -> Option<String> {
    Some(match action {
        Action::Multicast(message) => {
            format!("send {:?}", Header::decode(message).unwrap().kind)
        }
        Action::Leave => "leave".to_owned(),
        Action::Join { .. } => "join later".to_owned(),
        Action::Log { .. } => return None,
    })
}

pub(crate) fn print() -> String {
    let mut lines = vec![
        "event, then for each mode the next mode and what is done; -- changes nothing".to_owned(),
    ];
    for (index, (name, _)) in events(Epoch::default()).iter().enumerate() {
        lines.push(format!("\n{name}"));
        for mode in MODES {
            let (mut subject, epoch) = subject(mode);
            let event = events(epoch).swap_remove(index).1;
            let ms = if name.ends_with("hour") {
                3_600_000
            } else {
                1000
            };
            let actions = match event {
                Some(event) => feed(&mut subject, ms, event),
                None => ask(&mut subject, ms),
            };
            let answers = subject.app().store().answers.take().into_iter();
            let answers = answers.map(|(_, result)| match result {
                Ok(value) => format!("answer {value}"),
                Err(error) => format!("answer {error}"),
            });
            let done = actions.iter().filter_map(describe).chain(answers);
            let done: Vec<String> = done.collect();
            let next = match subject.mode() {
                next if next == mode && done.is_empty() => "--".to_owned(),
                next => format!("{next:?}"),
            };
            let line = format!(
                "  {:<13} {next:<13} {}",
                format!("{mode:?}"),
                done.join(", ")
            );
            lines.push(line.trim_end().to_owned());
        }
    }
    lines.join("\n") + "\n"
}
