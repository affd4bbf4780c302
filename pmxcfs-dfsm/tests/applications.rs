//! The database's application: each test shows one rule of how it sends, applies, refuses and tells.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may fail by a panic, and uses a part of the simulation"
)]

#[path = "sim/client.rs"]
mod client;
#[path = "sim/disk.rs"]
mod disk;
mod support;

use std::sync::mpsc::{Receiver, channel};

use bytes::Bytes;
use disk::Disk;
use pmxcfs_api_types::FsError;
use pmxcfs_dfsm::{
    core::{Action, Event, Machine, MemberId, Mode, Now, QuorumView, RequestId},
    database::{
        Database, DatabaseNotice,
        wire::{LockMessage, OperationMessage, UNLOCK, UNLOCK_REQUEST, UpdateMessage},
    },
    wire::{Header, MessageKind, NormalMessage, StateMessage},
};
use pmxcfs_memdb::{Operation, ROOT_INODE, RootState, Rules, Stamp, Tree};
use support::{manifest, read, vectors};

const SELF: MemberId = MemberId { node: 1, pid: 10 };
const PEER: MemberId = MemberId { node: 2, pid: 20 };

struct Subject {
    machine: Machine<Database<Disk>>,
    notices: Receiver<DatabaseNotice>,
    ms: u64,
    count: u64,
}

