//! Asking over the control socket.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::sockopt::{ReceiveTimeout, SendTimeout};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket};
use nix::sys::time::TimeVal;

use crate::health::REPORT_REQUEST;
use crate::health::report::Report;
use crate::tools::program::Outcome;

/// How long each step may take: a daemon that is stopped keeps its socket and does not answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest answer, many times what a daemon has to tell.
const ANSWER_SIZE: u64 = 16 << 20;

/// Why there is no report. Everything but [`Garbled`](Self::Garbled) means that the daemon could not be reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// There is no socket.
    #[error("is pmxcfs running? There is no control socket {}", .0.display())]
    NoSocket(PathBuf),
    /// The socket of a daemon that is gone.
    #[error("is pmxcfs running? Nobody listens at {}", .0.display())]
    NobodyListens(PathBuf),
    /// The socket belongs to somebody else.
    #[error("only root may ask the daemon: permission denied at {}", .0.display())]
    Denied(PathBuf),
    /// The daemon hangs, or was stopped by a signal.
    #[error("pmxcfs does not answer within {} s at {}", PATIENCE.as_secs(), .0.display())]
    Silent(PathBuf),
    /// The connection broke off.
    #[error("cannot ask pmxcfs at {}", path.display())]
    Failed {
        /// The socket.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// What answered is no daemon that this program understands.
    #[error("the answer from {} is not understood: {reason}", path.display())]
    Garbled {
        /// The socket.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// What a daemon has sent.
#[derive(Debug)]
pub(super) struct Answer {
    /// The bytes, a newline at their end.
    pub(super) json: Vec<u8>,
    /// What this program knows of them.
    pub(super) report: Report,
}

impl Answer {
    /// Whether the daemon is healthy.
    pub(super) const fn outcome(&self) -> Outcome {
        if self.report.problems.is_empty() {
            Outcome::Good
        } else {
            Outcome::Findings
        }
    }
}

/// Asks the daemon that listens there.
pub(super) fn ask(path: &Path) -> Result<Answer, AskError> {
    let json = exchange(path).map_err(|error| explain(path, error))?;
    let report = understand(&json).map_err(|reason| AskError::Garbled {
        path: path.to_owned(),
        reason,
    })?;
    Ok(Answer { json, report })
}

fn exchange(path: &Path) -> io::Result<Vec<u8>> {
    let mut stream = open(path)?;
    let mut request = REPORT_REQUEST.to_vec();
    request.push(b'\n');
    stream.write_all(&request)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_SIZE).read_to_end(&mut answer)?;
    Ok(answer)
}

/// With a bound for the connection, too: it waits when the daemon does not accept any more.
fn open(path: &Path) -> io::Result<UnixStream> {
    let stream = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let patience = TimeVal::new(i64::try_from(PATIENCE.as_secs()).unwrap_or(i64::MAX), 0);
    setsockopt(&stream, SendTimeout, &patience)?;
    setsockopt(&stream, ReceiveTimeout, &patience)?;
    connect(stream.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(stream))
}

fn explain(path: &Path, error: io::Error) -> AskError {
    let path = path.to_owned();
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT | Errno::ENOTDIR) => AskError::NoSocket(path),
        Some(Errno::ECONNREFUSED) => AskError::NobodyListens(path),
        Some(Errno::EACCES | Errno::EPERM) => AskError::Denied(path),
        Some(Errno::EAGAIN | Errno::ETIMEDOUT) => AskError::Silent(path),
        _ => AskError::Failed {
            path,
            source: error,
        },
    }
}

fn understand(json: &[u8]) -> Result<Report, String> {
    if json.is_empty() {
        return Err("it is empty".to_owned());
    }
    let value: serde_json::Value =
        serde_json::from_slice(json).map_err(|error| format!("it is not JSON: {error}"))?;
    if let Some(error) = value.get("error") {
        return Err(format!("the daemon says: {error}"));
    }
    if value.get("version").is_none() {
        return Err("it is no report".to_owned());
    }
    serde_json::from_value(value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_with_more_or_less_in_it_is_understood() {
        let report = understand(br#"{"version":"9","new":[1],"store":{"is_failed":true,"x":1}}"#)
            .expect("a report");
        assert_eq!(report.version, "9");
        assert!(report.store.is_failed);
        assert_eq!(report.rrd, crate::health::report::Rrd::default());
    }

    #[test]
    fn other_answers_are_told_from_reports() {
        for answer in [
            &b""[..],
            b"hello",
            b"{}",
            b"[]",
            b"{\"error\":\"unknown request\"}",
            b"{\"version\":\"1\",\"pid\":\"x\"}",
            b"{\"version\":\"1\"",
        ] {
            assert!(understand(answer).is_err(), "{}", answer.escape_ascii());
        }
    }

    #[test]
    fn where_nobody_is_the_reason_is_told() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("ctl.sock");
        assert!(matches!(ask(&path), Err(AskError::NoSocket(_))));
        drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
        assert!(matches!(ask(&path), Err(AskError::NobodyListens(_))));
        std::fs::remove_file(&path).expect("removable");
        std::fs::write(&path, "").expect("writable");
        assert!(ask(&path).is_err());
        let long = directory.path().join("x".repeat(200));
        assert!(matches!(ask(&long), Err(AskError::Failed { .. })));
    }
}
