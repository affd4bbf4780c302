//! A client of the daemon's IPC service, by way of the libqb that real clients use.
#![expect(unsafe_code, reason = "libqb is a C library")]

use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::ptr::NonNull;

use nix::errno::Errno;

/// Largest message the Perl client agrees on, header included, in bytes.
pub const MAX_MESSAGE_SIZE: usize = 1024 * 1024;

const REQUEST_HEADER_SIZE: usize = 16;
const RESPONSE_HEADER_SIZE: usize = 24;
const ANSWER_TIMEOUT_MS: i32 = 20_000;
const FIELD_SIZE: usize = 256;

#[link(name = "qb")]
unsafe extern "C" {
    fn qb_ipcc_connect(name: *const c_char, max_message_size: usize) -> *mut c_void;
    fn qb_ipcc_disconnect(connection: *mut c_void);
    fn qb_ipcc_sendv_recv(
        connection: *mut c_void,
        parts: *const libc::iovec,
        part_count: u32,
        answer: *mut c_void,
        answer_size: usize,
        timeout_ms: i32,
    ) -> isize;
    fn qb_ipcc_is_connected(connection: *mut c_void) -> c_int;
}

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpcError {
    /// The service answered with this errno.
    Refused(Errno),
    /// The request did not get there, or the answer not back.
    Transport(Errno),
}

impl From<IpcError> for io::Error {
    fn from(error: IpcError) -> Self {
        match error {
            IpcError::Refused(errno) | IpcError::Transport(errno) => errno.into(),
        }
    }
}

/// One connection. It stays in the thread that made it.
#[derive(Debug)]
pub struct IpcClient {
    connection: NonNull<c_void>,
    answer: Vec<u8>,
}

impl IpcClient {
    /// Connects to a service with the Perl client's message size.
    ///
    /// # Errors
    /// The errno that libqb leaves.
    ///
    /// # Panics
    /// If the name holds a NUL.
    pub fn connect(service: &str) -> io::Result<Self> {
        let name = CString::new(service).expect("service names hold no NUL");
        // SAFETY: the name ends with NUL and is only read during the call.
        let connection = unsafe { qb_ipcc_connect(name.as_ptr(), MAX_MESSAGE_SIZE) };
        Ok(Self {
            connection: NonNull::new(connection).ok_or_else(io::Error::last_os_error)?,
            answer: vec![0; MAX_MESSAGE_SIZE],
        })
    }

