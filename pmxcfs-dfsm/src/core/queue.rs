//! Messages that wait for the end of a synchronisation.

use bytes::Bytes;

use super::MemberId;
use crate::wire::NormalMessage;

/// A delivered message that has not been applied.
#[derive(Debug, Clone)]
pub(super) struct Queued {
    pub(super) sender: MemberId,
    pub(super) message: NormalMessage,
    /// As it was delivered: it may have to be sent again unchanged.
    pub(super) raw: Bytes,
    /// A process that received it too has left since, and may have applied it.
    pub(super) has_lost_receiver: bool,
}

/// Puts a message into "queue 1": by message count, equal counts in order of arrival. Counts of different senders mix; that is
/// not the order in which they were sent, but it is the same on all members.
pub(super) fn insert(queue: &mut Vec<Queued>, queued: Queued) {
    let count = queued.message.count;
    let place = queue
        .iter()
        .rposition(|other| !is_after(other.message.count, count))
        .map_or(0, |index| index + 1);
    queue.insert(place, queued);
}

/// C peers compare the low 32 bits of the difference as a signed number.
fn is_after(count: u64, other: u64) -> bool {
    let low = count.wrapping_sub(other) & 0xffff_ffff;
    low != 0 && low < 0x8000_0000
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{MemberId, Queued, insert, is_after};
    use crate::wire::NormalMessage;

    #[test]
    fn counts_compare_by_the_low_half_of_their_difference() {
        let table = [
            (1, 1, false),
            (2, 1, true),
            (1, 2, false),
            (0x1_0000_0001, 1, false),
            (0x7fff_ffff, 0, true),
            (0x8000_0000, 0, false),
            (0, 0x8000_0001, true),
        ];
        for (count, other, expected) in table {
            assert_eq!(is_after(count, other), expected, "{count} after {other}");
        }
    }

    #[test]
    fn sorted_by_count_and_stable_among_equals() {
        let mut queue = Vec::new();
        for (node, count) in [(1, 5), (2, 1001), (3, 5), (2, 6), (1, 1)] {
            let queued = Queued {
                sender: MemberId { node, pid: 1 },
                message: NormalMessage::new(1, 2, 0, count, Bytes::new()),
                raw: Bytes::new(),
                has_lost_receiver: false,
            };
            insert(&mut queue, queued);
        }
        let order: Vec<(u32, u64)> = queue
            .iter()
            .map(|queued| (queued.sender.node, queued.message.count))
            .collect();
        assert_eq!(order, [(1, 1), (1, 5), (3, 5), (2, 6), (2, 1001)]);
    }
}
