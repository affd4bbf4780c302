//! What holds for any bytes of a peer, a journal or a database. Called by the tests and by the fuzz targets.

use std::collections::BTreeMap;

use bytes::Bytes;

pub use crate::store::fuzzing::{crash_journal, database};
use crate::{Index, IndexEntry};

/// An index is what encodes to the same bytes, or is refused, and its differences are those of two maps.
pub fn index(bytes: &[u8]) {
    exact_index(bytes);
    let mut fitting = bytes.to_vec();
    let count = fitting.len().saturating_sub(32) / 40;
    let length = fitting.len();
    if let (Some(fields), Ok(count), Ok(length)) = (
        fitting.get_mut(24..32),
        u32::try_from(count),
        u32::try_from(length),
    ) {
        fields[..4].copy_from_slice(&count.to_le_bytes());
        fields[4..].copy_from_slice(&length.to_le_bytes());
        exact_index(&fitting);
    }
}

fn exact_index(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let Ok(index) = Index::decode(&bytes) else {
        return;
    };
    assert_eq!(index.bytes(), &bytes);
    let mut entries: Vec<IndexEntry> = index.entries().collect();
    let mut number = 0;
    entries.retain_mut(|entry| {
        number += 1;
        if number % 3 == 0 {
            entry.digest[0] ^= 1;
        }
        number % 4 != 0
    });
    let other = Index::new(index.root(), entries.into_iter());
    let map = |index: &Index| -> BTreeMap<u64, [u8; 32]> {
        let entries = index.entries();
        entries.map(|entry| (entry.inode, entry.digest)).collect()
    };
    let (mine, theirs) = (map(&index), map(&other));
    let changed = mine
        .iter()
        .filter(|(inode, digest)| theirs.get(inode) != Some(digest));
    assert!(
        changed
            .map(|(inode, _)| *inode)
            .eq(index.changed_against(&other))
    );
    let absent = mine.keys().filter(|inode| !theirs.contains_key(inode));
    assert!(absent.copied().eq(index.absent_from(&other)));
    assert_eq!(other.absent_from(&index).count(), 0);
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::index;

    proptest! {
        #[test]
        fn any_index(bytes in vec(any::<u8>(), 0..400), ascending: bool) {
            let mut bytes = bytes;
            if ascending {
                for (number, entry) in bytes.get_mut(32..).unwrap_or_default().chunks_mut(40).enumerate() {
                    entry[0] = u8::try_from(number).expect("few");
                    let end = entry.len().min(8);
                    entry[1..end].fill(0);
                }
            }
            index(&bytes);
        }
    }
}
