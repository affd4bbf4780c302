//! The kinds of requests that are counted: those of the kernel and those of IPC clients.

use super::counters::Operation;

/// Makes an enumeration of its names, in one place and one order.
macro_rules! operations {
    ($(#[$doc:meta])* $kind:ident { $($(#[$variant_doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $kind {
            $($(#[$variant_doc])* $variant,)*
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
        /// Operations that this filesystem does not have; always refused.
        Unsupported = "unsupported",
    }
}

operations! {
    /// A request of an IPC client. Timed from the decoding to the answer.
    IpcOperation {
        /// 1
        Version = "version",
        /// 2
        ClusterInfo = "cluster-info",
        /// 3
        GuestList = "guest-list",
        /// 4
        SetStatus = "set-status",
        /// 5
        Status = "get-status",
        /// 6
        Config = "get-config",
        /// 7
        Log = "log",
        /// 8
        ClusterLog = "cluster-log",
        /// 10
        RrdDump = "rrd-dump",
        /// 11
        GuestProperty = "guest-property",
        /// 12
        VerifyToken = "verify-token",
        /// 13
        GuestProperties = "guest-properties",
        /// Every other id.
        Unknown = "unknown",
    }
}

impl IpcOperation {
    /// The kind that a request's id stands for.
    #[must_use]
    pub const fn of(id: i32) -> Self {
        match id {
            1 => Self::Version,
            2 => Self::ClusterInfo,
            3 => Self::GuestList,
            4 => Self::SetStatus,
            5 => Self::Status,
            6 => Self::Config,
            7 => Self::Log,
            8 => Self::ClusterLog,
            10 => Self::RrdDump,
            11 => Self::GuestProperty,
            12 => Self::VerifyToken,
            13 => Self::GuestProperties,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn is_in_order<O: Operation>() -> bool {
        let names: BTreeSet<&str> = O::ALL.iter().map(|operation| operation.name()).collect();
        let mut indexes = O::ALL.iter().map(|operation| operation.index()).enumerate();
        names.len() == O::ALL.len() && indexes.all(|(place, index)| place == index)
    }

    #[test]
    fn every_kind_has_its_own_place_and_name() {
        assert!(is_in_order::<FuseOperation>());
        assert!(is_in_order::<IpcOperation>());
    }
}
