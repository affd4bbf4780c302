//! Requests over the control socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use nix::errno::Errno;
use pmxcfs_memdb::store::ScrubStats;
use serde::de::DeserializeOwned;
use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::health::report::{Replacement, Report};
use crate::health::{
    ACKNOWLEDGE_REQUEST, HISTORY_REQUEST, RELOAD_REQUEST, REPORT_REQUEST, SCRUB_REQUEST,
};
use crate::history::pieces::PieceReader;
use crate::history::query::Query;
use crate::tools::program::Outcome;

/// How long each step may take: a daemon that is stopped keeps its socket and does not answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest answer; a report is many times shorter.
const ANSWER_SIZE: u64 = 16 << 20;

/// The answer of a daemon.
#[derive(Debug)]
pub(super) struct Answer {
    /// The bytes, a newline at their end.
    pub(super) json: Vec<u8>,
    /// The fields that this program knows.
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

/// Asks the daemon that listens there for its report.
pub(super) fn ask(path: &Path) -> anyhow::Result<Answer> {
    let json = exchange(path, REPORT_REQUEST)?;
    let report = understand(path, &json, |value| value.get("version").is_some())?;
    Ok(Answer { json, report })
}

/// Acknowledges the replacements that the daemon reports. Returns them.
pub(super) fn acknowledge(path: &Path) -> anyhow::Result<Vec<Replacement>> {
    understand(path, &exchange(path, ACKNOWLEDGE_REQUEST)?, Value::is_array)
}

/// Has the daemon compare its database with memory. Returns the counts of former comparisons.
pub(super) fn scrub(path: &Path) -> anyhow::Result<ScrubStats> {
    understand(path, &exchange(path, SCRUB_REQUEST)?, |value| {
        value.get("run_count").is_some()
    })
}

/// Has the daemon change to the program that is installed now, which begins after the answer.
pub(super) fn reload(path: &Path) -> anyhow::Result<()> {
    let answer = exchange(path, RELOAD_REQUEST)?;
    understand::<Value>(path, &answer, |value| value.get("accepted").is_some())?;
    Ok(())
}

/// Reads the answer to a request. An answer of another kind than was asked for is an error.
fn understand<T: DeserializeOwned>(
    path: &Path,
    json: &[u8],
    is_wanted: impl FnOnce(&Value) -> bool,
) -> anyhow::Result<T> {
    let read = || {
        let value: Value = serde_json::from_slice(json)?;
        match value.get("error") {
            Some(error) => bail!("the daemon says: {error}"),
            None if !is_wanted(&value) => bail!("it is something else"),
            None => Ok(serde_json::from_value(value)?),
        }
    };
    read().with_context(|| format!("the answer from {} is not understood", path.display()))
}

/// Asks the history. The answer follows; its end may take as long as the question says.
pub(super) fn question(path: &Path, query: &Query) -> anyhow::Result<Box<dyn BufRead>> {
    let query_text = serde_json::to_vec(query)?;
    let ask = || -> io::Result<Box<dyn BufRead>> {
        let mut stream = open(path)?;
        stream.write_all(&[HISTORY_REQUEST, &query_text, b"\n"].concat())?;
        let answer = PieceReader::begin(BufReader::new(stream))?;
        if matches!(query, Query::Follow { .. }) {
            answer.inner().get_ref().set_read_timeout(None)?;
        }
        Ok(Box::new(BufReader::new(answer)))
    };
    ask().map_err(|error| unanswered(path, error))
}

fn exchange(path: &Path, request: &[u8]) -> anyhow::Result<Vec<u8>> {
    let ask = || -> io::Result<Vec<u8>> {
        let mut stream = open(path)?;
        stream.write_all(&[request, b"\n"].concat())?;
        let mut answer = Vec::new();
        stream.take(ANSWER_SIZE).read_to_end(&mut answer)?;
        Ok(answer)
    };
    ask().map_err(|error| unanswered(path, error))
}

fn unanswered(path: &Path, error: io::Error) -> anyhow::Error {
    let shown = path.display();
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT | Errno::ENOTDIR) => {
            anyhow!("is pmxcfs running? There is no control socket {shown}")
        }
        Some(Errno::ECONNREFUSED) => anyhow!("is pmxcfs running? Nobody listens at {shown}"),
        Some(Errno::EACCES | Errno::EPERM) => {
            anyhow!("only root may ask the daemon: permission denied at {shown}")
        }
        Some(Errno::EAGAIN | Errno::ETIMEDOUT) => anyhow!(
            "pmxcfs does not answer within {} s at {shown}",
            PATIENCE.as_secs()
        ),
        _ => anyhow!(error).context(format!("cannot ask pmxcfs at {shown}")),
    }
}

/// With a bound for the connection, too: it waits when the daemon does not accept any more.
fn open(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// The result of `ask` when a daemon sends this answer.
    fn told(answer: &[u8]) -> anyhow::Result<Answer> {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("ctl.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().expect("a client");
                let mut request = [0; 7];
                stream.read_exact(&mut request).expect("a request");
                stream.write_all(answer).expect("a reader");
            });
            ask(&path)
        })
    }

    #[test]
    fn a_report_with_more_or_less_in_it_is_understood() {
        let answer = told(br#"{"version":"9","new":[1],"store":{"is_failed":true,"x":1}}"#);
        let report = answer.expect("a report").report;
        assert_eq!(report.version, "9");
        assert!(report.store.is_failed);
        assert_eq!(report.rrd, pmxcfs_rrd::RrdStats::default());
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
            let error = told(answer).expect_err("no report");
            let text = error.to_string();
            assert!(text.contains("is not understood"), "{text}");
        }
    }

    #[test]
    fn where_nobody_is_the_reason_is_told() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("ctl.sock");
        let reason = |path: &Path| ask(path).expect_err("nobody").to_string();
        assert!(reason(&path).contains("There is no control socket"));
        drop(UnixListener::bind(&path).expect("a socket"));
        assert!(reason(&path).contains("Nobody listens"));
        fs::remove_file(&path).expect("removable");
        fs::write(&path, "").expect("writable");
        assert!(ask(&path).is_err());
        let long = directory.path().join("x".repeat(200));
        assert!(reason(&long).contains("cannot ask pmxcfs"));
    }
}
