//! Starting and stopping the service.
//!
//! Threads, per server:
//!
//! | thread | does | waits for |
//! |---|---|---|
//! | `ipc-setup` | accepts, handshakes, makes and removes the files of connections | its epoll instance |
//! | `ipc-worker-N` | takes requests, calls the handler, writes responses | events, if it leads; else its turn to lead |
//!
//! These are plain threads around epoll and not tasks of an async runtime. A request costs some ten microseconds
//! from the client's point of view, most of it for waking threads. A worker needs two system calls for it (wait,
//! wake the client), where a runtime adds its own queue, a wake-up of a second worker for every burst, and one more
//! read to find out that the socket is empty; and it cannot tell a slow handler from a fast one before it has run. Why
//! one worker leads is told in `lead.rs`.
//!
//! Making and removing a connection's files takes most of a millisecond and happens on a thread of its own, so a
//! storm of connections delays new connections and not the requests of existing ones.
//!
//! Locks: `connections` is taken for a lookup and released before anything else; a connection's `channel` is held
//! while that connection runs, the handler included; `retired` and the counters are leaf locks; those of `lead.rs` are
//! its own.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{Shutdown, shutdown};
use parking_lot::{Mutex, RwLock};
use std::os::fd::AsRawFd;

use crate::acceptor::Acceptor;
use crate::admission::Admission;
use crate::config::{MIN_MESSAGE_SIZE, ServerConfig, Transport};
use crate::connection::{Channel, Connection};
use crate::directory;
use crate::handler::Handler;
use crate::lead::Lead;
use crate::listener::Listener;
use crate::sigbus;
use crate::worker::{self, STOP_TOKEN};
use crate::{shm_channel, socket_channel};

/// Time that a server that is dropped without [`Server::stop`] takes to stop.
const DROP_LIMIT: Duration = Duration::from_secs(1);

/// Longest service name, in bytes. Directory and socket names are built from it.
const MAX_SERVICE_NAME_SIZE: usize = 64;

/// What all threads of a server share.
pub(crate) struct Shared {
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) config: ServerConfig,
    /// Cap of the agreed message size, checked.
    pub(crate) max_message_size: u32,
    pub(crate) admission: Arc<Admission>,
    /// What the workers wait on.
    pub(crate) epoll: Epoll,
    /// All connections by number, which is their event data.
    pub(crate) connections: RwLock<HashMap<u64, Arc<Connection>>>,
    /// Connections that are over and whose files are still there.
    pub(crate) retired: Mutex<Vec<Arc<Connection>>>,
    /// Wakes the set-up thread.
    pub(crate) setup_wake_up: EventFd,
    /// Which worker waits.
    pub(crate) lead: Lead,
    stop_workers: EventFd,
    stopping: AtomicBool,
}

impl Shared {
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Takes a connection out of service; the set-up thread removes what is left of it.
    pub(crate) fn retire(&self, connection: &Arc<Connection>) {
        if self
            .connections
            .write()
            .remove(&connection.number)
            .is_none()
        {
            return;
        }
        self.retired.lock().push(Arc::clone(connection));
        if let Err(error) = self.setup_wake_up.write(1) {
            tracing::error!(%error, "cannot wake the IPC set-up thread");
        }
    }
}

/// A running service. Listening from [`Server::start`] until it is stopped or dropped.
pub struct Server {
    shared: Arc<Shared>,
    /// Yields nothing; disconnected when the last thread has ended.
    threads_ended: Receiver<()>,
    is_stopped: bool,
}

impl Server {
    /// Binds the socket, removes what killed servers of this service have left in shared memory, and starts to serve.
    ///
    /// # Errors
    /// EADDRINUSE if the name is taken (by anybody: abstract names are not protected); EINVAL for a configuration out
    /// of range; what the system says if threads or descriptors cannot be had.
    pub fn start(config: ServerConfig, handler: Arc<dyn Handler>) -> io::Result<Self> {
        check(&config)?;
        sigbus::install()?;
        let listener = Listener::bind(&config.service, config.socket_directory.as_deref())?;
        remove_stale_directories(&config);
        let shared = Arc::new(Shared {
            handler,
            max_message_size: config.max_message_size,
            admission: Admission::new(config.max_connections, config.max_connections_per_uid),
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            connections: RwLock::default(),
            retired: Mutex::default(),
            setup_wake_up: wake_up()?,
            lead: Lead::default(),
            stop_workers: wake_up()?,
            stopping: AtomicBool::new(false),
            config,
        });
        let stop_event = EpollEvent::new(EpollFlags::EPOLLIN, STOP_TOKEN);
        shared.epoll.add(&shared.stop_workers, stop_event)?;
        let acceptor = Acceptor::new(Arc::clone(&shared), listener)?;
        let (alive, threads_ended) = channel::<()>();
        // From here on an early return drops the server, which ends the threads that were started.
        let server = Self {
            shared: Arc::clone(&shared),
            threads_ended,
            is_stopped: false,
        };
        for number in 0..shared.config.worker_count {
            let (shared, alive) = (Arc::clone(&shared), alive.clone());
            spawn(format!("ipc-worker-{number}"), move || {
                worker::run(&shared, number == 0);
                drop(alive);
            })?;
        }
        spawn("ipc-setup".to_owned(), move || {
            acceptor.run();
            drop(alive);
        })?;
        Ok(server)
    }

