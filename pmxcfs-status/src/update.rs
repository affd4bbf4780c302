//! Status values as members tell them to each other, and why one changes nothing.

use bytes::Bytes;
use pmxcfs_api_types::NodeId;

/// Why a received update changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// The sender is not in the node list, or there is no node list.
    #[error("status update of node {0}, which is not in the node list")]
    UnknownSender(NodeId),
    /// An `rrd/` or `nodeip` value is empty, too long, or does not end with a NUL.
    #[error("malformed status value")]
    BadValue,
    /// The table of the sender, or that of RRD values, is full.
    #[error("too many or too large status values")]
    LimitReached,
}

/// A status value on its way to or from other members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Key, at most 255 bytes, without NUL.
    pub key: Bytes,
    /// Value; empty removes the key.
    pub value: Bytes,
}
