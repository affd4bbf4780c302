use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use proptest::prelude::*;

use super::{
    Consumer, Geometry, MAGIC_COMPLETE, MAGIC_CONSUMED, Producer, RingMemory, RingViolation,
};

/// A ring in private memory, with the client's half of the header.
struct Model {
    bytes: RefCell<Vec<u8>>,
    read: Cell<u32>,
    write: Cell<u32>,
    semaphore: Cell<u32>,
}

impl Model {
    fn new(geometry: Geometry) -> Self {
        Self {
            bytes: RefCell::new(vec![0xEE; geometry.bytes()]),
            read: Cell::new(0),
            write: Cell::new(0),
            semaphore: Cell::new(0),
        }
    }
}

impl RingMemory for Model {
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
        self.write.set(word);
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

/// A small ring, so that everything wraps.
const RING: Geometry = Geometry { words: 64 };

#[test]
fn geometry_is_the_one_clients_compute() {
    let table = [
        (12328, 4096, Some(16384)),
        (1_048_576, 4096, Some(1_052_672)),
        (4083, 4096, Some(4096)),
        (4084, 4096, Some(8192)),
        (12328, 65536, Some(65536)),
        (u32::MAX, 4096, None),
        (u32::MAX - 13, 4096, None),
    ];
    for (size, page, bytes) in table {
        let geometry = Geometry::for_message_size(size, page);
        assert_eq!(geometry.map(Geometry::bytes), bytes, "{size}");
    }
}

#[test]
fn an_empty_ring_takes_all_but_twelve_bytes() {
    let memory = Model::new(RING);
    let mut producer = Producer::new(RING);
    let too_much = vec![1; RING.bytes() - 11];
    assert_eq!(
        producer.put(&memory, &[], &too_much),
        Err(RingViolation::Full)
    );
    assert_eq!(producer.put(&memory, &too_much[1..], &[]), Ok(()));
    assert_eq!(producer.put(&memory, &[], &[]), Err(RingViolation::Full));
}

#[test]
fn a_read_position_outside_the_ring_is_a_violation() {
    let memory = Model::new(RING);
    let mut producer = Producer::new(RING);
    for position in [64, 65, 1 << 30, u32::MAX] {
        memory.read.set(position);
        let result = producer.put(&memory, b"header", b"body");
        assert_eq!(result, Err(RingViolation::ReadPosition(position)));
    }
}

#[test]
fn a_chunk_is_taken_only_if_complete_and_of_a_possible_length() {
    let good = MAGIC_COMPLETE;
    let table = [
        (16, good, Ok(16)),
        (48, good, Ok(48)),
        (15, good, Err(RingViolation::Length(15))),
        (0, good, Err(RingViolation::Length(0))),
        (49, good, Err(RingViolation::Length(49))),
        (0xFFFF_FFF0, good, Err(RingViolation::Length(0xFFFF_FFF0))),
        (
            16,
            MAGIC_CONSUMED,
            Err(RingViolation::Magic(MAGIC_CONSUMED)),
        ),
        (16, 0xA110_CED0, Err(RingViolation::Magic(0xA110_CED0))),
        (16, 0, Err(RingViolation::Magic(0))),
    ];
    for (length, magic, expected) in table {
        let memory = Model::new(RING);
        memory.store(0, length);
        memory.store(1, magic);
        let taken = Consumer::new(RING).take(&memory, &(16..=48));
        assert_eq!(taken.map(|message| message.len()), expected);
    }
}

#[test]
fn a_taken_chunk_is_marked_as_libqb_marks_it() {
    let memory = Model::new(RING);
    Producer::new(RING).put(&memory, b"0123", b"4").unwrap();
    assert_eq!((memory.load(0), memory.load(1)), (5, MAGIC_COMPLETE));
    assert_eq!((memory.write.get(), memory.semaphore.get()), (4, 1));
    let mut consumer = Consumer::new(RING);
    assert_eq!(consumer.take(&memory, &(0..=8)), Ok(b"01234".to_vec()));
    assert_eq!((memory.load(0), memory.load(1)), (0, MAGIC_CONSUMED));
    assert_eq!((memory.read.get(), memory.semaphore.get()), (4, 0));
}

proptest! {
    /// A ring is a queue: what goes in comes out, in order, whatever the sizes, and it is full exactly when libqb's
    /// rule says so.
    #[test]
    fn a_ring_is_a_bounded_queue(steps in prop::collection::vec(prop::option::of(0usize..200), 1..200)) {
        let memory = Model::new(RING);
        let (mut producer, mut consumer) = (Producer::new(RING), Consumer::new(RING));
        let mut model: VecDeque<Vec<u8>> = VecDeque::new();
        let mut fill = 0u8;
        for step in steps {
            match step {
                Some(size) => {
                    fill = fill.wrapping_add(1);
                    let message: Vec<u8> = (0..=u8::MAX).cycle().map(|i| fill ^ i).take(size).collect();
                    let (header, body) = message.split_at(size.min(24));
                    let used: usize = model.iter().map(|it| 2 + it.len().div_ceil(4)).sum();
                    let free = if used == 0 { 64 } else { 64 - used - 1 };
                    let result = producer.put(&memory, header, body);
                    if 4 * free >= size + 12 {
                        prop_assert_eq!(result, Ok(()));
                        model.push_back(message);
                    } else {
                        prop_assert_eq!(result, Err(RingViolation::Full));
                    }
                }
                None => {
                    let Some(expected) = model.pop_front() else { continue };
                    prop_assert_eq!(consumer.take(&memory, &(0..=256)), Ok(expected));
                }
            }
            prop_assert_eq!(memory.semaphore.get() as usize, model.len());
            prop_assert_eq!(memory.write.get(), producer.write);
            prop_assert_eq!(memory.read.get(), consumer.read);
        }
    }

    /// Whatever a client writes anywhere, at any moment, the server's positions stay inside the ring and nothing
    /// panics.
    #[test]
    fn a_client_may_write_anything(
        steps in prop::collection::vec((any::<bool>(), 0u32..64, any::<u32>(), 0usize..150), 1..100),
    ) {
        let memory = Model::new(RING);
        let (mut producer, mut consumer) = (Producer::new(RING), Consumer::new(RING));
        for (chooses_chunk, word, value, size) in steps {
            if chooses_chunk {
                memory.store(consumer.read, value % 160);
                memory.store(RING.advance(consumer.read, 1), MAGIC_COMPLETE);
            } else {
                memory.store(word, value);
                memory.read.set(value % 70);
                memory.write.set(value);
                memory.semaphore.set(value % 3);
            }
            if let Ok(message) = consumer.take(&memory, &(16..=128)) {
                prop_assert!((16..=128).contains(&message.len()));
            }
            // The outcome depends on positions that the client made up; only the bounds matter here.
            let _outcome = producer.put(&memory, &[0; 24], &[0; 150][..size]);
            prop_assert!(consumer.read < 64 && producer.write < 64);
        }
    }
}
