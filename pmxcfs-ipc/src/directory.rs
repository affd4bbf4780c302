//! The directory that a connection's files live in.
//!
//! Everything is made while the directory belongs to the server and nobody else may enter it; owners and modes are set
//! through descriptors; the directory is given away last. (libqb gives it away first and then changes owners by path,
//! so a client can swap a file for a link and be given the link's target.) Removal goes by remembered names relative
//! to a descriptor that is checked to be the directory that was made, never by what the client wrote anywhere.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open, openat};
use nix::sys::signal::kill;
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::unistd::{Gid, Pid, Uid, UnlinkatFlags, fchown, mkdtemp, unlinkat};

use crate::handler::PeerCredentials;

/// A connection's directory, with the files that the server made in it.
#[derive(Debug, Default)]
pub(crate) struct ConnectionDirectory {
    path: PathBuf,
    identity: (u64, u64),
    files: Vec<String>,
}

impl ConnectionDirectory {
    /// Removes files and directory.
    ///
    /// # Errors
    /// Above all EMFILE, after which trying again later is worth it: it needs a descriptor.
    pub(crate) fn remove(&self) -> nix::Result<()> {
        match open_directory(&self.path) {
            Ok(descriptor) => self.remove_through(&descriptor),
            Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn remove_through(&self, descriptor: &OwnedFd) -> nix::Result<()> {
        if identity(descriptor)? != self.identity {
            return Err(Errno::ESTALE);
        }
        for file in self.files.iter().rev() {
            ignore_missing(unlinkat(
                descriptor,
                file.as_str(),
                UnlinkatFlags::NoRemoveDir,
            ))?;
        }
        ignore_missing(unlinkat(AT_FDCWD, &self.path, UnlinkatFlags::RemoveDir))
    }
}

fn ignore_missing(result: nix::Result<()>) -> nix::Result<()> {
    match result {
        Err(Errno::ENOENT) => Ok(()),
        other => other,
    }
}

/// A directory that still belongs to the server. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct NewDirectory {
    directory: Option<ConnectionDirectory>,
    descriptor: OwnedFd,
    peer: PeerCredentials,
}

impl NewDirectory {
    /// Makes `PARENT/qb-SERVERPID-CLIENTPID-NUMBER-RANDOM`. Clients do not parse the name; people know it.
    pub(crate) fn create(parent: &Path, peer: PeerCredentials, number: i32) -> nix::Result<Self> {
        let server_pid = std::process::id();
        let name = format!("qb-{server_pid}-{}-{number}-XXXXXX", peer.pid);
        let path = mkdtemp(&parent.join(name))?;
        let opened = open_directory(&path).and_then(|descriptor| {
            let identity = identity(&descriptor)?;
            Ok((descriptor, identity))
        });
        let (descriptor, identity) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                ignore_missing(unlinkat(AT_FDCWD, &path, UnlinkatFlags::RemoveDir))?;
                return Err(error);
            }
        };
        let directory = ConnectionDirectory {
            path,
            identity,
            files: Vec::new(),
        };
        Ok(Self {
            directory: Some(directory),
            descriptor,
            peer,
        })
    }

    /// The process that the directory is for.
    pub(crate) const fn owner(&self) -> PeerCredentials {
        self.peer
    }

    /// A descriptor of the directory.
    pub(crate) const fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    /// Path of `name` in this directory, as clients are told.
    pub(crate) fn path_of(&self, name: &str) -> nix::Result<String> {
        let directory = self.directory.as_ref().ok_or(Errno::ENOENT)?;
        let path = directory.path.join(name).into_os_string();
        path.into_string().map_err(|_path| Errno::EILSEQ)
    }

    /// Makes a file of `size` bytes that begins with `content`, owned by the client.
    pub(crate) fn add_file(&mut self, name: String, size: u64, content: &[u8]) -> io::Result<File> {
        let flags =
            OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_RDWR | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let directory = self.directory.as_mut().ok_or(Errno::ENOENT)?;
        let descriptor = openat(&self.descriptor, name.as_str(), flags, mode)?;
        directory.files.push(name);
        fchmod(&descriptor, mode)?;
        let file = File::from(descriptor);
        file.set_len(size)?;
        if !content.is_empty() {
            file.write_all_at(content, 0)?;
        }
        give_away(&file, self.peer)?;
        Ok(file)
    }

    /// Lets the client in.
    pub(crate) fn give_to_client(mut self) -> nix::Result<ConnectionDirectory> {
        fchmod(&self.descriptor, Mode::S_IRWXU | Mode::S_IRWXG)?;
        give_away(&self.descriptor, self.peer)?;
        self.directory.take().ok_or(Errno::ENOENT)
    }
}

