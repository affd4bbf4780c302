//! [`Status`]: the soft state, shared between threads.
//!
//! The C daemon has one lock for all of this, which every FUSE call takes to learn whether the node is quorate, and
//! which is held over disk writes and retries of messages. Here each concept has a lock of its own, none is held while
//! another one is taken, and quorum is an atomic. The one exception is the lock that keeps local changes in order: under
//! it, the other locks are taken and [`Peers`] and [`RrdSink`] are called, which only enqueue.

use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use pmxcfs_api_types::limits::MAX_STATUS_VALUE_SIZE;
use pmxcfs_api_types::sync::{Mutex, Rank};
use pmxcfs_api_types::text::until_nul;
use pmxcfs_api_types::{FsError, NodeId, Result};
use pmxcfs_logger::{ClusterLog, DEFAULT_LIMIT, Entry, Origin, RingError, Submission};
use pmxcfs_memdb::GuestList;

use crate::cached::Cached;
use crate::clock::Clock;
use crate::documents::{self, TreeVersions};
use crate::keys::{KeyStore, UpdateError};
use crate::members::{ClusterInfo, Members};
use crate::samples::{RRD_PREFIX, RrdSink, SampleTable};

/// Key under which a node tells its address.
const ADDRESS_KEY: &[u8] = b"nodeip";

/// Largest address text in bytes, NUL included.
const MAX_ADDRESS_SIZE: usize = 255;

/// The other members, as far as this node sends them anything. Must only enqueue, never wait: it is called with a lock
/// held, so that what is changed first is sent first.
pub trait Peers: Send + Sync {
    /// Sends a status value; empty for a removed key.
    fn send_value(&self, key: Bytes, value: Bytes);

    /// Sends a log entry.
    fn send_log(&self, entry: Entry);
}

/// Counters that `.version` depends on.
#[derive(Debug, PartialEq, Eq)]
struct VersionCounters {
    members: u64,
    keys: u64,
    guest_list: u32,
    files: u64,
}

/// Soft state of the daemon.
///
/// All methods may be called from any thread, also while a read lock of the tree is held; none blocks on anything but
/// short critical sections.
pub struct Status {
    own_name: Bytes,
    start_time: u32,
    start_address: Option<Bytes>,
    clock: Box<dyn Clock>,
    rrd: RrdSink,
    /// Set when the daemon takes part in a cluster.
    peers: OnceLock<Box<dyn Peers>>,
    /// Whether writes are allowed.
    quorate: AtomicBool,
    /// Guards nothing but the order of local changes: what is changed first is sent first. Taken before the locks
    /// below; held while [`Peers`] and [`RrdSink`] are called.
    order: Mutex<()>,
    /// Guards node list, online flags, addresses and their counter.
    members: Mutex<Members>,
    /// Guards the keys of all nodes and their versions.
    keys: Mutex<KeyStore>,
    /// Guards the last RRD values and their text, which is rendered under it.
    samples: Mutex<SampleTable>,
    /// Guards the cluster log.
    log: Mutex<ClusterLog>,
    /// `.version`, `.members`, `.vmlist` and `.clusterlog` as they were made last. Never held while rendering.
    version_document: Cached<VersionCounters>,
    members_document: Cached<(u64, bool)>,
    guest_list_document: Cached<u32>,
    log_document: Cached<u64>,
}

impl Status {
    /// The state of a daemon that starts now: not quorate, no cluster, and one log entry of this process that says so. Peers are
    /// told the node's address unless a client sets another one.
    pub fn new(
        node_name: &str,
        node_address: Option<IpAddr>,
        pid: u32,
        clock: Box<dyn Clock>,
        rrd: RrdSink,
    ) -> Self {
        let own_name = Bytes::copy_from_slice(node_name.as_bytes());
        let start_time = clock.wall_secs();
        let mut log = ClusterLog::new(&own_name);
        log.log_start(start_time, pid);
        Self {
            start_time,
            start_address: node_address.map(|address| Bytes::from(address.to_string())),
            clock,
            rrd,
            peers: OnceLock::new(),
            quorate: AtomicBool::new(false),
            order: Mutex::new(Rank::StatusOrder, ()),
            members: Mutex::new(Rank::StatusMembers, Members::new(own_name.clone())),
            keys: Mutex::new(Rank::StatusKeys, KeyStore::default()),
            samples: Mutex::new(Rank::StatusSamples, SampleTable::default()),
            log: Mutex::new(Rank::StatusLog, log),
            version_document: Cached::default(),
            members_document: Cached::default(),
            guest_list_document: Cached::default(),
            log_document: Cached::default(),
            own_name,
        }
    }

    /// Connects the status to the other members. Later calls have no effect.
    pub fn set_peers(&self, peers: Box<dyn Peers>) {
        let _already_set = self.peers.set(peers);
    }

    /// Whether writes to the tree are allowed. Lock-free: every FUSE call asks.
    pub fn is_quorate(&self) -> bool {
        self.quorate.load(Ordering::Acquire)
    }

