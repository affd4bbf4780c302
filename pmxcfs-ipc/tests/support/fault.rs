//! A process with a server that gets a SIGBUS which has nothing to do with clients.
#![expect(unsafe_code, reason = "a mapping to fault in")]

use std::os::fd::AsRawFd;
use std::ptr;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, raise};

use super::service::start_in_process;

/// Starts a server, then touches a page behind the end of a file, or sends itself the signal.
pub fn run(arguments: &[String]) {
    let [service, cause] = arguments else {
        panic!("service, cause");
    };
    setrlimit(Resource::RLIMIT_CORE, 0, 0).expect("lowering a limit");
    let _server = start_in_process(service);
    let file = tempfile::tempfile().expect("a file");
    file.set_len(4096).expect("space");
    // SAFETY: a new mapping at an address of the kernel's choice.
    let address = unsafe {
        libc::mmap(
            ptr::null_mut(),
            4096,
            libc::PROT_READ,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    assert_ne!(address, libc::MAP_FAILED);
    file.set_len(0).expect("less space");
    println!("now");
    if cause == "signal" {
        raise(Signal::SIGBUS).expect("it is ours");
    }
    // SAFETY: the page is mapped; that reading it faults is the point.
    let byte = unsafe { ptr::read_volatile(address.cast::<u8>()) };
    println!("survived {byte}");
}
