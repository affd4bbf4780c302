//! Requests as clients send them.
//!
//! Offsets count from the end of the 16-byte header. The C daemon believes the size that a client writes into the header,
//! and puts the NUL that ends a string at that offset; here the bytes that were received are all there is. A string that
//! fills the rest of a request loses its last byte, as it always did: that byte is the NUL of clients that send one.

use pmxcfs_api_types::text::until_nul;
use pmxcfs_api_types::{FsError, Result};
use pmxcfs_logger::Submission;

use crate::health::IpcOperation;

/// Size of a name field of the status operations, of which the last byte counts as NUL.
const NAME_FIELD_SIZE: usize = 256;

/// Offset of the user in a request for the cluster log; 12 bytes in front of it are ignored.
const LOG_USER_OFFSET: usize = 16;

/// A request, decoded.
#[derive(Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the fields are described with their operations"
)]
pub enum Call<'a> {
    /// 1: `.version`.
    Version,
    /// 2: `.members`.
    ClusterInfo,
    /// 3: `.vmlist`.
    GuestList,
    /// 4: sets a status value of this node. 256 bytes key, then the value.
    SetStatus { key: &'a [u8], value: &'a [u8] },
    /// 5: a status value of a node. 256 bytes key, 256 bytes node name, which may be empty for this node.
    Status { key: &'a [u8], node: &'a [u8] },
    /// 6: content of a file. The path, NUL.
    Config { path: &'a [u8] },
    /// 7: adds an entry to the cluster log. Its process id is not in the request.
    Log(Submission<'a>),
    /// 8: the cluster log. u32 limit, 12 bytes ignored, the user to filter by, NUL.
    ClusterLog { limit: u32, user: &'a [u8] },
    /// 10: `.rrd`.
    RrdDump,
    /// 11: one property of one guest or all. u32 guest id, the property, NUL. 13: several. u32 guest id, u8 count, that
    /// many names, each with NUL. Guest 0 stands for all. An error of the guest comes before one of the
    /// names.
    GuestProperties {
        vmid: u32,
        names: Result<Vec<&'a [u8]>>,
    },
    /// 12: whether a token is listed. The token, NUL.
    VerifyToken { token: &'a [u8] },
}

impl<'a> Call<'a> {
    /// Decodes the body of a request. `is_root` says whether the client may change anything.
    ///
    /// # Errors
    /// [`FsError::UnknownOperation`]; [`FsError::NotPermitted`] for a change by a client that may only read, whatever its
    /// request looks like; [`FsError::Invalid`] for a malformed request.
    pub fn decode(id: i32, body: &'a [u8], is_root: bool) -> Result<Self> {
        let operation = IpcOperation::from(id);
        if operation.changes_state() && !is_root {
            return Err(FsError::NotPermitted);
        }
        match operation {
            IpcOperation::Unknown => Err(FsError::UnknownOperation),
            IpcOperation::Version => without_body(body, Self::Version),
            IpcOperation::ClusterInfo => without_body(body, Self::ClusterInfo),
            IpcOperation::GuestList => without_body(body, Self::GuestList),
            IpcOperation::RrdDump => without_body(body, Self::RrdDump),
            IpcOperation::SetStatus => {
                let (key, value) = name_field(body)?;
                Ok(Self::SetStatus { key, value })
            }
            IpcOperation::GetStatus => {
                let (key, rest) = name_field(body)?;
                let (node, _ignored) = name_field(rest)?;
                Ok(Self::Status { key, node })
            }
            IpcOperation::GetConfig => last_string(body).map(|path| Self::Config { path }),
            IpcOperation::Log => submission(body).map(Self::Log),
            IpcOperation::ClusterLog => {
                let user = last_string(body.get(LOG_USER_OFFSET..).unwrap_or_default())?;
                let (limit, _ignored) = u32_field(body)?;
                Ok(Self::ClusterLog { limit, user })
            }
            IpcOperation::GuestProperty => {
                let (vmid, name) = u32_field(body)?;
                let names = last_string(name).map(|name| vec![name]);
                Ok(Self::GuestProperties { vmid, names })
            }
            IpcOperation::GuestProperties => {
                let (vmid, names) = u32_field(body)?;
                let names = property_names(names);
                Ok(Self::GuestProperties { vmid, names })
            }
            IpcOperation::VerifyToken => token(body).map(|token| Self::VerifyToken { token }),
        }
    }
}

/// An entry that a client wants to have logged.
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 1 | syslog priority |
/// | 1 | 1 | length of the ident with NUL |
/// | 2 | 1 | length of the tag with NUL |
/// | 3 | | ident, tag, then the message up to its first NUL or the end |
///
/// The C daemon wants a NUL behind the request instead of in it, so that it refuses most messages on a busy connection.
fn submission(body: &[u8]) -> Result<Submission<'_>> {
    let [priority, ident_length, tag_length, texts @ ..] = body else {
        return Err(FsError::Invalid);
    };
    let (ident, rest) = split(texts, usize::from(*ident_length))?;
    let (tag, message) = split(rest, usize::from(*tag_length))?;
    if message.is_empty() || !ident.ends_with(b"\0") || !tag.ends_with(b"\0") {
        return Err(FsError::Invalid);
    }
    Ok(Submission {
        priority: *priority,
        pid: 0,
        ident: until_nul(ident),
        tag: until_nul(tag),
        message: until_nul(message),
    })
}

/// The names in a request for several properties. None may be missing, left over, or begin with anything but a small letter.
fn property_names(bytes: &[u8]) -> Result<Vec<&[u8]>> {
    let (count, mut rest) = bytes.split_first().ok_or(FsError::Invalid)?;
    if *count == 0 || rest.len() <= 1 {
        return Err(FsError::Invalid);
    }
    let mut names = Vec::with_capacity(usize::from(*count));
    for _ in 0..*count {
        let end = rest
            .iter()
            .position(|byte| *byte == 0)
            .ok_or(FsError::Invalid)?;
        let name = &rest[..end];
        if !name.first().is_some_and(u8::is_ascii_lowercase) {
            return Err(FsError::Invalid);
        }
        names.push(name);
        rest = &rest[end + 1..];
    }
    if rest.is_empty() {
        Ok(names)
    } else {
        Err(FsError::Invalid)
    }
}

fn without_body<'a>(body: &[u8], call: Call<'a>) -> Result<Call<'a>> {
    if body.is_empty() {
        Ok(call)
    } else {
        Err(FsError::Invalid)
    }
}

