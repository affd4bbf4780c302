//! Makes one log of the rings of all members.
//!
//! Every member does this with the same rings in the same order and must come to the same log, C members included, so
//! each step is the C daemon's: newest first by time, ties to the first member, one entry of those that compare equal.

use std::collections::HashSet;

use crate::entry::{EntryView, MAX_ENTRY_SIZE, entry_order};
use crate::ring::{RING_HEADER_SIZE, RING_SIZE, Ring, RingView, rounded};

/// Once the taken entries fill this many bytes, no more are taken.
pub const MAX_MERGED_SIZE: usize = RING_SIZE - RING_HEADER_SIZE - MAX_ENTRY_SIZE;

/// Merges the rings of members, given in the order of the membership. A member without a usable ring is left out.
pub fn merge(rings: &[RingView<'_>]) -> Ring {
    let mut cursors: Vec<_> = rings.iter().map(|ring| ring.walk().peekable()).collect();
    let mut taken: Vec<EntryView<'_>> = Vec::new();
    // Where the comparison is not an order, the search can miss an entry that is there.
    let mut identities: HashSet<(u32, u64, u32)> = HashSet::new();
    let mut total = 0;

    while let Some(index) = newest_cursor(&mut cursors) {
        let Some(step) = cursors.get_mut(index).and_then(Iterator::next) else {
            break;
        };
        let entry = step.entry;
        let place = taken.binary_search_by(|other| entry_order(other, &entry));
        let Err(place) = place else { continue };
        if !identities.insert((entry.time, entry.node_digest, entry.uid)) {
            continue;
        }
        taken.insert(place, entry);
        total += rounded(entry.size());
        if total >= MAX_MERGED_SIZE {
            break;
        }
    }
    Ring::from_ascending(taken)
}

/// The first of the cursors at the entry with the largest time; none once all have ended or are at a time of 0.
fn newest_cursor<'a, I>(cursors: &mut [std::iter::Peekable<I>]) -> Option<usize>
where
    I: Iterator<Item = crate::ring::Step<'a>>,
{
    let mut newest = (0, None);
    for (index, cursor) in cursors.iter_mut().enumerate() {
        let time = cursor.peek().map_or(0, |step| step.entry.time);
        if time > newest.0 {
            newest = (time, Some(index));
        }
    }
    newest.1
}
