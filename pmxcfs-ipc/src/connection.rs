//! The task of one connection.
//!
//! **Bytes first, ring second.** A byte on the stream socket means nothing but "look for requests". The socket is
//! registered edge-triggered, so a byte wakes the task whether or not earlier ones were read, and most are never looked
//! at. When they are read, the requests are looked for afterwards: a request whose byte was read is in the ring by
//! then. In the other order a request that arrives between the two looks would wait for a byte that is gone.
//!
//! Bytes are read when many requests have gone by (a full socket hinders the client), when one has come without a
//! request, and [`DRAIN_DELAY`] after one that had a request. The last is because a message can carry descriptors: a
//! dead client's own end of the socket, unread in our queue, would keep the connection alive for ever. Reading drops
//! them.

use std::convert::Infallible;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, recv, shutdown};
use tokio::io::unix::AsyncFd;
use tokio::select;
use tokio::task::{spawn_blocking, yield_now};
use tokio::time::{Instant, sleep};

use crate::exchange::{Caller, Channel, Closing, Reply, answer};
use crate::service::Service;

/// Wake-ups and requests together after which bytes are read. A sender's buffer holds some 270 bytes.
const UNREAD_LIMIT: usize = 64;

/// Reads of wake-up bytes before other connections get their turn.
const READS_PER_TURN: usize = 32;

/// Time that a byte may stay unread.
const DRAIN_DELAY: Duration = Duration::from_millis(500);

/// One client's connection, after the handshake.
pub(crate) struct Connection<C> {
    pub(crate) stream: AsyncFd<UnixStream>,
    pub(crate) channel: C,
    pub(crate) caller: Caller,
    /// Held by everything that still works for the connection.
    pub(crate) alive: Sender<()>,
}

impl<C: Channel> Connection<C> {
    /// Serves the client until one side ends the connection, and tells the client so.
    pub(crate) async fn run(&mut self, service: &Arc<Service>) -> Closing {
        let Err(closing) = self.serve(service).await;
        self.channel.hang_up();
        match shutdown(self.stream.as_raw_fd(), Shutdown::Both) {
            Ok(()) | Err(Errno::ENOTCONN) => {}
            Err(error) => tracing::debug!(%error, "stream socket not shut down"),
        }
        closing
    }

    async fn serve(&mut self, service: &Arc<Service>) -> Result<Infallible, Closing> {
        let mut stopped = pin!(service.stop.ordered());
        let mut drain_timer = pin!(sleep(DRAIN_DELAY));
        let mut is_timer_set = false;
        // What came behind the connection request is announced already.
        let mut must_drain = true;
        let mut unread_count = 0;
        while !service.stop.is_ordered() {
            let mut is_unfinished = false;
            if must_drain || unread_count >= UNREAD_LIMIT {
                is_unfinished = !self.drain()?;
                (must_drain, unread_count) = (is_unfinished, 0);
            }
            self.channel.look();
            let taken_count = self.take_turn(service).await?;
            is_unfinished |= taken_count == C::REQUESTS_PER_TURN;
            unread_count += taken_count;
            if unread_count > 0 && !is_timer_set {
                drain_timer.as_mut().reset(Instant::now() + DRAIN_DELAY);
                is_timer_set = true;
            }
            select! {
                biased;
                ready = self.channel.readable() => ready?,
                ready = self.stream.readable() => {
                    let mut ready = ready?;
                    if ready.ready().is_read_closed() {
                        return Err(Closing::HungUp);
                    }
                    // Before the next look, so that a byte that comes during it is a new edge.
                    ready.clear_ready();
                    unread_count += 1;
                    must_drain |= !self.channel.look();
                }
                () = yield_now(), if is_unfinished => {}
                () = &mut drain_timer, if is_timer_set => {
                    is_timer_set = false;
                    must_drain = true;
                }
                _ = &mut stopped => {}
            }
        }
        Err(Closing::Stopped)
    }

    /// Handles up to [`Channel::REQUESTS_PER_TURN`] requests; says how many there were.
    async fn take_turn(&mut self, service: &Arc<Service>) -> Result<usize, Closing> {
        for count in 0..C::REQUESTS_PER_TURN {
            let message = match self.channel.take()? {
                Some(message) if !service.stop.is_ordered() => message,
                _ => return Ok(count),
            };
            let reply = self.reply(service, message).await?;
            self.channel.respond(&reply)?;
        }
        Ok(C::REQUESTS_PER_TURN)
    }

