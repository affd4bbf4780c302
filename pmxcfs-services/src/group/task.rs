//! Waiting on behalf of a driver.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pmxcfs_dfsm::core::Mode;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::driver::{Driver, Waits};
use super::{Command, GroupHost, Shared};
use crate::corosync::{CorosyncError, Cpg, CpgEvent};
use crate::framework::{Context, Failure, Service, ServiceState};
use crate::quorum::QuorumMonitor;

/// Most requests that are taken in before deliveries are looked at again.
const REQUEST_BATCH: usize = 64;

/// Attempts to join on a connection that corosync is not ready to let join, and the time between them.
const JOIN_ATTEMPTS: u32 = 50;
const JOIN_PAUSE: Duration = Duration::from_millis(20);

/// A group, ready to be run as a service.
pub struct Group<H: GroupHost> {
    shared: Arc<Shared<H>>,
    commands: mpsc::UnboundedReceiver<Command<H::Input>>,
    connecting: Option<JoinHandle<Result<Cpg, CorosyncError>>>,
    /// A service that has to have worked once before the group is joined.
    join_after: Option<watch::Receiver<ServiceState>>,
    published: Option<Mode>,
}

impl<H: GroupHost> std::fmt::Debug for Group<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group")
            .field("service", &H::NAME)
            .field("mode", &self.published)
            .finish_non_exhaustive()
    }
}

/// Why the task woke up.
enum Wake<I> {
    Stop,
    MayJoin,
    /// Another look at what there is to wait for.
    Changed,
    Received(Arc<Cpg>, Result<Vec<CpgEvent>, CorosyncError>),
    Command(Command<I>),
    Quorum,
    Connected(Result<Cpg, CorosyncError>),
    JoinDue,
    Tick,
}

impl<H: GroupHost> Service for Group<H> {
    const NAME: &'static str = H::NAME;

    /// Leaves the group and answers everybody at its end. Connections that are lost or refused are its own business.
    async fn run(&mut self, context: &mut Context) -> Result<(), Failure> {
        let monitor = self.start();
        context.ready();
        let mut quorum = monitor.subscribe();
        loop {
            let waits = self.shared.driver.lock().waits();
            match self.wait(waits, context, &mut quorum).await {
                Wake::Stop => break,
                wake => self.deal_with(wake),
            }
        }
        self.stop();
        Ok(())
    }
}

impl<H: GroupHost> Group<H> {
    pub(super) const fn new(
        shared: Arc<Shared<H>>,
        commands: mpsc::UnboundedReceiver<Command<H::Input>>,
        join_after: Option<watch::Receiver<ServiceState>>,
    ) -> Self {
        Self {
            shared,
            commands,
            connecting: None,
            join_after,
            published: None,
        }
    }

    fn start(&mut self) -> QuorumMonitor {
        let mut driver = self.shared.driver.lock();
        driver.start();
        if self.join_after.is_none() {
            driver.join_now();
        }
        driver.quorum().clone()
    }

    async fn wait(
        &mut self,
        waits: Waits,
        context: &mut Context,
        quorum: &mut watch::Receiver<bool>,
    ) -> Wake<H::Input> {
        let Waits {
            connection,
            join_at,
            tick_at,
        } = waits;
        tokio::select! {
            biased;
            () = context.stopped() => Wake::Stop,
            () = has_worked(self.join_after.as_mut()) => Wake::MayJoin,
            (connection, received) = receive(connection) => Wake::Received(connection, received),
            Ok(()) = quorum.changed() => Wake::Quorum,
            connected = connected(&mut self.connecting) => Wake::Connected(connected),
            Some(command) = self.commands.recv() => Wake::Command(command),
            () = self.shared.changed.notified() => Wake::Changed,
            () = at(join_at) => Wake::JoinDue,
            () = tokio::time::sleep_until(tick_at.into()) => Wake::Tick,
        }
    }

