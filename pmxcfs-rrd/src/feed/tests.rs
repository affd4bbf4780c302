//! The feed between two recording fakes.

use super::*;
use crate::schema::Schema;
use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Records what it is given, and fails as told.
#[derive(Debug, Default)]
struct Recorder {
    updates: Vec<String>,
    created: Vec<String>,
    files: HashSet<PathBuf>,
    creation_fails: bool,
    /// Updates with this text in them are refused.
    refuses: Option<&'static str>,
    /// Answers so many updates of each batch, then is gone.
    breaks_after: Option<usize>,
}

impl Backend for &mut Recorder {
    fn update(&mut self, updates: &[Update], answers: &mut Vec<Answer>) -> io::Result<()> {
        for (index, update) in updates.iter().enumerate() {
            if self.breaks_after.is_some_and(|count| index >= count) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let refused = self.refuses.is_some_and(|text| update.text.contains(text));
            self.updates
                .push(format!("{} {}", update.path.display(), update.text));
            answers.push(if refused {
                Err("illegal attempt to update".into())
            } else {
                Ok(())
            });
        }
        Ok(())
    }
}

impl FileStore for &mut Recorder {
    fn exists(&self, path: &Path) -> bool {
        self.files.contains(path)
    }

    fn create(
        &mut self,
        path: &Path,
        schema: &Schema,
        value_time: Option<i64>,
    ) -> Result<(), String> {
        self.created.push(format!(
            "{} {} {value_time:?}",
            path.display(),
            schema.directory
        ));
        if self.creation_fails {
            return Err("disk full".into());
        }
        self.files.insert(path.to_path_buf());
        Ok(())
    }
}

fn samples(list: &[(&str, &str)]) -> Vec<Sample> {
    list.iter()
        .map(|(key, value)| Sample {
            key: key.as_bytes().into(),
            value: value.as_bytes().into(),
        })
        .collect()
}

fn write(
    daemon: &mut Recorder,
    files: &mut Recorder,
    list: &[(&str, &str)],
) -> (RrdStats, Vec<String>) {
    let mut feed = Feed::new("/db".into(), daemon, files);
    feed.write(&samples(list), Instant::now());
    (feed.stats, feed.failures.take_messages())
}

const STORAGE: &str = "pve-storage-9.0/n1/local";
const STORAGE_FILE: &str = "/db/pve-storage-9.0/n1/local";

#[test]
fn files_are_created_directly_and_updated_through_the_daemon() {
    let (mut daemon, mut files) = (Recorder::default(), Recorder::default());
    let list = [
        (STORAGE, "60:1:2\0"),
        ("pve2-storage/n1/local", "120:3:4\0"),
    ];
    let (counts, notes) = write(&mut daemon, &mut files, &list);
    assert_eq!(
        files.created,
        [format!("{STORAGE_FILE} pve-storage-9.0 Some(60)")]
    );
    let expected = [
        format!("{STORAGE_FILE} 60:1:2"),
        format!("{STORAGE_FILE} 120:3:4"),
    ];
    assert_eq!(daemon.updates, expected);
    assert!(files.updates.is_empty() && daemon.created.is_empty() && notes.is_empty());
    assert_eq!(
        (
            counts.rrdcached_count,
            counts.direct_count,
            counts.lost_count
        ),
        (2, 0, 0)
    );
}

#[test]
fn a_refusal_by_the_daemon_is_final() {
    let mut daemon = Recorder {
        refuses: Some("60:"),
        ..Recorder::default()
    };
    let mut files = Recorder::default();
    let (counts, notes) = write(
        &mut daemon,
        &mut files,
        &[(STORAGE, "60:1:2"), (STORAGE, "90:1:2")],
    );
    assert!(files.updates.is_empty(), "not behind the daemon's back");
    assert_eq!((counts.rrdcached_count, counts.lost_count), (1, 1));
    let note =
        format!("RRD update of {STORAGE_FILE} refused by rrdcached: illegal attempt to update");
    assert_eq!(notes, [note]);
}

#[test]
fn what_a_dying_daemon_left_unanswered_is_written_directly() {
    let mut daemon = Recorder {
        breaks_after: Some(1),
        ..Recorder::default()
    };
    let mut files = Recorder::default();
    let list = [
        (STORAGE, "60:1:2"),
        (STORAGE, "120:1:2"),
        (STORAGE, "180:1:2"),
    ];
    let (counts, notes) = write(&mut daemon, &mut files, &list);
    assert_eq!(daemon.updates, [format!("{STORAGE_FILE} 60:1:2")]);
    let direct = [
        format!("{STORAGE_FILE} 120:1:2"),
        format!("{STORAGE_FILE} 180:1:2"),
    ];
    assert_eq!(files.updates, direct);
    assert_eq!((counts.rrdcached_count, counts.direct_count), (1, 2));
    assert_eq!(notes.len(), 1, "{notes:?}");
}

#[test]
fn changes_of_the_daemons_state_are_told_once() {
    let mut daemon = Recorder::default();
    let mut files = Recorder::default();
    let mut told = Vec::new();
    let now = Instant::now();
    let mut was_gone = false;
    let mut feed = Feed::new("/db".into(), &mut daemon, &mut files);
    let states = [None, Some(0), Some(0), Some(0), None, None, Some(0)];
    for (serial, breaks_after) in states.into_iter().enumerate() {
        feed.daemon.breaks_after = breaks_after;
        let value = format!("{}:1:2", 60 * (serial + 1));
        feed.write(&samples(&[(STORAGE, &value)]), now);
        let is_gone = feed.failures.has_failed(DAEMON_IS_GONE);
        let messages = feed.failures.take_messages();
        told.push(match messages.as_slice() {
            [] if was_gone && !is_gone => "back",
            [] => "-",
            [message] if message.starts_with(DAEMON_IS_GONE) => "gone",
            other => panic!("{other:?}"),
        });
        was_gone = is_gone;
    }
    assert_eq!(told, ["-", "gone", "-", "-", "back", "-", "gone"]);
}