fn split(bytes: &[u8], length: usize) -> Result<(&[u8], &[u8])> {
    bytes.split_at_checked(length).ok_or(FsError::Invalid)
}

fn u32_field(body: &[u8]) -> Result<(u32, &[u8])> {
    let (field, rest) = body.split_first_chunk().ok_or(FsError::Invalid)?;
    Ok((u32::from_le_bytes(*field), rest))
}

fn name_field(body: &[u8]) -> Result<(&[u8], &[u8])> {
    let (field, rest) = split(body, NAME_FIELD_SIZE)?;
    Ok((until_nul(&field[..NAME_FIELD_SIZE - 1]), rest))
}

/// A string that fills the rest of a request. Its last byte counts as NUL, whatever it is.
fn last_string(bytes: &[u8]) -> Result<&[u8]> {
    let (_nul, text) = bytes.split_last().ok_or(FsError::Invalid)?;
    Ok(until_nul(text))
}

/// A token: at least one byte, one line, a NUL at the end and nowhere else.
fn token(body: &[u8]) -> Result<&[u8]> {
    match body.split_last() {
        Some((0, token))
            if !token.is_empty() && !token.iter().any(|byte| matches!(byte, 0 | b'\n')) =>
        {
            Ok(token)
        }
        _ => Err(FsError::Invalid),
    }
}
