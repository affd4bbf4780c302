//! Properties of guest configs.
//!
//! The C daemon searches all configs with the tree and the status locked. Here their contents are taken out of the tree
//! under its read lock, which shares them, and searched afterwards.

use std::collections::HashMap;

use bytes::Bytes;
use pmxcfs_api_types::{FsError, VmType, Vmid};
use pmxcfs_memdb::{EntryKind, Guest, MemDb, Tree};
use pmxcfs_status::render_properties;

use super::decode::PropertyQuery;

/// Guests have ids from here on, as far as these operations are concerned.
const MIN_VMID: u32 = 100;

/// Configs of the guests that a query is about.
enum Configs {
    One(Vmid, Option<Bytes>),
    All(Vec<(Vmid, Bytes)>),
}

/// One property, which may be empty.
pub(super) fn property(db: &MemDb, query: &PropertyQuery<'_>) -> Result<Bytes, FsError> {
    let configs = configs(db, query.vmid)?;
    render(configs, &[query.single_name()?])
}

/// Several properties.
pub(super) fn properties(db: &MemDb, query: &PropertyQuery<'_>) -> Result<Bytes, FsError> {
    let configs = configs(db, query.vmid)?;
    render(configs, &query.names()?)
}

/// The guest is checked before the names are, so this comes first and does no work that names could spare: a snapshot
/// shares all contents.
fn configs(db: &MemDb, vmid: u32) -> Result<Configs, FsError> {
    if (1..MIN_VMID).contains(&vmid) {
        return Err(FsError::Invalid);
    }
    let tree = db.read();
    let guests = &tree.guests().guests;
    let mut directories = Directories::new(&tree);
    if vmid != 0 {
        let vmid = Vmid(vmid);
        let guest = guests.get(&vmid).filter(|guest| guest.kind.is_visible());
        let guest = guest.ok_or(FsError::NotFound)?;
        return Ok(Configs::One(vmid, directories.config(vmid, guest)));
    }
    let visible = guests.iter().filter(|(_, guest)| guest.kind.is_visible());
    let configs =
        visible.filter_map(|(vmid, guest)| Some((*vmid, directories.config(*vmid, guest)?)));
    Ok(Configs::All(configs.collect()))
}

fn render(configs: Configs, names: &[&[u8]]) -> Result<Bytes, FsError> {
    let text = match configs {
        Configs::One(vmid, config) => {
            let config = config
                .filter(|config| !config.is_empty())
                .ok_or(FsError::Io)?;
            render_properties([(vmid, config)], names)
        }
        Configs::All(configs) => render_properties(configs, names),
    };
    Ok(text.into())
}

/// Finds configs by directory, so that each directory is looked up once.
struct Directories<'a> {
    tree: &'a Tree,
    inodes: HashMap<(&'a [u8], VmType), Option<u64>>,
}

impl<'a> Directories<'a> {
    fn new(tree: &'a Tree) -> Self {
        Self {
            tree,
            inodes: HashMap::new(),
        }
    }

    fn config(&mut self, vmid: Vmid, guest: &'a Guest) -> Option<Bytes> {
        let tree = self.tree;
        let directory = *self
            .inodes
            .entry((&guest.node, guest.kind))
            .or_insert_with(|| {
                let path =
                    [b"nodes", &guest.node[..], guest.kind.directory().as_bytes()].join(&b'/');
                tree.lookup(&path).map(|entry| entry.inode)
            });
        let entry = tree.child(directory?, format!("{vmid}.conf").as_bytes())?;
        (entry.kind == EntryKind::File).then(|| entry.content())
    }
}
