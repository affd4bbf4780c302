//! What the tests' own process does about signals.
#![expect(
    unsafe_code,
    reason = "changing what a signal does has no safe interface"
)]

use std::sync::Once;

use nix::sys::signal::{SigHandler, Signal, signal};

static DEFAULTS: Once = Once::new();

/// Has the stop signals end this process, and so the daemons that it starts from now on. A shell without job control lets its background
/// jobs ignore `SIGINT`, `nohup` lets them ignore `SIGHUP`, and a daemon keeps to what it inherits.
///
/// # Panics
/// If the system refuses it.
pub(crate) fn restore_stop_signals() {
    DEFAULTS.call_once(|| {
        for stop in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
            // SAFETY: no handler is installed, and nobody here relies on the former reaction.
            unsafe { signal(stop, SigHandler::SigDfl) }.expect("a stop signal can be reset");
        }
    });
}
