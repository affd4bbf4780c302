//! A bare member of a process group.

use std::cell::Cell;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use integration_tests::Over;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rust_corosync::{CsError, DispatchFlags, NodeId, cpg};

thread_local! {
    /// Own messages that were delivered to this thread's probe.
    static DELIVERED: Cell<u64> = const { Cell::new(0) };
    static LOCAL: Cell<u32> = const { Cell::new(0) };
}

/// Longest wait before another look, in milliseconds.
const LOOK_MS: u8 = 5;

/// A connection in a group of its own. Belongs to the thread that made it.
pub(crate) struct Probe {
    handle: cpg::Handle,
    fd: i32,
}

impl Probe {
    /// Joins. To be called within a host.
    pub(crate) fn join() -> Self {
        let model = cpg::ModelData::ModelV1(cpg::Model1Data {
            flags: cpg::Model1Flags::None,
            deliver_fn: Some(delivered),
            confchg_fn: None,
            totem_confchg_fn: None,
        });
        let handle = cpg::initialize(&model, 0).expect("corosync runs");
        LOCAL.set(u32::from(
            cpg::local_get(&handle).expect("corosync answers"),
        ));
        cpg::join(&handle, "probe").expect("anybody may join");
        let fd = cpg::fd_get(&handle).expect("a connection has a descriptor");
        Self { handle, fd }
    }

    /// Time from a multicast to its delivery here.
    pub(crate) fn round_trip(&self, message: &[u8]) -> Duration {
        let expected = DELIVERED.get() + 1;
        let begin = Instant::now();
        while let Err(error) = cpg::mcast_joined(&self.handle, cpg::Guarantee::TypeAgreed, message)
        {
            assert!(matches!(error, CsError::CsErrTryAgain), "{error}");
        }
        while DELIVERED.get() < expected {
            self.receive();
        }
        begin.elapsed()
    }

    /// Time until so many messages have come back of which at most `window` are under way.
    pub(crate) fn flood(&self, message: &[u8], count: u64, window: u64) -> Duration {
        let first = DELIVERED.get();
        let begin = Instant::now();
        let mut sent = 0;
        loop {
            let delivered = DELIVERED.get() - first;
            if delivered >= count {
                return begin.elapsed();
            }
            while sent < count.min(delivered + window) {
                match cpg::mcast_joined(&self.handle, cpg::Guarantee::TypeAgreed, message) {
                    Ok(()) => sent += 1,
                    Err(CsError::CsErrTryAgain) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            self.receive();
        }
    }

    /// Takes messages until it is over.
    pub(crate) fn listen(&self, over: &Over) {
        while !over.is_over() {
            self.receive();
        }
    }

    fn receive(&self) {
        self.wait();
        cpg::dispatch(&self.handle, DispatchFlags::All).expect("corosync runs");
    }

    #[expect(unsafe_code, reason = "the descriptor belongs to the C library")]
    fn wait(&self) {
        // SAFETY: the connection owns the descriptor and lives as long as `self`.
        let fd = unsafe { BorrowedFd::borrow_raw(self.fd) };
        let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
        // Interrupted or not, the caller looks again.
        let _ready = poll(&mut fds, PollTimeout::from(LOOK_MS));
    }
}

fn delivered(
    _handle: &cpg::Handle,
    _group: String,
    node: NodeId,
    _pid: u32,
    _message: &[u8],
    _length: usize,
) {
    if u32::from(node) == LOCAL.get() {
        DELIVERED.set(DELIVERED.get() + 1);
    }
}
