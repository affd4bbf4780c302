//! Decoders take anything, merging is a union, and the rules for duplicates.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::collections::BTreeSet;
use std::sync::LazyLock;

use pmxcfs_api_types::NodeId;
use pmxcfs_logger::{
    ClusterLog, Entry, EntryError, MAX_ENTRY_SIZE, MergeReport, Origin, RING_SIZE, Ring, RingError,
    RingView, Submission, escape, merge, write_json_text,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn entry(node: &str, uid: u32, time: u32, message: &[u8]) -> Entry {
    Submission {
        priority: 6,
        pid: 7,
        ident: b"root@pam",
        tag: b"tag",
        message,
    }
    .pack(uid, time, node.as_bytes())
    .unwrap()
}

fn origin(node: u32, pid: u32) -> Option<Origin> {
    Some(Origin {
        node: NodeId(node),
        pid,
    })
}

fn message(text: &[u8]) -> Submission<'_> {
    Submission {
        priority: 6,
        pid: 1,
        ident: b"root@pam",
        tag: b"tag",
        message: text,
    }
}

/// Names whose digests are in ascending order of their low halves, so that comparing them is an order.
const NODES: [&str; 3] = ["node1", "node2", "node3"];

fn ring_of(entries: &[(usize, u32, u32)]) -> Ring {
    let mut ring = Ring::new();
    for (node, uid, time) in entries {
        ring.append(&entry(NODES[*node], *uid, *time, b"m").view());
    }
    ring
}

proptest! {
    #[test]
    fn any_bytes_decode_or_are_refused(bytes in vec(any::<u8>(), 0..300)) {
        if let Ok(entry) = Entry::decode(&bytes) {
            prop_assert_eq!(entry.as_bytes(), &bytes[..]);
        }
        prop_assert!(RingView::decode(&bytes).is_err() || bytes.len() > 8);
    }

    /// A ring whose size is right and whose links and lengths are anything.
    #[test]
    fn any_links_end(mut words in vec(prop_oneof![0u32..64, Just(8), Just(64), Just(0x0101_0101), any::<u32>()], 3..80)) {
        words[0] = u32::try_from(words.len() * 4).unwrap();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        if let Ok(ring) = RingView::decode(&bytes) {
            prop_assert!(ring.walk().count() <= bytes.len() / 48);
            let merged = merge(&[ring, ring]);
            prop_assert!(merged.walk().count() <= ring.walk().count());
            let dump: serde_json::Value = serde_json::from_str(&ring.dump(1000, b"")).unwrap();
            prop_assert!(dump["data"].is_array());
        }
    }

    /// One word of a real, wrapped ring is replaced.
    #[test]
    fn damaged_rings_end(offset in 0usize..RING_SIZE / 4, word in any::<u32>()) {
        let mut bytes = WRAPPED_RING.as_bytes().to_vec();
        bytes[offset * 4..][..4].copy_from_slice(&word.to_le_bytes());
        if let Ok(ring) = RingView::decode(&bytes) {
            prop_assert!(ring.walk().count() <= RING_SIZE / 56);
        }
    }

    #[test]
    fn packing_keeps_the_fields(uid in any::<u32>(), time in any::<u32>(), priority in 0u8..8, ident in "[ -~]{0,254}",
        text in vec(any::<u8>(), 0..6000)) {
        let submission = Submission { priority, pid: 3, ident: ident.as_bytes(), tag: b"t", message: &text };
        let packed = submission.pack(uid, time, b"n").unwrap();
        prop_assert!(packed.as_bytes().len() <= MAX_ENTRY_SIZE);
        let decoded = Entry::decode(packed.as_bytes()).unwrap();
        let view = decoded.view();
        prop_assert_eq!((view.uid, view.time, view.priority), (uid, time, priority));
        prop_assert_eq!(view.ident(), ident.as_bytes());
        let until_nul = text.split(|byte| *byte == 0).next().unwrap();
        prop_assert!(escape(until_nul, true, 10_000).0.starts_with(view.message()));
    }

    #[test]
    fn shown_texts_are_json(text in vec(prop_oneof![Just(b'\\'), Just(b'"'), Just(b'u'), Just(b'd'), Just(b'8'), any::<u8>()], 0..60)) {
        let mut json = String::from("\"");
        write_json_text(&mut json, &text);
        json.push('"');
        prop_assert!(serde_json::from_str::<String>(&json).is_ok(), "{json}");
    }

    /// Small rings: the merge has each entry once, in order of time, node digest and uid, and the order of the members
    /// does not matter.
    #[test]
    fn merging_is_a_union(rings in vec(vec((0usize..3, 1u32..20, 1000u32..1020), 0..30), 2..5)) {
        let model: BTreeSet<(u32, u32, u32)> = rings
            .iter()
            .flatten()
            .map(|(node, uid, time)| (*time, low_digest(NODES[*node]), *uid))
            .collect();
        let rings: Vec<Ring> = rings.iter().map(|entries| ring_of(entries).sorted()).collect();
        let mut views: Vec<_> = rings.iter().map(Ring::view).collect();
        let merged = merge(&views);
        let mut found: Vec<_> = merged
            .walk()
            .map(|step| (step.entry.time, low_digest(std::str::from_utf8(step.entry.node()).unwrap()), step.entry.uid))
            .collect();
        found.reverse();
        prop_assert_eq!(&found, &model.into_iter().collect::<Vec<_>>());
        views.reverse();
        let reversed = merge(&views);
        prop_assert!(merged.as_bytes() == reversed.as_bytes());
    }
}

