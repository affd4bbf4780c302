//! Health at a glance: the daemon's report on itself.
//!
//! Everything here is beside the work: requests are counted without locks ([`counters`]), and only when somebody asks over
//! the control socket ([`socket`]) is a [`Report`](report::Report) put together. No client of the filesystem or of the IPC
//! service can tell whether it is there.

pub mod counters;
mod gather;
mod operations;
mod problems;
mod replaced;
pub mod report;
pub mod socket;

pub(crate) use gather::Sources;
pub use operations::{FuseOperation, IpcOperation};
pub use problems::{names, problems};
pub(crate) use replaced::Replacements;
use socket::Reply;

/// Request of a report, without its newline.
pub const REPORT_REQUEST: &[u8] = b"report";

/// Request that acknowledges all replacements. The answer is the array of them.
pub const ACKNOWLEDGE_REQUEST: &[u8] = b"ack";

/// Request that has the database compared with memory. The answer is what is known of former comparisons.
pub const SCRUB_REQUEST: &[u8] = b"scrub";

/// Request to change to the program that is installed now. Something with `accepted` answers before that begins.
pub const RELOAD_REQUEST: &[u8] = b"reload";

/// Begin of a question to the history, which follows in JSON.
pub const HISTORY_REQUEST: &[u8] = b"history ";

/// The answer to a request that only succeeds or fails.
pub(crate) fn outcome(result: std::io::Result<()>) -> Reply {
    let answer = match result {
        Ok(()) => serde_json::json!({ "accepted": true }),
        Err(error) => serde_json::json!({ "error": error.to_string() }),
    };
    Reply::Text(format!("{answer}\n").into_bytes())
}

/// One line of JSON, but the history answers for itself. The answer to an unknown request is an `error`.
pub(crate) fn answer(request: &[u8], sources: &Sources) -> Reply {
    if let Some(query) = request.strip_prefix(HISTORY_REQUEST)
        && let Some(history) = sources.history.clone()
    {
        let query = query.to_vec();
        return Reply::HandOver(Box::new(move |stream| history.serve(&query, stream)));
    }
    let rendered = match request {
        REPORT_REQUEST => serde_json::to_vec(&sources.report()),
        ACKNOWLEDGE_REQUEST => serde_json::to_vec(&sources.acknowledge()),
        SCRUB_REQUEST => serde_json::to_vec(&sources.scrub()),
        other => {
            let refusal = match other.starts_with(HISTORY_REQUEST) {
                true => "the history is off on this node".to_owned(),
                false => format!("unknown request '{}'", other.escape_ascii()),
            };
            serde_json::to_vec(&serde_json::json!({ "error": refusal }))
        }
    };
    let mut answer =
        rendered.expect("a report has only texts for keys and only numbers that JSON has");
    answer.push(b'\n');
    Reply::Text(answer)
}
