//! Properties of guest configs.
//!
//! The C daemon searches all configs with the tree and the status locked. Here their contents are taken out of the tree
//! under its read lock, which shares them, and searched afterwards.

use bytes::Bytes;
use pmxcfs_api_types::path::guest_config_name;
use pmxcfs_api_types::{FsError, VmType, Vmid};
use pmxcfs_memdb::{Entry, EntryKind, MemDb, Tree};
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

/// The guest is checked before the names are, so this comes first. It copies no content.
fn configs(db: &MemDb, vmid: u32) -> Result<Configs, FsError> {
    match vmid {
        0 => Ok(Configs::All(all_configs(&db.read()))),
        1..MIN_VMID => Err(FsError::Invalid),
        _ => one_config(&db.read(), Vmid(vmid)),
    }
}

fn one_config(tree: &Tree, vmid: Vmid) -> Result<Configs, FsError> {
    let guest = tree
        .guests()
        .guests
        .get(&vmid)
        .filter(|guest| guest.kind.is_visible())
        .ok_or(FsError::NotFound)?;
    let mut path = b"nodes/".to_vec();
    path.extend_from_slice(&guest.node);
    path.extend_from_slice(format!("/{}/{vmid}.conf", guest.kind.directory()).as_bytes());
    let config = tree
        .lookup(&path)
        .filter(|entry| entry.kind == EntryKind::File);
    Ok(Configs::One(vmid, config.map(Entry::content)))
}

/// The configs of all guests in the guest list. Goes by directories: their listings are kept by the tree, while a search
/// for each guest's path would take most of the time of a request.
fn all_configs(tree: &Tree) -> Vec<(Vmid, Bytes)> {
    let guests = &tree.guests().guests;
    let mut configs = Vec::with_capacity(guests.len());
    let nodes = tree
        .lookup(b"nodes")
        .and_then(|entry| tree.listing(entry.inode));
    let kinds = VmType::ALL.into_iter().filter(|kind| kind.is_visible());
    let nodes = nodes.iter().flat_map(|listing| listing.iter());
    for (node, kind) in nodes.flat_map(|node| kinds.clone().map(move |kind| (node, kind))) {
        let directory = tree.child(node.inode, kind.directory().as_bytes());
        let Some(listing) = directory.and_then(|entry| tree.listing(entry.inode)) else {
            continue;
        };
        configs.extend(listing.iter().filter_map(|listed| {
            let vmid = guest_config_name(&listed.name)?;
            let guest = guests.get(&vmid)?;
            let is_this =
                guest.kind == kind && guest.node == node.name && listed.kind == EntryKind::File;
            is_this.then_some((vmid, tree.entry(listed.inode)?.content()))
        }));
    }
    configs.sort_unstable_by_key(|(vmid, _)| *vmid);
    configs
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
