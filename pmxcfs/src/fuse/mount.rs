//! The mount itself.
//!
//! mount(2) is called directly, with the C daemon's options, instead of through the library: its unmount gives up on a
//! busy mount, and a stop must not.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};

const FUSE_DEVICE: &str = "/dev/fuse";

/// Why the filesystem could not be mounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// The kernel offers no FUSE.
    #[error("fuse_mount error: cannot open {FUSE_DEVICE} (is the fuse module loaded?)")]
    Device(#[source] io::Error),
    /// Files lie where the mount would hide them.
    #[error("fuse_mount error: File exists: mountpoint {0} is not empty; move its content away")]
    NotEmpty(PathBuf),
    /// The mount point cannot be looked at or made.
    #[error("fuse_mount error: cannot use mountpoint {0}")]
    MountPoint(PathBuf, #[source] io::Error),
    /// mount(2) failed.
    #[error("fuse_mount error: mount at {0} failed")]
    Mount(PathBuf, #[source] io::Error),
}

/// Removes whatever is mounted there (a dead mount of a killed daemon above all) and makes the directory.
///
/// A mount that is in use is detached: its users keep what they have, and the place is free.
pub fn clear_mount_point(mount_dir: &Path) {
    if nix::mount::umount2(mount_dir, MntFlags::MNT_FORCE) == Err(Errno::EBUSY) {
        detach(mount_dir);
    }
    // What is wrong with the directory shows when it is mounted on.
    let _exists = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(mount_dir);
}

/// Takes the mount out of the tree of mounts, also while it is in use. Tells whether there was one.
pub fn detach(mount_dir: &Path) -> bool {
    nix::mount::umount2(mount_dir, MntFlags::MNT_DETACH).is_ok()
}

/// Mounts an empty FUSE connection and returns its descriptor.
///
/// # Errors
/// [`MountError`], with nothing mounted.
pub fn mount(mount_dir: &Path) -> Result<OwnedFd, MountError> {
    let mount_point = |error| MountError::MountPoint(mount_dir.to_owned(), error);
    let mut content = std::fs::read_dir(mount_dir).map_err(mount_point)?;
    if content.next().is_some() {
        return Err(MountError::NotEmpty(mount_dir.to_owned()));
    }
    let device: File = OpenOptions::new()
        .read(true)
        .write(true)
        .open(FUSE_DEVICE)
        .map_err(MountError::Device)?;
    let options = format!(
        "default_permissions,allow_other,fd={},rootmode=40000,user_id=0,group_id=0",
        device.as_raw_fd()
    );
    nix::mount::mount(
        Some(FUSE_DEVICE),
        mount_dir,
        Some("fuse"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some(options.as_str()),
    )
    .map_err(|error| MountError::Mount(mount_dir.to_owned(), error.into()))?;
    Ok(device.into())
}
