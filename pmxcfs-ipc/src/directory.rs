//! The directory that a connection's files live in.
//!
//! The server makes everything while the directory is its own and nobody else may enter it, sets owners and modes through
//! descriptors, and gives the directory away last. (libqb gives it away first and then changes owners by path, so a client can
//! swap a file for a link and be given the link's target.) Removal unlinks the names that every connection of the service has,
//! relative to a descriptor of a directory that is no link, and never a name that the client wrote anywhere.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open, openat};
use nix::sys::signal::kill;
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, Pid, Uid, UnlinkatFlags, fchown, mkdtemp, unlinkat};

use crate::handler::PeerCredentials;

/// A directory that still belongs to the server.
#[derive(Debug)]
pub(crate) struct NewDirectory<'a> {
    path: &'a Path,
    pub(crate) descriptor: OwnedFd,
    /// The process that the directory is for.
    pub(crate) peer: PeerCredentials,
}

impl NewDirectory<'_> {
    /// Path of `name` in this directory, as clients are told.
    pub(crate) fn path_of(&self, name: &str) -> nix::Result<String> {
        let path = self.path.join(name).into_os_string();
        path.into_string().map_err(|_path| Errno::EILSEQ)
    }

    /// Makes a file of `size` bytes that begins with `content`, owned by the client.
    pub(crate) fn add_file(&self, name: &str, size: u64, content: &[u8]) -> io::Result<File> {
        let flags =
            OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_RDWR | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let descriptor = openat(&self.descriptor, name, flags, mode)?;
        fchmod(&descriptor, mode)?;
        let file = File::from(descriptor);
        file.set_len(size)?;
        if !content.is_empty() {
            file.write_all_at(content, 0)?;
        }
        self.give_away(&file)?;
        Ok(file)
    }

    fn give_away(&self, file: &impl AsFd) -> nix::Result<()> {
        let (owner, group) = (Uid::from_raw(self.peer.uid), Gid::from_raw(self.peer.gid));
        fchown(file.as_fd(), Some(owner), Some(group))
    }
}

/// Makes `PARENT/qb-SERVERPID-CLIENTPID-NUMBER-RANDOM`, lets `fill` add files, and lets the client in. Clients do not parse the
/// name; people know it. If anything fails, nothing is left; `files` are the names that a file may have.
pub(crate) fn create<T>(
    parent: &Path,
    files: &[String],
    peer: PeerCredentials,
    number: i32,
    fill: impl FnOnce(&NewDirectory<'_>) -> io::Result<T>,
) -> io::Result<(PathBuf, T)> {
    let server_pid = std::process::id();
    let name = format!("qb-{server_pid}-{}-{number}-XXXXXX", peer.pid);
    let path = mkdtemp(&parent.join(name))?;
    let descriptor = open_directory(&path).inspect_err(|_error| {
        log_failure(&path, remove_empty(&path));
    })?;
    let directory = NewDirectory {
        path: &path,
        descriptor,
        peer,
    };
    let filled = fill(&directory).and_then(|filled| {
        fchmod(&directory.descriptor, Mode::S_IRWXU | Mode::S_IRWXG)?;
        directory.give_away(&directory.descriptor)?;
        Ok(filled)
    });
    if filled.is_err() {
        log_failure(&path, remove_through(&directory.descriptor, &path, files));
    }
    Ok((path, filled?))
}

/// Removes these files and the directory, if it is one and no link.
///
/// # Errors
/// Above all EMFILE, after which trying again later is worth it: it needs a descriptor.
pub(crate) fn remove(path: &Path, files: &[String]) -> nix::Result<()> {
    match open_directory(path) {
        Ok(descriptor) => remove_through(&descriptor, path, files),
        Err(error) => ignore_missing(Err(error)),
    }
}

fn remove_through(descriptor: &OwnedFd, path: &Path, files: &[String]) -> nix::Result<()> {
    for file in files {
        let flags = UnlinkatFlags::NoRemoveDir;
        ignore_missing(unlinkat(descriptor, file.as_str(), flags))?;
    }
    remove_empty(path)
}

fn remove_empty(path: &Path) -> nix::Result<()> {
    ignore_missing(unlinkat(AT_FDCWD, path, UnlinkatFlags::RemoveDir))
}

fn ignore_missing(result: nix::Result<()>) -> nix::Result<()> {
    match result {
        Err(Errno::ENOENT) => Ok(()),
        other => other,
    }
}

/// Logs why a directory could not be removed.
pub(crate) fn log_failure(path: &Path, removed: nix::Result<()>) {
    if let Err(error) = removed {
        tracing::debug!(path = %path.display(), %error, "connection directory not removed");
    }
}

fn open_directory(path: &Path) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty())
}

/// Removes what servers of the same service left behind when they were killed: directories of processes that do not
/// exist any more and that hold nothing but this service's files. Returns how many.
pub(crate) fn remove_stale(parent: &Path, service_files: &[String]) -> usize {
    let is_ours = |entry: io::Result<fs::DirEntry>| {
        entry.is_ok_and(|it| service_files.iter().any(|file| it.file_name() == **file))
    };
    directories(parent, is_dead)
        .filter(|path| fs::read_dir(path).is_ok_and(|mut entries| entries.all(is_ours)))
        .filter(|path| remove(path, service_files).is_ok())
        .count()
}

/// Removes the directories that this process has made for the service, until the deadline. Says whether all are gone.
pub(crate) fn remove_own(parent: &Path, service_files: &[String], deadline: Instant) -> bool {
    let own_pid = std::process::id();
    directories(parent, |pid| pid.unsigned_abs() == own_pid).all(|path| {
        log_failure(&path, remove(&path, service_files));
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
