//! What holds for any bytes of a member. Called by the tests below and by the fuzz targets.

mod protocol;

use bytes::{Bytes, BytesMut};

use crate::database::wire::{
    LockMessage, OperationKind, OperationMessage, UpdateMessage as EntryMessage,
};
use crate::status::wire::UpdateMessage as KeyMessage;
use crate::wire::{Header, MessageKind, NormalMessage, StateMessage, VerifyMessage};

pub use protocol::protocol;

/// A message of either group: everything that decodes encodes to the same again.
pub fn cpg_message(bytes: &[u8]) {
    let message = Bytes::copy_from_slice(bytes);
    let Ok(header) = Header::decode(&message) else {
        return;
    };
    let mut encoded = BytesMut::new();
    header.encode(&mut encoded);
    assert_eq!(encoded, bytes[..encoded.len()]);
    if header.kind == MessageKind::Normal {
        if let Ok(normal) = NormalMessage::decode(&message) {
            assert_eq!(normal.encode(), message);
            payload(header.subtype, &normal.payload);
        }
    } else if let Ok(state) = StateMessage::decode(&message) {
        assert_eq!(state.encode(), message);
        verification(&state.payload);
        inode_update(&state.payload);
        // What the states of both groups are is decoded elsewhere.
    }
}

/// Payload of a message to a group, whatever the subtype says: a peer can put any payload behind any subtype.
fn payload(subtype: u16, payload: &Bytes) {
    if let Ok(kind) = OperationKind::try_from(subtype)
        && let Ok(message) = OperationMessage::decode(kind, payload)
    {
        let again = OperationMessage::decode(kind, &message.encode());
        assert_eq!(again.as_ref(), Ok(&message));
        if let Ok(operation) = message.operation() {
            let sent = OperationMessage::new(&operation).expect("it came in a message");
            assert_eq!(sent.operation().as_ref(), Ok(&operation));
        }
    }
    if let Ok(message) = LockMessage::decode(payload) {
        assert_eq!(LockMessage::decode(&message.encode()), Ok(message));
    }
    if let Ok(message) = KeyMessage::decode(payload) {
        assert!(message.key.len() < 256 && message.value.len() == payload.len() - 256);
        assert_eq!(KeyMessage::decode(&message.encode()), Ok(message));
    }
}

fn verification(payload: &Bytes) {
    if let Ok(request) = VerifyMessage::decode_request(payload) {
        assert_eq!(request.encode(), payload);
    }
    if let Ok(checksum) = VerifyMessage::decode_checksum(payload) {
        assert_eq!(checksum.encode(), payload);
    }
}

/// One entry of a leader: its name and data are in the message, and it encodes to an equal one.
pub fn inode_update(bytes: &[u8]) {
    let payload = Bytes::copy_from_slice(bytes);
    if let Ok(message) = EntryMessage::decode(&payload) {
        let entry = &message.entry;
        assert!(entry.name.len() + entry.data.len() < bytes.len());
        assert!(!entry.name.contains(&0));
        assert_eq!(EntryMessage::decode(&message.encode()), Ok(message));
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::{cpg_message, inode_update};

    /// Small numbers in the places of lengths.
    fn words() -> impl Strategy<Value = Vec<u8>> {
        let word = prop_oneof![4 => 0..30u32, 1 => any::<u32>()];
        let tail = vec(prop_oneof![Just(0), Just(b'a'), any::<u8>()], 0..40);
        (vec(word, 0..20), tail).prop_map(|(words, tail)| {
            let words: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            [words, tail].concat()
        })
    }

    proptest! {
        #[test]
        fn any_message(bytes in prop_oneof![vec(any::<u8>(), 0..300), words()], kind in 0..8u8, subtype in 0..10u8) {
            cpg_message(&bytes);
            let mut bytes = bytes;
            if let Some(fields) = bytes.get_mut(..4) {
                fields.copy_from_slice(&[kind, 0, subtype, 0]);
            }
            cpg_message(&bytes);
        }

        #[test]
        fn any_update(bytes in words(), is_file: bool) {
            inode_update(&bytes);
            let mut bytes = bytes;
            let length = bytes.len();
            if let Ok([data, name, kind]) = bytes.get_disjoint_mut([32..36, 36..40, 40..41]) {
                kind[0] = if is_file { 8 } else { 4 };
                let name_length = u32::from(name[0]);
                name.copy_from_slice(&name_length.to_le_bytes());
                let rest = u32::try_from(length - 41).expect("short");
                data.copy_from_slice(&rest.saturating_sub(name_length).to_le_bytes());
            }
            inode_update(&bytes);
        }
    }
}
