//! First messages of IPC clients.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pmxcfs_ipc::fuzzing::handshake(bytes));
