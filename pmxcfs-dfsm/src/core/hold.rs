//! Requests that wait until they can be carried out without harm.

use pmxcfs_api_types::FsError;

use super::{LogLevel, Machine, Mode, mode::State};
use crate::app::Application;

/// How long a request may wait for the group to be joined, or for another member to be updated. Both take a fraction of this.
const PATIENCE_MS: u64 = 5_000;

/// How long changes wait for the daemons of other nodes on this side; a tick ends the wait, so up to a second later. A daemon is
/// back within some 1.5 s of its corosync.
const DAEMONS_MS: u64 = 3_000;

impl<A: Application> Machine<A> {
    /// Requests that need not wait any more are carried out. Those that have waited too long are refused if the group is not
    /// joined, and carried out if they have waited for another member.
    pub(super) fn release_held(&mut self) {
        self.await_daemons();
        while let Some((since_ms, _)) = self.held.front() {
            let waits = self.holds_requests();
            let is_synced = self.mode() == Mode::Synced;
            let is_late = self.now.monotonic_ms.saturating_sub(*since_ms) >= PATIENCE_MS
                && (is_synced || matches!(self.mode(), Mode::Start | Mode::Leave));
            if waits && (!is_late || self.waits_for_daemons()) {
                return;
            }
            match self.held.pop_front() {
                Some((_, request)) if waits && !is_synced => A::refuse(request, FsError::Io),
                Some((_, request)) => self.carry_out(request),
                None => return,
            }
        }
    }

    /// Whether requests have to wait: until the group is joined, where they would only fail; and from the own announcement of
    /// an exchange to the end of the update. A write sent then might reach others although this member is not synced. Synced
    /// members would apply it where it comes, while C peers that are updated apply it behind everything else, or twice; and a
    /// message that others have applied and this member has not has no result here.
    fn holds_requests(&self) -> bool {
        let is_unsynced = matches!(
            self.state,
            State::Start
                | State::Leave
                | State::Update { .. }
                | State::StartSync {
                    is_announced: true,
                    ..
                }
        );
        let waits = is_unsynced || self.spares_others() || self.waits_for_daemons();
        A::IS_EXACT && self.quorum.is_quorate && waits
    }

    fn waits_for_daemons(&self) -> bool {
        self.incomplete_since_ms.is_some() && matches!(self.mode(), Mode::StartSync | Mode::Synced)
    }

    /// Ends the wait for daemons of this side that have not joined the group yet: when this member is synced with all of them, or
    /// when it has lasted long enough.
    ///
    /// When hosts find each other again, their daemons are not in one group at once: one connects to its corosync only every second,
    /// another has just left to be brought up to date. A member that is quorate meanwhile may lack the last changes, as may one
    /// that others have left before it was synced with them. If it wrote, and a daemon with more changes joined then, its own
    /// changes would be undone, though their callers were told of success.
    fn await_daemons(&mut self) {
        let Some(since_ms) = self.incomplete_since_ms else {
            return;
        };
        if !A::IS_EXACT || !self.quorum.is_quorate || self.members.is_empty() {
            return;
        }
        let is_absent = |node: &&u32| self.members.iter().all(|member| member.id.node != **node);
        let mut absent = self.quorum.nodes.iter().filter(is_absent).peekable();
        let is_synced = self.mode() == Mode::Synced;
        let is_complete = is_synced && absent.peek().is_none();
        let is_late = self.now.monotonic_ms.saturating_sub(since_ms) >= DAEMONS_MS;
        if !is_complete && !is_late {
            return;
        }
        let absent: Vec<String> = absent.map(u32::to_string).collect();
        self.incomplete_since_ms = None;
        if is_synced && !absent.is_empty() {
            let text = format!(
                "changes go on without nodes {}: corosync runs there, pmxcfs does not answer (is pve-cluster running?)",
                absent.join(", ")
            );
            self.log(LogLevel::Warn, text);
        }
    }

    /// Whether a member that is being updated has to keep so much that writes of this one wait for more of its updates.
    fn spares_others(&self) -> bool {
        self.mode() == Mode::Synced
            && self.backlog.is_large()
            && self.backlog.idle_ms(self.now.monotonic_ms) < PATIENCE_MS
            && self.members.iter().any(|member| !member.is_synced)
    }
}
