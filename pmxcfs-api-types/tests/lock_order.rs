//! Locks are taken in the one order that ARCHITECTURE.txt lists.

use std::path::Path;

use pmxcfs_api_types::sync::Rank;
use strum::VariantArray as _;

#[test]
fn the_documented_order_is_the_checked_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ARCHITECTURE.txt");
    let text = std::fs::read_to_string(path).expect("readable");
    let section = text
        .lines()
        .skip_while(|line| *line != "Locks and their order")
        .skip(2)
        .take_while(|line| !line.starts_with("==") && !line.starts_with("--"));
    let ranks = Rank::VARIANTS.iter();
    let checked: Vec<String> = ranks.map(|rank| format!("{rank:?}")).collect();
    let documented: Vec<String> = section
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| Some(line.split_whitespace().next()?.to_owned()))
        .filter(|name| checked.contains(name))
        .collect();
    assert_eq!(documented, checked);
}

#[cfg(debug_assertions)]
mod debug_builds {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::time::{Duration, Instant};

    use pmxcfs_api_types::sync::{Condvar, Mutex, Rank, RwLock};

    fn message_of(call: impl FnOnce()) -> String {
        let panic = catch_unwind(AssertUnwindSafe(call)).expect_err("panics");
        *panic.downcast::<String>().expect("a text")
    }

    #[test]
    fn a_lock_out_of_order_panics_with_both_names() {
        let order = Mutex::new(Rank::StatusOrder, 1);
        let keys = RwLock::new(Rank::StatusKeys, 2);
        {
            let _order = order.lock();
            assert_eq!(*keys.read(), 2);
            *keys.write() += 1;
        }
        for locked_for_writing in [false, true] {
            let message = message_of(|| {
                let _read = (!locked_for_writing).then(|| keys.read());
                let _write = locked_for_writing.then(|| keys.write());
                let _order = order.lock();
            });
            assert_eq!(message, "lock StatusOrder taken while StatusKeys is held");
        }
        // Nothing of what has panicked is held any more.
        let _order = order.lock();
        let _keys = keys.write();
    }

    #[test]
    fn two_locks_of_one_rank_are_refused() {
        let lock = RwLock::new(Rank::StatusKeys, ());
        let message = message_of(|| {
            let _first = lock.read();
            let _second = lock.read();
        });
        assert_eq!(message, "lock StatusKeys taken while StatusKeys is held");
    }

    #[test]
    fn locks_may_be_freed_in_any_order() {
        let order = Mutex::new(Rank::StatusOrder, ());
        let keys = Mutex::new(Rank::StatusKeys, ());
        let log = Mutex::new(Rank::StatusLog, ());
        let first = order.lock();
        let second = keys.lock();
        drop(first);
        let third = log.lock();
        drop((second, third));
        drop(order.lock());
    }

    #[test]
    fn trying_is_allowed_in_any_order_and_counts_as_held() {
        let order = Mutex::new(Rank::StatusOrder, ());
        let keys = Mutex::new(Rank::StatusKeys, ());
        let _keys = keys.lock();
        let tried = order.try_lock().expect("free");
        assert!(order.try_lock().is_none());
        drop(tried);
        let message = message_of(|| {
            let log = Mutex::new(Rank::StatusLog, ());
            let _log = log.try_lock().expect("free");
            let samples = Mutex::new(Rank::StatusSamples, ());
            let _samples = samples.lock();
        });
        assert_eq!(message, "lock StatusSamples taken while StatusLog is held");
    }

    #[test]
    fn nobody_waits_for_a_condition_with_another_lock_held() {
        let order = Mutex::new(Rank::StatusOrder, ());
        let keys = Mutex::new(Rank::StatusKeys, ());
        let condition = Condvar::new();
        let past = Instant::now() - Duration::from_millis(1);
        assert!(condition.wait_until(&mut keys.lock(), past));
        let message = message_of(|| {
            let _order = order.lock();
            condition.wait_until(&mut keys.lock(), past);
        });
        assert_eq!(
            message,
            "thread waits at StatusKeys while StatusOrder is held"
        );
    }
}
