//! The threads that run connections.
//!
//! All workers wait on one epoll instance and take one event at a time, so a handler that is slow with one request
//! keeps one worker busy while the others serve everybody else; nothing is queued behind it. Registrations are
//! edge-triggered: an event is delivered to one worker, once, and costs no further system call. A connection that has
//! used up its turn is put at the end of the kernel's queue by modifying its registration, which reports it again.

use std::os::fd::AsFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags, EpollTimeout};

use crate::connection::{Closing, Connection, Outcome};
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

/// Reports a connection again, behind all others that are ready.
fn requeue(shared: &Shared, connection: &Connection) -> nix::Result<()> {
    let mut event = EpollEvent::new(stream_flags(), connection.number);
    shared.epoll.modify(connection.stream.as_fd(), &mut event)
}

/// Runs connections until the server stops.
pub(crate) fn run(shared: &Arc<Shared>) {
    let mut buffer = vec![0; shared.max_message_size as usize];
    let mut events = [EpollEvent::empty()];
    loop {
        match shared.epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => {
                tracing::error!(%error, "IPC worker cannot wait for events");
                return;
            }
        }
        if shared.is_stopping() {
            return;
        }
        let [event] = events;
        let connection = shared.connections.read().get(&event.data()).cloned();
        if let Some(connection) = connection {
            serve(shared, &connection, event.events(), &mut buffer);
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
        Outcome::Idle => connection.turn.end(),
        Outcome::More => {
            connection.turn.end();
            true
        }
        Outcome::Close(reason) => {
            connection.turn.close();
            let peer = connection.caller.peer;
            tracing::debug!(pid = peer.pid, uid = peer.uid, %reason, "connection closed");
            shared.retire(connection);
            return;
        }
    };
    if is_unfinished && let Err(error) = requeue(shared, connection) {
        tracing::warn!(%error, "connection lost its place in the queue");
        shared.retire(connection);
    }
}
