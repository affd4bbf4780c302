//! What is in the mount of a host.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use super::ClusterHost;
use crate::IpcClient;
use crate::cluster::MOUNT;

/// A node as `.members` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Node id.
    pub id: u64,
    /// Whether it is in the group.
    pub is_online: bool,
    /// Its address, if it told one.
    pub address: Option<String>,
}

impl ClusterHost {
    /// Reads a file below the mount.
    ///
    /// # Errors
    /// As the system calls.
    pub fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        self.inside(|| fs::read(format!("{MOUNT}/{path}")))
    }

    /// Writes a file below the mount: open with truncation, write, close.
    ///
    /// # Errors
    /// As the system calls.
    pub fn write(&self, path: &str, data: &[u8]) -> io::Result<()> {
        self.inside(|| {
            let mut file = File::create(format!("{MOUNT}/{path}"))?;
            file.write_all(data)
        })
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// As the system call.
    pub fn mkdir(&self, path: &str) -> io::Result<()> {
        self.inside(|| fs::create_dir(format!("{MOUNT}/{path}")))
    }

    /// Makes a directory and those above it.
    ///
    /// # Errors
    /// As the system calls.
    pub fn mkdir_all(&self, path: &str) -> io::Result<()> {
        self.inside(|| fs::create_dir_all(format!("{MOUNT}/{path}")))
    }

    /// Removes a file or an empty directory.
    ///
    /// # Errors
    /// As the system calls.
    pub fn remove(&self, path: &str) -> io::Result<()> {
        self.inside(|| {
            let path = format!("{MOUNT}/{path}");
            match fs::symlink_metadata(&path)?.is_dir() {
                true => fs::remove_dir(path),
                false => fs::remove_file(path),
            }
        })
    }

    /// Renames.
    ///
    /// # Errors
    /// As the system call.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inside(|| fs::rename(format!("{MOUNT}/{from}"), format!("{MOUNT}/{to}")))
    }

    /// Permission bits.
    ///
    /// # Errors
    /// As the system call.
    pub fn mode(&self, path: &str) -> io::Result<u32> {
        self.inside(|| {
            let meta = fs::symlink_metadata(format!("{MOUNT}/{path}"))?;
            Ok(meta.permissions().mode() & 0o7777)
        })
    }

    /// Sets the time of modification, in seconds since 1970.
    ///
    /// # Errors
    /// As the system call.
    pub fn set_mtime(&self, path: &str, seconds: i64) -> nix::Result<()> {
        let path = format!("{MOUNT}/{path}");
        let time = TimeSpec::new(seconds, 0);
        let flags = UtimensatFlags::NoFollowSymlink;
        self.inside(|| utimensat(AT_FDCWD, path.as_str(), &time, &time, flags))
    }

    /// All replicated files and directories with their contents. Generated files and links are left out.
    ///
    /// # Errors
    /// If something cannot be read.
    pub fn tree(&self) -> io::Result<BTreeMap<PathBuf, Option<Vec<u8>>>> {
        self.inside(|| {
            let mut tree = BTreeMap::new();
            collect(Path::new(MOUNT), true, &mut tree)?;
            Ok(tree)
        })
    }

    /// Nodes as `.members` shows them. Empty if it shows none.
    ///
    /// # Errors
    /// If it cannot be read or is no JSON.
    pub fn members(&self) -> io::Result<BTreeMap<String, Member>> {
        let document: serde_json::Value = serde_json::from_slice(&self.read(".members")?)?;
        let Some(nodes) = document["nodelist"].as_object() else {
            return Ok(BTreeMap::new());
        };
        let member = |value: &serde_json::Value| Member {
            id: value["id"].as_u64().unwrap_or(0),
            is_online: value["online"] == 1,
            address: value["ip"].as_str().map(str::to_owned),
        };
        let members = nodes.iter();
        Ok(members
            .map(|(name, value)| (name.clone(), member(value)))
            .collect())
    }

    /// Does something with an IPC connection to the daemon.
    ///
    /// # Panics
    /// If it cannot be had.
    pub fn ipc<T: Send>(&self, action: impl FnOnce(&mut IpcClient) -> T + Send) -> T {
        self.inside(|| {
            let mut client = IpcClient::connect("pve2").expect("the daemon serves IPC");
            action(&mut client)
        })
    }
}

fn collect(
    directory: &Path,
    is_root: bool,
    tree: &mut BTreeMap<PathBuf, Option<Vec<u8>>>,
) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let path = entry.path();
        let is_generated = is_root && entry.file_name().to_string_lossy().starts_with('.');
        if kind.is_symlink() || is_generated {
            continue;
        }
        if kind.is_dir() {
            collect(&path, false, tree)?;
            tree.insert(path, None);
        } else {
            let data = fs::read(&path)?;
            tree.insert(path, Some(data));
        }
    }
    Ok(())
}
