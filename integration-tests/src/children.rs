//! A child gets no more than it needs from the process of the tests.

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::signal::Signal;

/// The child ends with the thread that starts it, and gets no descriptor of this process but the standard ones: libqb opens the rings of
/// a client without close-on-exec, and a daemon that starts at this moment would keep them.
#[expect(
    unsafe_code,
    reason = "the requests have to be made between fork and exec"
)]
pub(crate) fn bind_to_this_thread(command: &mut Command) {
    let requests = || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        let flags = libc::CLOSE_RANGE_CLOEXEC.cast_signed();
        // SAFETY: the call only marks descriptors.
        Errno::result(unsafe { libc::close_range(3, libc::c_uint::MAX, flags) })?;
        Ok(())
    };
    // SAFETY: the closure makes two system calls and allocates nothing.
    unsafe {
        command.pre_exec(requests);
    }
}
