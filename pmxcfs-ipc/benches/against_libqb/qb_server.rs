//! libqb's own server with the service that the benchmark asks.
#![expect(unsafe_code, reason = "calls into a C library, and from it")]

use std::ffi::{CString, c_char, c_void};
use std::ptr;
use std::sync::OnceLock;

use crate::{LARGEST, PATTERN};

type Connection = c_void;
type Service = c_void;
type Loop = c_void;
type DispatchFn = extern "C" fn(i32, i32, *mut c_void) -> i32;
type JobFn = extern "C" fn(*mut c_void);

#[repr(C)]
struct PollHandlers {
    job_add: extern "C" fn(i32, *mut c_void, JobFn) -> i32,
    dispatch_add: extern "C" fn(i32, i32, i32, *mut c_void, DispatchFn) -> i32,
    dispatch_mod: extern "C" fn(i32, i32, i32, *mut c_void, DispatchFn) -> i32,
    dispatch_del: extern "C" fn(i32) -> i32,
}

#[repr(C)]
struct ServiceHandlers {
    accept: extern "C" fn(*mut Connection, u32, u32) -> i32,
    created: extern "C" fn(*mut Connection),
    process: extern "C" fn(*mut Connection, *mut c_void, usize) -> i32,
    closed: extern "C" fn(*mut Connection) -> i32,
    destroyed: extern "C" fn(*mut Connection),
}

#[link(name = "qb")]
unsafe extern "C" {
    fn qb_loop_create() -> *mut Loop;
    fn qb_loop_run(it: *mut Loop);
    fn qb_loop_stop(it: *mut Loop);
    fn qb_loop_job_add(it: *mut Loop, priority: i32, data: *mut c_void, f: JobFn) -> i32;
    fn qb_loop_poll_add(
        it: *mut Loop,
        priority: i32,
        fd: i32,
        events: i32,
        data: *mut c_void,
        f: DispatchFn,
    ) -> i32;
    fn qb_loop_poll_mod(
        it: *mut Loop,
        priority: i32,
        fd: i32,
        events: i32,
        data: *mut c_void,
        f: DispatchFn,
    ) -> i32;
    fn qb_loop_poll_del(it: *mut Loop, fd: i32) -> i32;
    fn qb_ipcs_create(
        name: *const c_char,
        service_id: i32,
        transport: i32,
        handlers: *mut ServiceHandlers,
    ) -> *mut Service;
    fn qb_ipcs_poll_handlers_set(service: *mut Service, handlers: *mut PollHandlers);
    fn qb_ipcs_run(service: *mut Service) -> i32;
    fn qb_ipcs_destroy(service: *mut Service);
    fn qb_ipcs_response_sendv(
        connection: *mut Connection,
        parts: *const libc::iovec,
        count: usize,
    ) -> isize;
}

struct LoopPointer(*mut Loop);
// SAFETY: the process has one thread.
unsafe impl Send for LoopPointer {}
// SAFETY: the process has one thread.
unsafe impl Sync for LoopPointer {}

static LOOP: OnceLock<LoopPointer> = OnceLock::new();
static BODY: OnceLock<Vec<u8>> = OnceLock::new();

fn main_loop() -> *mut Loop {
    LOOP.get().expect("made first").0
}

extern "C" fn job_add(priority: i32, data: *mut c_void, f: JobFn) -> i32 {
    // SAFETY: the loop lives as long as the process.
    unsafe { qb_loop_job_add(main_loop(), priority, data, f) }
}

extern "C" fn add(priority: i32, fd: i32, events: i32, data: *mut c_void, f: DispatchFn) -> i32 {
    // SAFETY: the loop lives as long as the process.
    unsafe { qb_loop_poll_add(main_loop(), priority, fd, events, data, f) }
}

extern "C" fn modify(priority: i32, fd: i32, events: i32, data: *mut c_void, f: DispatchFn) -> i32 {
    // SAFETY: the loop lives as long as the process.
    unsafe { qb_loop_poll_mod(main_loop(), priority, fd, events, data, f) }
}

extern "C" fn delete(fd: i32) -> i32 {
    // SAFETY: the loop lives as long as the process.
    unsafe { qb_loop_poll_del(main_loop(), fd) }
}

/// Standard input has ended.
extern "C" fn stop(_fd: i32, _events: i32, _data: *mut c_void) -> i32 {
    // SAFETY: the loop lives as long as the process.
    unsafe { qb_loop_stop(main_loop()) };
    -1
}

extern "C" fn accept(_connection: *mut Connection, _uid: u32, _gid: u32) -> i32 {
    0
}

extern "C" fn created(_connection: *mut Connection) {}

extern "C" fn closed(_connection: *mut Connection) -> i32 {
    0
}

extern "C" fn destroyed(_connection: *mut Connection) {}

extern "C" fn process(connection: *mut Connection, data: *mut c_void, _size: usize) -> i32 {
    // SAFETY: benchmark requests are 20 bytes: header and a number.
    let request = unsafe { *data.cast::<[u8; 20]>() };
    let field = |offset: usize| {
        i32::from_le_bytes(request[offset..offset + 4].try_into().expect("four bytes"))
    };
    assert_eq!(field(0), PATTERN);
    let size = field(16) as usize;
    let mut header = [0u8; 24];
    header[..4].copy_from_slice(&PATTERN.to_le_bytes());
    header[8..12].copy_from_slice(&(field(16) + 24).to_le_bytes());
    let body = &BODY.get().expect("made first")[..size];
    let parts = [&header[..], body].map(|part| libc::iovec {
        iov_base: part.as_ptr().cast_mut().cast(),
        iov_len: part.len(),
    });
    // SAFETY: libqb only reads the parts, during the call.
    unsafe { qb_ipcs_response_sendv(connection, parts.as_ptr(), 2) };
    0
}

/// Serves until standard input ends.
pub fn run(service: &str, transport: i32) {
    BODY.get_or_init(|| vec![b'x'; LARGEST]);
    // SAFETY: no preconditions.
    LOOP.get_or_init(|| LoopPointer(unsafe { qb_loop_create() }));
    let name = CString::new(service).expect("no NUL");
    let handlers = Box::leak(Box::new(ServiceHandlers {
        accept,
        created,
        process,
        closed,
        destroyed,
    }));
    let poll_handlers = Box::leak(Box::new(PollHandlers {
        job_add,
        dispatch_add: add,
        dispatch_mod: modify,
        dispatch_del: delete,
    }));
    // SAFETY: name and handlers are valid; the handlers are never freed.
    let service = unsafe { qb_ipcs_create(name.as_ptr(), 1, transport, handlers) };
    assert_ne!(service, ptr::null_mut());
    // SAFETY: the service is live and the handlers are never freed.
    unsafe { qb_ipcs_poll_handlers_set(service, poll_handlers) };
    // SAFETY: the service is live.
    let result = unsafe { qb_ipcs_run(service) };
    assert_eq!(result, 0, "libqb listens");
    println!("ready");
    let events = i32::from(libc::POLLIN | libc::POLLHUP);
    // SAFETY: the loop is live; descriptor 0 stays open.
    unsafe { qb_loop_poll_add(main_loop(), 1, 0, events, ptr::null_mut(), stop) };
    // SAFETY: the loop is live.
    unsafe { qb_loop_run(main_loop()) };
    // SAFETY: the service is live and not used again.
    unsafe { qb_ipcs_destroy(service) };
}
