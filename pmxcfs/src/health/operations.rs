//! The kinds of requests that are counted: those of the kernel and those of IPC clients.

use enum_map::Enum;
use num_enum::FromPrimitive;
use strum::IntoStaticStr;

/// A request of the kernel. Changes are timed until their reply, on whatever thread that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum FuseOperation {
    /// Name to inode.
    Lookup,
    /// The kernel knows an inode no longer. Has no reply.
    Forget,
    /// stat.
    Getattr,
    /// truncate, utime, chmod, chown.
    Setattr,
    /// Target of a link.
    Readlink,
    /// Regular file without an open.
    Mknod,
    /// New directory.
    Mkdir,
    /// Remove a file.
    Unlink,
    /// Remove a directory.
    Rmdir,
    /// Move.
    Rename,
    /// New file, opened.
    Create,
    /// Open a file.
    Open,
    /// Read from a file.
    Read,
    /// Write to a file.
    Write,
    /// Last close of a file.
    Release,
    /// fsync, of files and directories.
    Fsync,
    /// Open a directory.
    Opendir,
    /// Part of a listing.
    Readdir,
    /// Close of a directory.
    Releasedir,
    /// Usage of the filesystem.
    Statfs,
    /// Special files and links that a program wants to make; always refused. The library refuses others without a count.
    Unsupported,
}

/// A request of an IPC client, with its id on the wire. Timed from the decoding to the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, IntoStaticStr, FromPrimitive)]
#[repr(i32)]
#[strum(serialize_all = "kebab-case")]
pub enum IpcOperation {
    /// Every other id.
    #[num_enum(default)]
    Unknown = 0,
    /// `.version`.
    Version = 1,
    /// `.members`.
    ClusterInfo = 2,
    /// `.vmlist`.
    GuestList = 3,
    /// Set a status value.
    SetStatus = 4,
    /// Read a status value.
    GetStatus = 5,
    /// Read a file.
    GetConfig = 6,
    /// Add an entry to the cluster log.
    Log = 7,
    /// Read the cluster log.
    ClusterLog = 8,
    /// `.rrd`.
    RrdDump = 10,
    /// One property of guests.
    GuestProperty = 11,
    /// Verify an API token.
    VerifyToken = 12,
    /// Several properties of guests.
    GuestProperties = 13,
}

impl IpcOperation {
    /// Whether clients that may only read are refused.
    pub const fn changes_state(self) -> bool {
        matches!(self, Self::SetStatus | Self::Log)
    }
}
