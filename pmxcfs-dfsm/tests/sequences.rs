//! Recorded lives of C clusters, replayed through the core for each node.
//!
//! The core gets what one daemon got: membership, deliveries, and the requests that made it send. It must send the same
//! bytes. What differs on purpose is listed in [`DEVIATIONS`], each with the defect of the C daemon that it mends.
//! The updates of one exchange are compared as a set: the C daemon sends them in the order of a hash table.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test may fail by a panic"
)]

mod support;

#[path = "sim/client.rs"]
#[allow(dead_code, reason = "nobody looks at the answers here")]
mod client;
#[path = "sequences/database.rs"]
mod database;
#[path = "sequences/player.rs"]
mod player;
#[path = "sequences/recording.rs"]
mod recording;
#[path = "sequences/status.rs"]
mod status;

use support::vectors;

/// Sequence, node, what the core does otherwise.
const DEVIATIONS: [(&str, u32, &str); 8] = [
    // The recording ends there: the last message was held back when the daemon was killed.
    (
        "leader-killed-during-update",
        1,
        "killed before it ended its update",
    ),
    // A member that is being updated sends no writes: C peers apply those in another order, or twice.
    (
        "leader-killed-during-update",
        3,
        "holds a write until it is synced",
    ),
    (
        "divergence-while-updating",
        3,
        "holds a write until it is synced",
    ),
    // A verification finds nothing, since writes during an update are replayed in the order of the synced members.
    ("divergence-while-updating", 3, "stays in the group"),
    ("divergence-while-updating", 3, "other state"),
    // A message that nobody can apply is no reason to leave.
    ("malformed-message-all-leave", 1, "stays in the group"),
    ("malformed-message-all-leave", 2, "stays in the group"),
    ("malformed-message-all-leave", 3, "stays in the group"),
];

#[test]
fn recorded_lives_replay_to_the_same_messages_and_databases() {
    let mut seen = Vec::new();
    let mut count = 0;
    for name in recording::sequences(&vectors().join("sequences")) {
        for node in recording::nodes(&name) {
            let short = name.file_name().unwrap().to_str().unwrap().to_owned();
            let recording = recording::Recording::load(&name, node);
            eprintln!("{short} node {node}");
            let mut deviations = database::replay(&recording);
            deviations.extend(status::replay(&recording));
            seen.extend(
                deviations
                    .into_iter()
                    .map(|what| (short.clone(), node, what)),
            );
            count += 1;
        }
    }
    assert!(count > 0, "no recording was found");
    if std::env::var_os("PMXCFS_VECTORS").is_some() {
        println!("deviations: {seen:?}");
        return;
    }
    seen.sort();
    seen.dedup();
    let mut expected: Vec<(String, u32, &str)> = DEVIATIONS
        .iter()
        .map(|(name, node, what)| ((*name).to_owned(), *node, *what))
        .collect();
    expected.sort();
    assert_eq!(seen, expected);
}
