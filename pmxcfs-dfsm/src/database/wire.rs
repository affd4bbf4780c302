//! Messages of the database group.

use bytes::{Buf as _, BufMut, Bytes, BytesMut};
use num_enum::TryFromPrimitive;
use pmxcfs_api_types::{FsError, Result};
use pmxcfs_memdb::{Digest, Entry, EntryKind, Operation};

use crate::wire::{DecodeError, cut_terminator, take};

/// Length of the fixed fields of an operation in bytes.
const OPERATION_LENGTH: usize = 20;

/// Length of the fixed fields of an update in bytes.
const UPDATE_LENGTH: usize = 41;

/// Length of the checksum before the path of a lock message, in bytes.
const CHECKSUM_LENGTH: usize = 32;

/// The kind of an operation message. The numbers are message subtypes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, TryFromPrimitive)]
#[repr(u16)]
pub enum OperationKind {
    /// Write or truncate.
    Write = 1,
    /// Make a directory.
    Mkdir = 2,
    /// Remove an entry.
    Delete = 3,
    /// Move an entry.
    Rename = 4,
    /// Make a file.
    Create = 5,
    /// Set the mtime.
    Mtime = 6,
}

/// Subtype of a request to remove a lock if it has expired.
pub const UNLOCK_REQUEST: u16 = 7;

/// Subtype of the decision that a lock has expired.
pub const UNLOCK: u16 = 8;

/// An operation on the tree ("format A"), subtypes 1 to 6.
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 4 | length of data |
/// | 4 | 4 | WRITE: offset; truncate: the new size; MTIME: the new mtime |
/// | 8 | 4 | length of path with NUL, 0 for none |
/// | 12 | 4 | length of target with NUL, 0 for none |
/// | 16 | 4 | WRITE: 1 to truncate |
/// | 20 | | path, target, data |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationMessage {
    /// The subtype.
    pub kind: OperationKind,
    /// Offset, size or mtime.
    pub offset: u32,
    /// 1: truncate.
    pub flags: u32,
    /// Relative to the root, without leading slash.
    pub path: Option<Bytes>,
    /// New path of a rename.
    pub target: Option<Bytes>,
    /// Bytes to write.
    pub data: Bytes,
}

impl OperationMessage {
    /// Reads the payload of a message of subtype 1 to 6.
    ///
    /// # Errors
    /// Lengths that do not add up, a path without terminator.
    pub fn decode(kind: OperationKind, payload: &Bytes) -> Result<Self, DecodeError> {
        let mut rest = payload.clone();
        let size = rest.try_get_u32_le()?;
        let offset = rest.try_get_u32_le()?;
        let path_length = rest.try_get_u32_le()?;
        let target_length = rest.try_get_u32_le()?;
        let flags = rest.try_get_u32_le()?;
        let stated = OPERATION_LENGTH as u64
            + u64::from(size)
            + u64::from(path_length)
            + u64::from(target_length);
        if stated != payload.len() as u64 {
            return Err(DecodeError::Length {
                stated,
                actual: payload.len(),
            });
        }
        Ok(Self {
            kind,
            offset,
            flags,
            path: string(&mut rest, path_length)?,
            target: string(&mut rest, target_length)?,
            data: rest,
        })
    }

    /// The payload to send.
    pub fn encode(&self) -> Bytes {
        let (path, target) = (self.path.as_ref(), self.target.as_ref());
        let (path_length, target_length) = (string_length(path), string_length(target));
        let mut buffer = BytesMut::new();
        buffer.put_u32_le(length_field(self.data.len()));
        buffer.put_u32_le(self.offset);
        buffer.put_u32_le(path_length);
        buffer.put_u32_le(target_length);
        buffer.put_u32_le(self.flags);
        for string in [path, target].into_iter().flatten() {
            buffer.put_slice(string);
            buffer.put_u8(0);
        }
        buffer.put_slice(&self.data);
        buffer.freeze()
    }

    /// The message for an operation.
    ///
    /// # Errors
    /// `TooBig` for an offset that no message can carry.
    pub fn new(operation: &Operation) -> Result<Self> {
        let plain = |kind, path: &Bytes| Self {
            kind,
            offset: 0,
            flags: 0,
            path: Some(path.clone()),
            target: None,
            data: Bytes::new(),
        };
        Ok(match operation {
            Operation::Mkdir { path } => plain(OperationKind::Mkdir, path),
            Operation::Create { path } => plain(OperationKind::Create, path),
            Operation::Delete { path } => plain(OperationKind::Delete, path),
            Operation::Write {
                path,
                offset,
                data,
                truncate,
            } => Self {
                offset: u32::try_from(*offset).map_err(|_wide| FsError::TooBig)?,
                flags: u32::from(*truncate),
                data: data.clone(),
                ..plain(OperationKind::Write, path)
            },
            Operation::Rename { from, to } => Self {
                target: Some(to.clone()),
                ..plain(OperationKind::Rename, from)
            },
            Operation::SetMtime { path, mtime } => Self {
                offset: *mtime,
                ..plain(OperationKind::Mtime, path)
            },
        })
    }

