//! Texts of corosync.conf.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pmxcfs_config::fuzzing::corosync_conf(bytes));
