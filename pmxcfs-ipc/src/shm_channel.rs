//! Transport SHM: requests and responses in rings, one wake-up byte per request on the stream socket.

use std::future::pending;
use std::io;
use std::ops::RangeInclusive;

use nix::errno::Errno;
use nix::sys::statvfs::fstatvfs;
use rustix::param::page_size;

use crate::directory::NewDirectory;
use crate::exchange::{Channel, Closing, Reply};
use crate::ring::{Consumer, Geometry, Producer, RingMemory};
use crate::shm::MappedRing;
use crate::wire::request::REQUEST_HEADER_SIZE;
use crate::wire::ring_header::{self, HEADER_SIZE};

/// The rings of a connection.
#[derive(Debug)]
pub(crate) struct ShmChannel {
    request_ring: MappedRing,
    response_ring: MappedRing,
    requests: Consumer,
    responses: Producer,
    request_sizes: RangeInclusive<usize>,
    /// Requests that were there at the last look and are not taken. Those that come later have to wait for their turn,
    /// so that a quick client is not served again before all others.
    announced_count: u32,
}

/// The rings in the order in which libqb makes them and the response names them.
const RINGS: [&str; 3] = ["request", "response", "event"];

/// Names of the files that a connection of `service` has.
pub(crate) fn file_names(service: &str) -> impl Iterator<Item = String> {
    RINGS
        .iter()
        .flat_map(move |ring| ["header", "data"].map(|part| format!("qb-{ring}-{service}-{part}")))
}

impl Channel for ShmChannel {
    const REQUESTS_PER_TURN: usize = 5;

    /// The files are not allocated here: the client does that when it opens them, in its own time. So that it is
    /// refused here if there is no space for them, that is looked at before.
    fn create(
        directory: &NewDirectory<'_>,
        service: &str,
        max_message_size: u32,
    ) -> io::Result<(Self, [String; 3])> {
        let geometry =
            Geometry::for_message_size(max_message_size, page_size()).ok_or(Errno::EINVAL)?;
        let header_space = HEADER_SIZE.next_multiple_of(page_size());
        check_space(directory, RINGS.len() * (header_space + geometry.bytes()))?;
        let make = |ring: &str| {
            let name = format!("qb-{ring}-{service}");
            let path = directory.path_of(&name)?;
            let content = ring_header::encode(&path, geometry.words());
            let (header_name, data_name) = (format!("{name}-header"), format!("{name}-data"));
            let header = directory.add_file(&header_name, HEADER_SIZE as u64, &*content)?;
            let data = directory.add_file(&data_name, geometry.bytes() as u64, &[])?;
            io::Result::Ok((path, header, data))
        };
        let (request_path, header, data) = make(RINGS[0])?;
        let request_ring = MappedRing::map(&header, &data, geometry)?;
        let (response_path, header, data) = make(RINGS[1])?;
        let response_ring = MappedRing::map(&header, &data, geometry)?;
        let (event_path, _, _) = make(RINGS[2])?;
        let channel = Self {
            request_ring,
            response_ring,
            requests: Consumer::new(geometry),
            responses: Producer::new(geometry),
            request_sizes: REQUEST_HEADER_SIZE..=max_message_size as usize,
            announced_count: 0,
        };
        Ok((channel, [request_path, response_path, event_path]))
    }

    fn look(&mut self) -> bool {
        self.announced_count = self.request_ring.chunk_count();
        self.announced_count > 0
    }

    fn take(&mut self) -> Result<Option<Vec<u8>>, Closing> {
        if self.request_ring.is_cut_off() || self.response_ring.is_cut_off() {
            return Err(Closing::CutOff);
        }
        let Some(left) = self.announced_count.checked_sub(1) else {
            return Ok(None);
        };
        self.announced_count = left;
        let message = self
            .requests
            .take(&self.request_ring, &self.request_sizes)?;
        Ok(Some(message))
    }

    fn respond(&mut self, reply: &Reply) -> Result<(), Closing> {
        self.responses
            .put(&self.response_ring, &reply.header, &reply.body)?;
        Ok(())
    }

    /// Never: each request is announced on the stream socket.
    fn readable(&mut self) -> impl Future<Output = io::Result<()>> + Send {
        pending()
    }

    /// Makes the client's calls fail at once: the next one by the reference count, one that waits for a response by
    /// a semaphore without a chunk. (Posted always: a request could be on its way.)
    fn hang_up(&self) {
        self.request_ring.set_ref_count(0);
        self.response_ring.set_ref_count(0);
        self.response_ring.post();
    }
}

fn check_space(directory: &NewDirectory<'_>, needed: usize) -> nix::Result<()> {
    let filesystem = fstatvfs(&directory.descriptor)?;
    let free = filesystem.blocks_available() * filesystem.fragment_size();
    // A filesystem without a limit says that it has no blocks.
    if filesystem.blocks() > 0 && free < needed as u64 {
        return Err(Errno::ENOSPC);
    }
    Ok(())
}
