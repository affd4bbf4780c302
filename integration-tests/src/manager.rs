//! A service manager of the tests' own: it keeps the descriptors that daemons send, and gives them to the next daemon.
//!
//! It holds them in a descriptor table of its own. The kernel cannot kill a thread that waits in a mount while somebody holds the
//! connection, and a killed process keeps its table until its last thread has ended. So when a test run is killed, the threads of the
//! manager, which never wait in a mount, end the connection, and all others get their errors.
#![expect(
    unsafe_code,
    reason = "a thread leaves the common descriptor table, and descriptors get the numbers of the protocol between fork and exec"
)]
#![expect(clippy::disallowed_types, reason = "a lock of a test has no rank")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use parking_lot::Mutex;

use crate::children::bind_to_this_thread;
use crate::wait;

/// The first descriptor that a daemon gets.
const FIRST: RawFd = 3;

/// Out of the way of those.
const ABOVE: RawFd = 100;

/// So many numbers from the first one on are in use, lest a child loses what it needs until it executes the program.
const RESERVED: usize = 8;

/// How long a message to the manager may take.
const LIMIT: Duration = Duration::from_secs(20);

/// Counts of the messages of daemons.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Heard {
    /// They are ready.
    pub(crate) ready_count: u64,
    /// They live.
    pub(crate) alive_count: u64,
    stored_count: u64,
}

/// The descriptors that the manager keeps, by name. Only the manager's threads may touch it: to others the numbers mean something else.
type Store = Mutex<BTreeMap<String, OwnedFd>>;

/// Work for the manager's thread. `None` ends it.
type Job = Option<Box<dyn FnOnce(&Store) + Send>>;

/// Starts daemons and keeps what they send. Dropping it closes what it keeps and kills the daemons that it has started.
#[derive(Debug)]
pub(crate) struct Manager {
    socket: PathBuf,
    heard: Arc<Mutex<Heard>>,
    jobs: mpsc::Sender<Job>,
    /// Thread id, by which its children are found.
    pub(crate) tid: i32,
    thread: Option<JoinHandle<()>>,
}

impl Manager {
    /// A manager that listens at this path, in the namespaces of the caller.
    ///
    /// # Panics
    /// If there cannot be a socket.
    pub(crate) fn start(socket: PathBuf) -> Self {
        let (jobs, todo) = mpsc::channel::<Job>();
        let (ready, is_ready) = mpsc::channel();
        let heard = Arc::default();
        let (path, listening) = (socket.clone(), Arc::clone(&heard));
        let thread = std::thread::spawn(move || {
            leave_common_descriptors();
            let _reserved = [(); RESERVED].map(|()| File::open("/dev/null").expect("a descriptor"));
            let socket = UnixDatagram::bind(&path).expect("a socket");
            let store = Arc::<Store>::default();
            let listener = {
                let (socket, store) = (
                    socket.try_clone().expect("a descriptor"),
                    Arc::clone(&store),
                );
                std::thread::spawn(move || listen(&socket, &store, &listening))
            };
            ready
                .send(nix::unistd::gettid().as_raw())
                .expect("the maker waits");
            while let Ok(Some(job)) = todo.recv() {
                job(&store);
            }
            store.lock().clear();
            socket
                .shutdown(std::net::Shutdown::Both)
                .expect("an own socket");
            listener.join().expect("the listener does not panic");
        });
        let tid = is_ready.recv().expect("the manager starts");
        Self {
            socket,
            heard,
            jobs,
            tid,
            thread: Some(thread),
        }
    }

    /// Counts of the messages so far.
    pub(crate) fn heard(&self) -> Heard {
        *self.heard.lock()
    }

