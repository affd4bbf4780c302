//! The floor of IPC: a server made with libqb that answers every request with the same bytes.
#![expect(unsafe_code, reason = "libqb is a C library")]

use std::ffi::{CString, c_char, c_void};
use std::io;
use std::sync::OnceLock;

const SHARED_MEMORY: i32 = 1;
const HEADER_SIZE: usize = 24;

type DispatchFn = extern "C" fn(i32, i32, *mut c_void) -> i32;
type JobFn = extern "C" fn(*mut c_void);

#[repr(C)]
struct ServiceHandlers {
    accept: extern "C" fn(*mut c_void, u32, u32) -> i32,
    created: Option<extern "C" fn(*mut c_void)>,
    process: extern "C" fn(*mut c_void, *const c_void, usize) -> i32,
    closed: Option<extern "C" fn(*mut c_void) -> i32>,
    destroyed: Option<extern "C" fn(*mut c_void)>,
}

#[repr(C)]
struct PollHandlers {
    job_add: extern "C" fn(i32, *mut c_void, JobFn) -> i32,
    dispatch_add: extern "C" fn(i32, i32, i32, *mut c_void, DispatchFn) -> i32,
    dispatch_mod: extern "C" fn(i32, i32, i32, *mut c_void, DispatchFn) -> i32,
    dispatch_del: extern "C" fn(i32) -> i32,
}

#[link(name = "qb")]
unsafe extern "C" {
    fn qb_ipcs_create(
        name: *const c_char,
        id: i32,
        kind: i32,
        handlers: *mut ServiceHandlers,
    ) -> *mut c_void;
    fn qb_ipcs_poll_handlers_set(service: *mut c_void, handlers: *mut PollHandlers);
    fn qb_ipcs_run(service: *mut c_void) -> i32;
    fn qb_ipcs_response_send(connection: *mut c_void, data: *const c_void, size: usize) -> isize;
    fn qb_loop_create() -> *mut c_void;
    fn qb_loop_run(main_loop: *mut c_void);
    fn qb_loop_job_add(main_loop: *mut c_void, priority: i32, data: *mut c_void, job: JobFn)
    -> i32;
    fn qb_loop_poll_add(
        main_loop: *mut c_void,
        priority: i32,
        descriptor: i32,
        events: i32,
        data: *mut c_void,
        dispatch: DispatchFn,
    ) -> i32;
    fn qb_loop_poll_mod(
        main_loop: *mut c_void,
        priority: i32,
        descriptor: i32,
        events: i32,
        data: *mut c_void,
        dispatch: DispatchFn,
    ) -> i32;
    fn qb_loop_poll_del(main_loop: *mut c_void, descriptor: i32) -> i32;
}

/// Body and header of every answer; the id is filled in per request.
static ANSWER: OnceLock<Vec<u8>> = OnceLock::new();

/// Serves until the process is killed. `body_size` is that of every answer, in bytes.
///
/// # Errors
/// If the service cannot listen.
///
/// # Panics
/// If called twice.
pub(crate) fn serve(service: &str, body_size: usize) -> io::Result<()> {
    let size = HEADER_SIZE + body_size;
    let mut answer = vec![b'x'; size];
    answer[..HEADER_SIZE].fill(0);
    let size = i32::try_from(size).map_err(|_large| io::ErrorKind::InvalidInput)?;
    answer[8..12].copy_from_slice(&size.to_le_bytes());
    ANSWER.set(answer).expect("served once per process");

    let name = CString::new(service)?;
    let mut handlers = ServiceHandlers {
        accept,
        created: None,
        process,
        closed: None,
        destroyed: None,
    };
    let mut poll_handlers = PollHandlers {
        job_add,
        dispatch_add,
        dispatch_mod,
        dispatch_del,
    };
    // SAFETY: the loop becomes the library's default one and lives as long as the process.
    let main_loop = unsafe { qb_loop_create() };
    // SAFETY: the library copies name and handlers.
    let service = unsafe { qb_ipcs_create(name.as_ptr(), 0, SHARED_MEMORY, &raw mut handlers) };
    if main_loop.is_null() || service.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the service was made above; the library copies the handlers.
    unsafe { qb_ipcs_poll_handlers_set(service, &raw mut poll_handlers) };
    // SAFETY: the service is complete.
    let result = unsafe { qb_ipcs_run(service) };
    if result != 0 {
        return Err(io::Error::from_raw_os_error(-result));
    }
    // SAFETY: the loop was made above.
    unsafe { qb_loop_run(main_loop) };
    Ok(())
}

extern "C" fn accept(_connection: *mut c_void, _uid: u32, _gid: u32) -> i32 {
    0
}

extern "C" fn process(connection: *mut c_void, request: *const c_void, size: usize) -> i32 {
    let Some(answer) = ANSWER.get() else {
        return -libc::EINVAL;
    };
    if size < 4 {
        return -libc::EINVAL;
    }
    let mut answer = answer.clone();
    // SAFETY: the library hands over `size` readable bytes, at least four.
    let id = unsafe { std::slice::from_raw_parts(request.cast::<u8>(), 4) };
    answer[..4].copy_from_slice(id);
    // SAFETY: the connection is the one that this request came from, the answer is copied.
    let sent = unsafe { qb_ipcs_response_send(connection, answer.as_ptr().cast(), answer.len()) };
    i32::from(sent < 0) * -libc::EAGAIN
}

/// Stands for the library's default loop.
const DEFAULT_LOOP: *mut c_void = std::ptr::null_mut();

extern "C" fn job_add(priority: i32, data: *mut c_void, job: JobFn) -> i32 {
    // SAFETY: arguments of the library, handed back to it.
    unsafe { qb_loop_job_add(DEFAULT_LOOP, priority, data, job) }
}

extern "C" fn dispatch_add(
    priority: i32,
    descriptor: i32,
    events: i32,
    data: *mut c_void,
    dispatch: DispatchFn,
) -> i32 {
    // SAFETY: arguments of the library, handed back to it.
    unsafe { qb_loop_poll_add(DEFAULT_LOOP, priority, descriptor, events, data, dispatch) }
}

extern "C" fn dispatch_mod(
    priority: i32,
    descriptor: i32,
    events: i32,
    data: *mut c_void,
    dispatch: DispatchFn,
) -> i32 {
    // SAFETY: arguments of the library, handed back to it.
    unsafe { qb_loop_poll_mod(DEFAULT_LOOP, priority, descriptor, events, data, dispatch) }
}

extern "C" fn dispatch_del(descriptor: i32) -> i32 {
    // SAFETY: an argument of the library, handed back to it.
    unsafe { qb_loop_poll_del(DEFAULT_LOOP, descriptor) }
}
