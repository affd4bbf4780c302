//! The thread that writes the host's corosync.conf and tells corosync.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::sys::memfd::{MFdFlags, memfd_create};
use parking_lot::{Condvar, Mutex};

use super::{Outcome, distribute};

/// How long the other members get to replace their files before corosync reads them all.
const RELOAD_DELAY: Duration = Duration::from_secs(1);

/// How long the reload may take: corosync may hang, and then it must be possible to try again.
const RELOAD_PATIENCE: Duration = Duration::from_secs(30);

/// How often a running reload is looked at.
const RELOAD_POLL: Duration = Duration::from_millis(20);

/// How long a stop waits for a reload.
const STOP_PATIENCE: Duration = Duration::from_millis(200);

/// How long a stop waits for the thread, which may hang in a write besides.
const THREAD_PATIENCE: Duration = Duration::from_millis(400);

/// How much of what the reload says is logged, in bytes.
const MAX_MESSAGE_SIZE: u64 = 1000;

/// How corosync is told to read its configuration again, on all nodes.
#[derive(Debug, Clone)]
pub(crate) struct ReloadCommand {
    /// Program, searched for as a shell does.
    pub(crate) program: String,
    /// Its arguments.
    pub(crate) arguments: Vec<String>,
    /// How long after the file was written.
    pub(crate) delay: Duration,
}

impl Default for ReloadCommand {
    fn default() -> Self {
        Self {
            program: "corosync-cfgtool".to_owned(),
            arguments: vec!["-R".to_owned()],
            delay: RELOAD_DELAY,
        }
    }
}

/// Brings the host's file up to date whenever it is told to, without letting anybody wait. Stops when dropped.
pub(crate) struct Distributor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Distributor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Distributor").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Shared {
    /// What the thread was told and has not done. A leaf lock, never held across a system call.
    orders: Mutex<Orders>,
    /// Something was ordered, or the thread has ended.
    changed: Condvar,
}

#[derive(Default)]
struct Orders {
    /// The database's copy changed; whether this node tells corosync. A burst is one order.
    distribute: Option<bool>,
    stop: bool,
    has_ended: bool,
}

impl Distributor {
    /// Starts the thread. `read` gives the database's present copy, if there is one.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(crate) fn start(
        host_file: PathBuf,
        node_name: String,
        reload: ReloadCommand,
        read: impl Fn() -> Option<Bytes> + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let worker = Worker {
            shared: Arc::clone(&shared),
            host_file,
            node_name,
            read,
            reloads: Reloads::new(reload),
        };
        let thread = std::thread::Builder::new()
            .name("corosync-conf".to_owned())
            .spawn(move || worker.run())?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// The database's copy may have changed; `reload` says that this node tells corosync of it. Returns at once.
    pub(crate) fn changed(&self, reload: bool) {
        let mut orders = self.shared.orders.lock();
        orders.distribute = Some(reload || orders.distribute == Some(true));
        drop(orders);
        self.shared.changed.notify_all();
    }

    /// Does what was ordered and ends the thread; a reload that is due starts at once. Takes no longer than [`THREAD_PATIENCE`]: a
    /// thread that hangs is left behind.
    pub(crate) fn stop(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        let mut orders = self.shared.orders.lock();
        orders.stop = true;
        self.shared.changed.notify_all();
        let deadline = Instant::now() + THREAD_PATIENCE;
        while !orders.has_ended && Instant::now() < deadline {
            self.shared.changed.wait_until(&mut orders, deadline);
        }
        let has_ended = orders.has_ended;
        drop(orders);
        if !has_ended {
            tracing::warn!(
                "corosync.conf is still being written or read, the stop goes on without it"
            );
        } else if thread.join().is_err() {
            tracing::error!("the thread that writes corosync.conf failed");
        }
    }
}

impl Drop for Distributor {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the thread owns.
struct Worker<R> {
    shared: Arc<Shared>,
    host_file: PathBuf,
    node_name: String,
    read: R,
    reloads: Reloads,
}

impl<R: Fn() -> Option<Bytes>> Worker<R> {
    fn run(mut self) {
        let _ended = EndNotice(Arc::clone(&self.shared));
        loop {
            let (notify, stop) = self.next_orders();
            if let Some(notify) = notify {
                self.distribute(notify);
            }
            if stop {
                return self.reloads.finish();
            }
            self.reloads.progress(Instant::now());
        }
    }

    /// Waits for orders, or until a reload wants attention.
    fn next_orders(&self) -> (Option<bool>, bool) {
        let wake = self.reloads.next_wake(Instant::now());
        let mut orders = self.shared.orders.lock();
        while orders.distribute.is_none() && !orders.stop {
            let is_late = match wake {
                Some(deadline) => {
                    let waited = self.shared.changed.wait_until(&mut orders, deadline);
                    waited.timed_out()
                }
                None => {
                    self.shared.changed.wait(&mut orders);
                    false
                }
            };
            if is_late {
                break;
            }
        }
        (orders.distribute.take(), orders.stop)
    }

