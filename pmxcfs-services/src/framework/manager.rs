//! Runs services.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::backoff::Backoff;
use super::service::{Context, Failure, Service, ServiceState};

/// A service under the manager's care.
#[derive(Debug)]
struct Managed {
    name: &'static str,
    stop: watch::Sender<bool>,
    state: watch::Receiver<ServiceState>,
    task: JoinHandle<()>,
}

/// Services that run on one runtime.
#[derive(Debug)]
pub struct Manager {
    runtime: tokio::runtime::Handle,
    services: Vec<Managed>,
}

impl Manager {
    /// No services yet.
    pub const fn new(runtime: tokio::runtime::Handle) -> Self {
        Self {
            runtime,
            services: Vec::new(),
        }
    }

    /// Starts a service and keeps it running. Returns where its state can be followed, for services that need it.
    pub fn start<S: Service>(&mut self, service: S) -> watch::Receiver<ServiceState> {
        let (state, seen) = watch::channel(ServiceState::Starting);
        let (stop, stopping) = watch::channel(false);
        let context = Context {
            state,
            stop: stopping,
        };
        self.services.push(Managed {
            name: service.name(),
            stop,
            state: seen.clone(),
            task: self.runtime.spawn(keep_running(service, context)),
        });
        seen
    }

    /// Where the states of all services can be followed, in the order of their start.
    pub fn watch(&self) -> Vec<(&'static str, watch::Receiver<ServiceState>)> {
        let services = self.services.iter();
        services
            .map(|service| (service.name, service.state.clone()))
            .collect()
    }

    /// Stops all services, the last one that was started first, and waits for each. Those that do not end in time
    /// are left behind; their names are returned.
    pub async fn stop(mut self, patience: Duration) -> Vec<&'static str> {
        let deadline = Instant::now() + patience;
        let mut left = Vec::new();
        while let Some(service) = self.services.pop() {
            // A service that has ended does not listen.
            let _told = service.stop.send(true);
            if timeout_at(deadline, service.task).await.is_err() {
                left.push(service.name);
            }
        }
        left
    }
}

async fn keep_running<S: Service>(mut service: S, mut context: Context) {
    let mut backoff = Backoff::default();
    while !*context.stop.borrow() {
        context.state.send_replace(ServiceState::Starting);
        let result = run_once(&mut service, &mut context).await;
        if *context.stop.borrow() {
            break;
        }
        let error = match result {
            Ok(()) => "it ended by itself".to_owned(),
            Err(error) => error.to_string(),
        };
        let worked_for = match &*context.state.borrow() {
            ServiceState::Running { since } => Some(since.elapsed()),
            _ => None,
        };
        let retry = backoff.failed(worked_for);
        if retry.is_told {
            tracing::warn!(service = service.name(), %error, "can't initialize service, trying again");
        } else {
            tracing::debug!(service = service.name(), %error, pause = ?retry.pause, "service failed");
        }
        context.state.send_replace(ServiceState::Waiting { error });
        tokio::select! {
            () = tokio::time::sleep(retry.pause) => {}
            () = context.stopped() => {}
        }
    }
    context.state.send_replace(ServiceState::Stopped);
}

