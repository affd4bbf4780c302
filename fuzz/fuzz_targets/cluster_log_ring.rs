//! Cluster log rings of peers.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pmxcfs_logger::fuzzing::cluster_log_ring(bytes));
