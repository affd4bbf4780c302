//! The priority of a thread.

/// Lowers that of the calling thread: others go first. Refused, it stays.
pub(super) fn give_way() {
    let _refused = nice();
}

#[expect(
    unsafe_code,
    reason = "no crate here has a safe call for the priority of a thread"
)]
fn nice() -> libc::c_int {
    // SAFETY: setpriority takes three numbers; 0 stands for the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) }
}