fn low_digest(name: &str) -> u32 {
    u32::try_from(pmxcfs_logger::text_digest(name.as_bytes()) & 0xffff_ffff).unwrap()
}

static WRAPPED_RING: LazyLock<Ring> = LazyLock::new(wrapped_ring);

fn wrapped_ring() -> Ring {
    let mut ring = Ring::new();
    for uid in 1..=1200 {
        let text = vec![b'x'; (uid as usize * 37) % 300];
        ring.append(&entry("node1", uid, 1_700_000_000 + uid, &text).view());
    }
    ring
}

#[test]
fn every_wrong_length_of_an_entry_is_refused() {
    let good = entry("node1", 1, 1, b"text");
    let bytes = good.as_bytes();
    for end in 0..bytes.len() {
        assert!(Entry::decode(&bytes[..end]).is_err(), "{end}");
    }
    for offset in [37, 38, 39, 40] {
        for value in [0, bytes[offset] - 1, bytes[offset] + 1, 255] {
            let mut wrong = bytes.to_vec();
            wrong[offset] = value;
            assert!(Entry::decode(&wrong).is_err(), "{offset} {value}");
        }
    }
    // The sum of the lengths wraps to the right size in 32 bits.
    let mut wrong = bytes.to_vec();
    wrong[37] += 16;
    wrong[40..44].copy_from_slice(&(5u32.wrapping_sub(16)).to_le_bytes());
    assert!(matches!(
        Entry::decode(&wrong),
        Err(EntryError::SizeMismatch { .. })
    ));
    // Lengths move a byte between fields: no text may lose its NUL.
    let mut wrong = bytes.to_vec();
    wrong[37] -= 1;
    wrong[38] += 1;
    assert_eq!(Entry::decode(&wrong), Err(EntryError::Unterminated));
}

#[test]
fn an_entry_linked_to_itself_costs_its_ring_only() {
    let mut bytes = ring_of(&[(0, 1, 10)]).as_bytes().to_vec();
    bytes[8..12].copy_from_slice(&8u32.to_le_bytes());
    assert_eq!(RingView::decode(&bytes).unwrap_err(), RingError::Circle(8));

    let good = ring_of(&[(1, 5, 20)]);
    let mut log = ClusterLog::new(b"node3");
    log.log(30, &message(b"own"));
    let rejected = log
        .merge(&[Some(&bytes), None, Some(&good.to_state())], 1)
        .rejected;
    assert_eq!(rejected, [(0, RingError::Circle(8))]);
    assert_eq!(log.ring().walk().count(), 2);
}

