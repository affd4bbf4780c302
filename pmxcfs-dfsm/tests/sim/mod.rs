//! Whole clusters in one thread.
//!
//! [`cluster::Cluster`] is a set of hosts with corosync and a daemon each. What happens to it is a list of
//! [`step::Step`]s; nothing else does, so a list of steps is a story that can be told again. Daemons are the machines under
//! test, or models of the C daemon ([`peer`]). The simulated CPG ([`cpg`]) keeps what the real one promises.

pub(crate) mod checks;
pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod cpg;
pub(crate) mod disk;
pub(crate) mod faults;
pub(crate) mod group;
pub(crate) mod heal;
pub(crate) mod network;
pub(crate) mod peer;
pub(crate) mod probe;
pub(crate) mod random;
pub(crate) mod replica;
pub(crate) mod shrink;
pub(crate) mod soft;
pub(crate) mod step;
pub(crate) mod story;
pub(crate) mod tally;
