//! What was acknowledged survives: kills, restarts, a busy or full disk.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "what does not hold here fails the test"
)]

mod crash;
mod disk;
mod model;
mod power;
mod scrub;
mod store;
mod torture;
