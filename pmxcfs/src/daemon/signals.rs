//! Signals that end the daemon.
//!
//! Every thread blocks them and a task reads them from a descriptor, so nothing runs in a signal handler. A signal that the caller
//! of the daemon ignores (`nohup`) stays ignored. Such a signal must not be blocked: the kernel queues a blocked signal even if it
//! is ignored, and the descriptor would give it. Tokio's own handlers would take it too.

use std::io;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use procfs::process::Process;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Signals that mean an orderly stop. HUP is not a reload.
pub(crate) const STOP_SIGNALS: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// Has these signals wait to be read instead of coming to this thread.
pub(crate) fn hold_back(signals: SigSet) -> nix::Result<SignalFd> {
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// Stop signals that wait to be read.
#[derive(Debug)]
pub(super) struct StopSignals(SignalFd);

impl StopSignals {
    /// Takes over the stop signals. Call before any thread is started: threads inherit the mask.
    ///
    /// # Errors
    /// If the kernel refuses a descriptor.
    pub(super) fn take_over() -> io::Result<Self> {
        // One bit for each signal, the first for signal 1.
        let status = Process::myself().and_then(|own| own.status());
        let ignored = status.map_err(io::Error::other)?.sigign;
        let is_wanted = |signal: &Signal| ignored & (1 << (*signal as u32 - 1)) == 0;
        let wanted = STOP_SIGNALS.into_iter().filter(is_wanted);
        Ok(Self(hold_back(wanted.collect())?))
    }

    /// Waits for a stop signal, on a runtime. One that came before counts.
    ///
    /// # Errors
    /// If the descriptor cannot be waited on.
    pub(super) async fn wait(self) -> io::Result<Signal> {
        let signals = register(self.0)?;
        loop {
            let mut ready = signals.readable().await?;
            match signals.get_ref().read_signal()? {
                None => ready.clear_ready(),
                Some(info) => {
                    let number = i32::try_from(info.ssi_signo).unwrap_or_default();
                    return Ok(Signal::try_from(number)?);
                }
            }
        }
    }
}

#[expect(
    unsafe_code,
    reason = "tokio cannot know that the descriptor stays the same"
)]
fn register(signals: SignalFd) -> io::Result<AsyncFd<SignalFd>> {
    // SAFETY: a `SignalFd` owns its descriptor, always gives the same one, and closes it when it is dropped; `AsyncFd` owns it.
    let registered = unsafe { AsyncFd::register_with_interest(signals, Interest::READABLE) };
    Ok(registered?)
}