    fn deal_with(&mut self, wake: Wake<H::Input>) {
        let shared = Arc::clone(&self.shared);
        let mut driver = shared.driver.lock();
        let mut is_tick = false;
        match wake {
            Wake::Stop | Wake::Changed => {}
            Wake::MayJoin => {
                self.join_after = None;
                driver.join_now();
            }
            Wake::Received(connection, Ok(events)) => driver.deliver(&connection, events),
            Wake::Received(_, Err(error)) => driver.disconnected(&error),
            Wake::Command(command) => self.carry_out(command, &mut driver),
            Wake::Quorum => driver.note_quorum(),
            Wake::Connected(Ok(connection)) => driver.connected(connection),
            Wake::Connected(Err(error)) => driver.connect_failed(&error),
            Wake::JoinDue => self.connect(&mut driver),
            Wake::Tick => {
                driver.tick();
                is_tick = true;
            }
        }
        self.take_commands(&mut driver);
        // The task asks for what it waits for anyway.
        let _has_changed = driver.settle();
        if is_tick || self.published != Some(driver.mode()) {
            self.publish(&driver);
        }
    }

    /// What callers have left meanwhile: deliveries that come one after the other must not keep it waiting.
    fn take_commands(&mut self, driver: &mut Driver<H>) {
        for _ in 0..REQUEST_BATCH {
            match self.commands.try_recv() {
                Ok(command) => self.carry_out(command, driver),
                Err(_) => break,
            }
        }
    }

    fn carry_out(&self, command: Command<H::Input>, driver: &mut Driver<H>) {
        match command {
            Command::Submit(input) => driver.submit(input),
            Command::Mended => driver.mended(),
        }
        self.shared.command_count.fetch_sub(1, Ordering::AcqRel);
    }

    fn connect(&mut self, driver: &mut Driver<H>) {
        driver.connecting();
        if self.connecting.is_none() {
            self.connecting = Some(tokio::spawn(connect_and_join(driver.name())));
        }
    }

    fn stop(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut driver = shared.driver.lock();
        driver.stop();
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Submit(input) = command {
                driver.refuse(input);
            }
        }
        let _has_changed = driver.settle();
        self.publish(&driver);
    }

    fn publish(&mut self, driver: &Driver<H>) {
        self.published = Some(driver.mode());
        *self.shared.status.lock() = Some(driver.status());
    }
}

/// Both calls wait for an answer of corosync. It can be busy right after a membership change.
async fn connect_and_join(group: &'static str) -> Result<Cpg, CorosyncError> {
    let connection = tokio::task::spawn_blocking(Cpg::connect).await;
    let connection =
        connection.map_err(|_panicked| CorosyncError::from_panic("cpg_model_initialize"))??;
    let mut attempt = 1;
    loop {
        match tokio::task::block_in_place(|| connection.join(group)) {
            Err(error) if error.is_try_again() && attempt < JOIN_ATTEMPTS => {
                tokio::time::sleep(JOIN_PAUSE).await;
                attempt += 1;
            }
            Err(error) => return Err(error),
            Ok(()) => return Ok(connection),
        }
    }
}

async fn has_worked(service: Option<&mut watch::Receiver<ServiceState>>) {
    match service {
        // A service that is gone will not work any more: go on without.
        Some(state) => drop(state.wait_for(ServiceState::is_running).await),
        None => pending().await,
    }
}

async fn receive(connection: Option<Arc<Cpg>>) -> (Arc<Cpg>, Result<Vec<CpgEvent>, CorosyncError>) {
    match connection {
        Some(connection) => {
            let received = connection.receive().await;
            (connection, received)
        }
        None => pending().await,
    }
}

async fn connected(
    connecting: &mut Option<JoinHandle<Result<Cpg, CorosyncError>>>,
) -> Result<Cpg, CorosyncError> {
    let Some(task) = connecting else {
        return pending().await;
    };
    let result = task.await;
    *connecting = None;
    match result {
        Ok(result) => result,
        Err(_panicked) => Err(CorosyncError::from_panic("connecting")),
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => pending().await,
    }
}
