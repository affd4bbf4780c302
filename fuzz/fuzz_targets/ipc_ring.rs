//! What IPC clients write into shared rings.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pmxcfs_ipc::fuzzing::shared_ring(bytes));