/// A panic is a failure like any other: else the task would be gone, and the services behind it would wait for ever.
async fn run_once<S: Service>(service: &mut S, context: &mut Context) -> Result<(), Failure> {
    let mut run = pin!(service.run(context));
    std::future::poll_fn(|task| {
        let poll = AssertUnwindSafe(|| run.as_mut().poll(task));
        catch_unwind(poll).unwrap_or_else(|_panic| Poll::Ready(Err("it panicked".into())))
    })
    .await
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_types, reason = "a lock of a test has no rank")]

    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use parking_lot::Mutex;

    use super::*;

    /// Fails some times, then works until it is told to stop.
    struct Flaky {
        failures: u32,
        runs: Arc<AtomicU32>,
        order: Arc<Mutex<Vec<u32>>>,
        number: u32,
    }

    impl Service for Flaky {
        fn name(&self) -> &'static str {
            "flaky"
        }

        async fn run(&mut self, context: &mut Context) -> Result<(), Failure> {
            if self.runs.fetch_add(1, Ordering::Relaxed) < self.failures {
                return Err("not yet".into());
            }
            context.ready();
            context.stopped().await;
            self.order.lock().push(self.number);
            Ok(())
        }
    }

    struct Deaf;

    impl Service for Deaf {
        fn name(&self) -> &'static str {
            "deaf"
        }

        async fn run(&mut self, context: &mut Context) -> Result<(), Failure> {
            context.ready();
            std::future::pending().await
        }
    }

    fn flaky(failures: u32, number: u32, order: &Arc<Mutex<Vec<u32>>>) -> (Flaky, Arc<AtomicU32>) {
        let runs = Arc::new(AtomicU32::new(0));
        let service = Flaky {
            failures,
            runs: Arc::clone(&runs),
            order: Arc::clone(order),
            number,
        };
        (service, runs)
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_service_is_run_again_after_growing_pauses() {
        let mut manager = Manager::new(tokio::runtime::Handle::current());
        let (service, runs) = flaky(3, 0, &Arc::default());
        let begin = Instant::now();
        let mut state = manager.start(service);
        let running = state.wait_for(ServiceState::is_running).await;
        assert!(running.is_ok());
        assert_eq!(begin.elapsed().as_millis(), 100 + 200 + 400);
        assert_eq!(runs.load(Ordering::Relaxed), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn the_state_tells_why_a_service_waits() {
        let mut manager = Manager::new(tokio::runtime::Handle::current());
        let (service, _runs) = flaky(1, 0, &Arc::default());
        let mut state = manager.start(service);
        let waits = |state: &ServiceState| matches!(state, ServiceState::Waiting { .. });
        assert!(state.wait_for(waits).await.is_ok());
        let expected = ServiceState::Waiting {
            error: "not yet".to_owned(),
        };
        assert_eq!(*state.borrow(), expected);
    }

    struct Panicking(bool);

    impl Service for Panicking {
        fn name(&self) -> &'static str {
            "panicking"
        }

        async fn run(&mut self, context: &mut Context) -> Result<(), Failure> {
            assert!(std::mem::replace(&mut self.0, true), "the first time");
            context.ready();
            context.stopped().await;
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_panics_is_run_again() {
        let mut manager = Manager::new(tokio::runtime::Handle::current());
        let mut state = manager.start(Panicking(false));
        let waits = |state: &ServiceState| matches!(state, ServiceState::Waiting { error, .. } if error == "it panicked");
        assert!(state.wait_for(waits).await.is_ok());
        assert!(state.wait_for(ServiceState::is_running).await.is_ok());
        let left = manager.stop(Duration::from_secs(1)).await;
        assert_eq!(left, Vec::<&str>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn services_stop_in_the_reverse_order_of_their_start() {
        let order = Arc::default();
        let mut manager = Manager::new(tokio::runtime::Handle::current());
        for number in 0..3 {
            let mut state = manager.start(flaky(0, number, &order).0);
            assert!(state.wait_for(ServiceState::is_running).await.is_ok());
        }
        let left = manager.stop(Duration::from_secs(1)).await;
        assert_eq!(left, Vec::<&str>::new());
        assert_eq!(*order.lock(), [2, 1, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_does_not_stop_is_named_and_left() {
        let mut manager = Manager::new(tokio::runtime::Handle::current());
        let mut state = manager.start(Deaf);
        assert!(state.wait_for(ServiceState::is_running).await.is_ok());
        let begin = Instant::now();
        assert_eq!(manager.stop(Duration::from_secs(1)).await, ["deaf"]);
        assert_eq!(begin.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_is_stopped_between_two_attempts() {
        let mut manager = Manager::new(tokio::runtime::Handle::current());
        let (service, runs) = flaky(u32::MAX, 0, &Arc::default());
        let mut state = manager.start(service);
        let waits = |state: &ServiceState| matches!(state, ServiceState::Waiting { .. });
        assert!(state.wait_for(waits).await.is_ok());
        assert_eq!(
            manager.stop(Duration::from_secs(1)).await,
            Vec::<&str>::new()
        );
        assert_eq!(*state.borrow(), ServiceState::Stopped);
        assert_eq!(runs.load(Ordering::Relaxed), 1);
    }
}
