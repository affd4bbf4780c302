//! A connection to the kernel, which may outlive the process that serves it.
//!
//! The connection lives for as long as any process holds its descriptor, and with it the mount; requests wait meanwhile. At its begin
//! the kernel asks one question, `FUSE_INIT`, and the answer fixes what both may use. So question and answer are kept in the
//! [`Tables`]: a process that would answer the same may go on with the connection. The FUSE library insists on the question, and
//! gets it from here in any case (see [`super::session`]).
//!
//! The kernel queues again what the former process had read and not answered when it is told to, once: after the last reader of that
//! process has ended, and before the first one of this. Kernels before 6.9 cannot; they let a connection go on only if the
//! former process has answered all that it had read.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use anyhow::{Context as _, bail};
use fuser::{Config, Filesystem, KernelConfig, Request, Session, SessionACL};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair};
use nix::sys::stat::{major, minor};
use serde::{Deserialize, Serialize};

use super::filesystem::agree;
use super::mount::{self, Mount, Place};
use crate::fs::{self, Tables};

/// Device number of `/dev/fuse`.
const DEVICE: (u64, u64) = (10, 229);

/// The kernel's numbers of what it can be told: to forget what it knows of a node id, to queue again what nobody has answered, to
/// doubt all names.
const FUSE_NOTIFY_INVAL_INODE: u32 = 2;
const FUSE_NOTIFY_RESEND: u32 = 7;
const FUSE_NOTIFY_INC_EPOCH: u32 = 8;

/// An offset of -1, which stands for the attributes alone. Forgetting them takes no lock in the kernel that a request could hold.
const ATTRIBUTES: u64 = u64::MAX;

/// The kernel refuses to be read with less room than this; its question is far shorter.
const READ_SIZE: usize = 64 * 1024;

/// With this variable set, the daemon does as on a kernel that cannot queue requests again. For tests.
const PRETEND_OLD_KERNEL: &str = "PMXCFS_NO_RESEND";

/// What a connection begins with, for the tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Agreement {
    question: Vec<u8>,
    answer: Vec<u8>,
    place: Option<Place>,
    /// Everything that was read has been answered.
    is_settled: bool,
}

/// A connection that can be served.
#[derive(Debug)]
pub struct Connection {
    device: OwnedFd,
    agreement: Agreement,
    kept: fs::Agreement,
}

impl Connection {
    /// Answers the kernel's first question on a new connection.
    ///
    /// # Errors
    /// If the kernel does not ask, or they cannot agree.
    pub fn begin(mount: &Mount, device: OwnedFd, tables: &Tables) -> io::Result<Self> {
        let mut device = File::from(device);
        let mut question = vec![0; READ_SIZE];
        let size = device.read(&mut question)?;
        question.truncate(size);
        let answer = answer_to(&question)?;
        device.write_all(&answer)?;
        let connection = Self {
            device: device.into(),
            agreement: Agreement {
                question,
                answer,
                place: mount.place,
                is_settled: false,
            },
            kept: tables.agreement(),
        };
        connection.keep(false)?;
        Ok(connection)
    }

    /// Goes on with a connection. Call it when no thread of the former process is left.
    ///
    /// # Errors
    /// If it is not the connection of that mount, or this program cannot serve it; then it is as it was.
    pub fn take_over(
        device: OwnedFd,
        tables: &Tables,
        mount_dir: &Path,
    ) -> anyhow::Result<(Mount, Self)> {
        let device = File::from(device);
        let metadata = device.metadata()?;
        let number = metadata.rdev();
        if !metadata.file_type().is_char_device() || (major(number), minor(number)) != DEVICE {
            bail!("the descriptor of the connection is not {DEVICE:?}, the FUSE device");
        }
        let mut polled = [PollFd::new(device.as_fd(), PollFlags::empty())];
        if poll(&mut polled, PollTimeout::ZERO)? != 0 {
            bail!("the connection has ended");
        }
        let place = mount::find(mount_dir);
        let kept = tables.agreement();
        let agreement = kept
            .read()
            .and_then(|json| serde_json::from_slice(&json).ok());
        let agreement: Agreement =
            agreement.context("the tables do not say what is agreed with the kernel")?;
        if let Some(connection) = mount::connection_of(&device)
            && place.is_none_or(|place| place.connection != connection)
        {
            let mount_dir = mount_dir.display();
            bail!("the connection is not the one that is mounted at {mount_dir}");
        }
        if place.is_none() || place != agreement.place {
            bail!("the tables are those of another connection");
        }
        if answer_to(&agreement.question)? != agreement.answer {
            bail!("this version agrees with the kernel on other features");
        }
        let connection = Self {
            device: device.into(),
            agreement,
            kept,
        };
        match connection.resend() {
            Ok(()) => {}
            Err(_) if connection.agreement.is_settled => {}
            // Requests would hang for ever.
            Err(Errno::EINVAL) => {
                bail!("the kernel cannot send unanswered requests again (Linux 6.9 can)")
            }
            Err(errno) => return Err(errno.into()),
        }
        connection.keep(false)?;
        Ok((Mount::found(mount_dir, place), connection))
    }

