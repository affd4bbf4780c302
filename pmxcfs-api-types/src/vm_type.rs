//! Kinds of guests.

/// Kind of a guest, told from the directory its config lies in.
///
/// OpenVZ is known only because C peers let such configs take part in the decision whether an id is free: an operation
/// must be accepted or refused alike on every node. It shows in no document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VmType {
    /// `nodes/NODE/qemu-server`
    Qemu,
    /// `nodes/NODE/openvz`, duplicate decision only
    Openvz,
    /// `nodes/NODE/lxc`
    Lxc,
}

impl VmType {
    /// All kinds, in the order of the C daemon's numbers 1, 2, 3.
    pub const ALL: [Self; 3] = [Self::Qemu, Self::Openvz, Self::Lxc];

    /// Name of the directory that holds configs of this kind.
    #[must_use]
    pub const fn directory(self) -> &'static str {
        match self {
            Self::Qemu => "qemu-server",
            Self::Openvz => "openvz",
            Self::Lxc => "lxc",
        }
    }

    /// Kind that a directory name stands for.
    #[must_use]
    pub fn from_directory(name: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.directory().as_bytes() == name)
    }

    /// Name in documents and over IPC.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Openvz => "openvz",
            Self::Lxc => "lxc",
        }
    }

    /// Whether documents and IPC show guests of this kind.
    #[must_use]
    pub const fn is_visible(self) -> bool {
        !matches!(self, Self::Openvz)
    }
}
