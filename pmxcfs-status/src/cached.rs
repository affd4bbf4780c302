//! Documents that many clients poll: made once per change, shared between all readers.

use bytes::Bytes;
use pmxcfs_api_types::sync::{Mutex, Rank};

/// A document with the counters that it was made from.
#[derive(Debug)]
pub(crate) struct Cached<K>(Mutex<Option<(K, Bytes)>>);

impl<K> Default for Cached<K> {
    fn default() -> Self {
        Self(Mutex::new(Rank::StatusDocument, None))
    }
}

impl<K: PartialEq> Cached<K> {
    /// The document, if it was made from these counters, else a new one. Rendering happens without the lock. A document is
    /// never older than its counters, so a change meanwhile only makes the next call render again.
    pub(crate) fn get(&self, counters: K, render: impl FnOnce() -> Vec<u8>) -> Bytes {
        if let Some((made_from, document)) = &*self.0.lock()
            && *made_from == counters
        {
            return document.clone();
        }
        let document = Bytes::from(render());
        *self.0.lock() = Some((counters, document.clone()));
        document
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_made_once_for_the_same_counters() {
        let cached = Cached::default();
        let first = cached.get(1, || b"one".to_vec());
        let again = cached.get(1, || panic!("rendered again"));
        assert_eq!(first.as_ptr(), again.as_ptr());
        assert_eq!(cached.get(2, || b"two".to_vec()), "two");
    }
}
