//! Kinds of guests.

/// Kind of a guest, told from the directory its config lies in.
///
/// Nothing of OpenVZ is left but its configs. C daemons count them when they decide whether an id is free, and show them, so
/// this one does too: a peer must not decide differently, and an operator must see what an id is taken by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VmType {
    /// `nodes/NODE/qemu-server`
    Qemu,
    /// `nodes/NODE/openvz`
    Openvz,
    /// `nodes/NODE/lxc`
    Lxc,
}

impl VmType {
    /// All kinds, in the order of the C daemon's numbers 1, 2, 3.
    pub const ALL: [Self; 3] = [Self::Qemu, Self::Openvz, Self::Lxc];

    /// Name of the directory that holds configs of this kind.
    pub const fn directory(self) -> &'static str {
        match self {
            Self::Qemu => "qemu-server",
            Self::Openvz => "openvz",
            Self::Lxc => "lxc",
        }
    }

    /// Kind that a directory name stands for.
    pub fn from_directory(name: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.directory().as_bytes() == name)
    }

    /// Name in documents and over IPC.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Openvz => "openvz",
            Self::Lxc => "lxc",
        }
    }
}
