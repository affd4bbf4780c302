//! The control socket: one line asks, one document answers, and the connection is closed.
//!
//! It is for root on this host, by the socket's mode and once more by the peer's user id. One thread serves it and never
//! waits for a client: reading and writing go as far as they can, and everybody has a few seconds in all. There is room for
//! a few clients; when it is needed, whoever has been there longest has to go after a moment, so clients that do not ask or
//! read cannot keep others out.

use std::collections::VecDeque;
use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

/// Clients at a time.
const CLIENT_COUNT: usize = 8;

/// How long a client may take for everything.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a client keeps its place when others wait for one.
const GRACE: Duration = Duration::from_millis(100);

/// Longest request, its newline included.
const REQUEST_SIZE: usize = 64;

/// Pause after a client that could not be accepted, for want of descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// How long the thread may take to end.
const STOP_PATIENCE: Duration = Duration::from_millis(300);

/// A served control socket. Its end is bounded and takes the socket away.
#[derive(Debug)]
pub struct ControlSocket {
    path: PathBuf,
    /// Device and inode of the socket: what somebody else has put there since then is not removed.
    identity: (u64, u64),
    /// The thread ends when this is closed.
    stop: Option<UnixStream>,
    /// Closed when the thread has ended.
    ended: Receiver<()>,
}

impl ControlSocket {
    /// Makes the socket, in place of one that a killed daemon has left, and serves it. `answer` is called on the socket's
    /// thread with a request, without its newline; it must not wait for anything.
    ///
    /// # Errors
    /// If there cannot be a socket or a thread.
    pub fn start(
        path: &Path,
        answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static,
    ) -> io::Result<Self> {
        Self::start_with(path, PATIENCE, answer)
    }

    fn start_with(
        path: &Path,
        patience: Duration,
        answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static,
    ) -> io::Result<Self> {
        let (listener, identity) = bind(path)?;
        let (stop, stopped) = UnixStream::pair()?;
        let (ending, ended) = mpsc::channel();
        let mut server = Server {
            listener,
            stopped,
            patience,
            answer,
            clients: VecDeque::new(),
            accept_from: Instant::now(),
            _ending: ending,
        };
        let socket = Self {
            path: path.to_owned(),
            identity,
            stop: Some(stop),
            ended,
        };
        // Not joined: see `drop`.
        let _detached = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || server.run())?;
        Ok(socket)
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|present| present == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the control socket");
        }
        self.stop = None;
        // Nothing is ever sent: this returns when the thread has ended.
        if self.ended.recv_timeout(STOP_PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::warn!("the thread of the control socket did not end in time");
        }
    }
}

