//! Properties of guest configs.
//!
//! The C daemon searches all configs with the tree and the status locked. Here their contents are taken out of the tree
//! under its read lock, which shares them, and searched afterwards: a few guests first, then more at a time. So an answer
//! that is too large is refused as soon as it is, and the other guests cost nothing.

use std::collections::HashMap;
use std::ops::{Bound, RangeBounds};

use bytes::Bytes;
use pmxcfs_api_types::{FsError, Result, Vmid};
use pmxcfs_memdb::{Entry, EntryKind, MemDb, Tree};
use pmxcfs_status::PropertyPage;

use super::answers::Answers;

/// Guests have ids from here on, as far as these operations are concerned.
const MIN_VMID: u32 = 100;

/// Guests in the first part.
const FIRST_COUNT: usize = 128;

/// Answers in at most `max_size` bytes. `question` is what the query was decoded from. The guest is checked before the
/// names are. No content is copied.
pub(super) fn properties(
    db: &MemDb,
    answers: &Answers,
    question: &[u8],
    vmid: u32,
    names: Result<Vec<&[u8]>>,
    max_size: usize,
) -> Result<Bytes> {
    let wanted = match (vmid, &names) {
        (0, Err(error)) => return Err(*error),
        (0, Ok(_)) => Vmid(0)..=Vmid(u32::MAX),
        (1..MIN_VMID, _) => return Err(FsError::Invalid),
        _ => Vmid(vmid)..=Vmid(vmid),
    };
    let (mut tree_version, mut part) = {
        let tree = db.read();
        let tree_version = tree.root().version;
        if let Some(text) = answers.find(tree_version, question) {
            return Ok(text);
        }
        (tree_version, configs(&tree, wanted, FIRST_COUNT))
    };
    if vmid != 0 && part.is_empty() {
        return Err(FsError::NotFound);
    }
    let names = names?;
    if vmid != 0 && part.iter().any(|(_, config)| config.is_empty()) {
        return Err(FsError::Io);
    }
    let mut page = PropertyPage::new(&names, max_size);
    let mut count = FIRST_COUNT;
    loop {
        for (vmid, config) in &part {
            page.add(*vmid, config)?;
        }
        let Some((last, _)) = part.last().filter(|_| part.len() == count) else {
            break;
        };
        let others = (Bound::Excluded(*last), Bound::Unbounded);
        count *= 2;
        let tree = db.read();
        part = if tree.root().version == tree_version {
            configs(&tree, others, count)
        } else {
            // All parts are of one tree.
            tree_version = tree.root().version;
            page = PropertyPage::new(&names, max_size);
            count = usize::MAX;
            configs(&tree, .., count)
        };
    }
    let text = page.finish()?.into();
    answers.keep(tree_version, question, &text);
    Ok(text)
}

/// The configs of so many guests in the guest list, in order of their ids; empty if the list knows the guest and its file is
/// gone. Looks each directory up once: that takes most of the time of a search for a path.
fn configs(tree: &Tree, wanted: impl RangeBounds<Vmid>, max_count: usize) -> Vec<(Vmid, Bytes)> {
    let mut directories = HashMap::new();
    let guests = tree.guests().guests.range(wanted).take(max_count);
    guests
        .map(|(vmid, guest)| {
            let directory = directories
                .entry((&guest.node, guest.kind))
                .or_insert_with(|| {
                    let kind = guest.kind.directory().as_bytes();
                    let path = [b"nodes", &guest.node[..], kind].join(&b'/');
                    tree.lookup(&path).map(|entry| entry.inode)
                });
            let name = format!("{vmid}.conf");
            let config = directory.and_then(|inode| tree.child(inode, name.as_bytes()));
            let config = config.filter(|entry| entry.kind == EntryKind::File);
            (*vmid, config.map(Entry::content).unwrap_or_default())
        })
        .collect()
}