    /// The device.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }

    /// Makes the kernel ask anew for all names, where it can, and for the attributes of these node ids. It takes no lock for that
    /// which a request could hold.
    pub fn doubt(&self, ids: &[u64]) {
        // A kernel before 6.16 believes names for a second.
        let _told = self.notify(FUSE_NOTIFY_INC_EPOCH, &[]);
        for id in ids {
            // It may have forgotten the node id.
            let _told = self.doubt_attributes(*id);
        }
    }

    /// Makes the kernel ask anew for the attributes of a node id.
    ///
    /// The FUSE library has a function for this, which takes `ENOENT` for a success.
    pub(super) fn doubt_attributes(&self, id: u64) -> nix::Result<()> {
        self.notify(FUSE_NOTIFY_INVAL_INODE, &[id, ATTRIBUTES, 0])
    }

    /// Tells the kernel something.
    #[expect(
        clippy::host_endian_bytes,
        reason = "FUSE speaks the byte order of the host"
    )]
    fn notify(&self, number: u32, words: &[u64]) -> nix::Result<()> {
        let mut message = vec![0; 16];
        message[4..8].copy_from_slice(&number.to_ne_bytes());
        message.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        let size = u32::try_from(message.len()).unwrap_or_default();
        message[..4].copy_from_slice(&size.to_ne_bytes());
        nix::unistd::write(&self.device, &message).map(drop)
    }

    /// Has the kernel queue again what the former process has not answered.
    fn resend(&self) -> nix::Result<()> {
        if std::env::var_os(PRETEND_OLD_KERNEL).is_some() {
            return Err(Errno::EINVAL);
        }
        self.notify(FUSE_NOTIFY_RESEND, &[])
    }

    /// Everything that was read has been answered, and nobody reads any more.
    pub(super) fn settle(&self) -> io::Result<()> {
        self.keep(true)
    }

    /// Keeps the agreement for the next process.
    fn keep(&self, is_settled: bool) -> io::Result<()> {
        let agreement = Agreement {
            is_settled,
            ..self.agreement.clone()
        };
        self.kept.keep(&serde_json::to_vec(&agreement)?)
    }

    /// A session of the FUSE library that has answered the kernel's first question on a socket, in whose place the device belongs.
    pub(super) fn session<F: Filesystem>(
        &self,
        filesystem: F,
        config: Config,
    ) -> io::Result<Session<F>> {
        let (session, _answered) = greet(filesystem, config, &self.agreement.question)?;
        Ok(session)
    }
}

/// What this program answers to the kernel's first question.
fn answer_to(question: &[u8]) -> io::Result<Vec<u8>> {
    /// Answers the question and nothing else.
    struct Greeting;

    impl Filesystem for Greeting {
        fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
            agree(config);
            Ok(())
        }
    }

    let (_session, answered) = greet(Greeting, Config::default(), question)?;
    let mut answer = vec![0; READ_SIZE];
    let size = nix::unistd::read(&answered, &mut answer)?;
    answer.truncate(size);
    Ok(answer)
}

/// Has the FUSE library answer a question over a pair of sockets. The other end has the answer.
fn greet<F: Filesystem>(
    filesystem: F,
    config: Config,
    question: &[u8],
) -> io::Result<(Session<F>, OwnedFd)> {
    let (near, far) = socket_pair()?;
    nix::unistd::write(&far, question)?;
    // A second question does not come.
    shutdown(far.as_fd().as_raw_fd(), Shutdown::Write)?;
    let session = Session::from_fd(filesystem, near, SessionACL::All, config)?;
    Ok((session, far))
}

/// Two connected sockets that keep the bounds of messages.
pub(super) fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let pair = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?;
    Ok(pair)
}
