//! The database group of a recording.

use std::collections::BTreeSet;

use bytes::Bytes;
use pmxcfs_dfsm::{
    core::{Machine, RequestId},
    database::{
        Database, TreeStore,
        wire::{OperationKind, OperationMessage, UNLOCK_REQUEST, UpdateMessage},
    },
    wire::{MessageKind, NormalMessage, StateMessage},
};
use pmxcfs_memdb::store::Ticket;
use pmxcfs_memdb::{
    Caller, Change, Delivered, Entry, Index, Operation, ROOT_INODE, Reply, RootState, Rules, Stamp,
    Tree,
};

use super::{
    client::Answers,
    player::{Group, Player},
    recording::{Recording, Seen},
};

/// A tree that is kept nowhere.
pub(crate) struct Memory(Tree);

impl TreeStore for Memory {
    fn read<R>(&self, call: impl FnOnce(&Tree) -> R) -> R {
        call(&self.0)
    }

    fn change<R>(
        &mut self,
        call: impl FnOnce(&mut Tree, &mut Vec<Change>) -> R,
    ) -> (R, Option<Ticket>) {
        (call(&mut self.0, &mut Vec::new()), None)
    }

    fn deliver(
        &mut self,
        operation: &Operation,
        stamp: Stamp,
        now_secs: u64,
        _caller: Option<Box<dyn Caller>>,
    ) -> Delivered {
        let result = self.0.apply(operation, stamp, now_secs, &mut Vec::new());
        Delivered {
            result,
            answer: None,
        }
    }

    fn acknowledge(&mut self, _ticket: Option<Ticket>, reply: Reply) {
        reply(Ok(()));
    }

    fn replace(
        &mut self,
        mut tree: Tree,
        _touched: &BTreeSet<u64>,
        _leader: u32,
    ) -> Result<(), String> {
        tree.adopt(&mut self.0);
        self.0 = tree;
        Ok(())
    }

    fn is_failed(&self) -> bool {
        false
    }
}

struct DatabaseGroup {
    /// `corosync.conf` as each node imported it.
    imported: Entry,
}

impl Group for DatabaseGroup {
    type App = Database<Memory>;

    fn start(
        &mut self,
        former: Option<Machine<Self::App>>,
        ahead: &[(f64, Seen)],
    ) -> Machine<Self::App> {
        let tree = match former {
            Some(machine) => reloaded(&machine.app().store().0),
            None => self.fresh(ahead),
        };
        Machine::new(Database::new(Memory(tree), Box::new(drop)))
    }

    fn prepare(&mut self, _machine: &mut Machine<Self::App>, _reactions: &[Bytes]) {}

    fn request(
        &mut self,
        _machine: &mut Machine<Self::App>,
        message: &Bytes,
        ahead: &[(f64, Seen)],
    ) -> Option<Box<dyn Caller>> {
        let message = NormalMessage::decode(message).unwrap();
        if message.header.subtype == UNLOCK_REQUEST {
            // Sent by setting the mtime to 0, whose own message follows.
            return ahead.iter().find_map(|(_, event)| match event {
                Seen::Sent { message, .. } => operation(&NormalMessage::decode(message).unwrap()),
                _ => None,
            });
        }
        operation(&message)
    }

    fn normalise(&self, message: &Bytes) -> Bytes {
        message.clone()
    }
}

impl DatabaseGroup {
    /// A database just made: `corosync.conf`, at the time that the first state tells.
    fn fresh(&self, ahead: &[(f64, Seen)]) -> Tree {
        let first = ahead.iter().find_map(|(_, event)| match event {
            Seen::Sent { message, .. } => {
                let message = StateMessage::decode(message).unwrap();
                let is_state = message.header.kind == MessageKind::State;
                is_state.then(|| Index::decode(&message.payload).unwrap())
            }
            _ => None,
        });
        let told = first.filter(|index| index.root().version == 3);
        let mtime = told.map_or(self.imported.mtime, |index| index.root().mtime);
        let entry = Entry {
            mtime,
            ..self.imported.clone()
        };
        let root = RootState {
            version: 3,
            writer: 0,
            mtime,
        };
        Tree::from_entries(root, [entry], Rules::Replicated, 0).unwrap()
    }
}

fn operation(message: &NormalMessage) -> Option<Box<dyn Caller>> {
    let kind = OperationKind::try_from(message.header.subtype).ok()?;
    let message = OperationMessage::decode(kind, &message.payload).ok()?;
    let operation = message.operation().ok()?;
    Some(Answers::default().client(RequestId(0), operation))
}

fn reloaded(tree: &Tree) -> Tree {
    let entries = tree
        .entries()
        .filter(|entry| entry.inode != ROOT_INODE)
        .cloned();
    Tree::from_entries(tree.root(), entries.collect::<Vec<_>>(), tree.rules(), 0).unwrap()
}

fn rows(tree: &Tree) -> Vec<String> {
    let row = |entry: &Entry| {
        let Entry {
            inode,
            parent,
            version,
            writer,
            mtime,
            ..
        } = entry;
        if *inode == ROOT_INODE {
            return format!("0|0|{version}|{writer}|{mtime}|__version__|");
        }
        let name = String::from_utf8_lossy(&entry.name);
        let size = if entry.is_directory() {
            String::new()
        } else {
            entry.size.to_string()
        };
        let kind = entry.kind as u8;
        format!("{inode}|{parent}|{version}|{writer}|{mtime}|{kind}|{name}|{size}")
    };
    tree.entries().map(row).collect()
}

/// The type of the version row tells whether it came with a sync; the tree does not keep that.
fn without_root_type(row: &str) -> String {
    let fields: Vec<&str> = row.split('|').collect();
    if fields[0] != "0" {
        return row.to_owned();
    }
    [&fields[..5], &fields[6..]].concat().join("|")
}

pub(crate) fn replay(recording: &Recording) -> Vec<&'static str> {
    let events = recording.group("pve_dcdb_v1");
    let imported = recording.all_messages().iter().find_map(|message| {
        let message = StateMessage::decode(message).ok()?;
        let is_update = message.header.kind == MessageKind::Update;
        let entry = UpdateMessage::decode(&message.payload).ok()?.entry;
        (is_update && entry.inode == 2 && entry.version == 3).then_some(entry)
    });
    let imported = imported.expect("some node was sent the first entry");
    let mut group = DatabaseGroup { imported };
    let mut player = Player::new(&mut group, recording.node);
    let machine = player.run(&events);
    if let Some(recorded) = recording.rows() {
        let recorded: Vec<String> = recorded.iter().map(|row| without_root_type(row)).collect();
        assert_eq!(rows(&machine.app().store().0), recorded);
    }
    player.deviations
}
