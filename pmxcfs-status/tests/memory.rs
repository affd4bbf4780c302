//! A busy cluster for five minutes: what is kept does not grow with what has been received.
#![expect(clippy::unwrap_used, reason = "what does not hold here fails the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use pmxcfs_api_types::NodeId;
use pmxcfs_memdb::{RootState, Rules, Tree};
use pmxcfs_status::{Clock, Status};

const UPDATES_PER_SECOND: u32 = 1000;
const UPDATE_COUNT: u32 = 300_000;

/// Some 3000 keys and 300 RRD values are kept, of less than 200 bytes each.
const ALLOWED_GROWTH: u64 = 8 << 20;

/// Size of the buffers that messages arrive in. Whoever keeps a part of one keeps all of it.
const BUFFER_SIZE: usize = 16 * 1024;

struct TestClock(Arc<AtomicU32>);

impl Clock for TestClock {
    fn wall_secs(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    fn monotonic_secs(&self) -> u64 {
        self.wall_secs().into()
    }
}

/// An update as it comes out of a message: in the middle of a larger buffer.
fn received(key: &str, value: &[u8]) -> (Bytes, Bytes) {
    let mut buffer = BytesMut::zeroed(BUFFER_SIZE);
    buffer[..key.len()].copy_from_slice(key.as_bytes());
    buffer.truncate(256);
    buffer.put_slice(value);
    let buffer = buffer.freeze();
    (buffer.slice(..key.len()), buffer.slice(256..))
}

/// Keys that stay, keys that come and go, RRD values of guests that come and go, addresses.
fn update(number: u32) -> (Bytes, Bytes) {
    let value = format!("{number:0120}\0");
    match number % 8 {
        0..=3 => received(&format!("key{}", number % 2000), value.as_bytes()),
        4 => received(&format!("passing{number}"), value.as_bytes()),
        5 => received(&format!("passing{}", number - 1), b""),
        6 if number % 800 == 6 => {
            received("nodeip", format!("192.0.2.{}\0", number % 200).as_bytes())
        }
        _ => received(
            &format!("rrd/pve-vm-9.0/{}", number / 100),
            value.as_bytes(),
        ),
    }
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line
        .and_then(|rest| rest.split_whitespace().next())
        .unwrap();
    kibibytes.parse::<u64>().unwrap() * 1024
}

#[test]
fn updates_of_three_nodes_are_held_without_growth() {
    let time = Arc::new(AtomicU32::new(1_000_000));
    let status = Status::new(
        "node1",
        None,
        1,
        Box::new(TestClock(Arc::clone(&time))),
        Box::new(|_key, _value| {}),
    );
    let nodes = [(1, "node1"), (2, "node2"), (3, "node3"), (4, "node4")];
    let list = nodes.map(|(id, name)| (NodeId(id), Bytes::from_static(name.as_bytes())));
    status.replace_node_list(Bytes::from_static(b"lab"), 1, list);
    let tree = Tree::new(RootState::default(), Rules::Local);

    let before = resident_bytes();
    for number in 0..UPDATE_COUNT {
        // All senders send the same in turns, so that what comes also goes at each of them.
        let sender = NodeId(2 + number / 8 % 3);
        let (key, value) = update(number);
        status.apply_value(sender, &key, &value).unwrap();
        if number % UPDATES_PER_SECOND == 0 {
            time.fetch_add(10, Ordering::Relaxed);
            status.expire_samples();
            assert!(status.version_document(&tree).len() < 1 << 20);
            assert!(status.rrd_document().len() < 1 << 20);
        }
    }
    let growth = resident_bytes().saturating_sub(before);
    assert!(growth < ALLOWED_GROWTH, "grown by {growth} bytes");
    let expected = format!("{:0120}\0", UPDATE_COUNT - 2000);
    let key = b"key0";
    let kept = (2..5).filter_map(|id| status.value(format!("node{id}").as_bytes(), key).ok());
    assert!(
        kept.into_iter().any(|value| value == expected),
        "the last values are there"
    );
}
