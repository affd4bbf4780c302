//! The one place where an errno is chosen.

/// Why an operation on the tree or on the status was refused.
///
/// Each variant stands for exactly one errno of the C daemon's tables. FUSE and IPC only negate or wrap
/// [`FsError::errno`]; they never pick a number of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum FsError {
    /// `ENOENT`: the path, a parent of it, or a key does not exist.
    #[error("no such file or directory")]
    NotFound,
    /// `ENOTDIR`: a directory is needed and the entry is a file, or the reverse where the C daemon says so.
    #[error("not a directory")]
    NotDirectory,
    /// `EISDIR`: a file is needed and the entry is a directory.
    #[error("is a directory")]
    IsDirectory,
    /// `EEXIST`: the name is taken, or the guest id belongs to another node or guest type.
    #[error("already exists")]
    Exists,
    /// `ENOTEMPTY`: the directory has entries.
    #[error("directory not empty")]
    NotEmpty,
    /// `EACCES`: bad base name, not quorate, a lock that is not ours, or a plugin name.
    #[error("permission denied")]
    Access,
    /// `EPERM`: the caller may not do this at all.
    #[error("operation not permitted")]
    NotPermitted,
    /// `EFBIG`: the file or value would exceed its limit.
    #[error("file too large")]
    TooBig,
    /// `EIO`: the store has failed, or content is unusable.
    #[error("input/output error")]
    Io,
    /// `EINVAL`: malformed request.
    #[error("invalid argument")]
    Invalid,
    /// `EBUSY`: the outcome is unknown, or the resource cannot be had now.
    #[error("resource busy")]
    Busy,
    /// `ENOSPC`: the filesystem's size or inode limit is reached.
    #[error("no space left")]
    NoSpace,
    /// `ENOMEM`: what C clients get for an unusable `rrd/` or `nodeip` value.
    #[error("cannot allocate memory")]
    NoMemory,
    /// `ECHRNG`: unknown IPC operation.
    #[error("unknown operation")]
    UnknownOperation,
    /// `ENAMETOOLONG`: a path component is longer than a name may be.
    #[error("file name too long")]
    NameTooLong,
    /// `EMSGSIZE`: an answer is larger than what was agreed with the client.
    #[error("message too long")]
    MessageTooLarge,
    /// `ENFILE`: the user has too much open that only open handles keep.
    #[error("too much open")]
    TooMuchOpen,
    /// `ESTALE`: what a name led to has been replaced. For the kernel alone, which then looks the path up once more.
    #[error("stale file handle")]
    Stale,
}

impl FsError {
    const ALL: &[Self] = &[
        Self::NotFound,
        Self::NotDirectory,
        Self::IsDirectory,
        Self::Exists,
        Self::NotEmpty,
        Self::Access,
        Self::NotPermitted,
        Self::TooBig,
        Self::Io,
        Self::Invalid,
        Self::Busy,
        Self::NoSpace,
        Self::NoMemory,
        Self::UnknownOperation,
        Self::NameTooLong,
        Self::MessageTooLarge,
        Self::TooMuchOpen,
        Self::Stale,
    ];

    /// The error that has this positive errno.
    #[must_use]
    pub fn from_errno(errno: i32) -> Option<Self> {
        let mut all = Self::ALL.iter().copied();
        all.find(|error| error.errno() == errno)
    }

    /// The positive errno that users and clients see.
    #[must_use]
    pub const fn errno(self) -> i32 {
        match self {
            Self::NotFound => libc::ENOENT,
            Self::NotDirectory => libc::ENOTDIR,
            Self::IsDirectory => libc::EISDIR,
            Self::Exists => libc::EEXIST,
            Self::NotEmpty => libc::ENOTEMPTY,
            Self::Access => libc::EACCES,
            Self::NotPermitted => libc::EPERM,
            Self::TooBig => libc::EFBIG,
            Self::Io => libc::EIO,
            Self::Invalid => libc::EINVAL,
            Self::Busy => libc::EBUSY,
            Self::NoSpace => libc::ENOSPC,
            Self::NoMemory => libc::ENOMEM,
            Self::UnknownOperation => libc::ECHRNG,
            Self::NameTooLong => libc::ENAMETOOLONG,
            Self::MessageTooLarge => libc::EMSGSIZE,
            Self::TooMuchOpen => libc::ENFILE,
            Self::Stale => libc::ESTALE,
        }
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
            assert_eq!(FsError::from_errno(number), Some(error), "{error}");
        }
    }
}
