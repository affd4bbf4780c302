//! Tasks that write the host's corosync.conf and tell corosync. They touch files and start programs on threads for blocking
//! work, so that they hold up no delivery.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nix::sys::memfd::{MFdFlags, memfd_create};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::Files;

/// How long the other members get to replace their files before corosync reads them all.
const RELOAD_DELAY: Duration = Duration::from_secs(1);

/// How long a reload may take. Corosync may hang, and then the next change must be able to try again.
const RELOAD_PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of the reload's own messages that the log gets.
const MAX_MESSAGE_SIZE: u64 = 1000;

/// The command that has corosync read its configuration again, on all nodes.
#[derive(Debug, Clone)]
pub(crate) struct ReloadCommand {
    /// Program, searched for as a shell does.
    pub(crate) program: String,
    /// Its arguments.
    pub(crate) arguments: Vec<String>,
    /// How long after the file was written.
    pub(crate) delay: Duration,
    /// How long it may run.
    pub(crate) patience: Duration,
}

impl Default for ReloadCommand {
    fn default() -> Self {
        Self {
            program: "corosync-cfgtool".to_owned(),
            arguments: vec!["-R".to_owned()],
            delay: RELOAD_DELAY,
            patience: RELOAD_PATIENCE,
        }
    }
}

/// An order to the distributor.
#[derive(Debug)]
enum Order {
    /// The database's copy may have changed.
    Distribute {
        /// This node tells corosync.
        reload: bool,
    },
    /// Carry out earlier orders and end.
    Stop,
}

/// Brings the host's file up to date on demand. Nobody waits for it.
#[derive(Debug, Clone)]
pub(crate) struct Distributor {
    orders: mpsc::UnboundedSender<Order>,
}

impl Distributor {
    /// Starts the tasks; the returned one ends soon after [`Distributor::stop`]. `read` gives the database's present copy, if
    /// there is one.
    pub(crate) fn start(
        runtime: &Handle,
        files: Files,
        reload: ReloadCommand,
        read: impl Fn() -> Option<Bytes> + Send + Sync + 'static,
    ) -> (Self, JoinHandle<()>) {
        let (orders, ordered) = mpsc::unbounded_channel();
        let distribute = move || read().is_some_and(|copy| files.distribute(&copy));
        let task = runtime.spawn(run(ordered, Arc::new(distribute), reload));
        (Self { orders }, task)
    }

    /// The database's copy may have changed; `reload` says that this node tells corosync of it. Returns at once.
    pub(crate) fn changed(&self, reload: bool) {
        // Fails once the task has stopped, and then the next start compares the files.
        let _told = self.orders.send(Order::Distribute { reload });
    }

    /// Has the task carry out earlier orders and end. A reload that is due starts at once.
    pub(crate) fn stop(&self) {
        // Fails if it has ended already.
        let _told = self.orders.send(Order::Stop);
    }
}

/// Carries out orders until the last one; a burst counts as one.
async fn run(
    mut orders: mpsc::UnboundedReceiver<Order>,
    distribute: Arc<dyn Fn() -> bool + Send + Sync>,
    command: ReloadCommand,
) {
    let (written, to_read) = mpsc::channel(1);
    let delay = command.delay;
    let reload = async move || command.run().await;
    let reloads = tokio::spawn(reload_what_is_written(to_read, delay, reload));
    let mut is_stopping = false;
    while !is_stopping && let Some(order) = orders.recv().await {
        let (mut is_due, mut is_sender) = (false, false);
        let mut next = Some(order);
        while let Some(order) = next {
            match order {
                Order::Distribute { reload } => (is_due, is_sender) = (true, is_sender || reload),
                Order::Stop => is_stopping = true,
            }
            next = orders.try_recv().ok();
        }
        if !is_due {
            continue;
        }
        let distribute = Arc::clone(&distribute);
        match spawn_blocking(move || distribute()).await {
            // A full channel means that the next reload reads this text too.
            Ok(is_new) if is_new && is_sender => drop(written.try_send(())),
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "distributing corosync.conf failed"),
        }
    }
    drop(written);
    if let Err(error) = reloads.await {
        tracing::error!(%error, "reloading corosync.conf failed");
    }
}

/// Reloads after each new text, at least the delay later; several texts may share one reload. The end of the channel cuts the delay
/// short.
async fn reload_what_is_written(
    mut written: mpsc::Receiver<()>,
    delay: Duration,
    reload: impl AsyncFn(),
) {
    let mut is_due = false;
    while is_due || written.recv().await.is_some() {
        is_due = false;
        let more = async {
            while written.recv().await.is_some() {
                is_due = true;
            }
        };
        // Whether the time is over or there is no more, the reload is due.
        let _elapsed = timeout(delay, more).await;
        reload().await;
    }
}

impl ReloadCommand {
    /// Runs the program to its end, or ends it, and logs the outcome.
    async fn run(&self) {
        let program = &self.program;
        let spawned = {
            let command = self.clone();
            spawn_blocking(move || command.spawn()).await
        };
        let (mut child, output) = match spawned.map_err(io::Error::from).flatten() {
            Ok(spawned) => spawned,
            Err(error) => {
                tracing::error!(%error, "corosync does not know of its new config: cannot run {program}; run it by hand");
                return;
            }
        };
        match timeout(self.patience, child.wait()).await {
            Ok(Ok(status)) if status.success() => {
                tracing::info!("corosync has its new config");
            }
            Ok(Ok(status)) => log_failure(status, output),
            Ok(Err(error)) => {
                tracing::error!(%error, "cannot wait for the reload of corosync's config");
            }
            Err(_) => {
                tracing::error!(
                    "corosync does not finish reading its new config: ending {program}"
                );
                // Fails only if it is gone.
                let _killed = child.kill().await;
            }
        }
    }

    /// The program, and a file with its stderr. A pipe would make the reader wait for any process that still holds it.
    fn spawn(&self) -> io::Result<(Child, File)> {
        let output = File::from(memfd_create(c"reload", MFdFlags::MFD_CLOEXEC)?);
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output.try_clone()?)
            .spawn()?;
        Ok((child, output))
    }
}

fn log_failure(status: ExitStatus, mut output: File) {
    let mut said = Vec::new();
    let read = output
        .rewind()
        .and_then(|()| output.take(MAX_MESSAGE_SIZE).read_to_end(&mut said));
    if let Err(error) = read {
        tracing::warn!(%error, "cannot read what the reload said");
    }
    let said = String::from_utf8_lossy(said.trim_ascii()).into_owned();
    let code = status.code();
    tracing::error!(code, said, "reload of corosync's config failed: {status}");
}

#[cfg(test)]
mod tests;
