//! Signals that end the daemon.
//!
//! They are blocked in every thread and read from a descriptor, so nothing ever runs in a signal handler. A signal that
//! the caller had set to be ignored (`nohup`) stays ignored: the kernel drops it before it reaches the descriptor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Signals that mean an orderly stop. HUP is not a reload.
const STOP_SIGNALS: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// Why the daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// A signal asked for it.
    Signal(Signal),
    /// The filesystem was unmounted from outside.
    Unmounted,
    /// The filesystem cannot be served any more.
    SessionFailed,
}

/// Lets another thread say that the filesystem is gone.
#[derive(Debug, Clone)]
pub struct SessionNotice {
    ended: Arc<EventFd>,
    failed: Arc<AtomicBool>,
}

impl SessionNotice {
    /// Wakes the main thread: the session ended, because of an unmount or with a failure.
    pub fn send(&self, failed: bool) {
        self.failed.store(failed, Ordering::Release);
        // Fails only when the counter is full, and then the main thread is awake.
        let _written = self.ended.write(1);
    }
}

/// What the main thread waits on.
#[derive(Debug)]
pub struct StopEvents {
    signals: SignalFd,
    session_ended: Arc<EventFd>,
    session_failed: Arc<AtomicBool>,
}

impl StopEvents {
    /// Takes over the stop signals. Call before any thread is started: threads inherit what is blocked.
    ///
    /// # Errors
    /// If the kernel refuses a descriptor.
    pub fn take_over() -> io::Result<Self> {
        let set: SigSet = STOP_SIGNALS.into_iter().collect();
        set.thread_block()?;
        Ok(Self {
            signals: SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?,
            session_failed: Arc::default(),
            session_ended: Arc::new(EventFd::from_flags(
                EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK,
            )?),
        })
    }

    /// Sender for the thread that serves the mount.
    #[must_use]
    pub fn session_notice(&self) -> SessionNotice {
        SessionNotice {
            ended: Arc::clone(&self.session_ended),
            failed: Arc::clone(&self.session_failed),
        }
    }

    /// Waits for a reason to stop; calls `tick` whenever nothing has happened for `pause`.
    ///
    /// # Errors
    /// If the descriptors cannot be waited on.
    pub fn wait(&mut self, pause: Duration, mut tick: impl FnMut()) -> io::Result<StopReason> {
        let timeout = PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX);
        loop {
            let ready = |fd: BorrowedFd<'_>| -> nix::Result<bool> {
                let mut poll = [PollFd::new(fd, PollFlags::POLLIN)];
                Ok(nix::poll::poll(&mut poll, PollTimeout::ZERO)? > 0)
            };
            if ready(self.session_ended.as_fd())? {
                return Ok(match self.session_failed.load(Ordering::Acquire) {
                    true => StopReason::SessionFailed,
                    false => StopReason::Unmounted,
                });
            }
            if let Some(info) = self.signals.read_signal()?
                && let Ok(number) = i32::try_from(info.ssi_signo)
                && let Ok(signal) = Signal::try_from(number)
            {
                return Ok(StopReason::Signal(signal));
            }
            let mut both = [
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.session_ended.as_fd(), PollFlags::POLLIN),
            ];
            match nix::poll::poll(&mut both, timeout) {
                Ok(0) => tick(),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}
