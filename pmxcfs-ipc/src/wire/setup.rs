//! The handshake on the stream socket: one request of 24 bytes, one response of 12328 bytes.

use clap::ValueEnum;

use super::{DecodeError, put};

/// How messages travel. The client follows whatever the connection response says.
///
/// Requests over sockets are limited to `2 * net.core.wmem_max - 32` bytes, headers included, because the client's own send
/// buffer is; responses are only if the server lacks `CAP_NET_ADMIN`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// Ring buffers in shared memory, what the C daemon offers.
    #[default]
    Shm,
    /// Datagram sockets; carries no messages above about 416 KiB with Debian's defaults.
    Socket,
}

/// Message id of the connection request and of its response.
pub const CONNECT_ID: i32 = -1;

/// Size of the connection request, in bytes.
pub const CONNECT_REQUEST_SIZE: usize = 24;

/// Size of the connection response, in bytes.
pub const CONNECT_RESPONSE_SIZE: usize = 12328;

/// Size of each of the three names in the connection response, terminating NUL included.
pub const NAME_SIZE: usize = 4096;

const NAME_OFFSETS: [usize; 3] = [40, 4136, 8232];

/// Reads what a client sends first (`qb_ipc_connection_request`). Returns the size of the largest message that it wants to
/// exchange, in bytes with header. Any number.
///
/// | offset | size | type | value |
/// |---|---|---|---|
/// | 0 | 4 | i32 | message id, -1 |
/// | 8 | 4 | i32 | size, 24; not looked at |
/// | 16 | 4 | u32 | maximum message size wanted |
///
/// # Errors
/// [`DecodeError::NotConnect`] for any other message id.
pub fn decode_request(bytes: &[u8; CONNECT_REQUEST_SIZE]) -> Result<u32, DecodeError> {
    let (words, _) = bytes.as_chunks();
    let id = i32::from_le_bytes(words[0]);
    if id != CONNECT_ID {
        return Err(DecodeError::NotConnect { id });
    }
    Ok(u32::from_le_bytes(words[4]))
}

/// What the server answers (`qb_ipc_connection_response`).
///
/// | offset | size | type | accepted | refused |
/// |---|---|---|---|---|
/// | 0 | 4 | i32 | -1 | -1 |
/// | 8 | 4 | i32 | 12328 | 12328 |
/// | 16 | 4 | i32 | 0 | error |
/// | 24 | 4 | i32 | transport: 0 SOCKET, 1 SHM | 0 |
/// | 28 | 4 | u32 | maximum message size | 0 |
/// | 32 | 8 | u64 | opaque connection number | 0 |
/// | 40, 4136, 8232 | 4096 each | NUL-ended | names | 0 |
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectResponse {
    /// The connection exists.
    Accepted {
        /// Transport to use.
        transport: Transport,
        /// Agreed maximum message size, in bytes with header.
        max_message_size: u32,
        /// Means nothing to clients.
        connection: u64,
        /// SHM: request, response and event ring. SOCKET: control file, base of the socket names, empty. At most 4095
        /// bytes each.
        names: [String; 3],
    },
    /// The connection is refused.
    Refused {
        /// Error as it travels: a negative errno. (The C daemon sends +1, which clients cannot interpret.)
        error: i32,
    },
}

impl ConnectResponse {
    /// The bytes that the server sends in one piece. A name that is too long is cut; names are made by
    /// the server from short parts.
    pub fn encode(&self) -> Box<[u8; CONNECT_RESPONSE_SIZE]> {
        let mut bytes = Box::new([0; CONNECT_RESPONSE_SIZE]);
        put(&mut *bytes, 0, &CONNECT_ID.to_le_bytes());
        put(&mut *bytes, 8, &12328i32.to_le_bytes());
        match self {
            Self::Refused { error } => put(&mut *bytes, 16, &error.to_le_bytes()),
            Self::Accepted {
                transport,
                max_message_size,
                connection,
                names,
            } => {
                let transport = match transport {
                    Transport::Socket => 0i32,
                    Transport::Shm => 1,
                };
                put(&mut *bytes, 24, &transport.to_le_bytes());
                put(&mut *bytes, 28, &max_message_size.to_le_bytes());
                put(&mut *bytes, 32, &connection.to_le_bytes());
                for (name, offset) in names.iter().zip(NAME_OFFSETS) {
                    let length = name.len().min(NAME_SIZE - 1);
                    put(&mut *bytes, offset, &name.as_bytes()[..length]);
                }
            }
        }
        bytes
    }
}
