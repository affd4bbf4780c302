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

/// Whether the configs of all guests have to be searched for the answer.
pub(super) fn is_search(db: &MemDb, answers: &Answers, query: &PropertyQuery<'_>) -> bool {
    let Ok(names) = &query.names else {
        return false;
    };
    query.vmid == 0 && answers.find(db.read().root().version, names).is_none()
}

/// Answers in at most `max_size` bytes. The guest is checked before the names are. No content is copied.
pub(super) fn properties(
    db: &MemDb,
    answers: &Answers,
    query: PropertyQuery<'_>,
    max_size: usize,
) -> Result<Bytes, FsError> {
    match query.vmid {
        0 => of_all(db, answers, &query.names?, max_size),
        1..MIN_VMID => Err(FsError::Invalid),
        vmid => of_one(db, answers, vmid, query.names, max_size),
    }
}

fn of_one(
    db: &MemDb,
    answers: &Answers,
    vmid: u32,
    names: Result<Vec<&[u8]>, FsError>,
    max_size: usize,
) -> Result<Bytes, FsError> {
    let (tree_version, config) = {
        let tree = db.read();
        let tree_version = tree.root().version;
        if let Ok(names) = &names
            && let Some(text) = answers.find_of(vmid, tree_version, names)
        {
            return Ok(text);
        }
        (tree_version, config(&tree, Vmid(vmid))?)
    };
    let names = names?;
    let config = config.filter(|config| !config.is_empty());
    let config = config.ok_or(FsError::Io)?;
    let text = render_properties([(Vmid(vmid), config)], &names, max_size)?.into();
    answers.keep_of(vmid, tree_version, &names, &text);
    Ok(text)
}

/// Content of a guest's config; `None` if the list knows the guest and its file is gone.
fn config(tree: &Tree, vmid: Vmid) -> Result<Option<Bytes>, FsError> {
    let guest = tree.guests().guests.get(&vmid).ok_or(FsError::NotFound)?;
    let mut path = b"nodes/".to_vec();
    path.extend_from_slice(&guest.node);
    path.extend_from_slice(format!("/{}/{vmid}.conf", guest.kind.directory()).as_bytes());
    let config = tree
        .lookup(&path)
        .filter(|entry| entry.kind == EntryKind::File);
    Ok(config.map(Entry::content))
}

fn of_all(
    db: &MemDb,
    answers: &Answers,
    names: &[&[u8]],
    max_size: usize,
) -> Result<Bytes, FsError> {
    let (tree_version, configs) = {
        let tree = db.read();
        let tree_version = tree.root().version;
        if let Some(text) = answers.find(tree_version, names) {
            return Ok(text);
        }
        (tree_version, all_configs(&tree))
    };
    let text = render_properties(configs, names, max_size)?.into();
    answers.keep(tree_version, names, &text);
    Ok(text)
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
