//! Clusters of real daemons on real corosync.
//!
//! The tests of this program run one after the other: each one fills the machine.

#[cfg(test)]
mod life;
#[cfg(test)]
mod mixed;
#[cfg(test)]
mod operation;
#[cfg(test)]
mod rogue;
#[cfg(test)]
mod torture;

use parking_lot::{Mutex, MutexGuard};

/// Held by the test that runs.
static MACHINE: Mutex<()> = Mutex::new(());

/// Waits until no other cluster is on the machine.
fn alone() -> MutexGuard<'static, ()> {
    MACHINE.lock()
}
