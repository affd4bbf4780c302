//! The database group of the modelled daemon.

use std::collections::BTreeMap;

use bytes::Bytes;
use pmxcfs_api_types::FsError;
use pmxcfs_dfsm::{
    core::MemberId,
    database::{
        TreeStore,
        wire::{
            LockMessage, OperationKind, OperationMessage, UNLOCK, UNLOCK_REQUEST, UpdateMessage,
        },
    },
    wire::MessageKind,
};
use pmxcfs_memdb::{Digest, Entry, Index, Operation, ROOT_INODE, RootState, Rules, Stamp, Tree};

use super::{AppMessage, Decision, PeerApp, Verdict};
use crate::sim::{disk::Disk, probe::digest};

#[derive(Debug)]
pub(crate) struct CDatabase {
    pub(crate) disk: Disk,
    /// What was announced, and what the leader announced.
    announced: Option<Index>,
    leader: Option<Bytes>,
    updates: BTreeMap<u64, Entry>,
}

impl CDatabase {
    pub(crate) const fn new(disk: Disk) -> Self {
        Self {
            disk,
            announced: None,
            leader: None,
            updates: BTreeMap::new(),
        }
    }

    fn operate(&mut self, operation: &Operation, message: &AppMessage<'_>) -> Result<u32, FsError> {
        if self.disk.is_failed {
            return Err(FsError::Io);
        }
        let stamp = Stamp {
            writer: message.sender.node,
            mtime: message.time_secs,
        };
        let now_secs = message.now.monotonic_ms / 1000;
        let result = self
            .disk
            .change(|tree, changes| tree.apply(operation, stamp, now_secs, changes))
            .0;
        if self.disk.is_failed {
            return Err(FsError::Io);
        }
        result
    }

    fn unlock(&mut self, message: &AppMessage<'_>, outgoing: &mut Vec<(u16, Bytes)>) {
        let Ok(LockMessage { checksum, path }) = LockMessage::decode(message.payload) else {
            return;
        };
        let tree = &mut self.disk.tree;
        let is_lock = tree.is_lock_directory(&path);
        let entry = tree.lookup(&path).filter(|_| is_lock);
        if entry.is_none_or(|entry| entry.checksum() != checksum) {
            return;
        }
        let now_secs = message.now.monotonic_ms / 1000;
        if message.subtype == UNLOCK {
            let _ignored = self.operate(&Operation::Delete { path }, message);
        } else if message.is_lowest && tree.lock_expired(&path, &checksum, now_secs) {
            outgoing.push((UNLOCK, LockMessage { checksum, path }.encode()));
        }
    }

    /// The new tree. All ages of locks start anew.
    fn build(&self, now_secs: u64) -> Option<Tree> {
        let leader_state = self.leader.as_ref()?;
        let leader = Index::decode(leader_state).ok()?;
        let removed: Vec<u64> = self.announced.as_ref()?.absent_from(&leader).collect();
        let tree = &self.disk.tree;
        let kept = tree.entries().filter(|entry| {
            !removed.contains(&entry.inode) && !self.updates.contains_key(&entry.inode)
        });
        let all = kept.chain(self.updates.values()).cloned();
        let entries: Vec<Entry> = all.filter(|entry| entry.inode != ROOT_INODE).collect();
        let root = self
            .updates
            .get(&ROOT_INODE)
            .map_or(tree.root(), |root| RootState {
                version: root.version,
                writer: root.writer,
                mtime: root.mtime,
            });
        let tree = Tree::from_entries(root, entries, Rules::Replicated, now_secs).ok()?;
        (tree.index().bytes() == leader_state).then_some(tree)
    }
}

impl PeerApp for CDatabase {
    type Request = Operation;

    const PROTOCOL: u32 = 1;
    const IS_VERIFIED: bool = true;
    const NEEDS_QUORUM: bool = true;

