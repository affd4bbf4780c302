//! The search for guest configs in a tree that was just built.

use std::collections::{BTreeMap, btree_map};

use bytes::Bytes;
use pmxcfs_api_types::{
    VmType, Vmid,
    path::{GuestConfig, guest_config_name, is_node_name},
};

use super::{Directory, Tree};
use crate::{
    entry::ROOT_INODE,
    finding::{Finding, Problem},
    guests::GuestRegister,
};

/// A guest config that was found.
struct Found<'a> {
    inode: u64,
    node: &'a [u8],
    kind: VmType,
}

impl Tree {
    /// Enters every guest config below `nodes` in the list. Without a directory `nodes` the list stays as it is.
    pub(super) fn scan_guests(&mut self) -> Result<(), Finding> {
        let Some(nodes) = self
            .child_inode(ROOT_INODE, b"nodes")
            .and_then(|inode| self.directory(inode))
        else {
            return Ok(());
        };
        let mut found = BTreeMap::new();
        let mut misplaced = Vec::new();
        for (name, inode) in &nodes.children {
            if let Some(node) = self.directory(*inode)
                && is_node_name(name)
            {
                self.scan_node(name, node, &mut found, &mut misplaced)?;
            }
        }
        let configs = found.iter().map(|(vmid, guest)| GuestConfig {
            node: guest.node,
            kind: guest.kind,
            vmid: *vmid,
        });
        self.guests = GuestRegister::from_scan(configs);
        self.warnings = misplaced;
        Ok(())
    }

    fn scan_node<'a>(
        &'a self,
        node: &'a [u8],
        directory: &'a Directory,
        found: &mut BTreeMap<Vmid, Found<'a>>,
        misplaced: &mut Vec<Finding>,
    ) -> Result<(), Finding> {
        for kind in VmType::ALL {
            let Some(inode) = directory.children.get(kind.directory().as_bytes()) else {
                continue;
            };
            match self.directory(*inode) {
                Some(configs) => self.scan_configs(node, kind, configs, found)?,
                None => misplaced
                    .push(self.finding(*inode, |path| Problem::GuestDirectoryIsFile { path })),
            }
        }
        Ok(())
    }

    fn scan_configs<'a>(
        &'a self,
        node: &'a [u8],
        kind: VmType,
        configs: &'a Directory,
        found: &mut BTreeMap<Vmid, Found<'a>>,
    ) -> Result<(), Finding> {
        for (name, inode) in &configs.children {
            let Some(vmid) = guest_config_name(name) else {
                continue;
            };
            if self.directory(*inode).is_some() {
                continue;
            }
            match found.entry(vmid) {
                btree_map::Entry::Vacant(vacant) => {
                    vacant.insert(Found {
                        inode: *inode,
                        node,
                        kind,
                    });
                }
                btree_map::Entry::Occupied(first) => {
                    let other = first.get().inode;
                    let other_path = self.path_of(other).unwrap_or_default();
                    return Err(self.finding(*inode, |path| Problem::DuplicateGuest {
                        vmid,
                        path,
                        other,
                        other_path,
                    }));
                }
            }
        }
        Ok(())
    }

    fn finding(&self, inode: u64, problem: impl FnOnce(Bytes) -> Problem) -> Finding {
        Finding {
            inode,
            name: self.nodes[&inode].entry().name.clone(),
            problem: problem(self.path_of(inode).unwrap_or_default()),
        }
    }
}
