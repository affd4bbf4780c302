//! `pmxcfs-db` as an operator meets it: real databases, real locks, real kills.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod check;
mod create;
mod dump;
mod in_use;
mod interrupted;
mod journal;
mod manual;
mod place;
mod repair;
mod round_trip;
mod salvage;
mod sync;
