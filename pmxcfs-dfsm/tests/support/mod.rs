//! What several tests need: vectors and their encodings.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::{io::Read as _, path::PathBuf};

use bytes::Bytes;
use serde_json::Value;

/// Directory of the recordings.
pub(crate) fn vectors() -> PathBuf {
    match std::env::var_os("PMXCFS_VECTORS") {
        Some(directory) => PathBuf::from(directory),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors"),
    }
}

/// Contents of a file, unpacked if it is packed.
pub(crate) fn read(path: &PathBuf) -> Vec<u8> {
    let raw = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if path.extension().is_some_and(|extension| extension == "gz") {
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&raw[..])
            .read_to_end(&mut unpacked)
            .unwrap();
        return unpacked;
    }
    raw
}

pub(crate) fn unhex(text: &str) -> Bytes {
    assert!(text.len().is_multiple_of(2), "hex digits come in pairs");
    let digit = |byte: u8| (byte as char).to_digit(16).unwrap() as u8;
    text.as_bytes()
        .chunks(2)
        .map(|pair| digit(pair[0]) * 16 + digit(pair[1]))
        .collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The messages that a manifest lists.
pub(crate) fn manifest(path: &str) -> Vec<Value> {
    let text = read(&vectors().join(path));
    let manifest: Value = serde_json::from_slice(&text).unwrap();
    let messages = manifest["messages"].as_array().unwrap().clone();
    assert!(!messages.is_empty(), "{path} lists no messages");
    messages
}
