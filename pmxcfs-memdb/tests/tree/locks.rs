//! Cluster locks: refresh, expiry, unlock.

use pmxcfs_api_types::FsError::{Access, NotEmpty, NotFound};
use pmxcfs_memdb::{Change, Rules, Stamp, Tree};

use crate::harness::Bench;

const LOCK: &str = "priv/lock/a";

fn bench() -> Bench {
    let mut bench = Bench::of(Rules::Local, &["priv", "priv/lock"]);
    bench.now_secs = 1000;
    bench.mkdir(LOCK).expect("made");
    bench
}

impl Bench {
    /// The expiry test with the lock's present checksum.
    fn expired(&mut self, path: &str, now_secs: u64) -> bool {
        let checksum = self.at(path).checksum();
        self.tree.lock_expired(path.as_bytes(), &checksum, now_secs)
    }

    fn unlock(&mut self, path: &str, now_secs: u64) -> crate::harness::Outcome {
        self.changes.clear();
        self.tree
            .unlock_or_touch(path.as_bytes(), self.stamp, now_secs, &mut self.changes)
    }
}

#[test]
fn a_lock_expires_after_more_than_120_seconds() {
    let mut bench = bench();
    assert!(!bench.expired(LOCK, 1000));
    assert!(!bench.expired(LOCK, 1120));
    assert!(bench.expired(LOCK, 1121));
    assert!(bench.expired(LOCK, 1121), "a test changes nothing");
    assert!(!bench.expired(LOCK, 0), "a clock that went back");
}

#[test]
fn a_refresh_starts_the_age_anew() {
    let mut bench = bench();
    bench.now_secs = 1100;
    assert_eq!(
        bench.set_mtime(LOCK, 1000),
        Ok(0),
        "equal mtime is a refresh"
    );
    assert!(!bench.expired(LOCK, 1220));
    assert!(bench.expired(LOCK, 1221));
}

#[test]
fn a_refresh_needs_the_same_writer_and_no_older_time() {
    let mut bench = bench();
    assert_eq!(bench.at(LOCK).mtime, 1000);
    assert_eq!(bench.set_mtime(LOCK, 999), Err(Access));
    assert_eq!(bench.set_mtime(LOCK, 5000), Ok(0), "also in the future");
    assert_eq!(bench.set_mtime(LOCK, 1001), Err(Access));
    bench.stamp = Stamp {
        writer: 4,
        mtime: 6000,
    };
    assert_eq!(bench.set_mtime(LOCK, 6000), Err(Access));
    assert_eq!(bench.at(LOCK).mtime, 5000);
    assert_eq!(
        bench.set_mtime("/priv/lock/a", 1),
        Ok(0),
        "the path is compared literally"
    );
}

#[test]
fn files_and_nested_directories_have_no_lock_rules() {
    let mut bench = bench();
    bench.mkdir("priv/lock/a/b").expect("made");
    bench.create("priv/lock/f").expect("made");
    bench.stamp.writer = 9;
    for path in ["priv/lock/a/b", "priv/lock/f", "priv/lock"] {
        assert_eq!(bench.set_mtime(path, 0), Ok(0), "{path}");
    }
    assert!(bench.tree.is_lock_directory(b"priv/lock/a/b"));
    for path in [
        "priv/lock/f",
        "priv/lock",
        "priv/lock/",
        "priv",
        "priv/lock/x",
        "/priv/lock/a",
    ] {
        assert!(!bench.tree.is_lock_directory(path.as_bytes()), "{path}");
        assert!(
            !bench.tree.lock_expired(path.as_bytes(), &[0; 32], 9999),
            "{path}"
        );
    }
}

#[test]
fn a_lock_seen_for_the_first_time_or_changed_is_young() {
    let mut bench = bench();
    bench.mkdir("d").expect("made");
    bench.rename("d", "priv/lock/b").expect("renamed");
    assert!(!bench.expired("priv/lock/b", 5000), "never seen");
    assert!(!bench.expired("priv/lock/b", 5120));
    assert!(bench.expired("priv/lock/b", 5121));

    bench.mkdir("priv/lock/a/n").expect("made");
    assert!(!bench.expired("priv/lock/a/n", 1000), "seen now");
    bench.set_mtime("priv/lock/a/n", 0).expect("touched");
    assert!(!bench.expired("priv/lock/a/n", 1500), "changed");
    assert!(bench.expired("priv/lock/a/n", 1621));
}

#[test]
fn a_lock_taken_again_is_young() {
    let mut bench = bench();
    bench.delete(LOCK).expect("released");
    bench.now_secs = 2000;
    bench.mkdir(LOCK).expect("taken");
    assert!(!bench.expired(LOCK, 2120));
    assert!(bench.expired(LOCK, 2121));
}

#[test]
fn unlocking_deletes_an_expired_lock_only() {
    let mut bench = bench();
    let before = bench.state();
    assert_eq!(bench.unlock(LOCK, 1120), Err(Access));
    assert_eq!(bench.state(), before);
    let inode = bench.inode(LOCK);
    assert_eq!(bench.unlock(LOCK, 1121), Ok(0));
    assert!(!bench.exists(LOCK));
    assert!(matches!(bench.changes[..], [Change::Removed { inode: gone, .. }] if gone == inode));
    assert_eq!(bench.tree.root().mtime, 1000, "the stamp's time");
    assert_eq!(bench.unlock(LOCK, 1121), Err(NotFound));
}

#[test]
fn unlocking_a_lock_with_entries_or_something_else() {
    let mut bench = bench();
    bench.mkdir("priv/lock/a/b").expect("made");
    assert_eq!(bench.unlock(LOCK, 1121), Err(NotEmpty));
    bench.create("priv/lock/f").expect("made");
    for path in ["priv/lock/f", "priv/lock/a/b"] {
        assert_eq!(bench.unlock(path, 9999), Ok(0));
        assert_eq!(bench.at(path).mtime, 0, "{path}");
    }
    assert_eq!(bench.tree.root().mtime, 0);
}

#[test]
fn ages_survive_a_new_tree_unless_the_lock_changed() {
    let mut bench = bench();
    bench.mkdir("priv/lock/b").expect("made");
    bench.mkdir("priv/lock/b/sub").expect("made");
    let mut entries: Vec<_> = bench.tree.entries().skip(1).cloned().collect();
    for entry in &mut entries {
        if entry.name == "b" {
            entry.mtime += 1;
        }
    }
    let mut tree =
        Tree::from_entries(bench.tree.root(), entries, Rules::Local, 1100).expect("a tree");
    tree.adopt(&mut bench.tree);
    bench.tree = tree;
    assert!(bench.expired(LOCK, 1121));
    assert!(!bench.expired("priv/lock/b", 1220));
    assert!(bench.expired("priv/lock/b", 1221));
    assert!(!bench.expired("priv/lock/b/sub", 9999), "never seen");
}
