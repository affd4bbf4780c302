//! System calls that neither the standard library nor nix wrap.
#![expect(
    unsafe_code,
    reason = "extended attributes and ioctl have no safe wrapper in the dependencies"
)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `setxattr(2)`.
///
/// # Errors
/// What the kernel says.
///
/// # Panics
/// On a NUL in path or name, here and below.
pub fn set_xattr(path: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    let (path, name) = (c_path(path), c_name(name));
    // SAFETY: both strings end with NUL and live to the end of the call; the value's length is its own.
    let result = unsafe {
        libc::setxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    check(result)
}

/// `getxattr(2)`, asking for the size only.
///
/// # Errors
/// What the kernel says.
pub fn xattr_size(path: &Path, name: &str) -> io::Result<usize> {
    let (path, name) = (c_path(path), c_name(name));
    // SAFETY: both strings end with NUL; with length 0 nothing is written.
    let size = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) };
    usize::try_from(size).map_err(|_negative| io::Error::last_os_error())
}

/// `listxattr(2)`, asking for the size only.
///
/// # Errors
/// What the kernel says.
pub fn xattr_list_size(path: &Path) -> io::Result<usize> {
    let path = c_path(path);
    // SAFETY: the string ends with NUL; with length 0 nothing is written.
    let size = unsafe { libc::listxattr(path.as_ptr(), std::ptr::null_mut(), 0) };
    usize::try_from(size).map_err(|_negative| io::Error::last_os_error())
}

/// `removexattr(2)`.
///
/// # Errors
/// What the kernel says.
pub fn remove_xattr(path: &Path, name: &str) -> io::Result<()> {
    let (path, name) = (c_path(path), c_name(name));
    // SAFETY: both strings end with NUL.
    check(unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) })
}

/// An ioctl that no filesystem knows, with a number as its argument.
///
/// # Errors
/// What the kernel says.
pub fn unknown_ioctl(file: BorrowedFd<'_>) -> io::Result<()> {
    const REQUEST: libc::c_ulong = 0x5678;
    // SAFETY: the request encodes no data transfer and the argument is no address.
    check(unsafe { libc::ioctl(file.as_raw_fd(), REQUEST, 0) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("paths hold no NUL")
}

fn c_name(name: &str) -> CString {
    CString::new(name).expect("attribute names hold no NUL")
}

/// Maps the first page of a file for reading and returns its first byte.
///
/// # Errors
/// What the kernel says to the mapping.
pub fn first_byte_mapped(file: BorrowedFd<'_>, shared: bool) -> io::Result<u8> {
    let flags = if shared {
        libc::MAP_SHARED
    } else {
        libc::MAP_PRIVATE
    };
    let length = 4096;
    // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            length,
            libc::PROT_READ,
            flags,
            file.as_raw_fd(),
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping is readable and the callers' files hold at least one byte.
    let byte = unsafe { address.cast::<u8>().read_volatile() };
    // SAFETY: the mapping was made above and nothing refers to it any more.
    check(unsafe { libc::munmap(address, length) })?;
    Ok(byte)
}