/// The socket never is under its name without its mode.
fn bind(path: &Path) -> io::Result<(UnixListener, (u64, u64))> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    fs::set_permissions(&new, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    let identity = identity(&new)?;
    fs::rename(&new, path)?;
    Ok((listener, identity))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

struct Server<A> {
    listener: UnixListener,
    stopped: UnixStream,
    patience: Duration,
    answer: A,
    /// The one that has been there longest is first.
    clients: VecDeque<Client>,
    /// After a failure, nobody is accepted for a while.
    accept_from: Instant,
    _ending: Sender<()>,
}

impl<A: Fn(&[u8]) -> Vec<u8>> Server<A> {
    fn run(&mut self) {
        loop {
            match self.wait() {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(%error, "the control socket cannot be served any more");
                    return;
                }
            }
            let now = Instant::now();
            let answer = &self.answer;
            let patience = self.patience;
            self.clients
                .retain_mut(|client| now < client.since + patience && client.proceed(answer));
            if now >= self.may_accept_from() {
                self.accept(now);
            }
        }
    }

    /// When there is room for another client.
    fn may_accept_from(&self) -> Instant {
        let is_full = self.clients.len() >= CLIENT_COUNT;
        let oldest = self.clients.front().filter(|_| is_full);
        oldest.map_or(self.accept_from, |oldest| {
            self.accept_from.max(oldest.since + GRACE)
        })
    }

    /// Waits for something to do. `true` means to stop.
    fn wait(&self) -> io::Result<bool> {
        let now = Instant::now();
        let may_accept_from = self.may_accept_from();
        let is_accepting = now >= may_accept_from;
        let oldest = self.clients.front();
        let due = oldest
            .map(|oldest| oldest.since + self.patience)
            .into_iter()
            .chain((!is_accepting).then_some(may_accept_from))
            .min();
        let timeout = due.map_or(PollTimeout::NONE, |due| {
            let pause = due.saturating_duration_since(now).as_millis() + 1;
            PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX)
        });
        let mut polled = vec![PollFd::new(self.stopped.as_fd(), PollFlags::POLLIN)];
        polled.extend(
            self.clients
                .iter()
                .map(|client| PollFd::new(client.stream.as_fd(), client.awaited())),
        );
        if is_accepting {
            polled.push(PollFd::new(self.listener.as_fd(), PollFlags::POLLIN));
        }
        match nix::poll::poll(&mut polled, timeout) {
            Ok(_) => Ok(polled[0].any() != Some(false)),
            Err(nix::errno::Errno::EINTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    fn accept(&mut self, now: Instant) {
        match self.listener.accept() {
            Ok((stream, _)) => {
                let Some(mut client) = Client::new(stream, now) else {
                    return;
                };
                if client.proceed(&self.answer) {
                    if self.clients.len() >= CLIENT_COUNT {
                        self.clients.pop_front();
                    }
                    self.clients.push_back(client);
                }
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock
                | io::ErrorKind::Interrupted
                | io::ErrorKind::ConnectionAborted => {}
                _ => {
                    tracing::warn!(%error, "cannot accept a client of the control socket");
                    self.accept_from = now + ACCEPT_PAUSE;
                }
            },
        }
    }
}

struct Client {
    stream: UnixStream,
    since: Instant,
    phase: Phase,
}

enum Phase {
    /// What has come of the request.
    Asking(Vec<u8>),
    /// The answer, and how much of it is written.
    Answering(Vec<u8>, usize),
}

impl Client {
    /// `None` if it may not ask.
    fn new(stream: UnixStream, since: Instant) -> Option<Self> {
        let uid = getsockopt(&stream, PeerCredentials).ok()?.uid();
        if uid != 0 && uid != nix::unistd::geteuid().as_raw() {
            return None;
        }
        stream.set_nonblocking(true).ok()?;
        Some(Self {
            stream,
            since,
            phase: Phase::Asking(Vec::new()),
        })
    }

    const fn awaited(&self) -> PollFlags {
        match self.phase {
            Phase::Asking(_) => PollFlags::POLLIN,
            Phase::Answering(..) => PollFlags::POLLOUT,
        }
    }

    /// Does what can be done without waiting. Says whether there is more to do.
    fn proceed(&mut self, answer: &impl Fn(&[u8]) -> Vec<u8>) -> bool {
        loop {
            let step = match &mut self.phase {
                Phase::Asking(request) => match ask(&mut self.stream, request) {
                    Ok(Some(length)) => {
                        let answer = answer(&request[..length]);
                        self.phase = Phase::Answering(answer, 0);
                        Ok(())
                    }
                    Ok(None) => Ok(()),
                    Err(error) => Err(error),
                },
                Phase::Answering(answer, written) => {
                    let rest = &answer[*written..];
                    if rest.is_empty() {
                        return false;
                    }
                    self.stream.write(rest).map(|count| *written += count)
                }
            };
            match step {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }
}

/// Reads some of a request. `Some` is the length of a complete one.
fn ask(stream: &mut UnixStream, request: &mut Vec<u8>) -> io::Result<Option<usize>> {
    let mut buffer = [0; REQUEST_SIZE];
    let count = stream.read(&mut buffer[request.len()..])?;
    if count == 0 {
        // The client is gone, or asks for more than there is.
        return Err(io::ErrorKind::InvalidData.into());
    }
    let start = request.len();
    request.extend_from_slice(&buffer[start..start + count]);
    Ok(request.iter().position(|byte| *byte == b'\n'))
}

#[cfg(test)]
mod tests;
