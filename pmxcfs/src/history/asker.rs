//! Which program asks for a change.
//!
//! The kernel says which thread it is. The name is read from `/proc/PID/comm`, which takes no lock that the program could hold
//! while it waits for this very request.

use std::cell::RefCell;
use std::fs::File;
use std::io::Read as _;
use std::time::{Duration, Instant};

use pmxcfs_memdb::store::Asker;

/// How long a name is believed: programs change it when they start another one.
const BELIEVED: Duration = Duration::from_millis(100);

/// How many programs a thread remembers. Programs that ask in turns must not push each other out: a name costs 10 us to read.
const PROGRAM_COUNT: usize = 64;

thread_local! {
    static KNOWN: RefCell<[Option<(Asker, Instant)>; PROGRAM_COUNT]> = const { RefCell::new([None; PROGRAM_COUNT]) };
}

/// The program with this user and thread id.
pub(crate) fn of(uid: u32, pid: u32) -> Asker {
    let now = Instant::now();
    KNOWN.with_borrow_mut(|known| {
        let slot = &mut known[pid as usize % PROGRAM_COUNT];
        if let Some((asker, since)) = slot
            && (asker.uid, asker.pid) == (uid, pid)
            && now.duration_since(*since) < BELIEVED
        {
            return *asker;
        }
        let program = name(pid);
        let asker = Asker { uid, pid, program };
        *slot = Some((asker, now));
        asker
    })
}

/// Zeros if the program is gone or in another namespace.
fn name(pid: u32) -> [u8; 16] {
    let mut name = [0; 16];
    let read = File::open(format!("/proc/{pid}/comm")).and_then(|mut file| file.read(&mut name));
    let length = read.unwrap_or(0).saturating_sub(1);
    name[length..].fill(0);
    name
}
