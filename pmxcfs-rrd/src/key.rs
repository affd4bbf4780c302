//! Keys of RRD values, without their `rrd/`.
//!
//! A key becomes a path below a directory that root writes to, and it may come from any node of the cluster, so names
//! that could leave the directory or break a line of rrdcached's protocol are refused here, once, for both backends.
//! The C daemon looks only for slashes.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::schema::Schema;

/// Longest key in bytes. The field of a status message that carries keys has 256 bytes, NUL included.
pub const MAX_KEY_SIZE: usize = 255;

/// The version of the formats that [`Schema`] describes.
const CURRENT_VERSION: &[u8] = b"9.0";

/// A parsed key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RrdKey<'a> {
    /// Which files the value belongs to.
    pub schema: Schema,
    /// Which columns the sender sends.
    pub generation: Generation,
    /// Name of the file: the node's name, the guest's id, or the storage's name.
    pub item: &'a [u8],
    /// Directory of the file for [`Schema::Storage`]: the node that sees the storage.
    pub storage_node: Option<&'a [u8]>,
}

/// Which format generation a key announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// `pve2-node`, `pve2.3-vm`, `pve2-storage`: lacks the sources appended in 9.0.
    Old,
    /// Exactly the sources of the schema.
    Current,
    /// Any other version. New versions may only append columns.
    Other,
}

/// Why a key is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// More than [`MAX_KEY_SIZE`] bytes.
    #[error("key of {size} bytes, at most {MAX_KEY_SIZE} are allowed")]
    TooLong {
        /// Length found.
        size: usize,
    },
    /// The text up to the first slash names no schema.
    #[error("unknown schema")]
    UnknownSchema,
    /// Fewer parts than the schema needs.
    #[error("the key names no item")]
    MissingItem,
    /// A part between slashes is empty.
    #[error("empty name")]
    EmptyName,
    /// More parts than the schema has.
    #[error("slash in the item's name")]
    ExtraSlash,
    /// `.` or `..`.
    #[error("'.' and '..' are no names")]
    DotName,
    /// A NUL or another control byte in a name.
    #[error("control byte {byte:#04x} in a name")]
    ControlByte {
        /// The first one.
        byte: u8,
    },
}

impl<'a> RrdKey<'a> {
    /// Parses a key.
    ///
    /// # Errors
    /// The first rule that is broken, in the order of [`KeyError`]'s variants for each name from the left.
    pub fn parse(key: &'a [u8]) -> Result<Self, KeyError> {
        if key.len() > MAX_KEY_SIZE {
            return Err(KeyError::TooLong { size: key.len() });
        }
        let mut parts = key.split(|byte| *byte == b'/');
        let (schema, generation) = parts
            .next()
            .and_then(parse_schema)
            .ok_or(KeyError::UnknownSchema)?;
        let storage_node = match schema {
            Schema::Storage => Some(parse_name(parts.next())?),
            Schema::Node | Schema::Vm => None,
        };
        let item = parse_name(parts.next())?;
        if parts.next().is_some() {
            return Err(KeyError::ExtraSlash);
        }
        Ok(Self {
            schema,
            generation,
            item,
            storage_node,
        })
    }

    /// Path of the file below the top directory of RRD files. All generations share the files of the current one.
    #[must_use]
    pub fn relative_path(&self) -> PathBuf {
        let mut path = PathBuf::from(self.schema.directory());
        for name in self.storage_node.into_iter().chain([self.item]) {
            path.push(Path::new(OsStr::from_bytes(name)));
        }
        path
    }
}

fn parse_schema(text: &[u8]) -> Option<(Schema, Generation)> {
    match text {
        b"pve2-node" => return Some((Schema::Node, Generation::Old)),
        b"pve2.3-vm" => return Some((Schema::Vm, Generation::Old)),
        b"pve2-storage" => return Some((Schema::Storage, Generation::Old)),
        _ => {}
    }
    let versioned = [
        (b"pve-node-".as_slice(), Schema::Node),
        (b"pve-vm-", Schema::Vm),
        (b"pve-storage-", Schema::Storage),
    ];
    versioned.into_iter().find_map(|(prefix, schema)| {
        let generation = match text.strip_prefix(prefix)? {
            CURRENT_VERSION => Generation::Current,
            _ => Generation::Other,
        };
        Some((schema, generation))
    })
}

fn parse_name(part: Option<&[u8]>) -> Result<&[u8], KeyError> {
    let name = part.ok_or(KeyError::MissingItem)?;
    if name.is_empty() {
        return Err(KeyError::EmptyName);
    }
    if matches!(name, b"." | b"..") {
        return Err(KeyError::DotName);
    }
    match name.iter().find(|byte| byte.is_ascii_control()) {
        Some(byte) => Err(KeyError::ControlByte { byte: *byte }),
        None => Ok(name),
    }
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
            assert_eq!(key.relative_path(), Path::new(path), "{text}");
        }
    }

    #[test]
    fn refused_forms_and_their_reasons() {
        let long_item = format!("pve2-node/{}", "x".repeat(246));
        let cases: [(&str, KeyError); 31] = [
            ("", KeyError::UnknownSchema),
            ("/", KeyError::UnknownSchema),
            ("/pve2-node/n1", KeyError::UnknownSchema),
            ("pve2-vm/100", KeyError::UnknownSchema),
            ("pve3-node/n1", KeyError::UnknownSchema),
            ("pve2-nodes/n1", KeyError::UnknownSchema),
            ("pve2.3-vm2/100", KeyError::UnknownSchema),
            ("pve-node/n1", KeyError::UnknownSchema),
            ("pve-guest-9.0/n1", KeyError::UnknownSchema),
            ("PVE2-node/n1", KeyError::UnknownSchema),
            ("..", KeyError::UnknownSchema),
            ("../pve2-node/n1", KeyError::UnknownSchema),
            ("pve-node-9.0", KeyError::MissingItem),
            ("pve2.3-vm", KeyError::MissingItem),
            ("pve2-storage", KeyError::MissingItem),
            ("pve2-storage/onlynode", KeyError::MissingItem),
            ("pve2-node/", KeyError::EmptyName),
            ("pve2-node//n1", KeyError::EmptyName),
            ("pve2-storage//x", KeyError::EmptyName),
            ("pve2-storage/n1/", KeyError::EmptyName),
            ("pve2-node/a/b", KeyError::ExtraSlash),
            ("pve2-node/a/", KeyError::ExtraSlash),
            ("pve2-storage/a/b/c", KeyError::ExtraSlash),
            ("pve2-node/.", KeyError::DotName),
            ("pve2-node/..", KeyError::DotName),
            ("pve2-storage/../x", KeyError::DotName),
            ("pve2-storage/n1/..", KeyError::DotName),
            ("pve2-node/a\0b", KeyError::ControlByte { byte: 0 }),
            ("pve2-node/a\nb", KeyError::ControlByte { byte: b'\n' }),
            ("pve2-node/a\x7f", KeyError::ControlByte { byte: 0x7f }),
            (&long_item, KeyError::TooLong { size: 256 }),
        ];
        for (text, error) in cases {
            assert_eq!(RrdKey::parse(text.as_bytes()), Err(error), "{text:?}");
        }
    }
}
