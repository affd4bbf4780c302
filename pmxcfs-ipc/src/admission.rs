//! How many connections there may be, in total and per user.
//!
//! A [`Permit`] is taken when a process connects and is given back when the last trace of its connection is gone, so a
//! user can neither fill the table with half-made connections nor by reconnecting faster than the server cleans up.

use std::collections::HashMap;
use std::sync::Arc;

use pmxcfs_api_types::sync::{Mutex, Rank};

/// Counts connections of one kind.
#[derive(Debug)]
pub(crate) struct Admission {
    max_total: usize,
    max_per_uid: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    per_uid: HashMap<u32, usize>,
}

impl Admission {
    pub(crate) fn new(max_total: usize, max_per_uid: usize) -> Arc<Self> {
        Arc::new(Self {
            max_total,
            max_per_uid,
            counts: Mutex::new(Rank::IpcAdmission, Counts::default()),
        })
    }

    /// Counts one more connection of `uid`, unless that would be too many.
    pub(crate) fn admit(self: &Arc<Self>, uid: u32) -> Option<Permit> {
        let mut counts = self.counts.lock();
        let of_uid = counts.per_uid.get(&uid).copied().unwrap_or(0);
        if counts.total >= self.max_total || of_uid >= self.max_per_uid {
            return None;
        }
        counts.total += 1;
        counts.per_uid.insert(uid, of_uid + 1);
        Some(Permit {
            admission: Arc::clone(self),
            uid,
        })
    }
}

/// The right to be one connection.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    uid: u32,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.admission.counts.lock();
        counts.total -= 1;
        if let Some(of_uid) = counts.per_uid.get_mut(&self.uid) {
            *of_uid -= 1;
            if *of_uid == 0 {
                counts.per_uid.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Admission;

    #[test]
    fn one_user_cannot_take_the_places_of_others() {
        let admission = Admission::new(5, 3);
        let permits: Vec<_> = (0..4).map(|_| admission.admit(33)).collect();
        assert_eq!(permits.iter().flatten().count(), 3);
        let first = admission.admit(0).expect("two places are left");
        assert!(admission.admit(0).is_some(), "released at once");
        let _second = admission.admit(0).expect("one place is left");
        assert!(admission.admit(1).is_none(), "full");
        drop(first);
        assert!(admission.admit(33).is_none(), "at the limit of this user");
        assert!(admission.admit(1).is_some());
        drop(permits);
        assert!(admission.admit(33).is_some());
    }
}