    fn messages(&mut self, operation: Operation) -> (Vec<(u16, Bytes)>, bool) {
        let mut messages = Vec::new();
        if let Operation::SetMtime { path, mtime: 0 } = &operation
            && self.disk.tree.is_lock_directory(path)
            && let Some(entry) = self.disk.tree.lookup(path)
        {
            let request = LockMessage {
                checksum: entry.checksum(),
                path: path.clone(),
            };
            messages.push((UNLOCK_REQUEST, request.encode()));
        }
        let message = OperationMessage::new(&operation).expect("offsets are small here");
        messages.push((message.kind as u16, message.encode()));
        (messages, true)
    }

    fn deliver(&mut self, message: &AppMessage<'_>, outgoing: &mut Vec<(u16, Bytes)>) -> Verdict {
        let kind = OperationKind::try_from(message.subtype).ok();
        let is_unlock = matches!(message.subtype, UNLOCK_REQUEST | UNLOCK);
        if (kind.is_none() && !is_unlock) || !message.is_quorate {
            return Verdict::Leave;
        }
        let result = match kind {
            Some(kind) => match OperationMessage::decode(kind, message.payload) {
                Ok(decoded) => decoded
                    .operation()
                    .and_then(|operation| self.operate(&operation, message)),
                Err(_) => return Verdict::Leave,
            },
            None if LockMessage::decode(message.payload).is_err() => return Verdict::Leave,
            None => {
                self.unlock(message, outgoing);
                Ok(0)
            }
        };
        if self.disk.is_failed {
            return Verdict::Fail(result);
        }
        Verdict::Done(result)
    }

    fn state(&mut self) -> Bytes {
        let index = self.disk.tree.index();
        let state = index.bytes().clone();
        self.announced = Some(index);
        state
    }

    fn exchange(
        &mut self,
        states: &[(MemberId, Bytes)],
        own: usize,
        _outgoing: &mut Vec<(u16, Bytes)>,
    ) -> Option<Decision> {
        let indexes: Vec<Index> = states
            .iter()
            .map(|(_, state)| Index::decode(state).ok())
            .collect::<Option<_>>()?;
        let rank = |index: &Index| (index.root().version, index.root().mtime);
        let mut leader = 0;
        for candidate in 1..indexes.len() {
            if rank(&indexes[candidate]) > rank(&indexes[leader]) {
                leader = candidate;
            }
        }
        let leader_state = &states[leader].1;
        let mut messages = Vec::new();
        if own == leader {
            let wanted = self
                .disk
                .tree
                .entries()
                .filter(|entry| {
                    let is_known = |index: &Index| {
                        index.entries().any(|known| {
                            known.inode == entry.inode && known.digest == entry.index_digest()
                        })
                    };
                    !indexes.iter().all(is_known)
                })
                .cloned();
            messages.extend(
                wanted.map(|entry| (MessageKind::Update, UpdateMessage { entry }.encode())),
            );
            // The order of a hash table: parents do not come first.
            messages.sort_by_key(|(_, payload)| digest(payload));
            messages.push((MessageKind::UpdateComplete, Bytes::new()));
        }
        self.leader = Some(leader_state.clone());
        Some(Decision {
            synced: states
                .iter()
                .map(|(_, state)| state == leader_state)
                .collect(),
            messages,
        })
    }

    fn update(&mut self, payload: &Bytes) -> bool {
        let Ok(update) = UpdateMessage::decode(payload) else {
            return false;
        };
        self.updates.insert(update.entry.inode, update.entry);
        true
    }

    fn commit(&mut self, now_secs: u64) -> bool {
        let tree = self.build(now_secs);
        let is_stored =
            !self.disk.is_failed && tree.is_some_and(|tree| self.disk.store(tree).is_ok());
        if !is_stored {
            self.disk.fail();
        }
        is_stored
    }

    fn discard(&mut self) {
        self.announced = None;
        self.leader = None;
        self.updates.clear();
    }

    fn checksum(&mut self) -> Digest {
        self.disk.tree.snapshot().checksum()
    }

    fn members_changed(&mut self, _members: &[MemberId]) {}

    fn became_synced(&mut self, _outgoing: &mut Vec<(u16, Bytes)>) {}

    fn version(&self) -> u64 {
        self.disk.tree.root().version
    }

    fn state_digest(&self) -> u64 {
        digest(self.disk.tree.index().bytes())
    }
}
