//! What a service manager passes in the environment.
//!
//! The variables leave the environment, so that programs that the daemon starts do not speak for it, and are given to the program
//! that takes its place.

use std::ffi::{OsStr, OsString};

/// Path of the manager's socket, or `@` and a name without a file (sd_notify(3)).
pub(super) const SOCKET: &str = "NOTIFY_SOCKET";

/// Microseconds after which the manager takes a silent daemon for dead (sd_watchdog_enabled(3)).
pub(super) const WATCHDOG: &str = "WATCHDOG_USEC";

/// Process that the manager watches.
pub(super) const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// Process that gets descriptors (sd_listen_fds(3)).
pub(super) const LISTEN_PID: &str = "LISTEN_PID";

/// Number of those descriptors; the first is 3.
pub(super) const LISTEN_FDS: &str = "LISTEN_FDS";

/// Their names, with colons between them.
pub(super) const LISTEN_FDNAMES: &str = "LISTEN_FDNAMES";

/// Name of the unit that the daemon runs as.
pub(super) const UNIT: &str = "PMXCFS_UNIT";

const NAMES: [&str; 7] = [
    SOCKET,
    WATCHDOG,
    WATCHDOG_PID,
    LISTEN_PID,
    LISTEN_FDS,
    LISTEN_FDNAMES,
    UNIT,
];

/// The manager's variables and their values.
#[derive(Debug, Clone, Default)]
pub struct ManagerVariables(Vec<(&'static str, OsString)>);

impl ManagerVariables {
    /// Takes the variables out of the environment.
    ///
    /// Call from `main` before a fork (some name the first process) and before any thread is started: while there are several,
    /// the environment cannot be changed and the variables stay.
    #[must_use]
    pub fn take() -> Self {
        let take = |name| Some((name, take_variable(name)?));
        Self(NAMES.into_iter().filter_map(take).collect())
    }

    /// The value of a variable that was there.
    pub(super) fn get(&self, name: &str) -> Option<&OsStr> {
        let found = self.0.iter().find(|(present, _)| *present == name)?;
        Some(&found.1)
    }

    /// The value of a variable that is a number.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.to_str()?.parse().ok()
    }

    /// The same variables and values, except for one.
    #[must_use]
    pub(super) fn with(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.0.retain(|(present, _)| *present != name);
        self.0.push((name, value.into()));
        self
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &OsStr)> {
        self.0
            .iter()
            .map(|(name, value)| (*name, value.as_os_str()))
    }
}

/// The value of a variable, which is gone afterwards.
fn take_variable(name: &str) -> Option<OsString> {
    let value = std::env::var_os(name)?;
    if is_single_threaded() {
        remove_variable(name);
    } else {
        tracing::warn!("{name} stays in the environment: there are several threads");
    }
    Some(value)
}

fn is_single_threaded() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
}

#[expect(
    unsafe_code,
    reason = "changing the environment is unsafe in programs with threads"
)]
fn remove_variable(name: &str) {
    // SAFETY: the caller has seen that there is only this thread, so nobody reads the environment meanwhile.
    unsafe { std::env::remove_var(name) }
}
