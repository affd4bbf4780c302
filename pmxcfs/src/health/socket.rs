//! The control socket: one line asks, one document answers, and the connection is closed. Questions to the history are handed
//! over to it.
//!
//! Only root on this host may ask, by the socket's mode and once more by the peer's user id. There is room for a few clients, and
//! each has a few seconds in all; a new client gets the place of the oldest one after a moment. So clients that do not ask or
//! read cannot keep others out.

use std::collections::VecDeque;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pmxcfs_api_types::files::with_suffix;
use pmxcfs_memdb::store::FileIdentity;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep, timeout, timeout_at};

/// Clients at a time.
const CLIENT_COUNT: usize = 8;

/// How long a client may take for everything.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a client keeps its place when others wait for one.
const GRACE: Duration = Duration::from_millis(100);

/// Longest request, its newline included.
const REQUEST_SIZE: u64 = 16 * 1024;

/// Pause after a client that could not be accepted, for want of descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Time between two checks that the socket is still under its name.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What becomes of a client that has asked.
pub enum Reply {
    /// It gets this, and the connection is closed.
    Text(Vec<u8>),
    /// Somebody else serves it from now on, who must not wait here.
    HandOver(Box<dyn FnOnce(UnixStream) + Send>),
}

/// A control socket. Dropping it removes it.
#[derive(Debug)]
pub struct ControlSocket {
    path: PathBuf,
    /// Of the socket, so that dropping it removes no other file of that name.
    identity: FileIdentity,
    listener: UnixListener,
    patience: Duration,
}

impl ControlSocket {
    /// Makes the socket, in place of one that a killed daemon has left. Call it on a runtime.
    ///
    /// # Errors
    /// If there cannot be a socket.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let (listener, identity) = bind(path)?;
        Ok(Self {
            path: path.to_owned(),
            identity,
            listener,
            patience: PATIENCE,
        })
    }

    /// Serves it for ever, and makes it anew if it vanishes. `answer` is called with a request, without its newline; it must
    /// not wait for anything.
    pub async fn serve(mut self, answer: impl Fn(&[u8]) -> Reply + Send + Sync + 'static) {
        let answer = Arc::new(answer);
        let mut clients = Clients::new();
        let mut looks = interval(LOOK_INTERVAL);
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = looks.tick() => {
                    self.restore();
                    continue;
                }
            };
            match accepted {
                Ok((stream, _)) if may_ask(&stream) => {
                    let (answer, patience) = (Arc::clone(&answer), self.patience);
                    make_room(&mut clients).await;
                    let client = tokio::spawn(async move {
                        // A client that is too slow or gone gets no answer.
                        let _served = timeout(patience, serve_client(stream, &*answer)).await;
                    });
                    clients.push_back((Instant::now(), client));
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a client of the control socket");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn restore(&mut self) {
        if self.path.exists() {
            return;
        }
        let path = self.path.display();
        match bind(&self.path) {
            Ok((listener, identity)) => {
                (self.listener, self.identity) = (listener, identity);
                tracing::warn!(%path, "somebody removed the control socket: made it again");
            }
            Err(error) => tracing::debug!(%path, %error, "cannot make the control socket again"),
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if FileIdentity::of(&self.path).is_ok_and(|present| present == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the control socket");
        }
    }
}

/// Makes the socket under another name first, so that it has its mode when it gets its own.
fn bind(path: &Path) -> io::Result<(UnixListener, FileIdentity)> {
    let new = with_suffix(path, ".new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    fs::set_permissions(&new, Permissions::from_mode(0o600))?;
    let identity = FileIdentity::of(&new)?;
    fs::rename(&new, path)?;
    Ok((listener, identity))
}

fn may_ask(stream: &UnixStream) -> bool {
    let own_uid = nix::unistd::geteuid().as_raw();
    let peer = stream.peer_cred();
    peer.is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own_uid)
}

/// Clients that are being served, or were until lately, the oldest one first.
type Clients = VecDeque<(Instant, JoinHandle<()>)>;

/// Waits a moment for the oldest client if all places are taken, and then takes its place.
async fn make_room(clients: &mut Clients) {
    if clients.len() >= CLIENT_COUNT
        && let Some((since, mut oldest)) = clients.pop_front()
        && timeout_at(since + GRACE, &mut oldest).await.is_err()
    {
        oldest.abort();
    }
}

async fn serve_client(
    mut stream: UnixStream,
    answer: &(impl Fn(&[u8]) -> Reply + Sync),
) -> io::Result<()> {
    let mut request = Vec::new();
    let mut reader = BufReader::new((&mut stream).take(REQUEST_SIZE));
    reader.read_until(b'\n', &mut request).await?;
    let Some(request) = request.strip_suffix(b"\n") else {
        // The client is gone, or its request does not fit.
        return Ok(());
    };
    match answer(request) {
        Reply::Text(text) => stream.write_all(&text).await,
        Reply::HandOver(serve) => {
            serve(stream);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
