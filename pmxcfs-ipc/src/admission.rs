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
    all: Arc<()>,
    users: Mutex<HashMap<u32, Arc<()>>>,
}

impl Admission {
    pub(crate) fn new(max_total: usize, max_per_uid: usize) -> Self {
        Self {
            max_total,
            max_per_uid,
            all: Arc::default(),
            users: Mutex::new(Rank::IpcAdmission, HashMap::new()),
        }
    }

    /// Counts one more connection of `uid`, unless that would be too many.
    pub(crate) fn admit(&self, uid: u32) -> Option<Permit> {
        let mut users = self.users.lock();
        if users.len() > self.max_total {
            users.retain(|_, user| permit_count(user) > 0);
        }
        let user = users.entry(uid).or_default();
        let has_room =
            permit_count(&self.all) < self.max_total && permit_count(user) < self.max_per_uid;
        has_room.then(|| Permit {
            _of_all: Arc::clone(&self.all),
            _of_user: Arc::clone(user),
        })
    }
}

/// The references that permits hold, beside that of the [`Admission`].
fn permit_count(counted: &Arc<()>) -> usize {
    Arc::strong_count(counted) - 1
}

/// The right to be one connection.
#[derive(Debug)]
pub(crate) struct Permit {
    _of_all: Arc<()>,
    _of_user: Arc<()>,
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
