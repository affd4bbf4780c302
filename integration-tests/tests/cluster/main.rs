//! Clusters of real daemons on real corosync.
//!
//! Most stories spend their time waiting for corosync and may be told at the same time, on as many threads as the test runner has.
//! Those that fill the machine are told alone.
#![expect(clippy::disallowed_types, reason = "a lock of a test has no rank")]

#[cfg(test)]
mod faults;
#[cfg(test)]
mod flood;
#[cfg(test)]
mod fresh;
#[cfg(test)]
mod interrupted;
#[cfg(test)]
mod life;
#[cfg(test)]
mod locks;
#[cfg(test)]
mod mixed;
#[cfg(test)]
mod names;
#[cfg(test)]
mod partition;
#[cfg(test)]
mod rogue;
#[cfg(test)]
mod scale;
#[cfg(test)]
mod status;
#[cfg(test)]
mod stops;
#[cfg(test)]
mod stores;
#[cfg(test)]
mod takeover;
#[cfg(test)]
mod torture;
#[cfg(test)]
mod totem;

use std::time::Instant;

use integration_tests::{tell, wait};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Held for reading by each story that is told, for writing by one that needs the machine for itself.
static MACHINE: RwLock<()> = RwLock::new(());

/// The right to have a cluster, until it is dropped.
struct Turn<Guard> {
    begin: Instant,
    _guard: Guard,
}

/// Waits until no other story has the machine for itself.
fn beside_others() -> Turn<RwLockReadGuard<'static, ()>> {
    Turn::with(MACHINE.read())
}

/// Waits until no other story is told: for stories that fill the machine, or that judge what happens only under full load.
fn alone() -> Turn<RwLockWriteGuard<'static, ()>> {
    Turn::with(MACHINE.write())
}

impl<Guard> Turn<Guard> {
    fn with(guard: Guard) -> Self {
        Self {
            begin: Instant::now(),
            _guard: guard,
        }
    }
}

impl<Guard> Drop for Turn<Guard> {
    fn drop(&mut self) {
        if wait::is_timed() {
            let seconds = self.begin.elapsed().as_secs_f32();
            let thread = std::thread::current();
            tell(&format!(
                "{seconds:5.1} s {}",
                thread.name().unwrap_or_default()
            ));
        }
    }
}
