//! The mount itself.
//!
//! This module calls mount(2) and umount2(2) itself, with the C daemon's options: the FUSE library's unmount gives up on a busy
//! mount, and a stop must not.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};
use nix::poll::PollTimeout;
use serde::{Deserialize, Serialize};

const FUSE_DEVICE: &str = "/dev/fuse";

/// A directory for each connection, if it is mounted.
const CONTROL_FILESYSTEM: &str = "/sys/fs/fuse/connections";

const MOUNT_TABLE: &str = "/proc/self/mountinfo";

/// Removes whatever is mounted there (a dead mount of a killed daemon above all) and makes the directory.
///
/// A mount that is in use is detached: its users keep what they have, and the place is free.
pub fn clear_mount_point(mount_dir: &Path) {
    if nix::mount::umount2(mount_dir, MntFlags::MNT_FORCE) == Err(Errno::EBUSY) {
        detach(mount_dir);
    }
    // The mount shows what is wrong with the directory.
    let _exists = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(mount_dir);
}

/// Takes the mount out of the tree of mounts, also while it is in use. Returns whether there was one.
pub fn detach(mount_dir: &Path) -> bool {
    nix::mount::umount2(mount_dir, MntFlags::MNT_DETACH).is_ok()
}

/// A mount of this daemon. Dropping it detaches it.
#[derive(Debug)]
pub struct Mount {
    mount_dir: PathBuf,
    /// Unknown only without `/proc`.
    pub(super) place: Option<Place>,
    is_down: AtomicBool,
}

/// How the kernel knows a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Number of the connection, by which the kernel's control filesystem for FUSE knows it, too.
    pub(super) connection: u64,
    /// Id of the mount. No two mounts at one time have the same.
    pub(super) mount_id: u64,
}

/// Mounts an empty FUSE connection and returns its descriptor.
///
/// # Errors
/// If the kernel offers no FUSE, files lie where the mount would hide them, or the mount point cannot be used. Nothing is mounted
/// then.
pub fn mount(mount_dir: &Path) -> anyhow::Result<(Mount, OwnedFd)> {
    let shown = mount_dir.display();
    let mut content = std::fs::read_dir(mount_dir)
        .with_context(|| format!("fuse_mount error: cannot use mountpoint {shown}"))?;
    if content.next().is_some() {
        bail!(
            "fuse_mount error: File exists: mountpoint {shown} is not empty; move its content away"
        );
    }
    let device: File = OpenOptions::new()
        .read(true)
        .write(true)
        .open(FUSE_DEVICE)
        .with_context(|| {
            format!("fuse_mount error: cannot open {FUSE_DEVICE} (is the fuse module loaded?)")
        })?;
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
    .with_context(|| format!("fuse_mount error: mount at {shown} failed"))?;
    let mount = Mount::found(mount_dir, find(mount_dir));
    Ok((mount, device.into()))
}

