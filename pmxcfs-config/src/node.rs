//! The identity of this host.

use std::net::{IpAddr, ToSocketAddrs};

use anyhow::{Context as _, Result, bail};
use pmxcfs_api_types::names::ADMIN_GROUP;

/// The node name: the host name up to the first dot.
///
/// # Errors
/// If the kernel does not tell it.
pub fn node_name() -> Result<String> {
    let failed = "Unable to read the host name";
    let uname = nix::sys::utsname::uname().context(failed)?;
    let name = uname.nodename().to_string_lossy();
    let name = name.split('.').next().unwrap_or_default();
    if name.is_empty() {
        return Err(nix::Error::ENODATA).context(failed);
    }
    Ok(name.to_owned())
}

/// First address of the node name in resolver order that is not `127.*` and not `::1`.
///
/// # Errors
/// If there is none.
pub fn node_address(node_name: &str) -> Result<IpAddr> {
    let addresses = (node_name, 0).to_socket_addrs().into_iter().flatten();
    let mut addresses = addresses.map(|address| address.ip());
    let address = addresses.find(|address| !address.is_loopback());
    address.with_context(|| {
        format!(
            "Unable to resolve node name '{node_name}' to a non-loopback IP address - missing entry in '/etc/hosts' or DNS?"
        )
    })
}

/// Group id of the administrators' group.
///
/// # Errors
/// If it does not exist.
pub fn admin_gid() -> Result<u32> {
    match nix::unistd::Group::from_name(ADMIN_GROUP) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) | Err(_) => bail!("Unable to get {ADMIN_GROUP} group ID"),
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
