//! Bodies of requests, byte by byte: also those that a careful client would not send.

use integration_tests::IpcClient;
use integration_tests::ipc_client::IpcError;
use nix::errno::Errno;
use serde_json::Value;

/// An answer's body, owned.
pub(crate) type Answer = Result<Vec<u8>, IpcError>;

/// Sends a request and copies its answer.
pub(crate) fn ask(client: &mut IpcClient, operation: i32, body: &[u8]) -> Answer {
    client.request(operation, body).map(<[u8]>::to_vec)
}

/// What the service says when it refuses.
pub(crate) fn refusal(errno: Errno) -> Answer {
    Err(IpcError::Refused(errno))
}

/// A name field of 256 bytes.
pub(crate) fn field(name: &[u8]) -> Vec<u8> {
    let mut field = name.to_vec();
    field.resize(256, 0);
    field
}

/// Operation 4.
pub(crate) fn set(key: &[u8], value: &[u8]) -> Vec<u8> {
    [&field(key), value].concat()
}

/// Operation 7, every text with its NUL.
pub(crate) fn log(priority: u8, ident: &[u8], tag: &[u8], message: &[u8]) -> Vec<u8> {
    let length = |text: &[u8]| u8::try_from(text.len() + 1).unwrap();
    let lengths = [priority, length(ident), length(tag)];
    [&lengths[..], ident, b"\0", tag, b"\0", message, b"\0"].concat()
}

/// Operation 8.
pub(crate) fn cluster_log(limit: u32, user: &[u8]) -> Vec<u8> {
    [&limit.to_le_bytes()[..], &[0; 12], user, b"\0"].concat()
}

/// Operation 11.
pub(crate) fn property(vmid: u32, name: &[u8]) -> Vec<u8> {
    [&vmid.to_le_bytes()[..], name, b"\0"].concat()
}

/// Operation 13.
pub(crate) fn properties(vmid: u32, names: &[&[u8]]) -> Vec<u8> {
    let mut body = vmid.to_le_bytes().to_vec();
    body.push(u8::try_from(names.len()).unwrap());
    for name in names {
        body.extend_from_slice(name);
        body.push(0);
    }
    body
}

/// Parses a document: every one of them must be valid JSON in valid UTF-8.
pub(crate) fn json(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap_or_else(|error| panic!("{error}: {}", text.escape_ascii()))
}
