//! What can go wrong with a connection.

use rust_corosync::CsError;

/// A call of a corosync library that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{call} failed: {reason}", reason = reason(self.code))]
pub struct CorosyncError {
    call: &'static str,
    code: CsError,
}

impl CorosyncError {
    pub(super) const fn new(call: &'static str, code: CsError) -> Self {
        Self { call, code }
    }

    /// A thread that made a connection has panicked.
    pub(crate) const fn from_panic(call: &'static str) -> Self {
        Self::new(call, CsError::CsErrRustCompat)
    }

    /// Corosync has not loaded something that every cluster has.
    pub(crate) const fn missing_key(key: &'static str) -> Self {
        Self::new(key, CsError::CsErrNotExist)
    }

    /// Turns a result of the binding into ours. `call` names the function of the C library.
    pub(super) fn check<T>(call: &'static str, result: Result<T, CsError>) -> Result<T, Self> {
        result.map_err(|code| Self::new(call, code))
    }

    /// Whether the same call may succeed a little later, on the same connection.
    #[must_use]
    pub fn is_try_again(&self) -> bool {
        matches!(self.code, CsError::CsErrTryAgain | CsError::CsErrInterrupt)
    }

    /// Whether the connection is of no use any more: corosync has ended, or dropped it.
    #[must_use]
    pub fn is_disconnected(&self) -> bool {
        matches!(self.code, CsError::CsErrLibrary | CsError::CsErrBadHandle)
    }
}

/// In an operator's words where there are any.
fn reason(code: CsError) -> String {
    let words = match code {
        CsError::CsErrLibrary => "no connection to corosync (is it running?)",
        CsError::CsErrTryAgain => "corosync is busy",
        CsError::CsErrInterrupt => "interrupted by a membership change",
        CsError::CsErrAccess | CsError::CsErrSecurity => "corosync refuses this user",
        CsError::CsErrBadHandle => "the connection is closed",
        CsError::CsErrExist => "already a member",
        CsError::CsErrNotExist => "there is no such thing",
        CsError::CsErrNoMemory | CsError::CsErrNoResources => "out of memory",
        CsError::CsErrTimeout => "no answer in time",
        other => return format!("corosync error {} ({other})", other as u32),
    };
    words.to_owned()
}
