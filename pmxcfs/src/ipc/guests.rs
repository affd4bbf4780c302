//! Properties of guest configs.
//!
//! The C daemon searches all configs with the tree and the status locked. Here their contents are taken out of the tree
//! under its read lock, which shares them, and searched afterwards.

use bytes::Bytes;
use pmxcfs_api_types::path::guest_config_name;
use pmxcfs_api_types::{FsError, VmType, Vmid};
use pmxcfs_memdb::{Entry, EntryKind, MemDb, Tree};
use pmxcfs_status::render_properties;

use super::answers::Answers;
use super::decode::PropertyQuery;

/// Guests have ids from here on, as far as these operations are concerned.
const MIN_VMID: u32 = 100;

/// Answers in at most `max_size` bytes. `question` is what the query was decoded from. The guest is checked before the
/// names are. No content is copied.
pub(super) fn properties(
    db: &MemDb,
    answers: &Answers,
    question: &[u8],
    query: PropertyQuery<'_>,
    max_size: usize,
) -> Result<Bytes, FsError> {
    if let (0, Err(error)) = (query.vmid, &query.names) {
        return Err(*error);
    }
    let (tree_version, configs) = {
        let tree = db.read();
        let tree_version = tree.root().version;
        if let Some(text) = answers.find(tree_version, question) {
            return Ok(text);
        }
        let configs = match query.vmid {
            0 => all_configs(&tree),
            1..MIN_VMID => return Err(FsError::Invalid),
            vmid => vec![(Vmid(vmid), config(&tree, Vmid(vmid))?)],
        };
        (tree_version, configs)
    };
    let names = query.names?;
    if query.vmid != 0 && configs.iter().any(|(_, config)| config.is_empty()) {
        return Err(FsError::Io);
    }
    let text = render_properties(configs, &names, max_size)?.into();
    answers.keep(tree_version, question, &text);
    Ok(text)
}

/// Content of a guest's config; nothing if the list knows the guest and its file is gone.
fn config(tree: &Tree, vmid: Vmid) -> Result<Bytes, FsError> {
    let guest = tree.guests().guests.get(&vmid).ok_or(FsError::NotFound)?;
    let mut path = b"nodes/".to_vec();
    path.extend_from_slice(&guest.node);
    path.extend_from_slice(format!("/{}/{vmid}.conf", guest.kind.directory()).as_bytes());
    let config = tree
        .lookup(&path)
        .filter(|entry| entry.kind == EntryKind::File);
    Ok(config.map(Entry::content).unwrap_or_default())
}

/// The configs of all guests in the guest list. Goes by directories: their listings are kept by the tree, while a search
/// for each guest's path would take most of the time of a request.
fn all_configs(tree: &Tree) -> Vec<(Vmid, Bytes)> {
    let guests = &tree.guests().guests;
    let mut configs = Vec::with_capacity(guests.len());
    let nodes = tree
        .lookup(b"nodes")
        .and_then(|entry| tree.listing(entry.inode));
    let nodes = nodes.iter().flat_map(|listing| listing.iter());
    for (node, kind) in nodes.flat_map(|node| VmType::ALL.map(|kind| (node, kind))) {
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