    /// Stops: accepts nobody any more, lets requests that are being handled finish, tells all clients and removes
    /// their files. Clients notice at once, also those that wait for a response, and can connect again to a successor.
    ///
    /// Returns at the deadline at the latest, whatever handler and clients do; says whether everything was done by
    /// then. What is left is removed by the next server that starts.
    pub fn stop(mut self, deadline: Instant) -> bool {
        self.stop_by(deadline)
    }

    fn stop_by(&mut self, deadline: Instant) -> bool {
        self.is_stopped = true;
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.lead.stop();
        for wake_up in [&self.shared.stop_workers, &self.shared.setup_wake_up] {
            if let Err(error) = wake_up.write(1) {
                tracing::error!(%error, "cannot wake the IPC threads");
            }
        }
        // A part of the time is kept for what follows.
        let left = deadline.saturating_duration_since(Instant::now());
        let patience = left - left / 4;
        let ended =
            self.threads_ended.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected);
        if !ended {
            tracing::warn!("an IPC request is still being handled");
        }
        let connections: Vec<_> = {
            let mut connections = self.shared.connections.write();
            connections.drain().map(|(_number, it)| it).collect()
        };
        let retired = std::mem::take(&mut *self.shared.retired.lock());
        let mut is_complete = ended;
        for connection in &connections {
            is_complete &= hang_up(connection);
        }
        for connection in connections.iter().chain(&retired) {
            if Instant::now() >= deadline {
                return false;
            }
            is_complete &= remove_files(connection).is_ok();
        }
        is_complete
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.is_stopped {
            self.stop_by(Instant::now() + DROP_LIMIT);
        }
    }
}

/// Tells the client that the connection is over and takes its transport apart; not if the handler is busy with it.
pub(crate) fn hang_up(connection: &Connection) -> bool {
    let Some(mut channel) = connection.channel.try_lock() else {
        return false;
    };
    if let Channel::Shm(channel) = &*channel {
        channel.hang_up();
    }
    *channel = Channel::Closed;
    drop(channel);
    match shutdown(connection.stream.as_raw_fd(), Shutdown::Both) {
        Ok(()) | Err(Errno::ENOTCONN) => true,
        Err(error) => {
            tracing::debug!(%error, "stream socket not shut down");
            false
        }
    }
}

/// Removes a connection's directory.
///
/// # Errors
/// EMFILE or ENFILE if it is worth another try; everything else is logged and final.
pub(crate) fn remove_files(connection: &Connection) -> nix::Result<()> {
    match connection.directory.remove() {
        Err(error @ (Errno::EMFILE | Errno::ENFILE)) => Err(error),
        Err(error) => {
            let path = connection.directory.path();
            tracing::debug!(path = %path.display(), %error, "connection directory not removed");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

fn check(config: &ServerConfig) -> io::Result<()> {
    let name = config.service.as_bytes();
    let is_valid = !name.is_empty()
        && name.len() <= MAX_SERVICE_NAME_SIZE
        && !name.contains(&b'/')
        && !name.contains(&0)
        && config.worker_count > 0
        && config.max_connections <= sigbus::SLOT_COUNT
        && config.max_message_size >= MIN_MESSAGE_SIZE
        && i32::try_from(config.max_message_size).is_ok();
    if is_valid {
        Ok(())
    } else {
        Err(Errno::EINVAL.into())
    }
}

fn wake_up() -> nix::Result<EventFd> {
    EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name).spawn(run)?;
    Ok(())
}

fn remove_stale_directories(config: &ServerConfig) {
    let files: Vec<_> = shm_channel::file_names(&config.service)
        .chain([socket_channel::control_file_name(&config.service)])
        .collect();
    let removed_count = directory::remove_stale(&config.shm_directory, &files);
    if removed_count > 0 {
        tracing::info!(
            removed_count,
            "removed shared memory of servers that were killed"
        );
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("service", &self.shared.config.service)
            .field("transport", &transport_name(self.shared.config.transport))
            .finish_non_exhaustive()
    }
}

const fn transport_name(transport: Transport) -> &'static str {
    match transport {
        Transport::Shm => "SHM",
        Transport::Socket => "SOCKET",
    }
}