    /// The operation that the message asks for. Fields that the kind does not use are ignored, as C peers do.
    ///
    /// # Errors
    /// A path that is missing: `Invalid`, or `NotFound` for kinds that look up an existing entry. A target that is missing:
    /// `Invalid`.
    pub fn operation(&self) -> Result<Operation> {
        let absent = match self.kind {
            OperationKind::Delete | OperationKind::Rename => FsError::NotFound,
            _ => FsError::Invalid,
        };
        let path = self.path.clone().ok_or(absent)?;
        Ok(match self.kind {
            OperationKind::Write => Operation::Write {
                path,
                offset: u64::from(self.offset),
                data: self.data.clone(),
                truncate: self.flags != 0,
            },
            OperationKind::Mkdir => Operation::Mkdir { path },
            OperationKind::Delete => Operation::Delete { path },
            OperationKind::Rename => Operation::Rename {
                from: path,
                to: self.target.clone().ok_or(FsError::Invalid)?,
            },
            OperationKind::Create => Operation::Create { path },
            OperationKind::Mtime => Operation::SetMtime {
                path,
                mtime: self.offset,
            },
        })
    }
}

/// A lock that may be or is to be removed ("format B"), subtypes 7 and 8.
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 32 | checksum of the lock's entry |
/// | 32 | | path with NUL |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockMessage {
    /// [`Entry::checksum`] of the lock in the state that is meant.
    pub checksum: Digest,
    /// Relative to the root, without leading slash.
    pub path: Bytes,
}

impl LockMessage {
    /// Reads the payload of a message of subtype 7 or 8.
    ///
    /// # Errors
    /// Fewer than 33 bytes, a path without terminator.
    pub fn decode(payload: &Bytes) -> Result<Self, DecodeError> {
        let mut rest = payload.clone();
        let mut checksum = Digest::default();
        rest.try_copy_to_slice(&mut checksum)?;
        Ok(Self {
            checksum,
            path: cut_terminator(&rest)?,
        })
    }

    /// The payload to send.
    pub fn encode(&self) -> Bytes {
        let mut buffer = BytesMut::with_capacity(CHECKSUM_LENGTH + self.path.len() + 1);
        buffer.put_slice(&self.checksum);
        buffer.put_slice(&self.path);
        buffer.put_u8(0);
        buffer.freeze()
    }
}

/// Payload of an update: one entry with its content.
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 8 | inode of the directory |
/// | 8 | 8 | inode |
/// | 16 | 8 | version |
/// | 24 | 4 | writer |
/// | 28 | 4 | mtime |
/// | 32 | 4 | length of data |
/// | 36 | 4 | length of name with NUL |
/// | 40 | 1 | 4 directory, 8 file |
/// | 41 | | name, data |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateMessage {
    /// The entry. Inode 0 is the root, whose version, writer and mtime are those of the database.
    pub entry: Entry,
}

impl UpdateMessage {
    /// Reads the payload of an update.
    ///
    /// # Errors
    /// Lengths that do not add up, an unknown type, a name without terminator.
    pub fn decode(payload: &Bytes) -> Result<Self, DecodeError> {
        let mut rest = payload.clone();
        let parent = rest.try_get_u64_le()?;
        let inode = rest.try_get_u64_le()?;
        let version = rest.try_get_u64_le()?;
        let writer = rest.try_get_u32_le()?;
        let mtime = rest.try_get_u32_le()?;
        let size = rest.try_get_u32_le()?;
        let name_length = rest.try_get_u32_le()?;
        let kind = rest.try_get_u8()?;
        let kind = EntryKind::try_from(kind).map_err(|_unknown| DecodeError::EntryType(kind))?;
        let stated = UPDATE_LENGTH as u64 + u64::from(size) + u64::from(name_length);
        if stated != payload.len() as u64 {
            return Err(DecodeError::Length {
                stated,
                actual: payload.len(),
            });
        }
        let name = string(&mut rest, name_length)?.ok_or(DecodeError::NoString)?;
        Ok(Self {
            entry: Entry {
                inode,
                parent,
                version,
                writer,
                mtime,
                size,
                kind,
                name,
                data: rest,
            },
        })
    }

    /// The payload to send. The entry must have the data that its size promises.
    pub fn encode(&self) -> Bytes {
        let entry = &self.entry;
        let mut buffer =
            BytesMut::with_capacity(UPDATE_LENGTH + entry.name.len() + 1 + entry.data.len());
        buffer.put_u64_le(entry.parent);
        buffer.put_u64_le(entry.inode);
        buffer.put_u64_le(entry.version);
        buffer.put_u32_le(entry.writer);
        buffer.put_u32_le(entry.mtime);
        buffer.put_u32_le(length_field(entry.data.len()));
        buffer.put_u32_le(length_field(entry.name.len() + 1));
        buffer.put_u8(entry.kind as u8);
        buffer.put_slice(&entry.name);
        buffer.put_u8(0);
        buffer.put_slice(&entry.data);
        buffer.freeze()
    }
}

fn string(rest: &mut Bytes, length: u32) -> Result<Option<Bytes>, DecodeError> {
    if length == 0 {
        return Ok(None);
    }
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    cut_terminator(&take(rest, length)?).map(Some)
}

fn string_length(string: Option<&Bytes>) -> u32 {
    string.map_or(0, |bytes| length_field(bytes.len() + 1))
}

/// Lengths come from the tree or from a request, which are far below 4 GiB.
fn length_field(length: usize) -> u32 {
    u32::try_from(length).expect("files and paths are far shorter than 4 GiB")
}
