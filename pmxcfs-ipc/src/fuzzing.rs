//! What holds for any bytes of a client. Called by the tests below and by the fuzz targets.

use std::cell::{Cell, RefCell};

use crate::ring::{Consumer, Geometry, MAGIC_COMPLETE, Producer, RingMemory};
use crate::wire::address::{MAX_NAME_SIZE, abstract_address};
use crate::wire::request::{self, REQUEST_HEADER_SIZE};
use crate::wire::setup::{CONNECT_REQUEST_SIZE, decode_request};

/// The first message of a connection: only its id decides, and what it asks for becomes a ring or is refused.
pub fn handshake(bytes: &[u8]) {
    let Some(request) = bytes.first_chunk::<CONNECT_REQUEST_SIZE>() else {
        return;
    };
    let decoded = decode_request(request);
    let is_connect = request.starts_with(&(-1i32).to_le_bytes());
    assert_eq!(decoded.is_ok(), is_connect);
    if let Ok(wanted) = decoded {
        for page_size in [4096, 65536] {
            if let Some(geometry) = Geometry::for_message_size(wanted, page_size) {
                assert!(geometry.bytes() as u64 > u64::from(wanted) + 12);
                assert_eq!(geometry.bytes() % page_size, 0);
            }
        }
    }
    let name = String::from_utf8_lossy(bytes);
    assert_eq!(abstract_address(&name).is_ok(), name.len() <= MAX_NAME_SIZE);
}

/// A request: its body is what the size field says, inside what arrived.
pub fn request(bytes: &[u8]) {
    if let Ok((id, body)) = request::decode(bytes) {
        assert!(bytes.starts_with(&id.to_le_bytes()));
        assert_eq!(body, &bytes[REQUEST_HEADER_SIZE..][..body.len()]);
    }
}

/// Size of the ring in bytes, so small that everything wraps.
const RING_SIZE: usize = 4096;

/// A client that writes what it likes into its rings. The first bytes are the ring; what follows are five-byte steps: what to
/// do, and a number.
pub fn shared_ring(bytes: &[u8]) {
    let geometry = Geometry::for_message_size(1, RING_SIZE).expect("a small ring");
    let memory = Memory::new(geometry);
    let head = bytes.len().min(64);
    let (ring, steps) = bytes.split_at(head);
    memory.write(0, ring);
    let mut consumer = Consumer::new(geometry);
    let mut producer = Producer::new(geometry);
    for &[operation, ref numbers @ ..] in steps.as_chunks::<5>().0 {
        let number = u32::from_le_bytes(*numbers);
        match operation % 8 {
            // A message that the client announces.
            0 => {
                let taken = consumer.take(&memory, &(16..=geometry.bytes() + 100));
                assert!(taken.is_err() || memory.read.get() < geometry.words());
                if let Ok(message) = taken {
                    assert!((16..=geometry.bytes()).contains(&message.len()));
                }
            }
            // A read position of the client's, then an answer.
            1 => {
                memory.read.set(number % (geometry.words() + 2));
                answer(&mut producer, &memory, geometry, number as usize % 5000);
            }
            2 => {
                memory.read.set(number);
                answer(&mut producer, &memory, geometry, numbers[0].into());
            }
            // A well-formed chunk where the consumer looks next, or a length without one.
            3 => {
                let at = memory.read.get() % geometry.words();
                memory.store(at, number % 5000);
                memory.store((at + 1) % geometry.words(), MAGIC_COMPLETE);
            }
            _ => memory.store(number % geometry.words(), u32::from(operation) << 8),
        }
    }
}

fn answer(producer: &mut Producer, memory: &Memory, geometry: Geometry, size: usize) {
    let body = vec![0x5a; size];
    let before = memory.written.get();
    let read = memory.read.get();
    if producer.put(memory, b"a response header", &body).is_err() {
        assert_eq!(memory.written.get(), before, "nothing was announced");
        return;
    }
    assert!(read < geometry.words() && memory.written.get() < geometry.words());
    let length = memory.load(before) as usize;
    assert_eq!(length, 17 + size);
    assert_eq!(memory.load((before + 1) % geometry.words()), MAGIC_COMPLETE);
    let last = (8 + length - 1 + 4 * before as usize) % geometry.bytes();
    let expected = if size > 0 { 0x5a } else { b'r' };
    assert_eq!(memory.bytes.borrow()[last], expected);
}

/// A ring in private memory. Reaching outside of it is a panic.
struct Memory {
    bytes: RefCell<Vec<u8>>,
    read: Cell<u32>,
    written: Cell<u32>,
    semaphore: Cell<u32>,
}

impl Memory {
    fn new(geometry: Geometry) -> Self {
        Self {
            bytes: RefCell::new(vec![0; geometry.bytes()]),
            read: Cell::new(0),
            written: Cell::new(0),
            semaphore: Cell::new(0),
        }
    }
}

impl RingMemory for Memory {
    fn load(&self, word: u32) -> u32 {
        let mut bytes = [0; 4];
        self.read(4 * word as usize, &mut bytes);
        u32::from_le_bytes(bytes)
    }
    fn store(&self, word: u32, value: u32) {
        self.write(4 * word as usize, &value.to_le_bytes());
    }
    fn read(&self, offset: usize, into: &mut [u8]) {
        into.copy_from_slice(&self.bytes.borrow()[offset..offset + into.len()]);
    }
    fn write(&self, offset: usize, from: &[u8]) {
        self.bytes.borrow_mut()[offset..offset + from.len()].copy_from_slice(from);
    }
    fn read_position(&self) -> u32 {
        self.read.get()
    }
    fn set_read_position(&self, word: u32) {
        self.read.set(word);
    }
    fn set_write_position(&self, word: u32) {
        self.written.set(word);
    }
    fn chunk_count(&self) -> u32 {
        self.semaphore.get()
    }
    fn take(&self) {
        self.semaphore.set(self.semaphore.get().wrapping_sub(1));
    }
    fn post(&self) {
        self.semaphore.set(self.semaphore.get().wrapping_add(1));
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_handshake(mut bytes in vec(any::<u8>(), 0..120), is_connect: bool) {
            if is_connect && bytes.len() >= 4 {
                bytes[..4].fill(0xff);
            }
            handshake(&bytes);
        }

        #[test]
        fn any_request(mut bytes in vec(any::<u8>(), 0..100), size in prop::option::of(0..110i32)) {
            if let (Some(size), true) = (size, bytes.len() >= 12) {
                bytes[8..12].copy_from_slice(&size.to_le_bytes());
            }
            request(&bytes);
        }

        #[test]
        fn any_client_of_a_ring(head in vec(any::<u8>(), 64), steps in vec((any::<u8>(), prop_oneof![0u32..5000, any::<u32>()]), 0..60)) {
            let steps = steps.iter().flat_map(|(what, number)| [&[*what][..], &number.to_le_bytes()].concat());
            shared_ring(&head.into_iter().chain(steps).collect::<Vec<u8>>());
        }
    }
}
