//! Messages of both groups.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pmxcfs_dfsm::fuzzing::cpg_message(bytes));
