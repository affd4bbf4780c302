//! What stands around a status in tests.
#![expect(clippy::disallowed_types, reason = "a lock of a test has no rank")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use pmxcfs_logger::Entry;
use pmxcfs_status::{Clock, Peers, RrdSink};

/// A clock that is set by hand; both clocks show the same.
#[derive(Clone)]
pub(crate) struct TestClock(Arc<AtomicU32>);

impl TestClock {
    pub(crate) fn at(secs: u32) -> Self {
        Self(Arc::new(AtomicU32::new(secs)))
    }

    pub(crate) fn advance(&self, secs: u32) {
        self.0.fetch_add(secs, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn wall_secs(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    fn monotonic_secs(&self) -> u64 {
        u64::from(self.wall_secs())
    }
}

/// Keeps what it is given, in order.
#[derive(Clone, Default)]
pub(crate) struct Recorder(pub(crate) Arc<Mutex<Vec<String>>>);

impl Recorder {
    pub(crate) fn rrd_sink(&self) -> RrdSink {
        let lines = Arc::clone(&self.0);
        Box::new(move |key, value| {
            let line = format!("rrd {}={}", key.escape_ascii(), value.escape_ascii());
            lines.lock().push(line);
        })
    }
}

impl Peers for Recorder {
    fn send_value(&self, key: Bytes, value: Bytes) {
        let (key, value) = (key.escape_ascii(), value.escape_ascii());
        self.0.lock().push(format!("update {key}={value}"));
    }

    fn send_log(&self, entry: Entry) {
        let view = entry.view();
        let line = format!("log {} {}", view.uid, view.message().escape_ascii());
        self.0.lock().push(line);
    }
}
