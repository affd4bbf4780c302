//! The version in any text of a corosync.conf.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    assert_ne!(pmxcfs_config::config_version(bytes), Some(0));
});
