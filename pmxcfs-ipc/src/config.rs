//! What a server can be told, and every limit it keeps.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pmxcfs_api_types::limits::MAX_IPC_MESSAGE_SIZE;
use pmxcfs_api_types::names::IPC_SERVICE;

use crate::wire::setup::CONNECT_RESPONSE_SIZE;

/// Smallest maximum message size that is agreed on, in bytes: the size of the connection response, which is also the
/// least that libqb's client asks for.
pub(crate) const MIN_MESSAGE_SIZE: u32 = 12328;

const _: () = assert!(MIN_MESSAGE_SIZE as usize == CONNECT_RESPONSE_SIZE);

/// Pending connections that the kernel keeps for us. libqb's 128 makes clients fail with EAGAIN in a burst.
pub(crate) const BACKLOG: i32 = 4096;

/// Time from accept to the last byte of the connection request.
pub(crate) const HANDSHAKE_LIMIT: Duration = Duration::from_secs(2);

/// Connections that will be refused and have not sent their request yet. More than these are closed at once.
pub(crate) const MAX_PENDING_REFUSALS: usize = 64;

/// How messages travel. The client follows whatever the connection response says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Transport {
    /// Ring buffers in shared memory. Carries the full maximum message size.
    #[default]
    Shm,
    /// Datagram sockets. Requests are limited to `2 * net.core.wmem_max - 32` bytes, headers included, because the
    /// client's own send buffer is; responses are only if the server lacks `CAP_NET_ADMIN`.
    Socket,
}

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
    /// Connections at a time, from all users together, handshakes included. At most 4096.
    pub max_connections: usize,
    /// Connections at a time of one user id, handshakes included.
    pub max_connections_per_uid: usize,
    /// Threads that run the handler. One is busy normally; each of the others stands in for one slow request.
    pub worker_count: usize,
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
            worker_count: 4,
            shm_directory: PathBuf::from("/dev/shm"),
        }
    }
}

/// The directory that libqb's clients look into instead of the abstract namespace, if this host's administrator asked
/// for it by creating `/etc/libqb/force-filesystem-sockets`.
///
/// Clients have the directory compiled in; this is the one of Debian's packages.
#[must_use]
pub fn forced_socket_directory() -> Option<PathBuf> {
    Path::new("/etc/libqb/force-filesystem-sockets")
        .exists()
        .then(|| PathBuf::from("/tmp"))
}
