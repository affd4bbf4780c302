//! The IPC operations on a tree and a status of their own, without a transport.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use bytes::Bytes;
use pmxcfs::ipc::Operations;
use pmxcfs_api_types::NodeId;
use pmxcfs_api_types::limits::MAX_IPC_MESSAGE_SIZE;
use pmxcfs_api_types::sync::{Mutex, Rank};
use pmxcfs_ipc::{Access, Answer, Handler as _, PeerCredentials, Request};
use pmxcfs_memdb::{MemDb, Operation, RootState, Rules, Stamp, Tree};
use pmxcfs_status::{Clock, Status};

/// Group of those who may read.
pub(crate) const ADMIN_GID: u32 = 33;

/// A clock that is set by hand.
#[derive(Clone, Default)]
pub(crate) struct TestClock(Arc<AtomicU32>);

impl TestClock {
    /// Lets time pass.
    pub(crate) fn advance(&self, seconds: u32) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn wall_secs(&self) -> u32 {
        1_795_354_329 + self.0.load(Ordering::Relaxed)
    }

    fn monotonic_secs(&self) -> u64 {
        u64::from(self.0.load(Ordering::Relaxed))
    }
}

type Samples = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// Node 1 of a cluster of three.
pub(crate) struct Daemon {
    /// What a server would call.
    pub(crate) operations: Operations,
    /// Its clock.
    pub(crate) clock: TestClock,
    samples: Samples,
}

impl Daemon {
    /// A node whose tree holds these files.
    pub(crate) fn new<'a>(files: impl IntoIterator<Item = (String, &'a [u8])>) -> Self {
        let mut tree = Tree::new(RootState::default(), Rules::Local);
        for (path, content) in files {
            add_file(&mut tree, &path, content);
        }
        let (clock, samples) = (
            TestClock::default(),
            Samples::new(Mutex::new(Rank::QuorumConnection, Vec::new())),
        );
        let recorded = Arc::clone(&samples);
        let record = move |key: &[u8], value: &[u8]| {
            let key = String::from_utf8_lossy(key).into_owned();
            recorded.lock().push((key, value.to_vec()));
        };
        let status = Status::new("node1", None, 1, Box::new(clock.clone()), Box::new(record));
        let nodes = [(1, "node1"), (2, "node2"), (3, "node3")]
            .map(|(id, name)| (NodeId(id), Bytes::from_static(name.as_bytes())));
        status.replace_node_list(Bytes::from_static(b"lab"), 1, nodes);
        let db = MemDb::new(tree, Instant::now());
        Self {
            operations: Operations::new(db, Arc::new(status), ADMIN_GID),
            clock,
            samples,
        }
    }

    /// Answers a request of a client with process id 4711.
    pub(crate) fn call(&self, access: Access, id: i32, body: &[u8]) -> Answer {
        self.operations.handle(&request(access, id, body))
    }

    /// Whether a request is handled on a thread of its own.
    pub(crate) fn is_long(&self, id: i32, body: &[u8]) -> bool {
        self.operations
            .is_long(&request(Access::ReadOnly, id, body))
    }

    /// Keys and values that went to RRD files.
    pub(crate) fn samples(&self) -> Vec<(String, Vec<u8>)> {
        self.samples.lock().clone()
    }
}

fn request(access: Access, id: i32, body: &[u8]) -> Request<'_> {
    Request {
        id,
        access,
        peer: PeerCredentials {
            pid: 4711,
            uid: 0,
            gid: 0,
        },
        max_response_size: MAX_IPC_MESSAGE_SIZE as usize - 24,
        body,
    }
}

fn add_file(tree: &mut Tree, path: &str, content: &[u8]) {
    let directories = path
        .match_indices('/')
        .filter_map(|(slash, _)| path.get(..slash));
    for directory in directories {
        if tree.lookup(directory.as_bytes()).is_none() {
            let path = Bytes::copy_from_slice(directory.as_bytes());
            apply(tree, Operation::Mkdir { path });
        }
    }
    let path = Bytes::copy_from_slice(path.as_bytes());
    apply(tree, Operation::Create { path: path.clone() });
    apply(
        tree,
        Operation::Write {
            path,
            offset: 0,
            data: Bytes::copy_from_slice(content),
            truncate: false,
        },
    );
}

fn apply(tree: &mut Tree, operation: Operation) {
    let stamp = Stamp {
        writer: 1,
        mtime: 1,
    };
    let result = tree.apply(&operation, stamp, 0, &mut Vec::new());
    result.unwrap_or_else(|error| panic!("{operation:?}: {error}"));
}
