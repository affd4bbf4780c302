//! Rules about paths of the tree. Paths and names are bytes; nothing here assumes UTF-8.

use crate::{VmType, Vmid};

/// Directory that holds lock directories.
pub const LOCK_DIRECTORY: &[u8] = b"priv/lock";

/// The components of a path: what stands between slashes, empty ones skipped.
///
/// ```
/// let parts: Vec<&[u8]> = pmxcfs_api_types::path::components(b"//a/b/").collect();
/// assert_eq!(parts, [b"a", b"b"]);
/// ```
pub fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty())
}

/// Splits a path into its directory and its base name the way the C daemon does.
///
/// Trailing slashes are stripped first. Without any slash the directory is `.` (the root), with only a leading slash
/// it is `/`. An empty or all-slash path gives `.` for both.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let trimmed = trim_trailing_slashes(path);
    if trimmed.is_empty() {
        return (b".", b".");
    }
    match trimmed.iter().rposition(|byte| *byte == b'/') {
        None => (b".", trimmed),
        Some(slash) => {
            let (before, base) = (&trimmed[..slash], &trimmed[slash + 1..]);
            let directory = trim_trailing_slashes(before);
            (
                if directory.is_empty() {
                    b"/"
                } else {
                    directory
                },
                base,
            )
        }
    }
}

fn trim_trailing_slashes(path: &[u8]) -> &[u8] {
    let end = path
        .iter()
        .rposition(|byte| *byte != b'/')
        .map_or(0, |last| last + 1);
    &path[..end]
}

/// Whether a new entry may not be given this base name.
pub fn is_reserved_name(name: &[u8]) -> bool {
    matches!(name, b"" | b"." | b"..")
}

/// Whether a path is private: readable by root only, in the mount and over IPC.
///
/// The first component is `priv`, or the first is `nodes` and the third is `priv`; the directory itself and everything
/// below. The test is made on components, so doubled or leading slashes change nothing.
pub fn is_private(path: &[u8]) -> bool {
    let mut parts = components(path);
    match parts.next() {
        Some(b"priv") => true,
        Some(b"nodes") => parts.nth(1) == Some(b"priv"),
        _ => false,
    }
}

/// Whether a path lies below `priv/lock`, at any depth. The test is literal, as peers make it.
pub fn is_lock_path(path: &[u8]) -> bool {
    path.strip_prefix(b"priv/lock/")
        .is_some_and(|rest| !rest.is_empty())
}

/// A path that names a guest's config file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestConfig<'a> {
    /// Node the guest is registered with.
    pub node: &'a [u8],
    /// Kind of the guest.
    pub kind: VmType,
    /// Number of the guest.
    pub vmid: Vmid,
}

impl<'a> GuestConfig<'a> {
    /// Parses exactly `nodes/NODE/DIR/ID.conf`, with DIR one of the guest directories. Literal: no leading or doubled
    /// slashes.
    pub fn parse(path: &'a [u8]) -> Option<Self> {
        let mut parts = path.strip_prefix(b"nodes/")?.split(|byte| *byte == b'/');
        let (node, directory, name) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || !is_node_name(node) {
            return None;
        }
        Some(Self {
            node,
            kind: VmType::from_directory(directory)?,
            vmid: guest_config_name(name)?,
        })
    }
}

/// The guest number in a config's base name, `ID.conf`.
pub fn guest_config_name(name: &[u8]) -> Option<Vmid> {
    Vmid::parse(name.strip_suffix(b".conf")?)
}

/// Whether a name counts as a node name in the guest rules: letters, digits and inner hyphens.
pub fn is_node_name(name: &[u8]) -> bool {
    !name.is_empty()
        && !name.starts_with(b"-")
        && !name.ends_with(b"-")
        && name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_follows_the_c_daemon() {
        let table: [(&[u8], &[u8], &[u8]); 11] = [
            (b"a", b".", b"a"),
            (b"/a/", b"/", b"a"),
            (b"//a//", b"/", b"a"),
            (b"a/b", b"a", b"b"),
            (b"a//b/", b"a", b"b"),
            (b"", b".", b"."),
            (b"/", b".", b"."),
            (b"///", b".", b"."),
            (b"d/.", b"d", b"."),
            (b"d/..", b"d", b".."),
            (b"a/b/c", b"a/b", b"c"),
        ];
        for (path, directory, base) in table {
            assert_eq!(split(path), (directory, base), "{path:?}");
        }
    }

    #[test]
    fn private_paths_have_a_boundary() {
        for path in [
            "priv",
            "priv/",
            "/priv",
            "//priv/x",
            "priv/x",
            "nodes/n/priv",
            "nodes//n/priv/x",
            "nodes/n//priv/x",
            "nodes/b_x/priv",
        ] {
            assert!(is_private(path.as_bytes()), "{path}");
        }
        for path in [
            "",
            "privx",
            "private",
            "d/priv",
            "nodes/priv",
            "nodes/n/privx",
            "nodes/n/sub/priv",
            "nodes",
            "nodes/n",
        ] {
            assert!(!is_private(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn lock_paths_are_literal_and_nested() {
        assert!(is_lock_path(b"priv/lock/a"));
        assert!(is_lock_path(b"priv/lock/a/b"));
        assert!(!is_lock_path(b"priv/lock"));
        assert!(!is_lock_path(b"priv/lock/"));
        assert!(!is_lock_path(b"/priv/lock/a"));
    }

    #[test]
    fn guest_configs() {
        let config = GuestConfig::parse(b"nodes/pve-1/lxc/101.conf").expect("a config");
        assert_eq!(config.node, b"pve-1");
        assert_eq!((config.kind, config.vmid), (VmType::Lxc, Vmid(101)));
        for path in [
            "nodes/n/qemu-server/0100.conf",
            "nodes/n/qemu-server/4294967296.conf",
            "nodes/n/qemu-server/100.conf.tmp",
            "nodes/n/qemu-server/x/100.conf",
            "nodes/n/other/100.conf",
            "nodes/b_x/lxc/100.conf",
            "nodes/-b/lxc/100.conf",
            "nodes/a.b/lxc/100.conf",
            "nodes//lxc/100.conf",
            "/nodes/n/lxc/100.conf",
            "nodes/n/lxc/.conf",
        ] {
            assert_eq!(GuestConfig::parse(path.as_bytes()), None, "{path}");
        }
        assert!(GuestConfig::parse(b"nodes/n/openvz/1.conf").is_some());
    }
}
