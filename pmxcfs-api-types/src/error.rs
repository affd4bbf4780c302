//! The one place where an errno is chosen.

use num_enum::TryFromPrimitive;

/// Why an operation on the tree or on the status was refused.
///
/// Each variant stands for exactly one errno of the C daemon's tables. FUSE and IPC only negate or wrap
/// [`FsError::errno`]; they never pick a number of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error, TryFromPrimitive)]
#[repr(i32)]
pub enum FsError {
    /// `ENOENT`: the path, a parent of it, or a key does not exist.
    #[error("no such file or directory")]
    NotFound = libc::ENOENT,
    /// `ENOTDIR`: a directory is needed and the entry is a file, or the reverse where the C daemon says so.
    #[error("not a directory")]
    NotDirectory = libc::ENOTDIR,
    /// `EISDIR`: a file is needed and the entry is a directory.
    #[error("is a directory")]
    IsDirectory = libc::EISDIR,
    /// `EEXIST`: the name is taken, or the guest id belongs to another node or guest type.
    #[error("already exists")]
    Exists = libc::EEXIST,
    /// `ENOTEMPTY`: the directory has entries.
    #[error("directory not empty")]
    NotEmpty = libc::ENOTEMPTY,
    /// `EACCES`: bad base name, not quorate, a lock that is not ours, or a plugin name.
    #[error("permission denied")]
    Access = libc::EACCES,
    /// `EPERM`: the caller may not do this at all.
    #[error("operation not permitted")]
    NotPermitted = libc::EPERM,
    /// `EFBIG`: the file or value would exceed its limit.
    #[error("file too large")]
    TooBig = libc::EFBIG,
    /// `EIO`: the store has failed, or content is unusable.
    #[error("input/output error")]
    Io = libc::EIO,
    /// `EINVAL`: malformed request.
    #[error("invalid argument")]
    Invalid = libc::EINVAL,
    /// `EBUSY`: the outcome is unknown, or the resource cannot be had now.
    #[error("resource busy")]
    Busy = libc::EBUSY,
    /// `ENOSPC`: the filesystem's size or inode limit is reached.
    #[error("no space left")]
    NoSpace = libc::ENOSPC,
    /// `ENOMEM`: what C clients get for an unusable `rrd/` or `nodeip` value.
    #[error("cannot allocate memory")]
    NoMemory = libc::ENOMEM,
    /// `ECHRNG`: unknown IPC operation.
    #[error("unknown operation")]
    UnknownOperation = libc::ECHRNG,
    /// `ENAMETOOLONG`: a path component is longer than a name may be.
    #[error("file name too long")]
    NameTooLong = libc::ENAMETOOLONG,
    /// `EMSGSIZE`: an answer is larger than what was agreed with the client.
    #[error("message too long")]
    MessageTooLarge = libc::EMSGSIZE,
    /// `ENFILE`: the user has too much open that only open handles keep.
    #[error("too much open")]
    TooMuchOpen = libc::ENFILE,
    /// `ESTALE`: what a name led to has been replaced. For the kernel alone, which then looks the path up once more.
    #[error("stale file handle")]
    Stale = libc::ESTALE,
}

/// The result of an operation on the tree or on the status.
pub type Result<T, E = FsError> = std::result::Result<T, E>;

impl FsError {
    /// The positive errno that users and clients see.
    pub const fn errno(self) -> i32 {
        self as i32
    }
}

#[cfg(test)]
mod tests {
    use super::FsError;

    #[test]
    fn errno_numbers_are_the_ones_clients_know() {
        let table = [
            (FsError::NotFound, 2),
            (FsError::Io, 5),
            (FsError::NoMemory, 12),
            (FsError::Access, 13),
            (FsError::Busy, 16),
            (FsError::Exists, 17),
            (FsError::NotDirectory, 20),
            (FsError::IsDirectory, 21),
            (FsError::Invalid, 22),
            (FsError::TooBig, 27),
            (FsError::NoSpace, 28),
            (FsError::NameTooLong, 36),
            (FsError::NotEmpty, 39),
            (FsError::UnknownOperation, 44),
            (FsError::MessageTooLarge, 90),
            (FsError::TooMuchOpen, 23),
            (FsError::Stale, 116),
            (FsError::NotPermitted, 1),
        ];
        for (error, number) in table {
            assert_eq!(error.errno(), number, "{error}");
            assert_eq!(FsError::try_from(number), Ok(error), "{error}");
        }
    }
}
