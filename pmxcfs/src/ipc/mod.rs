//! The operations that clients call over IPC.
//!
//! [`decode`] makes a typed request of the bytes, in the order of checks that clients of the C daemon know; the other
//! modules answer it from the tree and the status. Nothing here waits: the tree's read lock is held for lookups only, and
//! contents are shared, not copied.

mod answers;
pub mod decode;
mod guests;
mod token;

use std::sync::Arc;

use bytes::Bytes;
use pmxcfs_api_types::path::is_private;
use pmxcfs_api_types::{FsError, Result};
use pmxcfs_ipc::{Access, Answer, Handler, PeerCredentials, Request};
use pmxcfs_logger::Submission;
use pmxcfs_memdb::{EntryKind, MemDb};
use pmxcfs_status::Status;

use crate::health::IpcOperation;
use crate::health::counters::Meter;
use answers::Answers;
use decode::Call;

/// File whose lines are the tokens that clients may ask to be verified.
const TOKEN_FILE: &[u8] = b"priv/token.cfg";

/// Answers IPC requests.
pub struct Operations {
    db: Arc<MemDb>,
    status: Arc<Status>,
    admin_gid: u32,
    answers: Answers,
    meter: &'static Meter<IpcOperation>,
}

impl Operations {
    /// Answers from this tree and this status. Processes of the group `admin_gid` may connect and read.
    pub fn new(db: Arc<MemDb>, status: Arc<Status>, admin_gid: u32) -> Self {
        Self {
            db,
            status,
            admin_gid,
            answers: Answers::default(),
            meter: Meter::new(),
        }
    }

    /// Counts the requests.
    pub fn meter(&self) -> &'static Meter<IpcOperation> {
        self.meter
    }

    fn answer(&self, request: &Request<'_>) -> Result<Bytes> {
        let is_root = request.access == Access::ReadWrite;
        match Call::decode(request.id, request.body, is_root)? {
            Call::Version => Ok(self.status.version_document(&*self.db.read())),
            Call::ClusterInfo => Ok(self.status.members_document()),
            Call::GuestList => Ok(self.status.guest_list_document(self.db.read().guests())),
            Call::SetStatus { key, value } => self
                .status
                .set_value(key, &Bytes::copy_from_slice(value))
                .map(|()| Bytes::new()),
            Call::Status { key, node } => self.status.value(node, key),
            Call::Config { path } => self.config(path, is_root),
            Call::Log(message) => {
                let pid = request.peer.pid.unsigned_abs();
                self.status.log(&Submission { pid, ..message });
                Ok(Bytes::new())
            }
            Call::ClusterLog { limit, user } => Ok(self.status.log_response(limit, user)),
            Call::RrdDump => Ok(self.status.rrd_response()),
            Call::GuestProperties { vmid, names } => {
                let (question, max_size) = (question(request), request.max_response_size);
                guests::properties(&self.db, &self.answers, &question, vmid, names, max_size)
            }
            Call::VerifyToken { token } => {
                let tokens = self.file(TOKEN_FILE).ok_or(FsError::NotFound)?;
                match token::is_listed(token, &tokens) {
                    true => Ok(Bytes::new()),
                    false => Err(FsError::NotFound),
                }
            }
        }
    }

    fn config(&self, path: &[u8], is_root: bool) -> Result<Bytes> {
        if !is_root && is_private(path) {
            return Err(FsError::NotPermitted);
        }
        self.file(path).ok_or(FsError::NotFound)
    }

    /// Content of a file of the tree.
    fn file(&self, path: &[u8]) -> Option<Bytes> {
        let tree = self.db.read();
        let entry = tree.lookup(path)?;
        (entry.kind == EntryKind::File).then(|| entry.content())
    }
}

/// What an answer about guests is kept under.
fn question(request: &Request<'_>) -> Vec<u8> {
    [&request.id.to_le_bytes()[..], request.body].concat()
}

impl Handler for Operations {
    /// Root's processes may do everything, those of the admin group may read. A process that is both may read.
    fn authorize(&self, peer: &PeerCredentials) -> Option<Access> {
        if peer.gid == self.admin_gid {
            Some(Access::ReadOnly)
        } else if peer.uid == 0 && peer.gid == 0 {
            Some(Access::ReadWrite)
        } else {
            None
        }
    }

    /// A search through all guests and the dump of RRD values take milliseconds when there are many.
    fn is_long(&self, request: &Request<'_>) -> bool {
        match Call::decode(request.id, request.body, true) {
            Ok(Call::GuestProperties { vmid: 0, .. }) => {
                let tree_version = self.db.read().root().version;
                let answer = self.answers.find(tree_version, &question(request));
                answer.is_none()
            }
            Ok(Call::RrdDump) => true,
            _ => false,
        }
    }

    fn handle(&self, request: &Request<'_>) -> Answer {
        let mut timed = self.meter.start(IpcOperation::from(request.id));
        let answer = timed.note(self.answer(request));
        answer.map_err(FsError::errno)
    }
}