    /// Starts a program with what is kept, after a last word on its command, which must not hold descriptors that another thread has
    /// opened. It ends with the manager.
    ///
    /// # Panics
    /// If it cannot be run.
    pub(crate) fn spawn(
        &self,
        program: &Path,
        arrange: impl FnOnce(&mut Command) + Send + 'static,
    ) -> Child {
        // The daemon's id is known to a shell only, which becomes the daemon.
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "LISTEN_PID=$$ exec \"$@\"", "sh"])
            .arg(program)
            .env("NOTIFY_SOCKET", &self.socket);
        bind_to_this_thread(&mut command);
        let spawned = self.on_thread(move |store| {
            let (names, copies): (Vec<String>, Vec<OwnedFd>) = {
                let store = store.lock();
                let store = store.iter();
                store.map(|(name, kept)| (name.clone(), copy(kept))).unzip()
            };
            if !names.is_empty() {
                command
                    .env("LISTEN_FDS", names.len().to_string())
                    .env("LISTEN_FDNAMES", names.join(":"));
            }
            let numbers: Vec<RawFd> = copies.iter().map(AsRawFd::as_raw_fd).collect();
            let pass = move || {
                for (place, number) in (FIRST..).zip(&numbers) {
                    // SAFETY: two numbers; the process that runs this is about to become another program.
                    Errno::result(unsafe { libc::dup2(*number, place) })?;
                }
                Ok(())
            };
            // SAFETY: it only makes system calls, which are allowed after a fork.
            unsafe { command.pre_exec(pass) };
            arrange(&mut command);
            command.spawn()
        });
        spawned.expect("the program can be run")
    }

    /// Names of what is kept.
    pub(crate) fn kept(&self) -> Vec<String> {
        self.on_thread(|store| store.lock().keys().cloned().collect())
    }

    /// Keeps something under a name, in the place of what was there.
    ///
    /// # Panics
    /// If it cannot be sent.
    pub(crate) fn keep(&self, name: &str, descriptor: BorrowedFd<'_>) {
        self.while_stored(|| send(&self.socket, name, descriptor));
    }

    /// Keeps what another manager keeps under that name.
    ///
    /// # Panics
    /// If that keeps nothing.
    pub(crate) fn keep_that_of(&self, other: &Self, name: &str) {
        let (socket, name) = (self.socket.clone(), name.to_owned());
        self.while_stored(|| {
            other.on_thread(move |store| send(&socket, &name, store.lock()[&name].as_fd()));
        });
    }

    fn while_stored(&self, store: impl FnOnce()) {
        let before = self.heard().stored_count;
        store();
        wait::until("the manager to keep a descriptor", LIMIT, || {
            (self.heard().stored_count > before).then_some(())
        });
    }

    /// Closes what is kept under a name.
    pub(crate) fn let_go(&self, name: &str) {
        let name = name.to_owned();
        self.on_thread(move |store| drop(store.lock().remove(&name)));
    }

    /// Closes all that is kept, so that those who wait in a mount without a daemon get an error.
    pub(crate) fn empty(&self) {
        self.emptier()();
    }

    /// The same for another thread, which does not wait for it.
    pub(crate) fn emptier(&self) -> impl Fn() + Send + use<> {
        let jobs = self.jobs.clone();
        move || {
            // A manager that has ended keeps nothing.
            let _sent = jobs.send(Some(Box::new(|store| store.lock().clear())));
        }
    }

    /// Does something on the manager's thread.
    fn on_thread<T: Send + 'static>(&self, action: impl FnOnce(&Store) -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        let job = move |store: &Store| {
            // The caller waits for the result.
            let _received = done.send(action(store));
        };
        let sent = self.jobs.send(Some(Box::new(job)));
        sent.expect("the manager is alive");
        result.recv().expect("the job does not panic")
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // Both fail only if the thread has panicked, and then it said so.
        let _sent = self.jobs.send(None);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// Gives this thread, and those that it starts, a descriptor table with nothing but the standard streams.
fn leave_common_descriptors() {
    // SAFETY: three numbers. Only this thread loses the descriptors, and it has none of its own yet.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            FIRST,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_UNSHARE,
        )
    };
    Errno::result(done).expect("a thread can have descriptors of its own");
}

fn copy(descriptor: &OwnedFd) -> OwnedFd {
    let number = fcntl(descriptor, FcntlArg::F_DUPFD_CLOEXEC(ABOVE)).expect("a descriptor");
    // SAFETY: the kernel has just made it.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Sends a descriptor as a daemon does.
fn send(socket: &Path, name: &str, descriptor: BorrowedFd<'_>) {
    let address = UnixAddr::new(socket).expect("a short path");
    let from = UnixDatagram::unbound().expect("a socket");
    let text = format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0");
    sendmsg(
        from.as_raw_fd(),
        &[IoSlice::new(text.as_bytes())],
        &[ControlMessage::ScmRights(&[descriptor.as_raw_fd()])],
        MsgFlags::empty(),
        Some(&address),
    )
    .expect("the manager listens");
}

/// Hears what daemons say, until the socket is shut down.
fn listen(socket: &UnixDatagram, store: &Store, heard: &Mutex<Heard>) {
    let mut buffer = [0; 4096];
    loop {
        let mut space = nix::cmsg_space!([RawFd; 4]);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let Ok(message) = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)
        else {
            return;
        };
        let mut descriptors = Vec::new();
        for part in message.cmsgs().into_iter().flatten() {
            if let ControlMessageOwned::ScmRights(numbers) = part {
                // SAFETY: the kernel has just made them for this process.
                let own = |number| unsafe { OwnedFd::from_raw_fd(number) };
                descriptors.extend(numbers.into_iter().map(own));
            }
        }
        let size = message.bytes;
        if size == 0 {
            return;
        }
        let text = String::from_utf8_lossy(&buffer[..size]).into_owned();
        let value = |name: &str| {
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        };
        let name = value("FDNAME").unwrap_or("stored").to_owned();
        let is_stored = value("FDSTORE") == Some("1");
        if is_stored {
            assert_eq!(value("FDPOLL"), Some("0"), "the device must not be watched");
            // systemd keeps both if two have one name.
            let kept = descriptors.pop().map(|kept| (name.clone(), kept));
            store.lock().extend(kept);
        }
        if value("FDSTOREREMOVE") == Some("1") {
            store.lock().remove(&name);
        }
        let mut heard = heard.lock();
        heard.stored_count += u64::from(is_stored);
        heard.ready_count += u64::from(value("READY") == Some("1"));
        heard.alive_count += u64::from(value("WATCHDOG") == Some("1"));
    }
}