fn path(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn mkdir(text: &str) -> Operation {
    Operation::Mkdir { path: path(text) }
}

impl Subject {
    /// A member alone, synced and quorate.
    fn new() -> Self {
        let root = RootState {
            version: 1,
            writer: 0,
            mtime: 4000,
        };
        let tree = Tree::from_entries(root, [], Rules::Replicated, 0).unwrap();
        let (notice, notices) = channel();
        let sink = Box::new(move |told| notice.send(told).unwrap());
        let machine = Machine::new(Database::new(Disk::new(tree), sink));
        let mut subject = Self {
            machine,
            notices,
            ms: 0,
            count: 0,
        };
        subject.feed(Event::Quorum(QuorumView::default().followed_by(true, [])));
        subject.feed(Event::Connected { local: SELF });
        let members = vec![SELF];
        subject.feed(Event::Membership {
            members,
            has_joined: true,
        });
        subject
    }

    fn now(&self) -> Now {
        Now {
            monotonic_ms: self.ms,
            wall_secs: 5000 + (self.ms / 1000) as u32,
        }
    }

    fn feed(&mut self, event: Event) -> Vec<Action> {
        let mut actions = self.machine.handle(self.now(), event);
        actions.extend(self.machine.settle());
        self.machine.flush();
        actions
    }

    fn request(&mut self, operation: Operation) -> Vec<Action> {
        self.count += 1;
        let answers = &self.machine.app().store().answers;
        let caller = answers.client(RequestId(self.count), operation);
        let mut actions = self.machine.request(self.now(), caller);
        actions.extend(self.machine.settle());
        self.machine.flush();
        actions
    }

    fn answers(&self) -> Vec<(RequestId, Result<u32, FsError>)> {
        self.machine.app().store().answers.take()
    }

    fn notices(&self) -> Vec<DatabaseNotice> {
        self.notices.try_iter().collect()
    }

    fn deliver(&mut self, sender: MemberId, message: Bytes) -> Vec<Action> {
        self.feed(Event::Delivered { sender, message })
    }

    /// Asks, and delivers what is sent until nothing is.
    fn result(&mut self, operation: Operation) -> Result<u32, FsError> {
        let actions = self.request(operation);
        let mut waiting = std::collections::VecDeque::from(actions);
        while let Some(action) = waiting.pop_front() {
            if let Action::Multicast(message) = action {
                waiting.extend(self.deliver(SELF, message));
            }
        }
        let answers = self.answers();
        let [(id, result)] = answers[..] else {
            panic!("answered {} times", answers.len());
        };
        assert_eq!(id, RequestId(self.count));
        result
    }

    fn tree(&self) -> &Tree {
        &self.machine.app().store().tree
    }
}

fn sent(actions: &[Action]) -> Vec<Bytes> {
    let messages = actions.iter().filter_map(|action| match action {
        Action::Multicast(message) => Some(message.clone()),
        _ => None,
    });
    messages.collect()
}

fn normal_of(sender_count: u64, operation: &Operation) -> Bytes {
    let message = OperationMessage::new(operation).unwrap();
    let payload = message.encode();
    NormalMessage::new(1, message.kind as u16, 4999, sender_count, payload).encode()
}

#[test]
fn writer_and_mtime_come_from_the_message() {
    let mut subject = Subject::new();
    subject.deliver(PEER, normal_of(1, &mkdir("theirs")));
    let entry = subject.tree().lookup(b"theirs").unwrap();
    assert_eq!((entry.writer, entry.mtime), (2, 4999));
}

#[test]
fn the_same_count_of_another_process_answers_nothing() {
    let mut subject = Subject::new();
    let actions = subject.request(mkdir("own"));
    let own = sent(&actions).remove(0);
    for sender in [
        PEER,
        MemberId { node: 1, pid: 11 },
        MemberId { node: 2, pid: 10 },
    ] {
        subject.deliver(sender, normal_of(1, &mkdir("theirs")));
        assert_eq!(subject.answers(), []);
    }
    subject.deliver(SELF, own.clone());
    assert_eq!(subject.answers(), [(RequestId(1), Ok(0))]);
    subject.deliver(SELF, own);
    assert_eq!(subject.answers(), []);
}

#[test]
fn growing_an_empty_file_is_sent_as_zeros_and_answered_once() {
    let mut subject = Subject::new();
    assert_eq!(subject.result(Operation::Create { path: path("f") }), Ok(0));
    let grow = Operation::Write {
        path: path("f"),
        offset: 300_000,
        data: Bytes::new(),
        truncate: true,
    };
    assert!(subject.result(grow).is_ok());
    let entry = subject.tree().lookup(b"f").unwrap();
    assert_eq!(entry.data.len(), 300_000);
    assert!(entry.data.iter().all(|byte| *byte == 0));
}

#[test]
fn a_write_without_quorum_is_refused_before_it_is_sent() {
    let mut subject = Subject::new();
    subject.feed(Event::Quorum(QuorumView::default().followed_by(false, [])));
    assert_eq!(subject.result(mkdir("x")), Err(FsError::Access));
    let actions = subject.deliver(PEER, normal_of(1, &mkdir("theirs")));
    assert!(
        actions.contains(&Action::Leave),
        "others may have applied it"
    );
    assert_eq!(subject.machine.mode(), Mode::Leave);
    assert!(subject.tree().lookup(b"theirs").is_none());
}

#[test]
fn corosync_conf_is_told_to_all_and_reloaded_by_the_sender_only() {
    let mut subject = Subject::new();
    let create = Operation::Create {
        path: path("corosync.conf"),
    };
    subject.result(create.clone()).unwrap();
    let own = DatabaseNotice::CorosyncConf { reload: true };
    assert_eq!(subject.notices(), [own]);
    let write = Operation::Write {
        path: path("corosync.conf"),
        offset: 0,
        data: path("config_version: 2"),
        truncate: false,
    };
    subject.deliver(PEER, normal_of(1, &write));
    let theirs = DatabaseNotice::CorosyncConf { reload: false };
    assert_eq!(subject.notices(), [theirs]);
    assert_eq!(subject.result(create), Err(FsError::Exists));
    let other = Operation::Create {
        path: path("corosync.conf.new"),
    };
    subject.result(other).unwrap();
    assert_eq!(subject.notices(), []);
}

#[test]
fn an_expired_lock_is_removed_by_the_decision_of_the_lowest_member() {
    let mut subject = Subject::new();
    for directory in ["priv", "priv/lock", "priv/lock/x"] {
        assert_eq!(subject.result(mkdir(directory)), Ok(0));
    }
    let unlock = Operation::SetMtime {
        path: path("priv/lock/x"),
        mtime: 0,
    };
    subject.ms += 120_000;
    assert_eq!(subject.result(unlock.clone()), Err(FsError::Access));
    assert!(
        subject.tree().lookup(b"priv/lock/x").is_some(),
        "120 s are not too old"
    );
    subject.ms += 1_000;
    let actions = subject.request(unlock);
    let messages = sent(&actions);
    let numbers: Vec<u16> = messages
        .iter()
        .map(|message| Header::decode(message).unwrap().subtype)
        .collect();
    assert_eq!(numbers, [UNLOCK_REQUEST, 6]);
    let decision = sent(&subject.deliver(SELF, messages[0].clone()));
    assert_eq!(Header::decode(&decision[0]).unwrap().subtype, UNLOCK);
    subject.deliver(SELF, messages[1].clone());
    subject.deliver(SELF, decision[0].clone());
    assert!(subject.tree().lookup(b"priv/lock/x").is_none());
}

#[test]
fn a_decision_about_another_state_of_the_lock_does_nothing() {
    let mut subject = Subject::new();
    for directory in ["priv", "priv/lock", "priv/lock/x"] {
        subject.result(mkdir(directory)).unwrap();
    }
    let wrong = LockMessage {
        checksum: [7; 32],
        path: path("priv/lock/x"),
    };
    let message = NormalMessage::new(1, UNLOCK, 1, 1, wrong.encode()).encode();
    subject.deliver(PEER, message);
    assert!(subject.tree().lookup(b"priv/lock/x").is_some());
}

/// None of them changes the tree, and none takes this member out of service.
#[test]
fn malformed_writes_are_survived() {
    for entry in manifest("dcdb/malformed/manifest.json") {
        if entry["group"] != "pve_dcdb_v1" {
            continue;
        }
        let name = entry["file"].as_str().unwrap();
        let message = Bytes::from(read(&vectors().join("dcdb/malformed").join(name)));
        let mut subject = Subject::new();
        subject.result(mkdir("qq")).unwrap();
        let before = subject.tree().snapshot().checksum();
        subject.deliver(PEER, message);
        assert_eq!(subject.tree().snapshot().checksum(), before, "{name}");
        assert_eq!(subject.machine.mode(), Mode::Synced, "{name}");
        assert_eq!(subject.result(mkdir("after")), Ok(0), "{name}");
    }
}

/// Brings a follower to the point where the leader's updates are expected; gives the epoch's template message.
fn follow(subject: &mut Subject, leader: &Tree) -> StateMessage {
    let members = vec![SELF, PEER];
    let actions = subject.feed(Event::Membership {
        members,
        has_joined: true,
    });
    let start = sent(&actions).remove(0);
    let state = sent(&subject.deliver(SELF, start)).remove(0);
    let template = StateMessage::decode(&state).unwrap();
    subject.deliver(SELF, state);
    let theirs = StateMessage {
        payload: leader.index().bytes().clone(),
        ..template.clone()
    };
    subject.deliver(PEER, theirs.encode());
    assert_eq!(subject.machine.mode(), Mode::Update);
    template
}

fn leader_tree() -> Tree {
    let root = RootState {
        version: 1,
        writer: 0,
        mtime: 4000,
    };
    let mut tree = Tree::from_entries(root, [], Rules::Replicated, 0).unwrap();
    let stamp = Stamp {
        writer: 2,
        mtime: 4100,
    };
    for name in ["a", "b", "c"] {
        tree.apply(&mkdir(name), stamp, 0, &mut Vec::new()).unwrap();
    }
    tree
}

fn update(template: &StateMessage, kind: MessageKind, payload: Bytes) -> Bytes {
    StateMessage::new(kind, 1, 5000, template.epoch, payload).encode()
}

#[test]
fn a_follower_takes_what_it_lacks_and_removes_what_the_leader_lacks() {
    let mut subject = Subject::new();
    subject.result(mkdir("mine")).unwrap();
    let leader = leader_tree();
    let template = follow(&mut subject, &leader);
    for entry in leader.entries() {
        let payload = UpdateMessage {
            entry: entry.clone(),
        }
        .encode();
        subject.deliver(PEER, update(&template, MessageKind::Update, payload));
    }
    let done = update(&template, MessageKind::UpdateComplete, Bytes::new());
    subject.deliver(PEER, done);
    assert_eq!(subject.machine.mode(), Mode::Synced);
    assert_eq!(
        subject.tree().snapshot().checksum(),
        leader.snapshot().checksum()
    );
    assert_eq!(discarded(&subject), ["mine"], "what is lost is told");
}

/// Paths that the only notice names.
fn discarded(subject: &Subject) -> Vec<String> {
    let notices = subject.notices();
    let [DatabaseNotice::Replaced { discarded }] = &notices[..] else {
        panic!("{notices:?}");
    };
    let paths = discarded.iter().map(|lost| lost.path.to_vec());
    paths.map(|path| String::from_utf8(path).unwrap()).collect()
}

#[test]
fn an_entry_whose_content_the_leader_has_at_its_path_is_not_lost() {
    let write = |path: &str, data: &'static [u8]| Operation::Write {
        path: Bytes::copy_from_slice(path.as_bytes()),
        offset: 0,
        data: Bytes::from_static(data),
        truncate: false,
    };
    let create = |path: &str| Operation::Create {
        path: Bytes::copy_from_slice(path.as_bytes()),
    };
    let root = RootState {
        version: 1,
        writer: 0,
        mtime: 4000,
    };
    let mut leader = Tree::from_entries(root, [], Rules::Replicated, 0).unwrap();
    let stamp = Stamp {
        writer: 2,
        mtime: 4100,
    };
    let theirs = [
        create("same"),
        write("same", b"bytes"),
        mkdir("d"),
        create("d/same"),
        write("d/same", b"bytes"),
        create("d/other"),
        write("d/other", b"theirs"),
        mkdir("more"),
    ];
    for operation in theirs {
        leader.apply(&operation, stamp, 0, &mut Vec::new()).unwrap();
    }
    // The inodes of the first two are the leader's, the others' are not.
    let mut subject = Subject::new();
    let ours = [
        create("same"),
        write("same", b"bytes"),
        mkdir("d"),
        create("d/other"),
        write("d/other", b"ours"),
        create("d/same"),
        write("d/same", b"bytes"),
    ];
    for operation in ours {
        subject.result(operation).unwrap();
    }
    let template = follow(&mut subject, &leader);
    for entry in leader.entries().cloned() {
        let payload = UpdateMessage { entry }.encode();
        subject.deliver(PEER, update(&template, MessageKind::Update, payload));
    }
    let done = update(&template, MessageKind::UpdateComplete, Bytes::new());
    subject.deliver(PEER, done);
    assert_eq!(
        subject.tree().snapshot().checksum(),
        leader.snapshot().checksum()
    );
    assert_eq!(discarded(&subject), ["d/other"]);
}