    fn distribute(&mut self, notify: bool) {
        let Some(copy) = (self.read)() else {
            return;
        };
        let outcome = distribute(&copy, &self.host_file, &self.node_name, notify);
        if let Outcome::Written {
            is_reload_due: true,
        } = outcome
        {
            self.reloads.order(Instant::now());
        }
    }
}

/// Tells a waiting stop that the thread ends, even by a panic.
struct EndNotice(Arc<Shared>);

impl Drop for EndNotice {
    fn drop(&mut self) {
        self.0.orders.lock().has_ended = true;
        self.0.changed.notify_all();
    }
}

/// Reloads that are due, and the one that runs. Each file that was written is followed by a reload that starts at least the
/// delay later; several files share one. Two never run at a time.
struct Reloads {
    command: ReloadCommand,
    /// When the next reload starts.
    due: Option<Instant>,
    /// When the last file was written for which a reload is due.
    last_order: Option<Instant>,
    running: Option<Running>,
}

struct Running {
    child: Child,
    /// Its stderr. Not a pipe: reading from it never waits for who else may hold it.
    output: File,
    deadline: Instant,
}

impl Reloads {
    fn new(command: ReloadCommand) -> Self {
        Self {
            command,
            due: None,
            last_order: None,
            running: None,
        }
    }

    fn order(&mut self, now: Instant) {
        self.last_order = Some(now);
        self.due.get_or_insert(now + self.command.delay);
    }

    fn next_wake(&self, now: Instant) -> Option<Instant> {
        match self.running {
            Some(_) => Some(now + RELOAD_POLL),
            None => self.due,
        }
    }

    fn progress(&mut self, now: Instant) {
        if let Some(running) = self.running.take() {
            self.running = running.progress(now);
        }
        if self.running.is_none() && self.due.is_some_and(|due| due <= now) {
            self.due = None;
            if let Some(last_order) = self.last_order.take()
                && last_order + self.command.delay > now
            {
                // The file was written again and this text has not had its time.
                self.order(last_order);
            }
            self.start(now);
        }
    }

    /// Starts what is due without its delay, and gives it a moment: who ends the daemon may end what it started, too.
    fn finish(&mut self) {
        let deadline = Instant::now() + STOP_PATIENCE;
        if self.due.is_some() {
            self.due = Some(Instant::now());
            self.last_order = None;
        }
        loop {
            let now = Instant::now();
            self.progress(now);
            if (self.running.is_none() && self.due.is_none()) || now >= deadline {
                return;
            }
            std::thread::park_timeout(RELOAD_POLL);
        }
    }

    fn start(&mut self, now: Instant) {
        match self.spawn(now + RELOAD_PATIENCE) {
            Ok(running) => self.running = Some(running),
            Err(error) => {
                let program = &self.command.program;
                tracing::error!(%error, "corosync was not told of its new config: cannot run {program}");
            }
        }
    }

    fn spawn(&self, deadline: Instant) -> io::Result<Running> {
        let output = File::from(memfd_create(c"reload", MFdFlags::MFD_CLOEXEC)?);
        let child = Command::new(&self.command.program)
            .args(&self.command.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output.try_clone()?)
            .spawn()?;
        Ok(Running {
            child,
            output,
            deadline,
        })
    }
}

impl Running {
    /// `None` when it is over.
    fn progress(mut self, now: Instant) -> Option<Self> {
        match self.child.try_wait() {
            Ok(None) if now < self.deadline => return Some(self),
            Ok(None) => {
                tracing::error!("corosync does not finish reading its new config");
                // Fails only if it is gone.
                let _killed = self.child.kill();
                let _status = self.child.wait();
            }
            Ok(Some(status)) => self.log(status),
            Err(error) => {
                tracing::error!(%error, "cannot wait for the reload of corosync's config")
            }
        }
        None
    }

    fn log(&mut self, status: ExitStatus) {
        if status.success() {
            tracing::info!("corosync was told of its new config");
            return;
        }
        let mut said = Vec::new();
        let read = self
            .output
            .rewind()
            .and_then(|()| (&self.output).take(MAX_MESSAGE_SIZE).read_to_end(&mut said));
        if let Err(error) = read {
            tracing::warn!(%error, "cannot read what the reload said");
        }
        let said = String::from_utf8_lossy(said.trim_ascii()).into_owned();
        let code = status.code();
        tracing::error!(code, said, "reload of corosync's config failed: {status}");
    }
}

#[cfg(test)]
mod tests;