#[test]
fn rings_with_bad_positions_or_sizes_are_refused() {
    let good = ring_of(&[(0, 1, 10), (0, 2, 11)]).to_state();
    assert!(RingView::decode(&good).is_ok());
    for (newest, expected) in [
        (12, RingError::BadPosition(12)),
        (4, RingError::BadPosition(4)),
        (1 << 20, RingError::BadPosition(1 << 20)),
        (u32::MAX, RingError::BadPosition(u32::MAX)),
    ] {
        let mut bytes = good.clone();
        bytes[4..8].copy_from_slice(&newest.to_le_bytes());
        assert_eq!(RingView::decode(&bytes).unwrap_err(), expected);
    }
    for length in [0, 4, 8, good.len() - 8] {
        assert!(matches!(
            RingView::decode(&good[..length]),
            Err(RingError::WrongSize { .. })
        ));
    }
    let mut bytes = good.clone();
    bytes[8 + 40..][..4].copy_from_slice(&5000u32.to_le_bytes());
    assert_eq!(
        RingView::decode(&bytes).unwrap_err(),
        RingError::BadEntry(8)
    );
}

#[test]
fn a_state_has_the_used_part_only_and_is_read_back() {
    let mut log = ClusterLog::new(b"node1");
    let empty = log.state();
    assert_eq!(empty, [16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(RingView::decode(&empty).unwrap().walk().count(), 0);
    log.log(5, &message(b"one"));
    log.log(3, &message(b"two"));
    let state = log.state();
    assert_eq!(state.len(), 8 + 2 * 72);
    let times: Vec<u32> = RingView::decode(&state)
        .unwrap()
        .walk()
        .map(|step| step.entry.time)
        .collect();
    assert_eq!(times, [5, 3]);

    let wrapped = &*WRAPPED_RING;
    assert_eq!(wrapped.to_state(), wrapped.as_bytes());
    assert!(wrapped.sorted().to_state().len() < RING_SIZE);
}

#[test]
fn a_message_that_a_c_daemon_left_unterminated_is_terminated_by_the_merge() {
    let mut bytes = ring_of(&[(0, 1, 10)]).to_state();
    let entry_end = 8 + RingView::decode(&bytes)
        .unwrap()
        .walk()
        .next()
        .unwrap()
        .entry
        .size();
    bytes[entry_end - 5] = b'!';
    let mut log = ClusterLog::new(b"node2");
    assert_eq!(log.merge(&[None, Some(&bytes)], 0), MergeReport::default());
    let merged = log.ring().walk().next().unwrap().entry;
    assert!(merged.is_terminated());
    assert_eq!(merged.message(), b"m");
}

#[test]
fn a_full_merge_keeps_the_newest() {
    let rings: Vec<Ring> = NODES
        .iter()
        .map(|node| {
            let mut ring = Ring::new();
            for uid in 1..=600 {
                ring.append(&entry(node, uid, 1000 + uid, &[b'x'; 120]).view());
            }
            ring
        })
        .collect();
    let views: Vec<_> = rings.iter().map(Ring::view).collect();
    let merged = merge(&views);
    let mut walk = merged.walk();
    assert_eq!(walk.next().unwrap().entry.time, 1600);
    let count = merged.walk().count();
    assert!((126_968 / 200..131_072 / 184).contains(&count), "{count}");
    assert!(merged.to_state().len() < RING_SIZE);
}

#[test]
fn own_entries_are_kept_when_the_clock_goes_back() {
    let mut log = ClusterLog::new(b"node1");
    for time in [100, 50, 100, 100] {
        assert!(log.log(time, &message(b"m")).is_some());
    }
    assert_eq!(log.ring().walk().count(), 4);
}

#[test]
fn entries_of_a_running_peer_are_kept_when_its_clock_goes_back() {
    let mut log = ClusterLog::new(b"node1");
    assert!(log.receive(&entry("node2", 10, 1000, b"m"), origin(2, 500)));
    assert!(log.receive(&entry("node2", 11, 400, b"m"), origin(2, 500)));
    assert!(log.receive(&entry("node2", 12, 401, b"m"), origin(2, 500)));
    assert!(
        !log.receive(&entry("node2", 12, 401, b"m"), origin(2, 500)),
        "a repetition"
    );
    assert!(
        !log.receive(&entry("node2", 11, 400, b"m"), origin(2, 500)),
        "an older repetition"
    );
}

#[test]
fn entries_of_a_peer_restarted_within_a_second_are_kept() {
    let mut log = ClusterLog::new(b"node1");
    assert!(log.receive(&entry("node2", 10, 1000, b"m"), origin(2, 500)));
    assert!(log.receive(&entry("node2", 2, 1000, b"n"), origin(2, 501)));
    assert!(!log.receive(&entry("node2", 2, 1000, b"n"), origin(2, 501)));
}

#[test]
fn what_a_merge_has_brought_is_not_added_again() {
    let mut peer = ClusterLog::new(b"node2");
    let mut log = ClusterLog::new(b"node1");
    let first = peer.log(1000, &message(b"first")).unwrap();
    assert!(log.receive(&first, origin(2, 500)));
    let late = peer.log(400, &message(b"on its way")).unwrap();
    let report = log.merge(&[None, Some(&peer.state())], 0);
    assert_eq!(report, MergeReport::default());
    assert_eq!(log.ring().walk().count(), 2);
    assert!(
        !log.receive(&late, origin(2, 500)),
        "delivered after the merge"
    );
    let next = peer.log(401, &message(b"new")).unwrap();
    assert!(log.receive(&next, origin(2, 500)));
    assert_eq!(log.ring().walk().count(), 3);
}

/// Node names, numbers and messages of a log, oldest first.
fn contents(log: &ClusterLog) -> Vec<(String, u32, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let steps = log.ring().walk();
    let mut contents: Vec<_> = steps
        .map(|step| step.entry)
        .map(|entry| (text(entry.node()), entry.uid, text(entry.message())))
        .collect();
    contents.reverse();
    contents
}

/// Whichever comes first in the order of the members, nothing of either life is lost, and all members end with the same.
#[test]
fn entries_of_two_lives_of_a_daemon_do_not_collide() {
    for is_first in [true, false] {
        let mut earlier = ClusterLog::new(b"node1");
        let mut peer = ClusterLog::new(b"node2");
        for text in ["earlier 1", "earlier 2", "earlier 3"] {
            let entry = earlier.log(1000, &message(text.as_bytes())).unwrap();
            assert!(peer.receive(&entry, origin(1, 500)));
        }
        let mut restarted = ClusterLog::new(b"node1");
        restarted.log(1000, &message(b"now 1"));
        restarted.log(1001, &message(b"now 2"));

        let (own_state, peer_state) = (restarted.state(), peer.state());
        let states = if is_first {
            [Some(&own_state[..]), Some(&peer_state[..])]
        } else {
            [Some(&peer_state[..]), Some(&own_state[..])]
        };
        let own = usize::from(!is_first);
        let report = restarted.merge(&states, own);
        assert_eq!(
            peer.merge(&states, 1 - own),
            MergeReport::default(),
            "each node cares for its own"
        );
        assert_eq!((report.rejected.len(), report.renumbered.len()), (0, 1));
        assert_eq!(report.renumbered[0].view().uid, 4);
        for entry in &report.renumbered {
            let decoded = Entry::decode(entry.as_bytes()).unwrap();
            assert!(peer.receive(&decoded, origin(1, 501)));
        }
        let next = restarted.log(1001, &message(b"now 3")).unwrap();
        assert_eq!(next.view().uid, 5);
        assert!(peer.receive(&next, origin(1, 501)));

        assert_eq!(contents(&restarted), contents(&peer));
        let mut texts: Vec<_> = contents(&peer)
            .into_iter()
            .map(|(_, _, text)| text)
            .collect();
        texts.sort();
        let expected = [
            "earlier 1",
            "earlier 2",
            "earlier 3",
            "now 1",
            "now 2",
            "now 3",
        ];
        assert_eq!(texts, expected);

        let states = [Some(restarted.state()), Some(peer.state())];
        let states = states.each_ref().map(|state| state.as_deref());
        assert_eq!(restarted.merge(&states, 0), MergeReport::default());
        assert_eq!(peer.merge(&states, 1), MergeReport::default());
        assert_eq!(contents(&restarted), contents(&peer));
        assert_eq!(contents(&peer).len(), 6);
    }
}

#[test]
fn invented_node_names_do_not_fill_the_memory() {
    let mut log = ClusterLog::new(b"node1");
    for number in 0..10_000 {
        log.receive(&entry(&format!("n{number}"), 1, 1000 + number, b"m"), None);
    }
    // A name that left ring and table is unknown again, one that is in the ring is not.
    assert!(log.receive(&entry("n0", 1, 1000, b"m"), None));
    assert!(!log.receive(&entry("n9999", 1, 1000, b"m"), None));
}
