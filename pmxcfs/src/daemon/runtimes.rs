//! The daemon's three tokio runtimes: which task runs where, and how they end.
//!
//! A call into corosync can block: large messages wait for round trips, and corosync can stand still. An IPC request waits for
//! nothing, and must not wait for a group's work either. So each has a runtime of its own. Signals, the control socket and the
//! watchdog have a third one that calls neither corosync nor a disk: whatever hangs, the daemon reports it and obeys a signal.
//!
//! Dropping a runtime of tokio's waits for its blocking calls for as long as they take. Dropping [`Runtimes`] gives each the time
//! of [`PATIENCE`] and leaves behind calls that take longer.

use std::io;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

/// Threads that run the services' tasks. The tasks are short; with each message, a second thread would wake up and find nothing
/// to do.
const SERVICE_WORKER_COUNT: usize = 1;

/// How long each runtime may take to end.
const PATIENCE: Duration = Duration::from_millis(60);

/// The runtimes. Start them after any fork; dropping them ends them, within bounds.
#[derive(Debug)]
pub(crate) struct Runtimes {
    services: Option<Runtime>,
    ipc: OwnThread,
    control: OwnThread,
}

impl Runtimes {
    /// Starts all of them.
    ///
    /// # Errors
    /// If the system refuses threads or descriptors.
    pub(crate) fn start() -> io::Result<Self> {
        let services = Builder::new_multi_thread()
            .worker_threads(SERVICE_WORKER_COUNT)
            .thread_name("services")
            .enable_all()
            .build()?;
        Ok(Self {
            services: Some(services),
            ipc: OwnThread::start("ipc")?,
            control: OwnThread::start("control")?,
        })
    }

    /// Hosts both groups, quorum, corosync's map and the copy of corosync.conf.
    pub(crate) fn services(&self) -> &Handle {
        let services = self.services.as_ref();
        services.expect("taken by drop only").handle()
    }

    /// Hosts the IPC server and nothing else.
    pub(crate) fn ipc(&self) -> &Handle {
        &self.ipc.handle
    }

    /// Hosts signals, the control socket, the watchdog and periodic looks.
    pub(crate) fn control(&self) -> &Handle {
        &self.control.handle
    }
}

impl Drop for Runtimes {
    fn drop(&mut self) {
        if let Some(services) = self.services.take() {
            services.shutdown_timeout(PATIENCE);
        }
    }
}

/// A current-thread runtime and the thread of the same name that runs it.
#[derive(Debug)]
struct OwnThread {
    handle: Handle,
    /// Closing it ends the thread.
    end: Option<oneshot::Sender<()>>,
    /// The thread closes it at its end.
    ended: Receiver<()>,
}

impl OwnThread {
    fn start(name: &'static str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .thread_name(name)
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let (end, must_end) = oneshot::channel::<()>();
        let (ending, ended) = mpsc::channel::<()>();
        // Not joined: a task may never return.
        let _detached = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // An error, since nothing is ever sent.
                let _closed = runtime.block_on(must_end);
                runtime.shutdown_timeout(PATIENCE);
                drop(ending);
            })?;
        Ok(Self {
            handle,
            end: Some(end),
            ended,
        })
    }
}

impl Drop for OwnThread {
    fn drop(&mut self) {
        self.end = None;
        // Twice the time, since the thread itself waits for its blocking calls.
        if self.ended.recv_timeout(2 * PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::debug!("a runtime's thread does not end, leaving it behind");
        }
    }
}

/// Runs a future on a runtime and waits for its result, from a thread outside of it; `None` if it takes too long. The caller's
/// clock decides, since the runtime's stands still while a call holds up its thread.
pub(crate) fn wait_for<T: Send + 'static>(
    runtime: &Handle,
    patience: Duration,
    future: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let (done, is_done) = mpsc::sync_channel(1);
    runtime.spawn(async move {
        // Fails if it took too long.
        let _told = done.send(future.await);
    });
    is_done.recv_timeout(patience).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Longer than anything takes on the slowest machine.
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn tasks_run_on_threads_that_are_called_as_documented() {
        let runtimes = Runtimes::start().expect("runtimes");
        for (handle, expected) in [
            (runtimes.services(), "services"),
            (runtimes.ipc(), "ipc"),
            (runtimes.control(), "control"),
        ] {
            let name = || thread::current().name().map(str::to_owned);
            let of_task = wait_for(handle, LONG, async move { name() });
            assert_eq!(of_task, Some(Some(expected.to_owned())));
            let blocking = async move { tokio::task::spawn_blocking(name).await.ok().flatten() };
            assert_eq!(
                wait_for(handle, LONG, blocking),
                Some(Some(expected.to_owned()))
            );
        }
    }

    #[test]
    fn what_never_returns_holds_up_neither_a_wait_nor_the_end() {
        let runtimes = Runtimes::start().expect("runtimes");
        let mut gates = Vec::new();
        let mut gate = || {
            let (open, is_open) = mpsc::channel::<()>();
            gates.push(open);
            is_open
        };
        for handle in [runtimes.services(), runtimes.ipc(), runtimes.control()] {
            let (in_call, in_task) = (gate(), gate());
            handle.spawn_blocking(move || in_call.recv());
            handle.spawn(async move { in_task.recv() });
            assert_eq!(
                wait_for(
                    handle,
                    Duration::from_millis(1),
                    std::future::pending::<()>()
                ),
                None
            );
        }
        let begin = Instant::now();
        drop(runtimes);
        assert!(begin.elapsed() < LONG);
        drop(gates);
    }
}
