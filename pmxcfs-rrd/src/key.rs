//! Keys of RRD values, without their `rrd/`.
//!
//! A key becomes a path below a directory that root writes to, and it may come from any node of the cluster. So names
//! that could leave the directory or break a line of rrdcached's protocol are refused here, once, for both backends.
//! The C daemon looks only for slashes.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::sample::{MAX_KEY_SIZE, SampleError};
use crate::schema::Schema;

/// End of [`Schema::directory`]: the version of the formats that the schemas describe.
const CURRENT_VERSION: &[u8] = b"9.0";

/// A parsed key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RrdKey {
    /// Which kind of file the value belongs to.
    pub schema: &'static Schema,
    /// Which columns the sender sends.
    pub generation: Generation,
    /// The file below the top directory of RRD files. All generations share the files of the current one.
    pub path: PathBuf,
}

/// Which generation of the format a key announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// `pve2-node`, `pve2.3-vm`, `pve2-storage`: lacks the sources appended in 9.0.
    Old,
    /// Exactly the sources of the schema.
    Current,
    /// Any other version. New versions may only append columns.
    Other,
}

impl RrdKey {
    /// Parses a key.
    ///
    /// # Errors
    /// The first rule that is broken, in the order of [`SampleError`]'s variants.
    pub fn parse(key: &[u8]) -> Result<Self, SampleError> {
        if key.len() > MAX_KEY_SIZE {
            return Err(SampleError::KeyTooLong(key.len()));
        }
        let mut parts = key.split(|byte| *byte == b'/');
        let head = parts.next().unwrap_or_default();
        let (schema, generation) = parse_head(head).ok_or(SampleError::UnknownSchema)?;
        let (expected, found) = (schema.name_count, parts.clone().count());
        if found != expected {
            return Err(SampleError::WrongNameCount { expected, found });
        }
        let mut path = PathBuf::from(schema.directory);
        for name in parts {
            if matches!(name, b"" | b"." | b"..") || name.iter().any(u8::is_ascii_control) {
                return Err(SampleError::BadName(name.into()));
            }
            path.push(OsStr::from_bytes(name));
        }
        Ok(Self {
            schema,
            generation,
            path,
        })
    }
}

fn parse_head(head: &[u8]) -> Option<(&'static Schema, Generation)> {
    Schema::ALL.into_iter().find_map(|schema| {
        let current = schema.directory.as_bytes();
        let any_version = current.strip_suffix(CURRENT_VERSION)?;
        let generation = if head == schema.old_head.as_bytes() {
            Generation::Old
        } else if head == current {
            Generation::Current
        } else if head.starts_with(any_version) {
            Generation::Other
        } else {
            return None;
        };
        Some((schema, generation))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_forms_and_their_files() {
        use Generation::{Current, Old, Other};
        let cases: [(&str, Generation, &str); 14] = [
            ("pve2-node/n1", Old, "pve-node-9.0/n1"),
            ("pve-node-9.0/n1", Current, "pve-node-9.0/n1"),
            ("pve-node-9.1/n1", Other, "pve-node-9.0/n1"),
            ("pve-node-9.0.1/n1", Other, "pve-node-9.0/n1"),
            ("pve-node-/n1", Other, "pve-node-9.0/n1"),
            ("pve2.3-vm/100", Old, "pve-vm-9.0/100"),
            ("pve-vm-9.0/100", Current, "pve-vm-9.0/100"),
            ("pve-vm-10.0/not-a-number", Other, "pve-vm-9.0/not-a-number"),
            ("pve2-storage/n1/local", Old, "pve-storage-9.0/n1/local"),
            ("pve-storage-9.0/n1/a b", Current, "pve-storage-9.0/n1/a b"),
            ("pve-storage-x/n1/..a", Other, "pve-storage-9.0/n1/..a"),
            ("pve-storage-9.0/n1/...", Current, "pve-storage-9.0/n1/..."),
            ("pve-node-9.0/-v", Current, "pve-node-9.0/-v"),
            ("pve-node-9.0/\u{e9}", Current, "pve-node-9.0/\u{e9}"),
        ];
        for (text, generation, path) in cases {
            let key = RrdKey::parse(text.as_bytes()).expect(text);
            assert_eq!(key.generation, generation, "{text}");
            assert_eq!(key.path.to_str(), Some(path), "{text}");
        }
    }

    #[test]
    fn refused_forms_and_their_reasons() {
        let long_item = format!("pve2-node/{}", "x".repeat(246));
        let count = |expected, found| SampleError::WrongNameCount { expected, found };
        let name = |name: &[u8]| SampleError::BadName(name.into());
        let cases: [(&str, SampleError); 31] = [
            ("", SampleError::UnknownSchema),
            ("/", SampleError::UnknownSchema),
            ("/pve2-node/n1", SampleError::UnknownSchema),
            ("pve2-vm/100", SampleError::UnknownSchema),
            ("pve3-node/n1", SampleError::UnknownSchema),
            ("pve2-nodes/n1", SampleError::UnknownSchema),
            ("pve2.3-vm2/100", SampleError::UnknownSchema),
            ("pve-node/n1", SampleError::UnknownSchema),
            ("pve-guest-9.0/n1", SampleError::UnknownSchema),
            ("PVE2-node/n1", SampleError::UnknownSchema),
            ("..", SampleError::UnknownSchema),
            ("../pve2-node/n1", SampleError::UnknownSchema),
            ("pve-node-9.0", count(1, 0)),
            ("pve2.3-vm", count(1, 0)),
            ("pve2-storage", count(2, 0)),
            ("pve2-storage/onlynode", count(2, 1)),
            ("pve2-node/", name(b"")),
            ("pve2-node//n1", count(1, 2)),
            ("pve2-storage//x", name(b"")),
            ("pve2-storage/n1/", name(b"")),
            ("pve2-node/a/b", count(1, 2)),
            ("pve2-node/a/", count(1, 2)),
            ("pve2-storage/a/b/c", count(2, 3)),
            ("pve2-node/.", name(b".")),
            ("pve2-node/..", name(b"..")),
            ("pve2-storage/../x", name(b"..")),
            ("pve2-storage/n1/..", name(b"..")),
            ("pve2-node/a\0b", name(b"a\0b")),
            ("pve2-node/a\nb", name(b"a\nb")),
            ("pve2-node/a\x7f", name(b"a\x7f")),
            (&long_item, SampleError::KeyTooLong(256)),
        ];
        for (text, error) in cases {
            assert_eq!(RrdKey::parse(text.as_bytes()), Err(error), "{text:?}");
        }
    }
}
