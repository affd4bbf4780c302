//! The client side of Debian's libqb, as far as tests and benchmarks need it.
#![expect(unsafe_code, reason = "calls into a C library")]

use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

#[repr(C)]
struct QbConnection {
    _private: [u8; 0],
}

#[link(name = "qb")]
unsafe extern "C" {
    fn qb_ipcc_connect(name: *const c_char, max_msg_size: usize) -> *mut QbConnection;
    fn qb_ipcc_disconnect(connection: *mut QbConnection);
    fn qb_ipcc_fd_get(connection: *mut QbConnection, fd: *mut i32) -> i32;
    fn qb_ipcc_send(connection: *mut QbConnection, message: *const c_void, size: usize) -> isize;
    fn qb_ipcc_recv(
        connection: *mut QbConnection,
        into: *mut c_void,
        size: usize,
        timeout_ms: i32,
    ) -> isize;
    fn qb_ipcc_sendv_recv(
        connection: *mut QbConnection,
        parts: *const libc::iovec,
        part_count: u32,
        into: *mut c_void,
        size: usize,
        timeout_ms: i32,
    ) -> isize;
    fn qb_ipcc_get_buffer_size(connection: *mut QbConnection) -> i32;
}

/// A connection that libqb made.
pub struct Client {
    connection: NonNull<QbConnection>,
    buffer: Vec<u8>,
}

/// A response as it arrived.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// Message id.
    pub id: i32,
    /// 0 or a negative errno.
    pub error: i32,
    /// What follows the header.
    pub body: &'a [u8],
}

/// What the Perl module asks for.
pub const PERL_MESSAGE_SIZE: usize = 1024 * 1024;

/// No time limit.
pub const FOREVER: i32 = -1;

impl Client {
    /// Connects as the Perl module does.
    pub fn connect(service: &str) -> io::Result<Self> {
        Self::connect_with(service, PERL_MESSAGE_SIZE)
    }

    /// Connects and asks for messages of up to `size` bytes.
    pub fn connect_with(service: &str, size: usize) -> io::Result<Self> {
        let name = CString::new(service)?;
        // SAFETY: the name is NUL-ended and outlives the call.
        let connection = unsafe { qb_ipcc_connect(name.as_ptr(), size) };
        let connection = NonNull::new(connection).ok_or_else(io::Error::last_os_error)?;
        Ok(Self {
            connection,
            buffer: vec![0; PERL_MESSAGE_SIZE],
        })
    }

    /// The stream socket.
    pub fn stream(&self) -> BorrowedFd<'_> {
        let mut fd = -1;
        // SAFETY: the connection is live.
        let result = unsafe { qb_ipcc_fd_get(self.connection.as_ptr(), &raw mut fd) };
        assert_eq!(result, 0);
        // SAFETY: libqb keeps the descriptor open as long as the connection.
        unsafe { BorrowedFd::borrow_raw(fd) }
    }

    /// The agreed maximum message size.
    pub fn agreed_size(&self) -> i32 {
        // SAFETY: the connection is live.
        unsafe { qb_ipcc_get_buffer_size(self.connection.as_ptr()) }
    }

    /// Sends a request and waits for the answer.
    pub fn call(&mut self, id: i32, body: &[u8]) -> io::Result<Reply<'_>> {
        self.call_within(id, body, FOREVER)
    }

    /// Sends a request and waits for the answer for so many milliseconds.
    pub fn call_within(
        &mut self,
        id: i32,
        body: &[u8],
        timeout_ms: c_int,
    ) -> io::Result<Reply<'_>> {
        let header = request_header(id, body.len());
        let parts = [&header[..], body].map(|part| libc::iovec {
            iov_base: part.as_ptr().cast_mut().cast(),
            iov_len: part.len(),
        });
        let count = if body.is_empty() { 1 } else { 2 };
        // SAFETY: the parts and the buffer outlive the call; libqb only reads the parts.
        let result = unsafe {
            qb_ipcc_sendv_recv(
                self.connection.as_ptr(),
                parts.as_ptr(),
                count,
                self.buffer.as_mut_ptr().cast(),
                self.buffer.len(),
                timeout_ms,
            )
        };
        self.reply(result)
    }

    /// Sends a request without waiting.
    pub fn send(&mut self, id: i32, body: &[u8]) -> io::Result<()> {
        let message = [&request_header(id, body.len())[..], body].concat();
        // SAFETY: the message outlives the call.
        let result = unsafe {
            qb_ipcc_send(
                self.connection.as_ptr(),
                message.as_ptr().cast(),
                message.len(),
            )
        };
        check(result).map(drop)
    }

    /// Waits for the next answer.
    pub fn receive(&mut self, timeout_ms: c_int) -> io::Result<Reply<'_>> {
        // SAFETY: the buffer is writable for its length.
        let result = unsafe {
            qb_ipcc_recv(
                self.connection.as_ptr(),
                self.buffer.as_mut_ptr().cast(),
                self.buffer.len(),
                timeout_ms,
            )
        };
        self.reply(result)
    }

    fn reply(&self, result: isize) -> io::Result<Reply<'_>> {
        let size = check(result)?;
        let message = &self.buffer[..size];
        let field = |offset: usize| {
            i32::from_le_bytes(message[offset..offset + 4].try_into().expect("four bytes"))
        };
        assert_eq!(usize::try_from(field(8)).ok(), Some(size), "size field");
        Ok(Reply {
            id: field(0),
            error: field(16),
            body: &message[24..],
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: the connection is live and not used again.
        unsafe { qb_ipcc_disconnect(self.connection.as_ptr()) };
    }
}

/// The 16 bytes in front of a request, with a client's stack contents as padding.
pub fn request_header(id: i32, body_size: usize) -> [u8; 16] {
    let size = i32::try_from(16 + body_size).expect("a small message");
    let mut header = [0; 16];
    header[..4].copy_from_slice(&id.to_le_bytes());
    header[4..8].copy_from_slice(b"FV\0\0");
    header[8..12].copy_from_slice(&size.to_le_bytes());
    header[12..].copy_from_slice(&[0xff; 4]);
    header
}

fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_negative| {
        let errno = i32::try_from(-result).expect("libqb returns -errno");
        io::Error::from_raw_os_error(errno)
    })
}
