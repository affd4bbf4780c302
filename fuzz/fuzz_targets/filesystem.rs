//! The filesystem without a mount: random requests, while another node changes the tree between them, beside a plain model.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pmxcfs::fuzzing::filesystem(bytes));
