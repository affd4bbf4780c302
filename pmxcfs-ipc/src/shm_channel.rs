//! Transport SHM: requests and responses in rings, one wake-up byte per request on the stream socket.
//!
//! The bytes on the socket mean nothing but "look at the ring". Because the stream is registered edge-triggered, every
//! byte is an event of its own whether or not earlier ones were read, so they are read in bulk now and then instead of
//! one by one: only a full socket buffer would hinder the client.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

use crate::connection::{Caller, Closing, Outcome};
use crate::directory::NewDirectory;
use crate::handler::Handler;
use crate::ring::{Consumer, Geometry, Producer, RingMemory};
use crate::shm::{Region, RingFiles, page_size};
use crate::wire::request::REQUEST_HEADER_SIZE;
use crate::wire::ring_header::{self, HEADER_SIZE};

/// Requests that are handled in one turn before other connections get theirs.
const REQUESTS_PER_TURN: u32 = 5;

/// Requests after which wake-up bytes are read. A sender's buffer holds some 270 of them.
const REQUESTS_PER_DRAIN: u32 = 32;

/// The rings of a connection.
#[derive(Debug)]
pub(crate) struct ShmChannel {
    region: Region,
    requests: Consumer,
    responses: Producer,
    undrained: u32,
}

/// The rings in the order in which libqb makes them and the response names them.
const RINGS: [&str; 3] = ["request", "response", "event"];

/// Names of the files that a connection of `service` has.
pub(crate) fn file_names(service: &str) -> impl Iterator<Item = String> {
    RINGS
        .iter()
        .flat_map(move |ring| ["header", "data"].map(|part| format!("qb-{ring}-{service}-{part}")))
}

impl ShmChannel {
    /// Makes the files of three rings in `directory` and maps what the server needs. Returns the names for the
    /// connection response, too.
    ///
    /// The files are not allocated here: the client does that when it opens them, in its own time, and gets the
    /// ENOSPC if there is one.
    pub(crate) fn create(
        directory: &mut NewDirectory,
        service: &str,
        max_message_size: u32,
    ) -> std::io::Result<(Self, [String; 3])> {
        let geometry =
            Geometry::for_message_size(max_message_size, page_size()).ok_or(Errno::EINVAL)?;
        let mut make = |ring: &str| {
            let name = format!("qb-{ring}-{service}");
            let path = directory.path_of(&name)?;
            let content = ring_header::encode(&path, geometry.words());
            let header =
                directory.add_file(format!("{name}-header"), HEADER_SIZE as u64, &*content)?;
            let data = directory.add_file(format!("{name}-data"), geometry.bytes() as u64, &[])?;
            std::io::Result::Ok((RingFiles { header, data }, path))
        };
        let (request, request_path) = make(RINGS[0])?;
        let (response, response_path) = make(RINGS[1])?;
        let (_event, event_path) = make(RINGS[2])?;
        let channel = Self {
            region: Region::map(&request, &response, geometry)?,
            requests: Consumer::new(geometry),
            responses: Producer::new(geometry),
            undrained: 0,
        };
        Ok((channel, [request_path, response_path, event_path]))
    }

    /// Handles up to [`REQUESTS_PER_TURN`] requests.
    pub(crate) fn run(
        &mut self,
        stream: BorrowedFd<'_>,
        caller: &Caller,
        handler: &dyn Handler,
        buffer: &mut [u8],
    ) -> Result<Outcome, Closing> {
        let announced = self.region.request().chunk_count();
        let count = announced.min(REQUESTS_PER_TURN);
        let buffer = &mut buffer[..caller.max_message_size as usize];
        for _ in 0..count {
            let message =
                self.requests
                    .take(&self.region.request(), REQUEST_HEADER_SIZE, buffer)?;
            let reply = caller.answer(handler, message)?;
            let ring = self.region.response();
            self.responses
                .put(&ring, &reply.header, &reply.response.body)?;
        }
        if self.region.is_cut_off() {
            return Err(Closing::CutOff);
        }
        self.undrained += count;
        let mut is_drained = true;
        if count == 0 || self.undrained >= REQUESTS_PER_DRAIN {
            self.undrained = 0;
            is_drained = discard_wake_ups(stream, buffer)?;
        }
        Ok(if announced > count || !is_drained {
            Outcome::More
        } else {
            Outcome::Idle
        })
    }

    /// Makes the client's calls fail at once: the next one by the reference count, one that waits for a response by
    /// a semaphore without a chunk. (Posted always: a request could be on its way.)
    pub(crate) fn hang_up(&self) {
        self.region.request().set_ref_count(0);
        self.region.response().set_ref_count(0);
        self.region.response().post();
    }
}

/// Reads what is in the socket, at most a buffer full, without waiting. Says whether that was all.
fn discard_wake_ups(stream: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<bool, Closing> {
    match recv(stream.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
        Ok(0) => Err(Closing::HungUp),
        Ok(count) => Ok(count < buffer.len()),
        Err(Errno::EAGAIN) => Ok(true),
        Err(Errno::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
