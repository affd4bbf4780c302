//! The protocol's core with messages out of order, repeated and damaged.
#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| pmxcfs_dfsm::fuzzing::protocol(script));
