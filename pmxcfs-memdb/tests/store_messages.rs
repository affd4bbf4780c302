//! What operators are told: once per trouble, and what to do.
//!
//! Everything is in one test, since there is one log per process.
#![expect(clippy::disallowed_types, reason = "a lock of a test has no rank")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod store_support;

use std::fmt::Write as _;
use std::sync::Arc;

use parking_lot::Mutex;
use pmxcfs_memdb::store::{ShutdownOutcome, StoreConfig};
use store_support::fault::FaultyMedium;
use store_support::{Fixture, PATIENCE, Place, wait};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Keeps messages of level info and above.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(Level, String)>>>);

impl Log {
    fn take(&self) -> Vec<(Level, String)> {
        std::mem::take(&mut self.0.lock())
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().push((*event.metadata().level(), text.0));
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            write!(self.0, "{value:?}").unwrap();
        }
    }
}

#[test]
fn trouble_is_reported_once() {
    let log = Log::default();
    tracing::subscriber::set_global_default(log.clone()).unwrap();
    an_outage(&log);
    a_removed_database(&log);
}

fn an_outage(log: &Log) {
    let place = Place::new();
    let medium = FaultyMedium::healthy();
    let fixture = Fixture::open(StoreConfig {
        medium: medium.shared(),
        ..place.config()
    });
    let a = fixture.create("a");
    fixture.sync().unwrap();
    assert_eq!(log.take(), []);
    let (sender, told) = std::sync::mpsc::channel();
    fixture.store.watch(move |failed| {
        let _sent = sender.send(failed);
    });
    medium.break_database(true);
    fixture.write(a, 0, b"x");
    assert_eq!(told.recv_timeout(PATIENCE), Ok(true));
    let failures = fixture.store.stats().failed_commit_count;
    while fixture.store.stats().failed_commit_count < failures + 2 {
        std::thread::yield_now();
    }
    let messages = log.take();
    let [(Level::ERROR, text)] = &messages[..] else {
        panic!("{messages:?}");
    };
    assert!(
        text.contains("changes are refused") && text.contains("Make space"),
        "{text}"
    );
    medium.break_database(false);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(false));
    let messages = log.take();
    let [(Level::INFO, text)] = &messages[..] else {
        panic!("{messages:?}");
    };
    assert!(text.contains("can be written again"), "{text}");
    assert_eq!(fixture.store.shutdown(PATIENCE), ShutdownOutcome::Clean);
    assert_eq!(log.take(), []);
}

fn a_removed_database(log: &Log) {
    let place = Place::new();
    let fixture = Fixture::open(place.config());
    let a = fixture.create("a");
    fixture.sync().unwrap();
    std::fs::remove_file(place.database()).unwrap();
    for _round in 0..3 {
        fixture.write(a, 0, b"x");
        wait(|done| fixture.store.sync(done)).unwrap();
    }
    let messages = log.take();
    let [(Level::ERROR, text)] = &messages[..] else {
        panic!("{messages:?}");
    };
    assert!(text.contains("removed or replaced"), "{text}");
    fixture.store.shutdown(PATIENCE);
}
