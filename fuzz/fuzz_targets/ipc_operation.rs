//! Bodies of IPC requests.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pmxcfs::fuzzing::ipc_operation(bytes));
