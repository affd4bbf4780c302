//! Guest configs and names of properties.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pmxcfs_status::fuzzing::guest_properties(bytes));
