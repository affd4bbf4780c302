//! Which program asks for a change.
//!
//! Handlers of the kernel's requests say for whom they work; a change that is made meanwhile on the same thread is that program's.
//! The name is read from `/proc/PID/comm`, which takes no lock that the program could hold while it waits for this very request.

use std::cell::Cell;
use std::fs::File;
use std::io::Read as _;
use std::time::{Duration, Instant};

use pmxcfs_memdb::store::Asker;

/// How long a name is believed: programs change it when they start another one.
const BELIEVED: Duration = Duration::from_millis(100);

thread_local! {
    static CURRENT: Cell<Option<Asker>> = const { Cell::new(None) };
    static LAST: Cell<Option<(Asker, Instant)>> = const { Cell::new(None) };
}

/// The program that this thread works for.
#[must_use]
pub(crate) fn current() -> Option<Asker> {
    CURRENT.get()
}

/// Until this is dropped, the thread works for a program.
#[derive(Debug)]
pub(crate) struct Asking(());

impl Asking {
    /// The thread begins to work for a program with this user and thread id.
    pub(crate) fn begin(uid: u32, pid: u32) -> Self {
        let now = Instant::now();
        let known = LAST.get().filter(|(asker, since)| {
            (asker.uid, asker.pid) == (uid, pid) && now.duration_since(*since) < BELIEVED
        });
        let asker = known.map_or_else(
            || {
                let program = name(pid);
                let asker = Asker { uid, pid, program };
                LAST.set(Some((asker, now)));
                asker
            },
            |(asker, _)| asker,
        );
        CURRENT.set(Some(asker));
        Self(())
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}

/// Zeros if the program is gone or in another namespace.
fn name(pid: u32) -> [u8; 16] {
    let mut name = [0; 16];
    let read = File::open(format!("/proc/{pid}/comm")).and_then(|mut file| file.read(&mut name));
    let length = read.unwrap_or(0).saturating_sub(1);
    name[length..].fill(0);
    name
}
