//! Samples on their way to the writer's thread.
//!
//! The queue is bounded in samples and in bytes. When it is full the oldest sample of the same key goes first: a graph
//! with a hole in the past is better than one that stops, and no key can push out the others' samples while it has any
//! of its own. RRD takes a file's values in order, so samples of one key keep theirs.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// One value as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Key without `rrd/`.
    pub(crate) key: Arc<[u8]>,
    /// The value's bytes.
    pub(crate) value: Box<[u8]>,
}

impl Sample {
    fn size(&self) -> usize {
        self.key.len() + self.value.len()
    }
}

/// Samples in order of arrival.
#[derive(Debug)]
pub(crate) struct SampleQueue {
    max_count: usize,
    max_bytes: usize,
    samples: BTreeMap<u64, Sample>,
    tickets_by_key: HashMap<Arc<[u8]>, VecDeque<u64>>,
    next_ticket: u64,
    size_bytes: usize,
    /// Samples dropped since the start.
    pub(crate) dropped_count: u64,
}

impl SampleQueue {
    /// A queue of at most so many samples, and bytes of keys and values.
    pub(crate) fn new(max_count: usize, max_bytes: usize) -> Self {
        Self {
            max_count,
            max_bytes,
            samples: BTreeMap::new(),
            tickets_by_key: HashMap::new(),
            next_ticket: 0,
            size_bytes: 0,
            dropped_count: 0,
        }
    }

    /// Appends a sample; drops others until it fits, or the sample itself if it alone is too large.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) {
        let size = key.len() + value.len();
        if size > self.max_bytes || self.max_count == 0 {
            self.dropped_count += 1;
            return;
        }
        while self.samples.len() >= self.max_count || self.size_bytes + size > self.max_bytes {
            let own = self
                .tickets_by_key
                .get(key)
                .and_then(|tickets| tickets.front().copied());
            let victim = own.or_else(|| self.samples.keys().next().copied());
            let victim = victim.expect("an empty queue has room");
            self.remove(victim);
            self.dropped_count += 1;
        }
        let key: Arc<[u8]> = match self.tickets_by_key.get_key_value(key) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::from(key),
        };
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.size_bytes += size;
        self.tickets_by_key
            .entry(Arc::clone(&key))
            .or_default()
            .push_back(ticket);
        let value = Box::from(value);
        self.samples.insert(ticket, Sample { key, value });
    }

    /// Takes up to `max` samples, oldest first.
    pub(crate) fn take(&mut self, max: usize) -> Vec<Sample> {
        let tickets: Vec<u64> = self.samples.keys().take(max).copied().collect();
        tickets
            .into_iter()
            .filter_map(|ticket| self.remove(ticket))
            .collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.samples.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Removes a sample that is the oldest of its key.
    fn remove(&mut self, ticket: u64) -> Option<Sample> {
        let sample = self.samples.remove(&ticket)?;
        self.size_bytes -= sample.size();
        if let Some(tickets) = self.tickets_by_key.get_mut(&sample.key) {
            tickets.pop_front();
            if tickets.is_empty() {
                self.tickets_by_key.remove(&sample.key);
            }
        }
        Some(sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(samples: &[Sample]) -> Vec<String> {
        let text = |sample: &Sample| {
            let key = String::from_utf8_lossy(&sample.key).into_owned();
            format!("{key}={}", String::from_utf8_lossy(&sample.value))
        };
        samples.iter().map(text).collect()
    }

    #[test]
    fn a_full_queue_drops_the_oldest_of_the_same_key() {
        let mut queue = SampleQueue::new(3, 1000);
        for (key, value) in [("a", "1"), ("b", "1"), ("a", "2"), ("a", "3"), ("b", "2")] {
            queue.push(key.as_bytes(), value.as_bytes());
        }
        assert_eq!(queue.dropped_count, 2);
        assert_eq!(texts(&queue.take(9)), ["a=2", "a=3", "b=2"]);
    }

    #[test]
    fn a_new_key_drops_the_oldest_of_all() {
        let mut queue = SampleQueue::new(2, 1000);
        for (key, value) in [("a", "1"), ("b", "1"), ("c", "1")] {
            queue.push(key.as_bytes(), value.as_bytes());
        }
        assert_eq!(texts(&queue.take(9)), ["b=1", "c=1"]);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut queue = SampleQueue::new(100, 10);
        queue.push(b"a", b"1234");
        queue.push(b"b", b"1234");
        queue.push(b"b", b"56789");
        assert_eq!(texts(&queue.take(1)), ["b=56789"], "b's own, then a's");
        queue.push(b"c", b"1234567890");
        assert!(queue.is_empty(), "too large for any queue");
        assert_eq!(queue.dropped_count, 3);
        assert_eq!((queue.size_bytes, queue.tickets_by_key.len()), (0, 0));
    }

    #[derive(Debug, Clone)]
    enum Action {
        Push(u8, usize),
        Take(usize),
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            4 => (0..5_u8, 0..12_usize).prop_map(|(key, size)| Action::Push(key, size)),
            1 => (0..6_usize).prop_map(Action::Take),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_a_plain_list(actions in prop::collection::vec(action(), 1..200)) {
            let (max_count, max_bytes) = (8, 40);
            let mut queue = SampleQueue::new(max_count, max_bytes);
            let mut model: Vec<(u8, Vec<u8>)> = Vec::new();
            let mut dropped = 0;
            for (serial, action) in actions.into_iter().enumerate() {
                match action {
                    Action::Push(key, size) => {
                        let value = vec![u8::try_from(serial % 256).unwrap(); size];
                        queue.push(&[key], &value);
                        model.push((key, value));
                        let bytes = |model: &[(u8, Vec<u8>)]| model.iter().map(|(_, value)| value.len() + 1).sum::<usize>();
                        while model.len() > max_count || bytes(&model) > max_bytes {
                            let others = &model[..model.len() - 1];
                            let victim = others.iter().position(|(other, _)| *other == key).unwrap_or(0);
                            model.remove(victim);
                            dropped += 1;
                        }
                    }
                    Action::Take(count) => {
                        let taken: Vec<(u8, Vec<u8>)> = queue.take(count).into_iter().map(|sample| (sample.key[0], sample.value.to_vec())).collect();
                        let expected: Vec<_> = model.drain(..count.min(model.len())).collect();
                        prop_assert_eq!(taken, expected);
                    }
                }
                prop_assert_eq!(queue.len(), model.len());
                prop_assert_eq!(queue.dropped_count, dropped);
            }
        }
    }
}
