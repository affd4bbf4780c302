//! The replication protocol of `/etc/pve`, as a core without I/O.
//!
//! Every daemon of a cluster runs two groups of one protocol over corosync's closed process groups: one replicates the
//! configuration database, one the status data. [`core::Machine`] is the protocol; the data that a group
//! replicates are an [`app::Application`]: [`database::Database`] or [`status::StatusGroup`]. Neither owns a socket, a thread or a clock:
//! time, deliveries, membership and requests come in, and everything that must happen goes out as actions; requests are
//! answered by the application that took them. So a whole cluster runs inside one test.
//!
//! Duties of the driver of a machine, in this order:
//! 1. hand in events and requests one at a time, with the time at which they are handled;
//! 2. carry out the actions of each in order before handing in the next one;
//! 3. when corosync asks to try again, stop sending and give back everything not yet sent, in order;
//! 4. open a new connection for every join, since corosync refuses a second join on one that has left;
//! 5. flush when all messages and requests that came in together are handled: replies wait for that.

pub mod app;
pub mod core;
pub mod database;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod status;
pub mod wire;
