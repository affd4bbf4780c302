//! Entries that a leader sends.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pmxcfs_dfsm::fuzzing::inode_update(bytes));
