//! A probe of the daemon's own mount, for the watchdog of the service manager.
//!
//! The question takes the path of every program's requests: a thread asks the mount, the kernel hands the request to a thread
//! of the FUSE session, which takes the tree's lock. So one answer stands for all. The control runtime only looks whether
//! the last question was answered; it never waits for an answer.
//!
//! A process that waits for its own mount normally cannot even be killed: the kernel ends a request when the last descriptor
//! of the FUSE device is closed, and the waiting thread itself keeps it open. The asking thread therefore has a table of
//! descriptors of its own, and it is empty. When the daemon is killed, the kernel closes the session's descriptors and ends the
//! question. For the same reason that thread must not log or open anything.
//!
//! The question must not touch a disk: on a host whose disks hang the daemon still serves, and must not be killed.

use std::io;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, SyncSender};

use nix::sys::statfs::{FUSE_SUPER_MAGIC, statfs};

/// A thread that asks on demand.
#[derive(Debug)]
pub struct Probe {
    /// Closing it ends the thread.
    questions: SyncSender<()>,
    answers: Receiver<bool>,
}

impl Probe {
    /// Starts the thread. `question` runs in it, without any descriptor: it must open, log and keep nothing.
    ///
    /// # Errors
    /// If there is no thread to be had, or the kernel does not let it have descriptors of its own.
    pub fn start(mut question: impl FnMut() -> bool + Send + 'static) -> io::Result<Self> {
        let (questions, asked) = mpsc::sync_channel(1);
        let (answer, answers) = mpsc::channel();
        let (started, is_started) = mpsc::sync_channel(1);
        // Not joined: an unanswered question ends with the process.
        let _detached = std::thread::Builder::new()
            .name("liveness".to_owned())
            .spawn(move || {
                let isolated = drop_descriptors();
                let may_ask = isolated.is_ok();
                // Stands for the answer before the first question.
                let mut answered = answer.send(true).is_ok() && started.send(isolated).is_ok();
                while may_ask && answered && asked.recv().is_ok() {
                    answered = answer.send(question()).is_ok();
                }
            })?;
        is_started.recv().map_err(io::Error::other)??;
        Ok(Self { questions, answers })
    }

    /// Whether the last question has been answered with yes by now. Asks the next one. Never waits.
    #[must_use]
    pub fn answers(&self) -> bool {
        let answer = self.answers.try_recv();
        // There is room, since the last question was taken.
        answer.is_ok_and(|is_good| self.questions.try_send(()).is_ok() && is_good)
    }
}

/// Asks a mount for its usage, which needs no disk (the directories above a mount point stay in memory) and which no cache
/// answers. Returns whether a FUSE filesystem answered: after a lazy unmount from outside, the directory below would.
#[must_use]
pub fn mount_answers(mount_dir: &Path) -> bool {
    statfs(mount_dir).is_ok_and(|answer| answer.filesystem_type() == FUSE_SUPER_MAGIC)
}

/// Gives this thread a table of descriptors of its own and empties it.
#[expect(
    unsafe_code,
    reason = "the standard library knows no descriptors that differ between threads"
)]
fn drop_descriptors() -> io::Result<()> {
    // SAFETY: no pointer is passed; afterwards this thread sees a copy of the table.
    if unsafe { libc::unshare(libc::CLONE_FILES) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: no pointer is passed. Only this thread's copy is closed; what other threads own stays open in theirs, and this
    // thread runs nothing that uses a descriptor.
    if unsafe { libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use nix::poll::PollTimeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn becomes(probe: &Probe, wanted: bool) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while probe.answers() != wanted {
            if Instant::now() > deadline {
                return false;
            }
            nix::poll::poll(&mut [], PollTimeout::from(5u8)).unwrap();
        }
        true
    }

    #[test]
    fn a_question_without_an_answer_is_no_sign_of_life() {
        let (go_on, wait) = mpsc::channel::<()>();
        let probe = Probe::start(move || wait.recv().is_ok()).unwrap();
        assert!(probe.answers(), "nothing was asked yet");
        for _ in 0..100 {
            assert!(!probe.answers());
        }
        go_on.send(()).unwrap();
        assert!(becomes(&probe, true));
        drop(go_on);
        assert!(becomes(&probe, false), "an answer can be no");
    }

    #[test]
    fn a_good_answer_after_a_bad_one_counts() {
        let good = Arc::new(AtomicBool::new(false));
        let probe = Probe::start({
            let good = Arc::clone(&good);
            move || good.load(Ordering::Relaxed)
        })
        .unwrap();
        assert!(becomes(&probe, false));
        good.store(true, Ordering::Relaxed);
        assert!(becomes(&probe, true));
    }

    #[test]
    fn the_asking_thread_has_no_descriptors_and_the_others_keep_theirs() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let file = File::create(&path).unwrap();
        let (sender, receiver) = mpsc::channel();
        let probe = Probe::start(move || {
            // Listing opens one descriptor itself.
            let count = std::fs::read_dir("/proc/thread-self/fd").map(Iterator::count);
            sender.send(count.unwrap_or(usize::MAX)).is_ok()
        })
        .unwrap();
        assert!(probe.answers());
        assert_eq!(receiver.recv_timeout(PATIENCE), Ok(1));
        file.sync_all().expect("still open here");
    }

    #[test]
    fn dropping_the_probe_ends_its_thread() {
        let (sender, receiver) = mpsc::channel::<()>();
        let probe = Probe::start(move || sender.send(()).is_ok()).unwrap();
        drop(probe);
        assert_eq!(
            receiver.recv_timeout(PATIENCE),
            Err(mpsc::RecvTimeoutError::Disconnected),
            "the question went with its thread"
        );
    }
}
