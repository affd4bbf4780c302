//! The kinds of requests that are counted: those of the kernel and those of IPC clients.

use super::counters::Operation;

/// Makes an enumeration of its names, in one place and one order.
macro_rules! operations {
    ($(#[$doc:meta])* $kind:ident { $($(#[$variant_doc:meta])* $variant:ident $(($id:literal))? = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $kind {
            $($(#[$variant_doc])* $variant $(= $id)?,)*
        }

        impl Operation for $kind {
            const ALL: &'static [Self] = &[$(Self::$variant,)*];

            fn index(self) -> usize {
                self as usize
            }

            fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

operations! {
    /// A request of the kernel. Changes are timed until their reply, on whatever thread that is.
    FuseOperation {
        /// Name to inode.
        Lookup = "lookup",
        /// The kernel knows an inode no longer. Has no reply.
        Forget = "forget",
        /// stat.
        Getattr = "getattr",
        /// truncate, utime, chmod, chown.
        Setattr = "setattr",
        /// Target of a link.
        Readlink = "readlink",
        /// Regular file without an open.
        Mknod = "mknod",
        /// New directory.
        Mkdir = "mkdir",
        /// Remove a file.
        Unlink = "unlink",
        /// Remove a directory.
        Rmdir = "rmdir",
        /// Move.
        Rename = "rename",
        /// New file, opened.
        Create = "create",
        /// Open a file.
        Open = "open",
        /// Read from a file.
        Read = "read",
        /// Write to a file.
        Write = "write",
        /// Last close of a file.
        Release = "release",
        /// fsync, of files and directories.
        Fsync = "fsync",
        /// Open a directory.
        Opendir = "opendir",
        /// Part of a listing.
        Readdir = "readdir",
        /// Close of a directory.
        Releasedir = "releasedir",
        /// Usage of the filesystem.
        Statfs = "statfs",
        /// Special files and links that a program wants to make; always refused. The library refuses others without a count.
        Unsupported = "unsupported",
    }
}

operations! {
    /// A request of an IPC client, with its id on the wire. Timed from the decoding to the answer.
    IpcOperation {
        /// Every other id.
        Unknown(0) = "unknown",
        /// `.version`.
        Version(1) = "version",
        /// `.members`.
        ClusterInfo(2) = "cluster-info",
        /// `.vmlist`.
        GuestList(3) = "guest-list",
        /// Set a status value.
        SetStatus(4) = "set-status",
        /// Read a status value.
        Status(5) = "get-status",
        /// Read a file.
        Config(6) = "get-config",
        /// Add an entry to the cluster log.
        Log(7) = "log",
        /// Read the cluster log.
        ClusterLog(8) = "cluster-log",
        /// `.rrd`.
        RrdDump(10) = "rrd-dump",
        /// One property of guests.
        GuestProperty(11) = "guest-property",
        /// Verify an API token.
        VerifyToken(12) = "verify-token",
        /// Several properties of guests.
        GuestProperties(13) = "guest-properties",
    }
}

impl IpcOperation {
    /// The kind that a request's id stands for.
    #[must_use]
    pub fn of(id: i32) -> Self {
        let mut all = Self::ALL.iter().copied();
        all.find(|operation| *operation as i32 == id)
            .unwrap_or(Self::Unknown)
    }

    /// Whether clients that may only read are refused.
    #[must_use]
    pub const fn changes_state(self) -> bool {
        matches!(self, Self::SetStatus | Self::Log)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::health::counters::KIND_LIMIT;

    fn is_sound<O: Operation>() -> bool {
        let names: BTreeSet<&str> = O::ALL.iter().map(|operation| operation.name()).collect();
        let indexes: BTreeSet<usize> = O::ALL.iter().map(|operation| operation.index()).collect();
        names.len() == O::ALL.len()
            && indexes.len() == O::ALL.len()
            && indexes.last() < Some(&KIND_LIMIT)
    }

    #[test]
    fn every_kind_has_its_own_number_and_name() {
        assert!(is_sound::<FuseOperation>());
        assert!(is_sound::<IpcOperation>());
    }
}
