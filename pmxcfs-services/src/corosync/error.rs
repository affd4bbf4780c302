//! Errors of connections to corosync.

use rust_corosync::CsError;

/// The reason why corosync does not do what it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CorosyncError {
    /// A call of a library of corosync failed.
    #[error("{call} failed: {}", reason(*code))]
    Call {
        /// The function of the C library.
        call: &'static str,
        /// What it returned.
        code: CsError,
    },
    /// The cluster has no notion of quorum.
    #[error("corosync.conf names no quorum provider")]
    NoQuorumProvider,
    /// Corosync has not loaded something that every cluster has.
    #[error("corosync has loaded no {0}")]
    MissingKey(&'static str),
    /// No two looks at the configuration saw the same.
    #[error("corosync's configuration changes all the time")]
    Unsettled,
    /// A thread that made a connection has panicked.
    #[error("{0} ended by a panic")]
    Panic(&'static str),
}

impl CorosyncError {
    pub(super) const fn new(call: &'static str, code: CsError) -> Self {
        Self::Call { call, code }
    }

    /// Turns a result of the binding into ours. `call` names the function of the C library.
    pub(super) fn check<T>(call: &'static str, result: Result<T, CsError>) -> Result<T, Self> {
        result.map_err(|code| Self::new(call, code))
    }

    /// Whether the same call may succeed a little later, on the same connection.
    pub const fn is_try_again(&self) -> bool {
        matches!(
            self,
            Self::Call {
                code: CsError::CsErrTryAgain | CsError::CsErrInterrupt,
                ..
            }
        )
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
