//! The identity of this host.

use std::net::{IpAddr, ToSocketAddrs};

use pmxcfs_api_types::names::ADMIN_GROUP;

/// Why the host's identity could not be found out. The texts are those operators search for.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// `uname` failed, or gave no usable name.
    #[error("Unable to read the host name")]
    HostName(#[source] nix::Error),
    /// The host name does not lead to an address that others could reach.
    #[error(
        "Unable to resolve node name '{0}' to a non-loopback IP address - missing entry in '/etc/hosts' or DNS?"
    )]
    Unresolved(String),
    /// The group is missing.
    #[error("Unable to get {ADMIN_GROUP} group ID")]
    Group,
}

/// The node name: the host name up to the first dot.
///
/// # Errors
/// [`NodeError::HostName`] if the kernel does not tell it.
pub fn node_name() -> Result<String, NodeError> {
    let uname = nix::sys::utsname::uname().map_err(NodeError::HostName)?;
    let name = uname.nodename().to_string_lossy();
    let name = name.split('.').next().unwrap_or_default();
    if name.is_empty() {
        return Err(NodeError::HostName(nix::Error::ENODATA));
    }
    Ok(name.to_owned())
}

/// First address of the node name in resolver order that is not `127.*` and not `::1`.
///
/// # Errors
/// [`NodeError::Unresolved`] if there is none.
pub fn node_address(node_name: &str) -> Result<IpAddr, NodeError> {
    (node_name, 0)
        .to_socket_addrs()
        .ok()
        .and_then(|mut addresses| {
            addresses.find_map(|address| Some(address.ip()).filter(|ip| !ip.is_loopback()))
        })
        .ok_or_else(|| NodeError::Unresolved(node_name.to_owned()))
}

/// Group id of the administrators' group.
///
/// # Errors
/// [`NodeError::Group`] if it does not exist.
pub fn admin_gid() -> Result<u32, NodeError> {
    match nix::unistd::Group::from_name(ADMIN_GROUP) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) | Err(_) => Err(NodeError::Group),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_has_no_domain() {
        let name = node_name().expect("every host has a name");
        assert!(!name.is_empty() && !name.contains('.'), "{name}");
    }

    #[test]
    fn loopback_names_are_refused_with_the_name() {
        let error = node_address("localhost").expect_err("localhost is loopback");
        assert!(error.to_string().contains("'localhost'"), "{error}");
    }
}
