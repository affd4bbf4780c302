//! Survival of files that a client truncates under our mappings.
//!
//! Touching a mapped page behind the end of its file raises SIGBUS. The server must touch pages of files that clients
//! own, so it registers every such range here. On a fault inside a registered range the handler puts anonymous memory
//! over the whole range and marks it; the interrupted access is repeated by the processor and succeeds, and the code
//! that owns the range sees the mark after its current step and drops the connection. A fault anywhere else gets the
//! action that was in force before, which normally ends the process.
//!
//! The handler may run at any instruction of any thread, so the registry is a fixed table of atomics: no lock, no
//! allocation. Each slot has a generation that is odd while the slot is not in use or is changing; the handler reads
//! it before and after the range and believes only a pair that belongs together. A thread that faults inside its own
//! range keeps that range registered for as long as the handler runs.
#![expect(
    unsafe_code,
    reason = "a signal handler and a mapping at a fixed address"
)]

use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use pmxcfs_api_types::sync::{Mutex, Rank};

use crate::config::MAX_CONNECTIONS;

/// Ranges that can be registered at a time in this process.
const SLOT_COUNT: usize = 4 * MAX_CONNECTIONS;

#[derive(Debug)]
struct Slot {
    /// Even while `start` and `size` are valid.
    generation: AtomicU64,
    start: AtomicUsize,
    size: AtomicUsize,
    tripped: AtomicBool,
}

static SLOTS: [Slot; SLOT_COUNT] = [const {
    Slot {
        generation: AtomicU64::new(1),
        start: AtomicUsize::new(0),
        size: AtomicUsize::new(0),
        tripped: AtomicBool::new(false),
    }
}; SLOT_COUNT];

/// Held to take a slot; never taken by the signal handler.
static REGISTRATION: Mutex<()> = Mutex::new(Rank::IpcMappings, ());

/// The action that was in force before ours.
static PREVIOUS: OnceLock<SigAction> = OnceLock::new();

/// Installs the handler, once for the process, however often it is called.
pub(crate) fn install() {
    PREVIOUS.get_or_init(|| {
        let handler = SigHandler::SigAction(on_sigbus);
        let action = SigAction::new(handler, SaFlags::SA_ONSTACK, SigSet::empty());
        // SAFETY: on_sigbus keeps to what a signal handler may do.
        unsafe { sigaction(Signal::SIGBUS, &action) }.expect("SIGBUS can be handled")
    });
}

/// A registered range. Whoever holds it guarantees that the range is a mapping of its own for as long.
#[derive(Debug)]
pub(crate) struct Guard {
    slot: &'static Slot,
}

impl Guard {
    /// Registers `size` bytes from the page-aligned address `start`; `None` if the table is full.
    pub(crate) fn register(start: usize, size: usize) -> Option<Self> {
        let _registration = REGISTRATION.lock();
        let is_free = |slot: &&Slot| !slot.generation.load(Ordering::Acquire).is_multiple_of(2);
        let slot = SLOTS.iter().find(is_free)?;
        slot.tripped.store(false, Ordering::Relaxed);
        slot.start.store(start, Ordering::Relaxed);
        slot.size.store(size, Ordering::Relaxed);
        slot.generation.fetch_add(1, Ordering::Release);
        Some(Self { slot })
    }

    /// Whether a fault has cut the range off from its files. It stays usable memory, shared with nobody.
    pub(crate) fn tripped(&self) -> bool {
        self.slot.tripped.load(Ordering::Relaxed)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.slot.generation.fetch_add(1, Ordering::SeqCst);
    }
}

/// The registered range that contains `address`.
fn find(address: usize) -> Option<(&'static Slot, usize, usize)> {
    SLOTS.iter().find_map(|slot| {
        let before = slot.generation.load(Ordering::Acquire);
        if before % 2 != 0 {
            return None;
        }
        let start = slot.start.load(Ordering::Relaxed);
        let size = slot.size.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        if slot.generation.load(Ordering::Relaxed) != before {
            return None;
        }
        let inside = address.checked_sub(start)? < size;
        inside.then_some((slot, start, size))
    })
}

extern "C" fn on_sigbus(
    _signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    let errno = Errno::last_raw();
    // SAFETY: the kernel passes a valid siginfo to an SA_SIGINFO handler.
    let code = unsafe { (*info).si_code };
    // SAFETY: si_addr is set for a SIGBUS raised by a fault; for others it is some number that is not used.
    let address = unsafe { (*info).si_addr() } as usize;
    let is_fault = code > 0;
    if !(is_fault && replace_range(address)) {
        fall_back(is_fault);
    }
    Errno::set_raw(errno);
}

/// Puts anonymous memory over the registered range around `address`.
fn replace_range(address: usize) -> bool {
    let Some((slot, start, size)) = find(address) else {
        return false;
    };
    slot.tripped.store(true, Ordering::Relaxed);
    // SAFETY: the range is one mapping that belongs to the guard's holder, who accesses it only by atomics and copies
    // through raw pointers; other content at the same address breaks nothing.
    let mapped = unsafe {
        libc::mmap(
            ptr::with_exposed_provenance_mut(start),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    mapped != libc::MAP_FAILED
}

/// Restores the action before ours. A fault is then repeated by returning; a signal that somebody sent is raised
/// again and delivered after the handler.
fn fall_back(is_fault: bool) {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the action was in force before, or is the default one.
    let restored = unsafe { sigaction(Signal::SIGBUS, PREVIOUS.get().unwrap_or(&default)) };
    if restored.is_ok() && !is_fault {
        // The signal exists.
        let _raised = raise(Signal::SIGBUS);
    }
}
