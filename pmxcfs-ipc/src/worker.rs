//! The threads that run connections.
//!
//! One of them leads at a time ([`lead`](crate::lead)): it waits for an event, runs the connection, and waits again.
//! It takes one event at a time, so that nothing is queued behind a handler that is slow and everything else is there
//! for the successor. Registrations are edge-triggered: an event is delivered to one worker, once, and costs no
//! further system call. A connection that has used up its turn is put at the end of the kernel's queue by modifying
//! its registration, which reports it again.

use std::os::fd::AsFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags, EpollTimeout};

use crate::connection::{Closing, Connection, Outcome};
use crate::lead::Leadership;
use crate::server::Shared;

/// Event data of the wake-up that ends the workers. Connections are numbered from 1.
pub(crate) const STOP_TOKEN: u64 = 0;

/// Interest in a connection's stream. Output is always possible; it is there so that a modification always reports.
fn stream_flags() -> EpollFlags {
    EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET
}

fn request_socket_flags() -> EpollFlags {
    EpollFlags::EPOLLIN | EpollFlags::EPOLLET
}

/// Begins to watch a connection.
pub(crate) fn watch(shared: &Shared, connection: &Connection) -> nix::Result<()> {
    let data = connection.number;
    shared
        .epoll
        .add(&connection.stream, EpollEvent::new(stream_flags(), data))?;
    let event = EpollEvent::new(request_socket_flags(), data);
    connection
        .with_request_socket(|socket| shared.epoll.add(socket, event))
        .unwrap_or(Ok(()))
}

/// Reports a connection again, behind all others that are ready, whether or not there is input.
fn requeue(shared: &Shared, connection: &Connection) -> nix::Result<()> {
    let mut event = EpollEvent::new(stream_flags(), connection.number);
    shared.epoll.modify(connection.stream.as_fd(), &mut event)
}

/// Reports a connection again that may have requests left: if its transport has a socket for them, only if there is
/// something in it.
fn requeue_for_requests(shared: &Shared, connection: &Connection) -> nix::Result<()> {
    let mut event = EpollEvent::new(request_socket_flags(), connection.number);
    connection
        .with_request_socket(|socket| shared.epoll.modify(socket, &mut event))
        .unwrap_or_else(|| requeue(shared, connection))
}

/// Runs connections until the server stops. The first worker begins to lead, the others follow.
pub(crate) fn run(shared: &Arc<Shared>, is_first: bool) {
    let mut buffer = vec![0; shared.max_message_size as usize];
    let mut leadership = is_first.then(|| shared.lead.first());
    while let Some(current) = leadership.take().or_else(|| shared.lead.follow()) {
        if let Err(error) = lead(shared, current, &mut buffer) {
            tracing::error!(%error, "IPC worker cannot wait for events");
            return;
        }
        if shared.is_stopping() {
            return;
        }
    }
}

/// Handles events for as long as this worker leads.
fn lead(shared: &Shared, mut leadership: Leadership, buffer: &mut [u8]) -> nix::Result<()> {
    let mut events = [EpollEvent::empty()];
    loop {
        match shared.epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error),
        }
        if shared.is_stopping() {
            return Ok(());
        }
        shared.lead.begin_turn(&mut leadership);
        let [event] = events;
        let connection = shared.connections.read().get(&event.data()).cloned();
        if let Some(connection) = connection {
            serve(shared, &connection, event.events(), buffer);
        }
        match shared.lead.end_turn(leadership) {
            Some(next) => leadership = next,
            None => return Ok(()),
        }
    }
}

fn serve(shared: &Shared, connection: &Arc<Connection>, events: EpollFlags, buffer: &mut [u8]) {
    if !connection.turn.begin() {
        return;
    }
    let hang_up = EpollFlags::EPOLLHUP | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLERR;
    let outcome = if events.intersects(hang_up) {
        Outcome::Close(Closing::HungUp)
    } else {
        connection.run(&*shared.handler, buffer)
    };
    let is_unfinished = match outcome {
        Outcome::Idle => false,
        Outcome::More => true,
        Outcome::Close(reason) => {
            connection.turn.close();
            let peer = connection.caller.peer;
            tracing::debug!(pid = peer.pid, uid = peer.uid, %reason, "connection closed");
            shared.retire(connection);
            return;
        }
    };
    let has_news = connection.turn.end();
    let requeued = if has_news {
        requeue(shared, connection)
    } else if is_unfinished {
        requeue_for_requests(shared, connection)
    } else {
        return;
    };
    if let Err(error) = requeued {
        tracing::warn!(%error, "connection lost its place in the queue");
        shared.retire(connection);
    }
}
