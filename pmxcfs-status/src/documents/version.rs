//! `.version`: all counters that tell clients whether anything changed.

use pmxcfs_api_types::names::VERSIONED_PATHS;
use pmxcfs_memdb::{Tree, VERSIONED_PATH_COUNT};

use crate::json::{put, write_string};
use crate::keys::{KeyStore, KeyTable};
use crate::members::Members;

/// The tree's part of the counters.
#[derive(Debug, Clone, Copy)]
pub struct TreeVersions<'a> {
    /// Version of the guest list.
    pub guest_list: u32,
    /// Counters of [`VERSIONED_PATHS`].
    pub files: &'a [u32; VERSIONED_PATH_COUNT],
    /// A number that changes whenever one of the file counters does.
    pub files_generation: u64,
}

impl<'a> From<&'a Tree> for TreeVersions<'a> {
    fn from(tree: &'a Tree) -> Self {
        Self {
            guest_list: tree.guests().version,
            files: tree.file_versions(),
            files_generation: tree.versions_generation(),
        }
    }
}

/// Prints the counters. The own node's keys come first and are always there; other nodes follow if they ever sent a key.
pub fn version(
    start_time: u32,
    tree: &TreeVersions<'_>,
    members: &Members,
    keys: &KeyStore,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(2048);
    put!(
        &mut out,
        "{{\n\"starttime\": {start_time},\n\"clinfo\": {},\n\"vmlist\": {},\n",
        members.version,
        tree.guest_list
    );
    for (path, counter) in VERSIONED_PATHS.iter().zip(tree.files) {
        put!(&mut out, "\"{path}\": {counter},\n");
    }
    out.extend_from_slice(b"\"kvstore\": {\n");
    write_table(&mut out, &members.own_name, &keys.own);
    for (node, table) in keys.peers() {
        match members.name_of(node) {
            Some(name) if *name != members.own_name => {
                out.extend_from_slice(b",\n");
                write_table(&mut out, name, table);
            }
            _ => {}
        }
    }
    out.extend_from_slice(b"}\n}\n");
    out
}

fn write_table(out: &mut Vec<u8>, node: &[u8], table: &KeyTable) {
    write_string(out, node);
    out.extend_from_slice(b": {\n");
    let mut separator: &[u8] = b"";
    for (key, version) in table.versions() {
        out.extend_from_slice(separator);
        separator = b",\n";
        write_string(out, key);
        put!(out, ": {version}");
    }
    out.extend_from_slice(b"}\n");
}
