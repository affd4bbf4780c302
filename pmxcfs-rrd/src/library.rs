//! librrd's C functions, loaded when first needed.
//!
//! Linking librrd pulls cairo, pango and glib into the process, 48 libraries in all. Measured with an otherwise empty
//! program on Debian 12: start 1.4 ms without and 9.8 ms with it, resident memory 1.3 MB and 8.4 MB. On a host with
//! rrdcached the daemon needs librrd only to create a file, most days never. So it is opened with `dlopen` by the one
//! thread that calls it, which costs that thread 9 ms once, and the start and the build nothing (the `rrd` crate would
//! add bindgen and libclang to the latter). The functions also take the update text as it is, where the `rrd` crate
//! has no signed integers and prints the numbers again.
//!
//! librrd maps the files that it updates. A disk error under such a mapping raises SIGBUS; the C daemon shares that.

#![expect(unsafe_code, reason = "C functions in a library opened at run time")]

use std::ffi::{CStr, CString};
use std::marker::PhantomData;
use std::ptr;

use libc::{c_char, c_int, c_ulong, time_t};

/// Soname of librrd 1.7.
const SONAME: &str = "librrd.so.8";

type CreateFunction = unsafe extern "C" fn(
    filename: *const c_char,
    step: c_ulong,
    start: time_t,
    no_overwrite: c_int,
    sources: *const *const c_char,
    template: *const c_char,
    argument_count: c_int,
    arguments: *const *const c_char,
) -> c_int;

type UpdateFunction = unsafe extern "C" fn(
    filename: *const c_char,
    template: *const c_char,
    argument_count: c_int,
    arguments: *const *const c_char,
) -> c_int;

type ErrorFunction = unsafe extern "C" fn() -> *const c_char;
type ClearFunction = unsafe extern "C" fn();

/// The loaded library. Stays on the thread that loaded it: librrd has process-wide state (random numbers, parsed times)
/// that its "thread-safe" functions share.
pub(crate) struct Library {
    create: CreateFunction,
    update: UpdateFunction,
    error: ErrorFunction,
    clear_error: ClearFunction,
    one_thread: PhantomData<*const ()>,
}

impl Library {
    /// Loads the library, for ever: glib cannot be unloaded.
    ///
    /// # Errors
    /// The library or one of the functions is not there.
    pub(crate) fn load() -> Result<Self, libloading::Error> {
        // SAFETY: opening runs the constructors of librrd and of the libraries it needs. They are those that run at the
        // start of every program linked with librrd; they start no threads and do not depend on the caller.
        let library = unsafe { libloading::Library::new(SONAME) }?;
        // SAFETY: the type is that of `rrd_create_r2` in rrd.h of librrd 1.7.
        let create = *unsafe { library.get::<CreateFunction>(b"rrd_create_r2\0") }?;
        // SAFETY: the type is that of `rrd_update_r` in rrd.h of librrd 1.7.
        let update = *unsafe { library.get::<UpdateFunction>(b"rrd_update_r\0") }?;
        // SAFETY: the type is that of `rrd_get_error` in rrd.h of librrd 1.7.
        let error = *unsafe { library.get::<ErrorFunction>(b"rrd_get_error\0") }?;
        // SAFETY: the type is that of `rrd_clear_error` in rrd.h of librrd 1.7.
        let clear_error = *unsafe { library.get::<ClearFunction>(b"rrd_clear_error\0") }?;
        std::mem::forget(library);
        Ok(Self {
            create,
            update,
            error,
            clear_error,
            one_thread: PhantomData,
        })
    }

    /// Creates a file; an existing one is not replaced.
    ///
    /// # Errors
    /// librrd's message. It has none when the disk is full.
    pub(crate) fn create(
        &self,
        path: &CStr,
        step_secs: u32,
        start: i64,
        arguments: &[CString],
    ) -> Result<(), String> {
        let pointers: Vec<*const c_char> = arguments.iter().map(|text| text.as_ptr()).collect();
        let count = c_int::try_from(pointers.len()).expect("schemas have a few dozen arguments");
        self.clear_error();
        // SAFETY: `path` and the strings behind `pointers` are NUL-terminated and outlive the call, `count` is the
        // number of pointers, and null is allowed for sources and template. The library is never unloaded.
        let code = unsafe {
            (self.create)(
                path.as_ptr(),
                c_ulong::from(step_secs),
                start,
                1,
                ptr::null(),
                ptr::null(),
                count,
                pointers.as_ptr(),
            )
        };
        self.result(code)
    }

    /// Applies one update.
    ///
    /// # Errors
    /// librrd's message.
    pub(crate) fn update(&self, path: &CStr, text: &CStr) -> Result<(), String> {
        let arguments = [text.as_ptr()];
        self.clear_error();
        // SAFETY: `path` and `text` are NUL-terminated and outlive the call, the array has one element, and null is
        // allowed for the template. The library is never unloaded.
        let code = unsafe { (self.update)(path.as_ptr(), ptr::null(), 1, arguments.as_ptr()) };
        self.result(code)
    }

    fn result(&self, code: c_int) -> Result<(), String> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: takes nothing; the library is never unloaded.
        let message = unsafe { (self.error)() };
        if message.is_null() {
            return Err(String::new());
        }
        // SAFETY: not null, and librrd returns this thread's NUL-terminated error text, valid until its next call here.
        let message = unsafe { CStr::from_ptr(message) };
        Err(message.to_string_lossy().into_owned())
    }

    fn clear_error(&self) {
        // SAFETY: takes nothing; the library is never unloaded.
        unsafe { (self.clear_error)() };
    }
}
