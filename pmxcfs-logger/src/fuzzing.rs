//! What holds for any bytes of a peer. Called by the tests below and by the fuzz targets.

use crate::{Entry, RING_SIZE, Ring, RingView, merge};

/// Smallest entry that a ring can hold: the fields, a byte for each text and the padding, at a multiple of 8.
const MIN_ENTRY_ROOM: usize = 56;

/// An entry is kept byte for byte, or refused; an accepted one can be stored and is then well-formed.
pub fn cluster_log_entry(bytes: &[u8]) {
    let Ok(entry) = Entry::decode(bytes) else {
        return;
    };
    assert_eq!(entry.as_bytes(), bytes);
    let mut ring = Ring::new();
    ring.append(&entry.view());
    let stored = ring.walk().next().expect("it was stored").entry;
    assert!(stored.is_terminated());
    assert_eq!(stored.uid, entry.view().uid);
    // Links of a peer mean nothing here, and what follows a text's last byte is padding.
    RingView::decode(&ring.to_state()).expect("what is sent can be read");
}

/// A ring is walked to its end, or refused; an accepted one can be merged, sorted, sent and shown.
pub fn cluster_log_ring(bytes: &[u8]) {
    ring(bytes);
    let mut fitting = bytes.to_vec();
    if let (Some(size), Ok(length)) = (fitting.first_chunk_mut(), u32::try_from(bytes.len())) {
        *size = length.to_le_bytes();
        ring(&fitting);
    }
}

fn ring(bytes: &[u8]) {
    let Ok(view) = RingView::decode(bytes) else {
        return;
    };
    let count = view.walk().count();
    assert!(count <= bytes.len() / MIN_ENTRY_ROOM + 1);
    let mut own = Ring::new();
    if let Some(newest) = view.walk().next() {
        own.append(&newest.entry);
    }
    let merged = merge(&[own.view(), view]);
    let merged_count = merged.walk().count();
    assert!(merged_count <= count.min(RING_SIZE / MIN_ENTRY_ROOM));
    // What has the time 0, and everything that only such an entry leads to, is left out.
    let has_time = view
        .walk()
        .next()
        .is_some_and(|newest| newest.entry.time > 0);
    assert!(merged_count > 0 || !has_time);
    // Not equal to it: differences of 32 bits are no order for all times and digests.
    assert!(merged.sorted().walk().count() <= merged_count);
    let state = merged.to_state();
    RingView::decode(&state).expect("what is sent can be read");
    assert!(view.dump(u32::MAX, b"").starts_with('{'));
    assert!(view.dump(3, b"root@pam").len() <= view.dump(u32::MAX, b"").len());
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Words that look like links, positions and lengths more often than random ones do.
    fn words() -> impl Strategy<Value = Vec<u8>> {
        let word = prop_oneof![
            0u32..128,
            (0u32..16).prop_map(|n| n * 8),
            Just(0x0101_0101),
            any::<u32>()
        ];
        vec(word, 0..80)
            .prop_map(|words| words.iter().flat_map(|word| word.to_le_bytes()).collect())
    }

    proptest! {
        #[test]
        fn any_entry(bytes in prop_oneof![vec(any::<u8>(), 0..300), words()]) {
            cluster_log_entry(&bytes);
        }

        #[test]
        fn any_ring(bytes in prop_oneof![vec(any::<u8>(), 0..300), words()]) {
            cluster_log_ring(&bytes);
        }

        /// One word of a real ring is replaced.
        #[test]
        fn damaged_rings(count in 1u32..40, offset in 0usize..2000, word in prop_oneof![0u32..4000, any::<u32>()]) {
            let mut ring = Ring::new();
            for uid in 1..=count {
                let text = vec![b'x'; (uid as usize * 37) % 300];
                let submission = crate::Submission {
                    pid: 7, priority: 6, ident: b"root@pam", tag: b"tag", message: &text,
                };
                let entry = submission.pack(uid, 1_700_000_000 + uid / 2, b"node1");
                ring.append(&entry.expect("a priority that is logged").view());
            }
            let mut state = ring.to_state();
            let offset = offset % (state.len() / 4);
            state[offset * 4..][..4].copy_from_slice(&word.to_le_bytes());
            cluster_log_ring(&state);
        }
    }
}