#[test]
fn a_failed_creation_is_not_tried_for_each_value() {
    let start = Instant::now();
    let mut daemon = Recorder::default();
    let mut files = Recorder {
        creation_fails: true,
        ..Recorder::default()
    };
    let mut feed = Feed::new("/db".into(), &mut daemon, &mut files);
    for second in (0..180).step_by(10) {
        let value = format!("{}:1:2", 1000 + second);
        let now = start + Duration::from_secs(second);
        feed.write(&samples(&[(STORAGE, &value)]), now);
    }
    assert_eq!(feed.files.created.len(), 2, "at 0 s and at 60 s");
    assert_eq!(feed.stats.lost_count, 18);
    let first = format!("cannot create RRD file {STORAGE_FILE}: disk full");
    let second = format!("{first} (5 failures before this one were not reported)");
    assert_eq!(feed.failures.take_messages(), [first, second]);

    feed.files.creation_fails = false;
    let now = start + Duration::from_secs(180);
    feed.write(&samples(&[(STORAGE, "1180:1:2")]), now);
    assert_eq!(feed.failures.take_messages(), [""; 0]);
    assert_eq!(feed.stats.rrdcached_count, 1);
}

#[test]
fn a_full_disk_does_not_stop_files_that_exist() {
    let mut daemon = Recorder {
        breaks_after: Some(0),
        ..Recorder::default()
    };
    let mut files = Recorder {
        creation_fails: true,
        files: HashSet::from([PathBuf::from(STORAGE_FILE)]),
        ..Recorder::default()
    };
    let list = [("pve-storage-9.0/n1/new", "60:1:2"), (STORAGE, "60:1:2")];
    let (counts, _) = write(&mut daemon, &mut files, &list);
    assert_eq!(files.updates, [format!("{STORAGE_FILE} 60:1:2")]);
    assert_eq!((counts.direct_count, counts.lost_count), (1, 1));
}

#[test]
fn bad_samples_reach_no_backend() {
    let cases = [
        ("pve3-node/x", "1:2:60:1", "unknown schema", 0),
        ("pve-storage-9.0/../x", "60:1:2", "'..' is no name", 0),
        (STORAGE, "60:1 2:3", "byte 0x20 in the columns for RRD", 0),
        ("pve2-node/n1", "9:0", "the value ends before its time", 0),
        // As with the C daemon the file is there, and RRD's refusal is ours.
        (
            STORAGE,
            "60:1",
            "1 columns after the time, the file has 2",
            1,
        ),
    ];
    for (key, value, reason, created_count) in cases {
        let (mut daemon, mut files) = (Recorder::default(), Recorder::default());
        let (counts, notes) = write(&mut daemon, &mut files, &[(key, value)]);
        assert_eq!(
            notes,
            [format!("RRD value of key \"{key}\" refused: {reason}")]
        );
        assert!(daemon.updates.is_empty() && files.updates.is_empty());
        assert_eq!(files.created.len(), created_count, "{key} {value}");
        assert_eq!(counts.lost_count, 1);
    }
}

#[test]
fn a_sender_of_bad_values_is_reported_at_growing_intervals() {
    let start = Instant::now();
    let (mut daemon, mut files) = (Recorder::default(), Recorder::default());
    let mut feed = Feed::new("/db".into(), &mut daemon, &mut files);
    for second in (0..3600).step_by(10) {
        let now = start + Duration::from_secs(second);
        feed.write(&samples(&[("pve3-node/x", "1:2:3")]), now);
    }
    assert_eq!(
        feed.failures.take_messages().len(),
        6,
        "at 0, 1, 3, 7, 15 and 31 minutes"
    );
}

#[test]
fn nothing_works_is_told_once() {
    let mut daemon = Recorder {
        breaks_after: Some(0),
        ..Recorder::default()
    };
    let mut files = Recorder {
        breaks_after: Some(0),
        ..Recorder::default()
    };
    let list = [(STORAGE, "60:1:2"), (STORAGE, "120:1:2")];
    let (counts, notes) = write(&mut daemon, &mut files, &list);
    assert_eq!(counts.lost_count, 2);
    assert_eq!(notes.len(), 2, "the daemon, the library: {notes:?}");
}

#[test]
fn an_overflow_of_the_queue_is_told_until_it_is_empty() {
    let (mut daemon, mut files) = (Recorder::default(), Recorder::default());
    let mut feed = Feed::new("/db".into(), &mut daemon, &mut files);
    let now = Instant::now();
    for dropped_count in [0, 3, 3, 7] {
        feed.note_dropped(dropped_count, now);
    }
    let message = format!("{QUEUE_OVERFLOWS}: 3 values dropped since the start");
    assert_eq!(feed.failures.take_messages(), [message]);
    feed.note_empty_queue();
    feed.note_dropped(7, now);
    assert_eq!(feed.failures.take_messages(), [""; 0]);
    feed.note_dropped(8, now);
    assert_eq!(feed.failures.take_messages().len(), 1);
}
