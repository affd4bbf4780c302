//! The guest list: which guest lives on which node.

use std::collections::BTreeMap;

use bytes::Bytes;
use pmxcfs_api_types::{VmType, Vmid};

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
    /// The guests. Those with a kind that is not [`VmType::is_visible`] take part in the duplicate decision only.
    pub guests: BTreeMap<Vmid, Guest>,
}
