//! The mount of the daemon.

use std::path::Path;

use anyhow::{Context as _, bail};
use nix::sys::statfs::{FUSE_SUPER_MAGIC, statfs};

/// What is below a mount point has nothing to do with the daemon.
pub(super) fn require_mounted(mount: &Path) -> anyhow::Result<()> {
    let shown = mount.display();
    let kind = statfs(mount).with_context(|| format!("cannot look at {shown}"))?;
    if kind.filesystem_type() != FUSE_SUPER_MAGIC {
        bail!("{shown} is not mounted here");
    }
    Ok(())
}
