//! Bodies of IPC requests.
//!
//! The daemon's crate is large and only two of its files are wanted, so they are taken by their paths.
#![no_main]

#[path = "../../pmxcfs/src/fuzzing.rs"]
mod fuzzing;

#[path = "."]
mod ipc {
    #[allow(
        dead_code,
        unfulfilled_lint_expectations,
        reason = "its home is another crate"
    )]
    #[path = "../../pmxcfs/src/ipc/decode.rs"]
    pub mod decode;
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::ipc_operation(bytes));
