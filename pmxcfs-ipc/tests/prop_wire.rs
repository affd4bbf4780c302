//! Decoders of what clients send: arbitrary bytes, every truncation, every impossible length.

use pmxcfs_ipc::wire::DecodeError;
use pmxcfs_ipc::wire::address::{MAX_NAME_SIZE, abstract_address};
use pmxcfs_ipc::wire::request::{REQUEST_HEADER_SIZE, decode};
use pmxcfs_ipc::wire::setup::decode_request;
use proptest::prelude::*;

fn request(id: i32, size: i32, padding: [u32; 2], body: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    message.extend(id.to_le_bytes());
    message.extend(padding[0].to_le_bytes());
    message.extend(size.to_le_bytes());
    message.extend(padding[1].to_le_bytes());
    message.extend(body);
    message
}

#[test]
fn sizes_from_header_to_message_are_accepted_and_no_others() {
    let message = |size| request(7, size, [0; 2], b"12345678");
    for size in 16..=24 {
        let message = message(size);
        let body = &message[16..usize::try_from(size).unwrap()];
        let decoded = decode(&message);
        assert_eq!(decoded, Ok((7, body)));
    }
    for size in [15, 1, 0, -1, i32::MIN, 25, 26, 0x4000_0000, i32::MAX] {
        let received = 24;
        let expected = Err(DecodeError::Size { size, received });
        assert_eq!(decode(&message(size)), expected);
    }
}

#[test]
fn a_message_cut_anywhere_is_refused() {
    let message = request(7, 24, [0; 2], b"12345678");
    for received in 0..message.len() {
        let expected = if received < REQUEST_HEADER_SIZE {
            DecodeError::Short { received }
        } else {
            DecodeError::Size { size: 24, received }
        };
        assert_eq!(decode(&message[..received]), Err(expected));
    }
}

#[test]
fn names_that_would_be_cut_are_refused() {
    assert!(abstract_address(&"n".repeat(MAX_NAME_SIZE)).is_ok());
    assert!(abstract_address(&"n".repeat(MAX_NAME_SIZE + 1)).is_err());
}

proptest! {
    /// The body is what the size field says, inside what arrived, whatever the bytes.
    #[test]
    fn arbitrary_messages_never_yield_more_than_arrived(message in prop::collection::vec(any::<u8>(), 0..100)) {
        if let Ok((_, body)) = decode(&message) {
            let size = i32::from_le_bytes(message[8..12].try_into().unwrap());
            prop_assert_eq!(usize::try_from(size).unwrap(), REQUEST_HEADER_SIZE + body.len());
            prop_assert_eq!(body, &message[16..16 + body.len()]);
        }
    }

    /// Padding is not part of any field.
    #[test]
    fn padding_is_ignored(
        id in any::<i32>(),
        padding in any::<[u32; 2]>(),
        body in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let size = i32::try_from(16 + body.len()).unwrap();
        let message = request(id, size, padding, &body);
        prop_assert_eq!(decode(&message), Ok((id, &body[..])));
    }

    /// Only the id decides whether 24 bytes are a connection request.
    #[test]
    fn connection_requests_are_told_by_their_id(bytes in any::<[u8; 24]>()) {
        let wanted = u32::from_le_bytes(bytes[16..20].try_into().unwrap());
        let mut request = bytes;
        request[..4].copy_from_slice(&[0xff; 4]);
        prop_assert_eq!(decode_request(&request), Ok(wanted));
        prop_assert_eq!(decode_request(&bytes).is_ok(), bytes[..4] == [0xff; 4]);
    }
}
