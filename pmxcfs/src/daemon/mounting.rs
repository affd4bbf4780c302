//! The mount at the start: that of a former process if there is one to go on with, else a new one.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, anyhow};

use super::handover::{CONNECTION, Inherited, TABLES};
use super::notify::Notifier;
use crate::fs::Tables;
use crate::fuse::{self, Connection, Mount};

/// How long programs may wait for a process that goes on with their mount.
const PATIENCE: Duration = Duration::from_secs(5);

/// A mount that can be served.
pub(super) struct Mounted {
    pub(super) mount: Mount,
    pub(super) connection: Connection,
    pub(super) tables: Tables,
    /// A former process has served it.
    pub(super) is_taken_over: bool,
}

/// A connection that a former process has served, with the programs that wait for it.
#[derive(Debug)]
pub(super) struct Takeover {
    connection: Arc<OwnedFd>,
    tables: Option<OwnedFd>,
    deadline: Deadline,
}

impl Takeover {
    /// Limits from now on how long programs wait. `None` if nothing was passed.
    pub(super) fn begin(inherited: Inherited, mount_dir: &Path) -> Option<Self> {
        let connection = Arc::new(inherited.connection?);
        Some(Self {
            deadline: Deadline::arm(Arc::clone(&connection), mount_dir.to_owned())?,
            connection,
            tables: inherited.tables,
        })
    }
}

/// Goes on with a connection, if it and its tables are what they have to be.
fn take_over(
    connection: &OwnedFd,
    tables: Option<OwnedFd>,
    mount_dir: &Path,
) -> anyhow::Result<Mounted> {
    let tables = tables.context("the tables of names and handles were not passed")?;
    let tables = Tables::open(tables)?;
    let device = connection.try_clone()?;
    let (mount, connection) = Connection::take_over(device, &tables, mount_dir)?;
    Ok(Mounted {
        mount,
        connection,
        tables,
        is_taken_over: true,
    })
}

/// Aborts a connection that is not served in time, so that programs get an error.
#[derive(Debug)]
pub(super) struct Deadline {
    /// Closing it says that the connection is served.
    waiting: Sender<()>,
    /// Whether the connection was served in time.
    thread: JoinHandle<bool>,
}

impl Deadline {
    fn arm(connection: Arc<OwnedFd>, mount_dir: PathBuf) -> Option<Self> {
        let (waiting, served) = mpsc::channel::<()>();
        let thread = thread::Builder::new()
            .name("deadline".to_owned())
            .spawn(move || {
                let is_in_time = served.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout);
                if !is_in_time && let Err(error) = fuse::abort(&mount_dir, &connection) {
                    tracing::debug!(%error, "cannot abort the former connection");
                }
                is_in_time
            });
        // Without a thread nothing is taken over.
        Some(Self {
            waiting,
            thread: thread.ok()?,
        })
    }

    /// The connection is served from now on. Returns whether that was in time.
    pub(super) fn meet(self) -> bool {
        drop(self.waiting);
        // A thread that has panicked may have aborted it.
        self.thread.join().unwrap_or(false)
    }
}

/// Goes on with the mount of a former process, or mounts anew and has the manager keep the new connection.
pub(super) fn mount(
    takeover: Option<Takeover>,
    notifier: &Notifier,
    mount_dir: &Path,
) -> anyhow::Result<(Mounted, Option<Deadline>)> {
    if let Some(takeover) = takeover {
        let deadline = takeover.deadline;
        let reason = match take_over(&takeover.connection, takeover.tables, mount_dir) {
            Ok(mounted) => {
                tracing::info!("going on with the mount of the former process");
                return Ok((mounted, Some(deadline)));
            }
            Err(reason) => reason,
        };
        // An aborted connection is refused, too.
        let reason = if deadline.meet() {
            reason
        } else {
            anyhow!("it has not been served within {} s", PATIENCE.as_secs())
        };
        tracing::warn!("the mount of the former process ends, a new one begins: {reason:#}");
    }
    let_go(notifier);
    fuse::clear_mount_point(mount_dir);
    let (mount, device) = fuse::mount(mount_dir)?;
    let tables = Tables::create().context("no memory for the tables of names and handles")?;
    let connection =
        Connection::begin(&mount, device, &tables).context("cannot serve the mount")?;
    notifier.keep(TABLES, tables.descriptor());
    notifier.keep(CONNECTION, connection.descriptor());
    let mounted = Mounted {
        mount,
        connection,
        tables,
        is_taken_over: false,
    };
    Ok((mounted, None))
}

/// Has the manager close what it keeps.
pub(super) fn let_go(notifier: &Notifier) {
    notifier.let_go(CONNECTION);
    notifier.let_go(TABLES);
}
