//! A process in the group that sends nonsense.

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use integration_tests::Cluster;
use integration_tests::cluster::{ClusterHost, LIMIT};
use integration_tests::wait;
use rust_corosync::{CsError, DispatchFlags, NodeId, cpg};

use crate::beside_others;

/// Message type of a STATE, in the first two bytes.
const STATE: [u8; 2] = [2, 0];

thread_local! {
    static SEEN: RefCell<Vec<(u32, Vec<u8>)>> = const { RefCell::new(Vec::new()) };
}

fn delivered(
    _handle: &cpg::Handle,
    _group: String,
    _node: NodeId,
    pid: u32,
    message: &[u8],
    _length: usize,
) {
    SEEN.with_borrow_mut(|seen| seen.push((pid, message.to_vec())));
}

/// A member that answers a synchronisation with the data of another member, and else does what it likes.
struct Rogue(cpg::Handle);

impl Rogue {
    fn join() -> Self {
        let model = cpg::ModelData::ModelV1(cpg::Model1Data {
            flags: cpg::Model1Flags::None,
            deliver_fn: Some(delivered),
            confchg_fn: None,
            totem_confchg_fn: None,
        });
        let handle = cpg::initialize(&model, 0).expect("corosync runs");
        cpg::join(&handle, "pve_dcdb_v1\0").expect("anybody may join");
        Self(handle)
    }

    fn send(&self, message: &[u8]) {
        wait::until(
            "corosync to take a message",
            LIMIT,
            || match cpg::mcast_joined(&self.0, cpg::Guarantee::TypeAgreed, message) {
                Ok(()) => Some(()),
                Err(CsError::CsErrTryAgain) => None,
                Err(error) => panic!("{error}"),
            },
        );
    }

    fn answer_synchronisation(&self) {
        let state = wait::until("the state of another member", LIMIT, || {
            cpg::dispatch(&self.0, DispatchFlags::All).expect("corosync runs");
            SEEN.with_borrow(|seen| {
                let mut states = seen
                    .iter()
                    .filter(|(_, message)| message.starts_with(&STATE));
                states.next_back().map(|(_, message)| message.clone())
            })
        });
        self.send(&state);
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        // Corosync may be gone.
        let _result = cpg::finalize(&self.0);
    }
}

/// Joins the group on this host, sends everything that no sound member would send, and leaves.
pub(crate) fn say_nonsense(host: &ClusterHost) {
    host.inside(|| {
        let rogue = Rogue::join();
        for (_, message) in nonsense() {
            rogue.send(&message);
        }
    });
}

/// Messages with the names of their files.
fn nonsense() -> Vec<(String, Vec<u8>)> {
    let vectors =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../pmxcfs-dfsm/tests/vectors/dcdb/malformed");
    let mut messages: Vec<(String, Vec<u8>)> = fs::read_dir(&vectors)
        .expect("recorded nonsense")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "bin"))
        .map(|path| (path.display().to_string(), fs::read(&path).expect("a file")))
        .collect();
    messages.sort();
    assert!(messages.len() > 10, "{} messages", messages.len());
    messages
}

#[test]
fn nonsense_of_a_member_stops_nobody() {
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    cluster.host(2).inside(|| {
        let rogue = Rogue::join();
        rogue.answer_synchronisation();
        cluster.await_synced();
        for (name, message) in nonsense() {
            rogue.send(&message);
            cluster
                .host(1)
                .write("after", name.as_bytes())
                .unwrap_or_else(|error| panic!("after {name}: {error}\n{cluster}"));
        }
    });
    cluster.await_synced();
    for host in cluster.hosts() {
        assert!(!host.log().contains("panicked"), "{}", host.log());
    }
    cluster.stop_and_compare();
}
