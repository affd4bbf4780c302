//! What all tasks of a server share.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::admission::Admission;
use crate::config::{
    MAX_FILE_JOBS, MAX_LONG_REQUESTS, MAX_PENDING_REFUSALS, MAX_PENDING_REFUSALS_PER_UID,
    SLOW_REQUEST, ServerConfig,
};
use crate::handler::{Handler, PeerCredentials};
use crate::shm_channel;
use crate::socket_channel;
use crate::stop::Stop;
use crate::throttle::Throttle;

/// The handler, the limits, and the order to stop.
pub(crate) struct Service {
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) config: ServerConfig,
    /// Names of the files that connections of this service have.
    pub(crate) files: Vec<String>,
    pub(crate) stop: Stop,
    /// Connections of permitted processes, handshakes included.
    pub(crate) connections: Admission,
    /// Connections that wait to be refused.
    pub(crate) refusals: Admission,
    /// Long requests that may run at the same time.
    pub(crate) long_requests: Arc<Semaphore>,
    file_jobs: Semaphore,
    slow_lines: Throttle,
    refusal_lines: Throttle,
}

impl Service {
    pub(crate) fn new(config: ServerConfig, handler: Arc<dyn Handler>) -> Self {
        Self {
            handler,
            files: shm_channel::file_names(&config.service)
                .chain([socket_channel::control_file_name(&config.service)])
                .collect(),
            stop: Stop::default(),
            connections: Admission::new(config.max_connections, config.max_connections_per_uid),
            refusals: Admission::new(MAX_PENDING_REFUSALS, MAX_PENDING_REFUSALS_PER_UID),
            long_requests: Arc::new(Semaphore::new(MAX_LONG_REQUESTS)),
            file_jobs: Semaphore::new(MAX_FILE_JOBS),
            slow_lines: Throttle::default(),
            refusal_lines: Throttle::default(),
            config,
        }
    }

    /// Makes or removes files of a connection, on a thread that may wait for the kernel, in the order of the calls: clients
    /// cannot connect faster than their former connections are removed.
    ///
    /// # Errors
    /// ECANCELED if the job did not run to its end.
    pub(crate) async fn run_file_job<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let _permit = self.file_jobs.acquire().await;
        let canceled = |_error| io::Error::from_raw_os_error(libc::ECANCELED);
        spawn_blocking(job).await.map_err(canceled)
    }

    /// Notes how long a request has occupied the thread that all clients share.
    pub(crate) fn note_inline(&self, operation: i32, elapsed: Duration) {
        if elapsed <= SLOW_REQUEST {
            return;
        }
        if let Some(omitted) = self.slow_lines.pass() {
            let elapsed_ms = elapsed.as_millis();
            tracing::warn!(
                operation,
                elapsed_ms,
                omitted,
                "an IPC request was slow and held up all other IPC clients"
            );
        }
    }

    /// Logs that a client was refused.
    pub(crate) fn note_refusal(&self, peer: PeerCredentials, reason: &dyn std::fmt::Display) {
        if let Some(omitted) = self.refusal_lines.pass() {
            let (uid, gid, pid) = (peer.uid, peer.gid, peer.pid);
            tracing::warn!(uid, gid, pid, omitted, "refused an IPC client: {reason}");
        }
    }
}
