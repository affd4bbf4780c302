//! The listening socket.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};

use tokio::io::unix::AsyncFd;

use crate::config::BACKLOG;
use crate::readiness::watch;
use crate::wire::address::abstract_address;

/// A listening socket that takes its name away when it is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: AsyncFd<UnixListener>,
    path: Option<PathBuf>,
}

impl Listener {
    /// Listens on the abstract name `service`, or on `DIRECTORY/SERVICE`. To be called in the context of the runtime.
    ///
    /// # Errors
    /// EADDRINUSE if another process has the abstract name; whatever the system says otherwise.
    pub(crate) fn bind(service: &str, directory: Option<&Path>) -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Unix,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            None,
        )?;
        let path = directory.map(|directory| directory.join(service));
        match &path {
            None => bind(socket.as_raw_fd(), &abstract_address(service)?)?,
            Some(path) => bind_path(&socket, path)?,
        }
        listen(&socket, Backlog::new(BACKLOG)?)?;
        let socket = UnixListener::from(socket);
        Ok(Self {
            socket: watch(socket)?,
            path,
        })
    }
}

/// Takes over the path from whatever was there, as libqb does, and lets everybody connect.
fn bind_path(socket: &OwnedFd, path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o777))
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.path
            && let Err(error) = fs::remove_file(path)
        {
            tracing::debug!(path = %path.display(), %error, "socket not removed");
        }
    }
}