    /// Notes whether the node is quorate and says whether that is a change. Local mode sets it once.
    pub fn set_quorate(&self, quorate: bool) -> bool {
        self.quorate.swap(quorate, Ordering::AcqRel) != quorate
    }
}

/// What local clients do.
impl Status {
    /// Sets a status value of this node, or removes it if the value is empty, and tells the other members.
    ///
    /// Keys end at their first NUL. Unlike the C daemon, a value that is refused is not sent.
    ///
    /// # Errors
    /// [`FsError::TooBig`] above 32768 bytes; [`FsError::NoMemory`] for an unusable `rrd/` or `nodeip` value, or when the
    /// node has too many values.
    pub fn set_value(&self, key: &[u8], value: &Bytes) -> Result<()> {
        let key = until_nul(key);
        if value.len() > MAX_STATUS_VALUE_SIZE {
            return Err(FsError::TooBig);
        }
        let _order = self.order.lock();
        let stored = match Subject::of(key) {
            Subject::Sample(item) => self.set_sample(item, value),
            Subject::Address => self.set_address(self.own_name.clone(), value),
            Subject::Key => self.keys.lock().set_own(key, value),
        };
        stored.map_err(|_refused| FsError::NoMemory)?;
        if let Some(peers) = self.peers.get() {
            peers.send_value(Bytes::copy_from_slice(key), value.clone());
        }
        Ok(())
    }

    /// A status value of a node; an empty name stands for this one.
    ///
    /// # Errors
    /// [`FsError::NotFound`] if the node or the key is not there.
    pub fn value(&self, node: &[u8], key: &[u8]) -> Result<Bytes> {
        let peer = if node.is_empty() || node == self.own_name {
            None
        } else {
            Some(self.members.lock().id_of(node).ok_or(FsError::NotFound)?)
        };
        let keys = self.keys.lock();
        let table = match peer {
            None => Some(&keys.own),
            Some(id) => keys.peer(id),
        };
        let value = table.and_then(|table| table.value(key));
        value.cloned().ok_or(FsError::NotFound)
    }

    /// Adds an entry to the cluster log and sends it. A priority above 7 is dropped without an error.
    pub fn log(&self, submission: &Submission<'_>) {
        let _order = self.order.lock();
        let entry = self.log.lock().log(self.clock.wall_secs(), submission);
        if let (Some(entry), Some(peers)) = (entry, self.peers.get()) {
            peers.send_log(entry);
        }
    }
}

/// Documents.
impl Status {
    /// `.version`.
    pub fn version_document<'a>(&self, tree: impl Into<TreeVersions<'a>>) -> Bytes {
        let tree = tree.into();
        let counters = VersionCounters {
            members: self.members.lock().generation,
            keys: self.keys.lock().generation,
            guest_list: tree.guest_list,
            files: tree.files_generation,
        };
        self.version_document.get(counters, || {
            let members = self.members.lock().clone();
            let keys = self.keys.lock();
            documents::version(self.start_time, &tree, &members, &keys)
        })
    }

    /// What corosync says of the cluster, once it has listed nodes.
    pub fn cluster(&self) -> Option<ClusterInfo> {
        self.members.lock().cluster().cloned()
    }

    /// `.members`.
    pub fn members_document(&self) -> Bytes {
        let counters = (self.members.lock().generation, self.is_quorate());
        self.members_document.get(counters, || {
            documents::members(&self.members.lock(), counters.1)
        })
    }

    /// `.vmlist`.
    pub fn guest_list_document(&self, guests: &GuestList) -> Bytes {
        self.guest_list_document
            .get(guests.version, || documents::guest_list(guests))
    }

    /// `.rrd`.
    pub fn rrd_document(&self) -> Bytes {
        let text = self.rrd_response();
        text.slice(..text.len() - 1)
    }

    /// `.rrd` with one NUL byte behind it, as IPC clients get it.
    pub fn rrd_response(&self) -> Bytes {
        let now_secs = self.clock.monotonic_secs();
        self.samples.lock().text(now_secs)
    }

    /// `.clusterlog`.
    pub fn log_document(&self) -> Bytes {
        let generation = self.log.lock().generation();
        self.log_document.get(generation, || {
            self.log.lock().dump(DEFAULT_LIMIT, b"").into_bytes()
        })
    }

    /// The newest log entries: at most `limit` (0 stands for 50), of this user or, if that is empty, of all.
    pub fn log_response(&self, limit: u32, user: &[u8]) -> Bytes {
        match limit {
            0 | DEFAULT_LIMIT if user.is_empty() => self.log_document(),
            0 => self.log.lock().dump(DEFAULT_LIMIT, user).into(),
            _ => self.log.lock().dump(limit, user).into(),
        }
    }

    /// Drops RRD values that nobody is shown any more. For a timer: the C daemon drops them only when somebody reads.
    pub fn expire_samples(&self) {
        let now_secs = self.clock.monotonic_secs();
        self.samples.lock().expire(now_secs);
    }
}

