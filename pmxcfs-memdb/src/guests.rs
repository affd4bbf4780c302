//! The guest list: which guest lives on which node.

use std::collections::BTreeMap;

use bytes::Bytes;
use pmxcfs_api_types::{VmType, Vmid, path::GuestConfig};

/// One registered guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// Node whose directory holds the config.
    pub node: Bytes,
    /// Kind of the guest.
    pub kind: VmType,
    /// Number taken from one counter of the process at the last registration.
    pub version: u32,
}

/// All registered guests, in order of their numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestList {
    /// Changes with every registration, removal and rescan.
    pub version: u32,
    /// The guests.
    pub guests: BTreeMap<Vmid, Guest>,
}

impl GuestList {
    /// Whether the id of a config belongs to another node or to another kind of guest, so that the config may not be
    /// made or written.
    pub fn is_taken(&self, config: &GuestConfig<'_>) -> bool {
        self.guests
            .get(&config.vmid)
            .is_some_and(|guest| guest.kind != config.kind || guest.node != config.node)
    }
}

/// The guest list together with the counter from which guests take their versions.
#[derive(Debug, Clone, Default)]
pub(crate) struct GuestRegister {
    pub(crate) list: GuestList,
    /// Number of registrations so far.
    registrations: u32,
}

impl GuestRegister {
    /// Enters the guest of a config that was made, written or moved here.
    pub(crate) fn register(&mut self, config: &GuestConfig<'_>) {
        self.list.version = self.list.version.wrapping_add(1);
        self.enter(config);
    }

    /// Takes an id off the list. The list counts it as a change even if the id was not there.
    pub(crate) fn remove(&mut self, vmid: Vmid) {
        self.list.version = self.list.version.wrapping_add(1);
        self.list.guests.remove(&vmid);
    }

    /// A list of the guests that a scan found, which is one change of the list.
    pub(crate) fn from_scan<'a>(configs: impl IntoIterator<Item = GuestConfig<'a>>) -> Self {
        let mut register = Self::default();
        register.list.version = 1;
        for config in configs {
            register.enter(&config);
        }
        register
    }

    /// Goes on where the register of a former tree stopped. Without a scan the former list stays as it was.
    pub(crate) fn adopt(&mut self, former: &Self) {
        if self.list.version == 0 {
            self.clone_from(former);
            return;
        }
        self.list.version = self.list.version.wrapping_add(former.list.version);
        self.registrations = self.registrations.wrapping_add(former.registrations);
        for guest in self.list.guests.values_mut() {
            guest.version = guest.version.wrapping_add(former.registrations);
        }
    }

    fn enter(&mut self, config: &GuestConfig<'_>) {
        self.registrations = self.registrations.wrapping_add(1);
        let node = match self.list.guests.remove(&config.vmid) {
            Some(guest) if guest.node == config.node => guest.node,
            _ => Bytes::copy_from_slice(config.node),
        };
        self.list.guests.insert(
            config.vmid,
            Guest {
                node,
                kind: config.kind,
                version: self.registrations,
            },
        );
    }
}