/// Ends the connection of a descriptor of the FUSE device, if it is the one that is mounted there. Programs that wait get an error.
///
/// # Errors
/// If another one is mounted there, or the kernel refuses.
pub fn abort(mount_dir: &Path, device: impl AsFd) -> io::Result<()> {
    let mounted = find(mount_dir).map(|place| place.connection);
    let mounted = mounted.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    if connection_of(device).is_some_and(|number| number != mounted) {
        return Err(io::ErrorKind::NotFound.into());
    }
    if std::fs::write(abort_file(mounted), "1").is_ok() {
        return Ok(());
    }
    match nix::mount::umount2(mount_dir, MntFlags::MNT_FORCE) {
        // It is in use and stays in its place, but its connection is aborted.
        Ok(()) | Err(Errno::EBUSY) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Number of a descriptor's connection. Kernels before 6.8 do not tell.
pub(super) fn connection_of(device: impl AsFd) -> Option<u64> {
    let file = format!("/proc/self/fdinfo/{}", device.as_fd().as_raw_fd());
    let text = std::fs::read_to_string(file).ok()?;
    let mut lines = text.lines();
    let number = lines.find_map(|line| line.strip_prefix("fuse_connection:"))?;
    number.trim().parse().ok()
}

/// What is mounted on top of a directory.
pub(super) fn find(mount_dir: &Path) -> Option<Place> {
    find_in(&std::fs::read(MOUNT_TABLE).ok()?, mount_dir)
}

fn abort_file(connection: u64) -> PathBuf {
    Path::new(CONTROL_FILESYSTEM).join(format!("{connection}/abort"))
}

impl Mount {
    /// What a former process has mounted, or this one.
    pub(super) fn found(mount_dir: &Path, place: Option<Place>) -> Self {
        Self {
            mount_dir: mount_dir.to_owned(),
            place,
            is_down: AtomicBool::new(false),
        }
    }

    /// Whether it is where it was made, on top. Does not touch it.
    pub fn is_in_place(&self) -> bool {
        find(&self.mount_dir) == self.place
    }

    /// Leaves the mount to the next process: dropping this does not detach it.
    pub fn leave(&self) {
        self.is_down.store(true, Ordering::Relaxed);
    }

    /// Unmounts and aborts the connection, also while programs hold files open. Requests under way have until `patience` is over or
    /// `is_busy` says no; all others fail.
    ///
    /// Where the kernel's control filesystem for FUSE is mounted, the unmount comes before the wait, so that no new program comes
    /// in meanwhile.
    pub fn take_down(&self, patience: Duration, is_busy: impl Fn() -> bool) {
        let wait = || {
            let deadline = Instant::now() + patience;
            while is_busy() && Instant::now() < deadline {
                // Interrupted or not, the loop looks again.
                let _slept = nix::poll::poll(&mut [], PollTimeout::from(2u8));
            }
        };
        self.leave();
        let number = self.place.map_or(0, |place| place.connection);
        let abort = abort_file(number);
        if abort.exists() {
            detach(&self.mount_dir);
            wait();
            if let Err(error) = std::fs::write(&abort, "1")
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %abort.display(), %error, "cannot abort the FUSE connection");
            }
        } else {
            wait();
            // Fails if somebody has unmounted it.
            let flags = MntFlags::MNT_FORCE | MntFlags::MNT_DETACH;
            let _unmounted = nix::mount::umount2(&self.mount_dir, flags);
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if !self.is_down.load(Ordering::Relaxed) {
            detach(&self.mount_dir);
        }
    }
}

/// What is mounted on top of a directory, from a table as in proc_pid_mountinfo(5). A `stat` of the mount itself would wait, since
/// nobody answers yet.
fn find_in(table: &[u8], mount_dir: &Path) -> Option<Place> {
    let mut lines = table.rsplit(|byte| *byte == b'\n');
    lines.find_map(|line| {
        // ID PARENT MAJOR:MINOR ROOT MOUNT-POINT ...
        let mut fields = line.split(|byte| *byte == b' ');
        let mount_id = fields.next()?;
        let (device, place) = (fields.nth(1)?, fields.nth(1)?);
        if unescape(place) != mount_dir.as_os_str().as_bytes() {
            return None;
        }
        let (major, minor) = std::str::from_utf8(device).ok()?.split_once(':')?;
        Some(Place {
            // The kernel's own form of a device number.
            connection: (major.parse::<u64>().ok()? << 20) | minor.parse::<u64>().ok()?,
            mount_id: std::str::from_utf8(mount_id).ok()?.parse().ok()?,
        })
    })
}

/// The field without escapes: the table has three octal digits for blanks, line ends and backslashes.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, behind @ ..] = rest {
        let digits = behind.get(..3).filter(|_| *first == b'\\');
        let escaped = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() {
            &behind[3..]
        } else {
            behind
        };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_on_top_is_found() {
        let table = b"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
            80 22 0:50 / /etc/pve rw,nosuid - fuse /dev/fuse rw\n\
            81 80 0:61 / /etc/pve rw,nosuid - fuse /dev/fuse rw\n\
            82 22 1:2 / /odd\\040place\\134x rw - fuse /dev/fuse rw\n";
        let place = |mount_id, connection| {
            Some(Place {
                connection,
                mount_id,
            })
        };
        for (directory, found) in [
            ("/etc/pve", place(81, 61)),
            ("/odd place\\x", place(82, (1 << 20) | 2)),
            ("/etc", None),
        ] {
            assert_eq!(find_in(table, Path::new(directory)), found, "{directory}");
        }
    }
}