#[test]
fn a_request_waits_for_the_group_to_be_joined_for_some_seconds() {
    let mut subject = Subject::new();
    subject.feed(Event::Disconnected);
    assert!(sent(&subject.request(mkdir("soon"))).is_empty());
    subject.ms += 4_000;
    assert!(sent(&subject.request(mkdir("sooner"))).is_empty());
    assert_eq!(subject.answers(), []);
    subject.ms += 1_000;
    subject.feed(Event::Tick);
    assert_eq!(subject.answers(), [(RequestId(1), Err(FsError::Io))]);
    subject.feed(Event::Connected { local: SELF });
    let members = vec![SELF];
    let actions = subject.feed(Event::Membership {
        members,
        has_joined: true,
    });
    for message in sent(&actions) {
        subject.deliver(SELF, message);
    }
    assert_eq!(subject.answers(), [(RequestId(2), Ok(0))]);
    assert!(subject.tree().lookup(b"soon").is_none());
}

#[test]
fn whoever_waits_is_told_when_the_group_is_given_up() {
    let mut subject = Subject::new();
    subject.request(mkdir("sent"));
    subject.feed(Event::Stop);
    assert_eq!(subject.answers(), [(RequestId(1), Err(FsError::Busy))]);
    let mut subject = Subject::new();
    subject.feed(Event::Disconnected);
    subject.request(mkdir("held"));
    subject.feed(Event::Stop);
    assert_eq!(subject.answers(), [(RequestId(1), Err(FsError::Io))]);
}

#[test]
fn updates_that_do_not_lead_to_the_leaders_data_change_nothing_and_end_in_staying_out() {
    let mut subject = Subject::new();
    subject.result(mkdir("mine")).unwrap();
    let before = subject.tree().snapshot().checksum();
    let leader = leader_tree();
    for attempt in 1..=3 {
        let template = follow(&mut subject, &leader);
        let root = leader.entry(ROOT_INODE).unwrap().clone();
        let payload = UpdateMessage { entry: root }.encode();
        subject.deliver(PEER, update(&template, MessageKind::Update, payload));
        let done = update(&template, MessageKind::UpdateComplete, Bytes::new());
        subject.deliver(PEER, done);
        assert_eq!(subject.tree().snapshot().checksum(), before);
        if attempt < 3 {
            assert_eq!(subject.machine.mode(), Mode::Leave);
            subject.feed(Event::Connected { local: SELF });
        }
    }
    assert_eq!(subject.machine.mode(), Mode::Error);
    assert_eq!(subject.result(mkdir("x")), Err(FsError::Io));
}
