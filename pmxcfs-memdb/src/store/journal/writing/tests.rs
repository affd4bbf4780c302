#![expect(clippy::disallowed_types, reason = "a lock of a test has no rank")]

use std::sync::Arc;

use parking_lot::Mutex;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A file in memory that can refuse the next steps.
#[derive(Clone, Default)]
struct MemoryFile(Arc<Mutex<(Vec<u8>, u8)>>);

impl MemoryFile {
    fn step(
        &self,
        act: impl FnOnce(&mut Vec<u8>),
        part: impl FnOnce(&mut Vec<u8>),
    ) -> io::Result<()> {
        let (content, refusals) = &mut *self.0.lock();
        if *refusals == 0 {
            act(content);
            return Ok(());
        }
        *refusals -= 1;
        part(content);
        Err(io::ErrorKind::StorageFull.into())
    }

    fn size(&self) -> u64 {
        self.0.lock().0.len() as u64
    }
}

fn write(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    content.resize(content.len().max(offset + bytes.len()), 0);
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
}

impl SegmentFile for MemoryFile {
    fn read_all(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.0.lock().0.clone())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let offset = offset as usize;
        let half = &bytes[..bytes.len() / 2];
        self.step(|to| write(to, offset, bytes), |to| write(to, offset, half))
    }

    fn truncate(&mut self, size: u64) -> io::Result<()> {
        self.step(|to| to.resize(size as usize, 0), |_| {})
    }

    fn is_linked(&self) -> io::Result<bool> {
        Ok(true)
    }
}

const DATABASE: FileIdentity = FileIdentity {
    device: 1,
    inode: 2,
    created_ns: 3,
};

/// A record that the segment can seal.
fn record(sequence: u64, size: usize) -> Vec<u8> {
    let change = crate::Change::Removed {
        inode: 1,
        parent: 0,
        name: bytes::Bytes::new(),
    };
    let mut buffer = Vec::new();
    let changes = vec![change; size];
    record::encode(
        &mut buffer,
        sequence,
        RootState::default(),
        &changes,
        &|_| None,
    );
    buffer
}

fn header(first_sequence: u64) -> JournalHeader {
    JournalHeader {
        database: DATABASE,
        first_sequence,
        base: RootState::default(),
        salt: draw_salt(),
    }
}

#[test]
fn a_freed_segment_keeps_its_pages_up_to_a_limit() {
    let file = MemoryFile::default();
    let mut segment = Segment::new(Box::new(file.clone()), None).unwrap();
    segment.begin(header(1)).unwrap();
    segment.append(&mut record(1, 1000), 1).unwrap();
    let used = segment.size;
    assert_eq!(file.size(), used);
    segment.clear().unwrap();
    assert_eq!(
        (segment.size, segment.allocated, file.size()),
        (0, used, used)
    );

    segment.begin(header(2)).unwrap();
    segment.append(&mut record(2, 10), 2).unwrap();
    assert_eq!((segment.allocated, file.size()), (used, used));
    segment.trim().unwrap();
    assert_eq!(
        (segment.allocated, file.size()),
        (segment.size, segment.size)
    );

    let large = KEPT_SIZE as usize / 9 + 1;
    segment.append(&mut record(3, large), 3).unwrap();
    assert!(file.size() > KEPT_SIZE);
    segment.clear().unwrap();
    assert_eq!((segment.allocated, file.size()), (KEPT_SIZE, KEPT_SIZE));
    segment.trim().unwrap();
    assert_eq!((segment.allocated, file.size()), (0, 0));
}

#[test]
fn a_segment_that_cannot_be_wiped_is_cut() {
    let file = MemoryFile::default();
    let mut segment = Segment::new(Box::new(file.clone()), None).unwrap();
    segment.begin(header(1)).unwrap();
    file.0.lock().1 = 1;
    segment.clear().unwrap();
    assert_eq!((segment.size, segment.allocated, file.size()), (0, 0, 0));

    segment.begin(header(1)).unwrap();
    file.0.lock().1 = 2;
    assert!(segment.clear().is_err());
    assert!(segment.size > 0, "it is in use until it is freed");
}

proptest! {
    #[test]
    fn no_file_is_larger_than_what_is_said(
        steps in vec((0..5u8, 1..50usize, 0..2u8), 0..40),
    ) {
        let file = MemoryFile::default();
        let mut segment = Segment::new(Box::new(file.clone()), None).unwrap();
        let mut sequence = 0;
        for (step, size, refusals) in steps {
            file.0.lock().1 = refusals;
            let before = segment.size;
            let result = match step {
                0 | 1 if before > 0 => {
                    sequence += 1;
                    segment.append(&mut record(sequence, size), sequence)
                }
                0 | 1 => segment.begin(header(sequence + 1)),
                2 if before > 0 => segment.clear(),
                _ => segment.trim(),
            };
            if result.is_err() {
                prop_assert_eq!(segment.size, before);
            }
            prop_assert!(segment.size <= segment.allocated);
            prop_assert!(file.size() <= segment.allocated);
            if refusals == 0 {
                file.0.lock().1 = 0;
                segment.trim().unwrap();
                prop_assert_eq!(file.size(), segment.size);
                prop_assert_eq!(segment.allocated, segment.size);
            }
        }
    }
}
