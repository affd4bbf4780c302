//! Indexes that members exchange.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pmxcfs_memdb::fuzzing::index(bytes));
