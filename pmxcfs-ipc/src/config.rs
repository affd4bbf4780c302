//! The settings of a server, and every limit that it keeps.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pmxcfs_api_types::limits::MAX_IPC_MESSAGE_SIZE;
use pmxcfs_api_types::names::IPC_SERVICE;

use crate::wire::setup::{CONNECT_RESPONSE_SIZE, Transport};

/// Most connections that can be configured. Each takes four entries in the registry of guarded mappings.
pub(crate) const MAX_CONNECTIONS: usize = 1024;

/// Smallest maximum message size that is agreed on, in bytes: the size of the connection response, which is also the
/// least that libqb's client asks for.
pub(crate) const MIN_MESSAGE_SIZE: u32 = 12328;

const _: () = assert!(MIN_MESSAGE_SIZE as usize == CONNECT_RESPONSE_SIZE);

/// Pending connections that the kernel keeps for us. libqb's 128 makes clients fail with EAGAIN in a burst.
pub(crate) const BACKLOG: i32 = 4096;

/// Time from accept to the last byte of the connection request.
pub(crate) const HANDSHAKE_LIMIT: Duration = Duration::from_secs(2);

/// Connections that wait to be refused: of all users together, and of one user id. Any more are closed at once.
pub(crate) const MAX_PENDING_REFUSALS: usize = 64;
pub(crate) const MAX_PENDING_REFUSALS_PER_UID: usize = 16;

/// Jobs on the files of connections that run at the same time. Two, so that a client that connects again need not wait until
/// its former connection is removed; more would take the processors from those that are connected.
pub(crate) const MAX_FILE_JOBS: usize = 2;

/// Long requests that run at the same time, each on a thread of its own.
pub(crate) const MAX_LONG_REQUESTS: usize = 4;

/// An inline request that takes longer than this is counted and logged: it has held up all other clients.
pub(crate) const SLOW_REQUEST: Duration = Duration::from_millis(5);

/// Longest service name, in bytes. Directory and socket names are built from it.
const MAX_SERVICE_NAME_SIZE: usize = 64;

/// Settings of a [`Server`](crate::Server). `Default` is what the `pve2` service uses.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Service name; clients find the socket by it. At most 64 bytes without `/` and NUL.
    pub service: String,
    /// Directory of a stream socket in the file system, or `None` for an abstract one. The default asks
    /// [`forced_socket_directory`].
    pub socket_directory: Option<PathBuf>,
    /// Transport for new connections.
    pub transport: Transport,
    /// Upper limit of the agreed message size, in bytes, headers included. At least 12328.
    pub max_message_size: u32,
    /// Connections at a time, from all users together, handshakes included. At most 1024.
    pub max_connections: usize,
    /// Connections at a time of one user id, handshakes included.
    pub max_connections_per_uid: usize,
    /// Where the shared files are made.
    pub shm_directory: PathBuf,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            service: IPC_SERVICE.to_owned(),
            socket_directory: forced_socket_directory(),
            transport: Transport::default(),
            max_message_size: MAX_IPC_MESSAGE_SIZE,
            max_connections: 1000,
            max_connections_per_uid: 500,
            shm_directory: PathBuf::from("/dev/shm"),
        }
    }
}

impl ServerConfig {
    /// Whether everything is inside its range.
    pub(crate) fn is_valid(&self) -> bool {
        let name = self.service.as_bytes();
        !name.is_empty()
            && name.len() <= MAX_SERVICE_NAME_SIZE
            && !name.contains(&b'/')
            && !name.contains(&0)
            && self.max_connections <= MAX_CONNECTIONS
            && self.max_message_size >= MIN_MESSAGE_SIZE
            && i32::try_from(self.max_message_size).is_ok()
    }
}

/// The directory that libqb's clients look into instead of the abstract namespace, if this host's administrator asked
/// for it by creating `/etc/libqb/force-filesystem-sockets`.
///
/// Clients have the directory compiled in; this is the one of Debian's packages.
pub fn forced_socket_directory() -> Option<PathBuf> {
    Path::new("/etc/libqb/force-filesystem-sockets")
        .exists()
        .then(|| PathBuf::from("/tmp"))
}
