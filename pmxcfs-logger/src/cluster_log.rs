//! The log of one member: what is added, what is taken from peers, and what is shown.
//!
//! A process numbers its entries from 1, so entries of two lives of a daemon can have the same second and the same number,
//! and a merge takes such entries for one. The C daemon loses one of them. Here a daemon that finds entries of an earlier
//! life in a merge counts on from those, and adds what the merge has lost of either life once more, with a new number.

use std::collections::HashMap;

use crate::digest::text_digest;
use crate::duplicates::{DuplicateTable, Lifetimes, Origin};
use crate::entry::{Entry, EntryView, Submission};
use crate::merge::merge;
use crate::ring::{Ring, RingError, RingView};

/// What a merge leaves to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MergeReport {
    /// Members whose states could not be used, by their place in the membership.
    pub rejected: Vec<(usize, RingError)>,
    /// Entries of this node that have been added with a new number. To be sent like new ones.
    pub renumbered: Vec<Entry>,
}

/// The cluster log as one daemon keeps it.
#[derive(Debug, Clone)]
pub struct ClusterLog {
    node_name: Vec<u8>,
    ring: Ring,
    last_uid: u32,
    duplicates: DuplicateTable,
    lifetimes: Lifetimes,
    generation: u64,
}

impl ClusterLog {
    /// An empty log of the node with this name.
    pub fn new(node_name: &[u8]) -> Self {
        Self {
            node_name: node_name.to_vec(),
            ring: Ring::new(),
            last_uid: 0,
            duplicates: DuplicateTable::default(),
            lifetimes: Lifetimes::default(),
            generation: 0,
        }
    }

    /// Adds an entry of this node and gives it back for sending. `None` if the priority is above 7. An own entry is
    /// never taken for a duplicate, whatever the clock says.
    pub fn log(&mut self, time: u32, submission: &Submission<'_>) -> Option<Entry> {
        let uid = self.last_uid.wrapping_add(1);
        let entry = submission.pack(uid, time, &self.node_name)?;
        self.last_uid = uid;
        self.insert(&entry.view());
        Some(entry)
    }

    /// Adds the entry that a daemon makes when it starts. It is not sent; peers get it with the first STATE.
    pub fn log_start(&mut self, time: u32, pid: u32) {
        self.log(
            time,
            &Submission {
                priority: 6,
                pid,
                ident: b"root",
                tag: b"cluster",
                message: b"starting cluster log",
            },
        );
    }

    /// Adds an entry that a peer sent, unless it is a duplicate; says whether it was added. Without an origin the rule of
    /// C daemons alone decides.
    pub fn receive(&mut self, entry: &Entry, origin: Option<Origin>) -> bool {
        let view = entry.view();
        let is_new = self.duplicates.is_newer(&view)
            || origin.is_some_and(|origin| {
                !self.lifetimes.has_passed(origin, view.uid) && !self.holds(&view)
            });
        if let Some(origin) = origin {
            self.lifetimes.record(origin, view.uid);
        }
        if is_new {
            self.insert(&view);
        }
        is_new
    }

    /// The STATE of this member. Sorts the own ring, as C daemons do at this point.
    pub fn state(&mut self) -> Vec<u8> {
        self.ring = self.ring.sorted();
        self.generation += 1;
        self.ring.to_state()
    }

    /// Replaces the log by the merge of all members' states, given in the order of the membership (`None`: that member
    /// sent none). The slot `own` is replaced by the own ring as it is now.
    ///
    /// With fewer than two members nothing happens.
    pub fn merge(&mut self, states: &[Option<&[u8]>], own: usize) -> MergeReport {
        let mut report = MergeReport::default();
        if states.len() < 2 {
            return report;
        }
        let mut rings = Vec::with_capacity(states.len());
        for (member, state) in states.iter().enumerate() {
            if member == own {
                rings.push(self.ring.view());
            } else if let Some(state) = state {
                match RingView::decode(state) {
                    Ok(ring) => rings.push(ring),
                    Err(error) => report.rejected.push((member, error)),
                }
            }
        }
        let merged = merge(&rings);
        let lives = OwnLives::of(text_digest(&self.node_name), &rings, &merged);
        self.last_uid = self.last_uid.max(lives.last_uid);
        self.duplicates = DuplicateTable::default();
        for step in merged.walk() {
            self.duplicates.record(&step.entry);
        }
        self.ring = merged;
        self.generation += 1;
        for lost in lives.lost {
            self.last_uid = self.last_uid.wrapping_add(1);
            let entry = lost.view().with_uid(self.last_uid);
            self.insert(&entry.view());
            report.renumbered.push(entry);
        }
        report
    }

    /// The newest entries as JSON: at most `limit`, of this user or, if that is empty, of all.
    pub fn dump(&self, limit: u32, user: &[u8]) -> String {
        self.ring.view().dump(limit, user)
    }

    /// Grows with every change of what [`ClusterLog::dump`] gives.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The entries.
    pub const fn ring(&self) -> &Ring {
        &self.ring
    }

    fn insert(&mut self, entry: &EntryView<'_>) {
        self.ring.append(entry);
        self.duplicates.record(entry);
        let present = self.ring.walk().map(|step| step.entry);
        self.duplicates.limit(present);
        self.generation += 1;
    }

    fn holds(&self, entry: &EntryView<'_>) -> bool {
        self.ring
            .walk()
            .any(|step| step.entry.identity() == entry.identity())
    }
}

/// What a merge finds of this and of earlier lives of this node's daemon.
struct OwnLives {
    last_uid: u32,
    /// Entries that the merge has taken for another one.
    lost: Vec<Entry>,
}

impl OwnLives {
    fn of(own_digest: u64, rings: &[RingView<'_>], merged: &Ring) -> Self {
        let is_own = |entry: &EntryView<'_>| entry.node_digest == own_digest;
        let place = |entry: &EntryView<'_>| (entry.time, entry.uid);
        let kept: HashMap<(u32, u32), EntryView<'_>> = merged
            .walk()
            .map(|step| step.entry)
            .filter(is_own)
            .map(|entry| (place(&entry), entry))
            .collect();
        let mut lost: Vec<Entry> = Vec::new();
        let mut last_uid = 0;
        let entries = rings.iter().flat_map(RingView::walk);
        for entry in entries.map(|step| step.entry).filter(is_own) {
            last_uid = last_uid.max(entry.uid);
            // The merge terminates texts that C daemons have left unterminated, so only whole entries are compared.
            let is_lost = kept
                .get(&place(&entry))
                .is_some_and(|kept| entry.is_terminated() && kept.identity() != entry.identity());
            let is_known = |known: &Entry| known.view().identity() == entry.identity();
            if is_lost && !lost.iter().any(is_known) {
                lost.push(entry.with_uid(entry.uid));
            }
        }
        Self { last_uid, lost }
    }
}
