//! Crash journals found at start.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pmxcfs_memdb::fuzzing::crash_journal(bytes));