/// What the cluster tells.
impl Status {
    /// Takes over corosync's node list. Keys of nodes that are not in it any more are dropped.
    pub fn replace_node_list(
        &self,
        cluster_name: Bytes,
        config_version: i32,
        list: impl IntoIterator<Item = (NodeId, Bytes)>,
    ) {
        let listed: std::collections::BTreeSet<NodeId> = {
            let mut members = self.members.lock();
            members.replace_node_list(cluster_name, config_version, list);
            let nodes = members
                .cluster()
                .map(|cluster| cluster.nodes.keys().copied());
            nodes.into_iter().flatten().collect()
        };
        self.keys.lock().retain(|node| listed.contains(&node));
    }

    /// Takes over the membership of the status group.
    pub fn set_online(&self, members: impl IntoIterator<Item = NodeId>) {
        self.members.lock().set_online(members);
    }

    /// Corosync is gone: the node is not quorate and knows of no other member. Says whether it was quorate.
    pub fn lose_cluster(&self) -> bool {
        self.members.lock().lose_sight();
        self.set_quorate(false)
    }

    /// Applies a value that another member has set; empty for a removed key.
    ///
    /// # Errors
    /// If nothing was changed.
    pub fn apply_value(&self, sender: NodeId, key: &[u8], value: &[u8]) -> Result<(), UpdateError> {
        let name = self.members.lock().name_of(sender).cloned();
        let name = name.ok_or(UpdateError::UnknownSender(sender))?;
        // The value of a message is a part of the buffer it came in, which may be a lot larger than what is kept.
        let value = Bytes::copy_from_slice(value);
        match Subject::of(key) {
            Subject::Sample(item) => self.set_sample(item, &value),
            Subject::Address => {
                self.set_address(name, &value)?;
                self.keys.lock().finish_repetition(sender);
                Ok(())
            }
            Subject::Key => self.keys.lock().set_peer(sender, key, &value),
        }
    }

    /// Adds a log entry that another member sent; says whether it was new.
    pub fn receive_log(&self, entry: &Entry, origin: Origin) -> bool {
        self.log.lock().receive(entry, Some(origin))
    }

    /// This member's STATE: the cluster log.
    pub fn state(&self) -> Bytes {
        self.log.lock().state().into()
    }

    /// Merges the members' states, in the order of the membership, and expects each member to repeat its keys: those that
    /// it has not repeated when it next tells its address are gone. Log entries that get a new number are sent again. Gives
    /// the states that were of no use.
    pub fn merge_states(&self, states: &[Option<&[u8]>], own: usize) -> Vec<(usize, RingError)> {
        let _order = self.order.lock();
        self.keys.lock().expect_repetition();
        let report = self.log.lock().merge(states, own);
        if let Some(peers) = self.peers.get() {
            for entry in report.renumbered {
                peers.send_log(entry);
            }
        }
        report.rejected
    }

    /// Keys and values of this node, which it repeats when an exchange is over.
    pub fn own_values(&self) -> Vec<(Bytes, Bytes)> {
        let _order = self.order.lock();
        let keys = self.keys.lock();
        let values = keys.own.values();
        values
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    /// The address that this node tells behind its keys, with a NUL: the one last set by a client, else the one found at
    /// the start; only the NUL if there is none.
    pub fn own_address(&self) -> Bytes {
        let _order = self.order.lock();
        let mut members = self.members.lock();
        let known = members.address(&self.own_name);
        let address = known.or(self.start_address.as_ref()).cloned();
        if let Some(address) = &address {
            members.set_address(self.own_name.clone(), address.clone());
        }
        [address.as_deref().unwrap_or_default(), b"\0"]
            .concat()
            .into()
    }

    fn set_sample(&self, item: &[u8], value: &Bytes) -> Result<(), UpdateError> {
        if !SampleTable::is_valid(value) {
            return Err(UpdateError::BadValue);
        }
        let now_secs = self.clock.monotonic_secs();
        if !self.samples.lock().set(item, value, now_secs) {
            return Err(UpdateError::LimitReached);
        }
        (self.rrd)(item, value);
        Ok(())
    }

    fn set_address(&self, node: Bytes, value: &Bytes) -> Result<(), UpdateError> {
        if value.len() > MAX_ADDRESS_SIZE || !value.ends_with(b"\0") {
            return Err(UpdateError::BadValue);
        }
        let address = value.slice_ref(until_nul(value));
        self.members.lock().set_address(node, address);
        Ok(())
    }
}

/// What a key stands for.
enum Subject<'a> {
    /// An RRD value under the rest of the key.
    Sample(&'a [u8]),
    /// The address of the node.
    Address,
    /// A key of the node.
    Key,
}

impl<'a> Subject<'a> {
    fn of(key: &'a [u8]) -> Self {
        match key.strip_prefix(RRD_PREFIX) {
            Some(item) => Self::Sample(item),
            None if key == ADDRESS_KEY => Self::Address,
            None => Self::Key,
        }
    }
}
