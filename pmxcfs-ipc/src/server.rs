//! Starting and stopping the service.
//!
//! Everything runs on a runtime of the caller's, which should have one thread and nothing else to do: a task that
//! accepts, and one for each connection, from its handshake to its end. A request costs some ten microseconds from the
//! client's point of view, most of it for waking threads, so requests are handled where they arrive. A runtime of
//! several threads took up to 1.5 times the processor time, with a worse 99th percentile from four clients on.
//!
//! What would hold up others goes to the runtime's blocking threads: requests that the handler calls long, and making
//! and removing a connection's files, which takes most of a millisecond.
//!
//! No lock is held while anything is waited for or the handler runs; the locks of this crate are leaf locks.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use tokio::runtime::Handle;

use crate::accept::Acceptor;
use crate::config::ServerConfig;
use crate::directory;
use crate::handler::Handler;
use crate::listener::Listener;
use crate::service::Service;
use crate::sigbus;

/// Time that a server that is dropped without [`Server::stop`] takes to stop.
const DROP_LIMIT: Duration = Duration::from_secs(1);

/// A running service. Listening from [`Server::start`] until it is stopped or dropped.
pub struct Server {
    service: Arc<Service>,
    /// Yields nothing; disconnected when the last task has ended.
    tasks_ended: Receiver<()>,
}

impl Server {
    /// Binds the socket, removes what killed servers of this service have left in shared memory, and starts to serve on
    /// `runtime`. It needs its I/O and time drivers, and must be driven by somebody else until the server is stopped.
    ///
    /// # Errors
    /// EADDRINUSE if the name is taken (by anybody: abstract names are not protected); EINVAL for a configuration out
    /// of range; what the system says if descriptors cannot be had.
    pub fn start(
        config: ServerConfig,
        handler: Arc<dyn Handler>,
        runtime: &Handle,
    ) -> io::Result<Self> {
        if !config.is_valid() {
            return Err(Errno::EINVAL.into());
        }
        sigbus::install();
        let _context = runtime.enter();
        let listener = Listener::bind(&config.service, config.socket_directory.as_deref())?;
        let service = Arc::new(Service::new(config, handler));
        let removed_count = directory::remove_stale(&service.config.shm_directory, &service.files);
        if removed_count > 0 {
            tracing::info!(
                removed_count,
                "removed shared memory of servers that were killed"
            );
        }
        let (alive, tasks_ended) = channel();
        let acceptor = Acceptor::new(Arc::clone(&service), alive)?;
        runtime.spawn(acceptor.run(listener));
        Ok(Self {
            service,
            tasks_ended,
        })
    }

    /// Stops: accepts nobody any more, lets requests that are being handled finish, tells all clients and removes
    /// their files. Clients notice at once, also those that wait for a response, and can connect again to a successor.
    ///
    /// Returns at the deadline at the latest, whatever handler and clients do; says whether everything was done by
    /// then. What is left is removed by the next server that starts. Not to be called on the runtime.
    pub fn stop(self, deadline: Instant) -> bool {
        self.stop_by(deadline)
    }

    fn stop_by(&self, deadline: Instant) -> bool {
        // Parts of the time are kept for what follows: half of what is left for the tasks' own end, and for the files.
        let left = deadline.saturating_duration_since(Instant::now());
        self.service.stop.order((deadline - left / 2).into());
        let end = self.tasks_ended.recv_timeout(left - left / 4);
        let ended = end == Err(RecvTimeoutError::Disconnected);
        if !ended {
            tracing::warn!("an IPC request is still being handled");
        }
        let service = &self.service;
        directory::remove_own(&service.config.shm_directory, &service.files, deadline) && ended
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.service.stop.is_ordered() {
            self.stop_by(Instant::now() + DROP_LIMIT);
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("config", &self.service.config)
            .finish_non_exhaustive()
    }
}
