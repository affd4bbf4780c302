//! Abstract socket names as libqb spells them.
//!
//! An abstract name is compared over its full length, and libqb passes the whole of `sun_path`: the name is padded
//! with NULs to 107 bytes after the leading one, and the address is 110 bytes long. The short form is another name.

use std::io;

use nix::errno::Errno;
use nix::sys::socket::UnixAddr;

/// Bytes in an abstract name after the leading NUL, padding included.
const NAME_SIZE: usize = 107;

/// Longest name that leaves room for one NUL behind it, in bytes.
pub const MAX_NAME_SIZE: usize = NAME_SIZE - 1;

/// The padded abstract address for `name`.
///
/// # Errors
/// `ENAMETOOLONG` for more than [`MAX_NAME_SIZE`] bytes. libqb would cut the name silently.
pub fn abstract_address(name: &str) -> io::Result<UnixAddr> {
    if name.len() > MAX_NAME_SIZE {
        return Err(Errno::ENAMETOOLONG.into());
    }
    let mut padded = [0; NAME_SIZE];
    padded[..name.len()].copy_from_slice(name.as_bytes());
    Ok(UnixAddr::new_abstract(&padded)?)
}
