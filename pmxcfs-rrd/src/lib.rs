//! Round robin databases: what becomes of status values whose key begins with `rrd/`.
//!
//! A value arrives as a key (`pve-node-9.0/node1`) and a text of columns separated by colons. The [`key`] names the
//! [`schema`] and the file, [`columns`] makes the text that RRD takes out of the one that was sent, and one thread, the
//! [`RrdWriter`], hands it to rrdcached or, when that does not answer, to librrd.
//!
//! The three modules named first are pure. Everything that touches a disk or a socket runs on the writer's thread: the
//! C daemon did it under the lock that every status operation needs, for each value of each node.

mod backend;
pub mod columns;
mod failures;
mod feed;
pub mod key;
mod library;
mod librrd;
mod local_time;
mod queue;
mod rrdcached;
pub mod sample;
pub mod schema;
mod writer;

pub use feed::RrdStats;
pub use writer::{RrdConfig, RrdWriter};