    /// Whether the connection still stands, as far as libqb knows.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        // SAFETY: the connection is not disconnected before drop.
        unsafe { qb_ipcc_is_connected(self.connection.as_ptr()) != 0 }
    }

    /// Sends one request and returns the body of its answer.
    ///
    /// # Errors
    /// [`IpcError::Refused`] with what the service says, else [`IpcError::Transport`].
    ///
    /// # Panics
    /// If the answer's header contradicts itself: it never does with a sound server.
    pub fn request(&mut self, operation: i32, body: &[u8]) -> Result<&[u8], IpcError> {
        let size = i32::try_from(REQUEST_HEADER_SIZE + body.len())
            .map_err(|_too_large| IpcError::Transport(Errno::EMSGSIZE))?;
        self.request_claiming(operation, size, body)
    }

    /// Sends one request whose header tells this size, which may be a lie.
    ///
    /// # Errors
    /// As [`Self::request`].
    ///
    /// # Panics
    /// As [`Self::request`].
    pub fn request_claiming(
        &mut self,
        operation: i32,
        size: i32,
        body: &[u8],
    ) -> Result<&[u8], IpcError> {
        let mut header = [0u8; REQUEST_HEADER_SIZE];
        header[0..4].copy_from_slice(&operation.to_le_bytes());
        header[8..12].copy_from_slice(&size.to_le_bytes());
        let parts = [part(&header), part(body)];
        // SAFETY: the parts point to slices that outlive the call and are only read; the buffer's size is its own; the
        // connection is not disconnected before drop.
        let received = unsafe {
            qb_ipcc_sendv_recv(
                self.connection.as_ptr(),
                parts.as_ptr(),
                2,
                self.answer.as_mut_ptr().cast(),
                self.answer.len(),
                ANSWER_TIMEOUT_MS,
            )
        };
        let Ok(received) = usize::try_from(received) else {
            let errno =
                i32::try_from(received.unsigned_abs()).map_or(Errno::UnknownErrno, Errno::from_raw);
            return Err(IpcError::Transport(errno));
        };
        assert!(
            received >= RESPONSE_HEADER_SIZE,
            "an answer of {received} bytes"
        );
        let field = |offset: usize| {
            let bytes = self.answer[offset..offset + 4]
                .try_into()
                .expect("four bytes");
            i32::from_le_bytes(bytes)
        };
        assert_eq!(field(0), operation, "the answer's id");
        assert_eq!(usize::try_from(field(8)), Ok(received), "the answer's size");
        match field(16) {
            0 => Ok(&self.answer[RESPONSE_HEADER_SIZE..received]),
            error => Err(IpcError::Refused(Errno::from_raw(-error))),
        }
    }

    fn document(&mut self, operation: i32, body: &[u8]) -> Result<Vec<u8>, IpcError> {
        self.request(operation, body).map(<[u8]>::to_vec)
    }

    /// Operation 1: the version document.
    ///
    /// # Errors
    /// As [`Self::request`], here and below.
    pub fn version(&mut self) -> Result<Vec<u8>, IpcError> {
        self.document(1, &[])
    }

    /// Operation 2: the members.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn members(&mut self) -> Result<Vec<u8>, IpcError> {
        self.document(2, &[])
    }

    /// Operation 3: the guest list.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn guests(&mut self) -> Result<Vec<u8>, IpcError> {
        self.document(3, &[])
    }

    /// Operation 4: sets a status value; an empty one removes the key.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn set_status(&mut self, key: &str, value: &[u8]) -> Result<(), IpcError> {
        let mut body = padded_field(key);
        body.extend_from_slice(value);
        self.request(4, &body).map(|_empty| ())
    }

    /// Operation 5: a status value of a node; an empty node name means this one.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn status(&mut self, key: &str, node: &str) -> Result<Vec<u8>, IpcError> {
        let mut body = padded_field(key);
        body.extend_from_slice(&padded_field(node));
        self.document(5, &body)
    }

    /// Operation 6: a file's content.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn config(&mut self, path: &str) -> Result<Vec<u8>, IpcError> {
        self.document(6, &with_nul(path))
    }

    /// Operation 7: a line for the cluster log.
    ///
    /// # Errors
    /// As [`Self::request`].
    ///
    /// # Panics
    /// If ident or tag are longer than 254 bytes.
    pub fn log(
        &mut self,
        priority: u8,
        ident: &str,
        tag: &str,
        message: &str,
    ) -> Result<(), IpcError> {
        let length = |text: &str| u8::try_from(text.len() + 1).expect("ident and tag are short");
        let mut body = vec![priority, length(ident), length(tag)];
        for text in [ident, tag, message] {
            body.extend_from_slice(&with_nul(text));
        }
        self.request(7, &body).map(|_empty| ())
    }

    /// Operation 8: the cluster log's last entries; 0 stands for the usual number, an empty user for all.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn cluster_log(&mut self, max_count: u32, user: &str) -> Result<Vec<u8>, IpcError> {
        let mut body = max_count.to_le_bytes().to_vec();
        body.extend_from_slice(&[0; 12]);
        body.extend_from_slice(&with_nul(user));
        self.document(8, &body)
    }

    /// Operation 11: one property of one guest, or of all with id 0.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn guest_property(&mut self, vmid: u32, property: &str) -> Result<Vec<u8>, IpcError> {
        let mut body = vmid.to_le_bytes().to_vec();
        body.extend_from_slice(&with_nul(property));
        self.document(11, &body)
    }

    /// Operation 12: whether a token stands in `priv/token.cfg`.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn verify_token(&mut self, token: &str) -> Result<(), IpcError> {
        self.request(12, &with_nul(token)).map(|_empty| ())
    }
}

impl Drop for IpcClient {
    fn drop(&mut self) {
        // SAFETY: the connection came from qb_ipcc_connect and is not used afterwards.
        unsafe { qb_ipcc_disconnect(self.connection.as_ptr()) }
    }
}

fn part(bytes: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}

fn with_nul(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

fn padded_field(text: &str) -> Vec<u8> {
    let mut field = text.as_bytes().to_vec();
    field.resize(FIELD_SIZE, 0);
    field
}