impl Drop for NewDirectory {
    fn drop(&mut self) {
        let Some(directory) = self.directory.take() else {
            return;
        };
        if let Err(error) = directory.remove_through(&self.descriptor) {
            tracing::warn!(path = %directory.path.display(), %error, "directory not removed");
        }
    }
}

fn give_away(file: &impl AsFd, peer: PeerCredentials) -> nix::Result<()> {
    let (owner, group) = (Uid::from_raw(peer.uid), Gid::from_raw(peer.gid));
    fchown(file.as_fd(), Some(owner), Some(group))
}

fn open_directory(path: &Path) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty())
}

fn identity(descriptor: &OwnedFd) -> nix::Result<(u64, u64)> {
    let stat = fstat(descriptor)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Removes what servers of the same service left behind when they were killed: directories of processes that do not
/// exist any more and that hold nothing but this service's files. Returns how many.
pub(crate) fn remove_stale(parent: &Path, service_files: &[String]) -> usize {
    directories(parent, is_dead)
        .filter(|path| {
            let holds_only_ours = fs::read_dir(path).is_ok_and(|mut entries| {
                entries.all(|entry| {
                    entry.is_ok_and(|it| service_files.iter().any(|file| it.file_name() == **file))
                })
            });
            holds_only_ours && remove_files(path, service_files).is_ok()
        })
        .count()
}

/// Removes the directories that this process has made for the service, until the deadline. Says whether all are gone.
pub(crate) fn remove_own(parent: &Path, service_files: &[String], deadline: Instant) -> bool {
    let own_pid = std::process::id();
    directories(parent, |pid| pid.unsigned_abs() == own_pid).all(|path| {
        if let Err(error) = remove_files(&path, service_files) {
            tracing::debug!(path = %path.display(), %error, "connection directory not removed");
        }
        Instant::now() < deadline
    })
}

/// Directories of servers whose process id is as wanted.
fn directories(parent: &Path, is_wanted: impl Fn(i32) -> bool) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries
        .filter(move |entry| {
            let name = entry.file_name();
            name.to_str().and_then(server_pid).is_some_and(&is_wanted)
        })
        .map(|entry| entry.path())
}

/// The server's process id in a directory name.
fn server_pid(name: &str) -> Option<i32> {
    let (pid, rest) = name.strip_prefix("qb-")?.split_once('-')?;
    let pid = pid.parse().ok()?;
    (pid > 0 && rest.contains('-')).then_some(pid)
}

fn is_dead(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH)
}

/// Removes these files and the directory, if it is one and no link.
fn remove_files(path: &Path, files: &[String]) -> nix::Result<()> {
    let descriptor = open_directory(path)?;
    let directory = ConnectionDirectory {
        path: path.to_owned(),
        identity: identity(&descriptor)?,
        files: files.to_vec(),
    };
    directory.remove_through(&descriptor)
}

#[cfg(test)]
mod tests {
    use super::server_pid;

    #[test]
    fn server_pid_is_read_from_the_directory_name() {
        let table = [
            ("qb-731-741-7-1MqqmG", Some(731)),
            ("qb-731-741", None),
            ("qb-731", None),
            ("qb--741-7-1MqqmG", None),
            ("qb--1-741-7-1MqqmG", None),
            ("qb-0-741-7-1MqqmG", None),
            ("qb-99999999999-741-7-1MqqmG", None),
            ("qb-x-741-7-1MqqmG", None),
            ("sem.qb-731-741-7", None),
        ];
        for (name, pid) in table {
            assert_eq!(server_pid(name), pid, "{name}");
        }
    }
}
