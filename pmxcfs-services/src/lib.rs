//! What talks to corosync, and keeps on trying when it is not there.

pub mod corosync;
pub mod group;
pub mod quorum;