    async fn reply(&self, service: &Arc<Service>, message: Vec<u8>) -> Result<Reply, Closing> {
        let request = self.caller.request(&message)?;
        if service.handler.is_long(&request) {
            return self.reply_elsewhere(service, message).await;
        }
        let start = Instant::now();
        let reply = answer(&*service.handler, &request);
        service.note_inline(request.id, start.elapsed());
        Ok(reply)
    }

    /// Handles a long request on a thread of its own. If the server stops, it is given up at the end of the patience.
    async fn reply_elsewhere(
        &self,
        service: &Arc<Service>,
        message: Vec<u8>,
    ) -> Result<Reply, Closing> {
        let permits = Arc::clone(&service.long_requests);
        let (handler, caller) = (Arc::clone(&service.handler), self.caller);
        let alive = self.alive.clone();
        let work = async {
            let permit = permits.acquire_owned().await;
            let job = move || {
                let _held = (permit, alive);
                Ok(answer(&*handler, &caller.request(&message)?))
            };
            spawn_blocking(job).await.unwrap_or(Err(Closing::Stopped))
        };
        select! {
            reply = work => reply,
            () = service.stop.patience_over() => Err(Closing::Stopped),
        }
    }

    /// Reads the bytes on the stream socket, and with them drops the descriptors that they carry. Says whether all are
    /// read.
    fn drain(&self) -> Result<bool, Closing> {
        let mut bytes = [0; 4096];
        for _ in 0..READS_PER_TURN {
            match recv(self.stream.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return Err(Closing::HungUp),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::mpsc;

    use tokio::runtime::Builder;
    use tokio::time::timeout;

    use super::*;
    use crate::config::ServerConfig;
    use crate::directory::NewDirectory;
    use crate::handler::{Access, Answer, Handler, PeerCredentials, Request};
    use crate::readiness::watch;
    use bytes::Bytes;

    struct Nobody;

    impl Handler for Nobody {
        fn authorize(&self, _peer: &PeerCredentials) -> Option<Access> {
            None
        }

        fn handle(&self, _request: &Request<'_>) -> Answer {
            Ok(Bytes::new())
        }
    }

    /// A ring with a request that arrives just after a certain look has found nothing. A byte follows each such look.
    struct Late {
        client: UnixStream,
        arrival: u32,
        look_count: u32,
        is_there: bool,
    }

    impl Channel for Late {
        const REQUESTS_PER_TURN: usize = 5;

        fn create(
            _directory: &NewDirectory<'_>,
            _service: &str,
            _max_message_size: u32,
        ) -> std::io::Result<(Self, [String; 3])> {
            Err(Errno::ENOSYS.into())
        }

        fn look(&mut self) -> bool {
            self.look_count += 1;
            self.is_there = self.look_count > self.arrival;
            if !self.is_there {
                self.client.write_all(&[16]).expect("there is room");
            }
            self.is_there
        }

        /// A request to disconnect.
        fn take(&mut self) -> Result<Option<Vec<u8>>, Closing> {
            let mut message = vec![0; 16];
            message[..4].copy_from_slice(&(-3i32).to_le_bytes());
            message[8] = 16;
            Ok(self.is_there.then_some(message))
        }

        fn respond(&mut self, _reply: &Reply) -> Result<(), Closing> {
            Ok(())
        }

        async fn readable(&mut self) -> std::io::Result<()> {
            std::future::pending().await
        }

        fn hang_up(&self) {}
    }

    /// Bytes are read after some looks and not after others; whichever look a request has just missed, another one comes,
    /// and finds it.
    #[test]
    fn a_request_whose_byte_is_read_with_others_is_found() {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let _context = runtime.enter();
        let service = Arc::new(Service::new(ServerConfig::default(), Arc::new(Nobody)));
        let peer = PeerCredentials {
            pid: 1,
            uid: 0,
            gid: 0,
        };
        for arrival in 1..=5 {
            let (client, server) = UnixStream::pair().unwrap();
            let mut connection = Connection {
                stream: watch(server).unwrap(),
                channel: Late {
                    client,
                    arrival,
                    look_count: 0,
                    is_there: false,
                },
                caller: Caller {
                    peer,
                    access: Access::ReadOnly,
                    max_message_size: 12328,
                },
                alive: mpsc::channel().0,
            };
            let served = timeout(Duration::from_secs(10), connection.run(&service));
            let closing = runtime.block_on(async { served.await.expect("the request is found") });
            assert!(matches!(closing, Closing::Requested), "{closing}");
        }
    }
}
