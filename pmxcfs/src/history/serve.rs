//! Questions to the history, and followers, at the control socket.
//!
//! They leave the socket's own clients at once, so that neither many nor slow ones keep `status` from being answered. A question
//! is answered on a thread of its own, a few at a time. A follower is a task that waits for records; one that falls behind reads
//! what it has missed from the file, and is told so.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use super::History;
use super::query::{Moment, Query, Reader};
use super::schema::open_read_only;

/// Questions at a time.
const QUERY_COUNT: usize = 4;

/// Followers at a time.
const FOLLOWER_COUNT: usize = 64;

/// How long a question waits for its turn, for what is acknowledged to be written, and for a reader that does not read.
const PATIENCE: Duration = Duration::from_secs(5);

/// The first line of an answer that is one.
pub(crate) const ACCEPTED: &str = "ok";

/// Serves a history, with places for those who ask.
pub(crate) struct HistoryService {
    /// The history.
    pub(crate) history: History,
    queries: Arc<Semaphore>,
    followers: Arc<Semaphore>,
}

impl HistoryService {
    /// Nobody asks yet.
    pub(crate) fn new(history: History) -> Self {
        Self {
            history,
            queries: Arc::new(Semaphore::new(QUERY_COUNT)),
            followers: Arc::new(Semaphore::new(FOLLOWER_COUNT)),
        }
    }

    /// Answers a question in JSON, which a client has sent on this stream. Call it on a runtime. The answer is a line that says
    /// `ok` and what was asked for, or `{"error": ...}`.
    pub(crate) fn serve(self: &Arc<Self>, request: &[u8], stream: UnixStream) {
        let service = Arc::clone(self);
        let query = serde_json::from_slice::<Query>(request);
        tokio::spawn(async move {
            let served = match query {
                Ok(Query::Follow { from }) => service.follow(from, stream).await,
                Ok(query) => service.answer(query, stream).await,
                Err(error) => {
                    refuse(stream, &format!("the question is not understood: {error}")).await
                }
            };
            // A client that is gone or does not read gets no answer.
            let _gone = served;
        });
    }

    async fn answer(self: Arc<Self>, query: Query, stream: UnixStream) -> io::Result<()> {
        let turn = Arc::clone(&self.queries).acquire_owned();
        let Ok(Ok(turn)) = tokio::time::timeout(PATIENCE, turn).await else {
            return refuse(stream, "too many questions at a time; ask again").await;
        };
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let answered = spawn_blocking(move || {
            let _turn: OwnedSemaphorePermit = turn;
            self.history.flush(PATIENCE);
            let mut out = Answer {
                out: BufWriter::new(&stream),
                has_begun: false,
            };
            let answered = self.read(|reader| reader.answer(&query, &mut out));
            match answered {
                Err(error) if !out.has_begun => {
                    out.has_begun = true;
                    writeln!(out, "{}", json!({ "error": format!("{error:#}") }))
                }
                Err(error) => Err(io::Error::other(error)),
                Ok(()) => out.begin().and_then(|()| out.flush()),
            }
        });
        answered.await.map_err(io::Error::other)?
    }

    fn read<R>(&self, call: impl FnOnce(&Reader<'_>) -> anyhow::Result<R>) -> anyhow::Result<R> {
        let connection = open_read_only(&self.history.file)?;
        let present = |path: &[u8]| self.history.tree.read().lookup(path).cloned();
        let reader = Reader {
            connection,
            present: &present,
        };
        call(&reader)
    }

    async fn follow(self: Arc<Self>, from: Option<u64>, mut stream: UnixStream) -> io::Result<()> {
        let place = Arc::clone(&self.followers).try_acquire_owned();
        let Ok(_place) = place else {
            return refuse(stream, "there are too many followers").await;
        };
        let mut live = self.history.shared.follow();
        let service = Arc::clone(&self);
        let begin = spawn_blocking(move || {
            service.history.flush(PATIENCE);
            service.read(|reader| reader.seq_at(from.map(Moment::Version)))
        });
        let mut seq = match begin.await.map_err(io::Error::other)? {
            Ok(seq) => seq,
            Err(error) => return refuse(stream, &format!("{error:#}")).await,
        };
        stream.write_all(format!("{ACCEPTED}\n").as_bytes()).await?;
        seq = self.catch_up(seq, &mut stream).await?;
        let mut byte = [0];
        loop {
            let lines = tokio::select! {
                lines = live.recv() => lines,
                // Nothing is expected of a follower: it is gone.
                _ = stream.read(&mut byte) => return Ok(()),
            };
            match lines {
                Ok(lines) if lines.last_seq > seq => {
                    stream.write_all(&lines.text).await?;
                    seq = lines.last_seq;
                }
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => {
                    let reason = "the reader fell behind; what it missed follows from the file";
                    let notice = json!({ "seq": 0, "operation": "behind", "reason": reason });
                    stream.write_all(format!("{notice}\n").as_bytes()).await?;
                    live = self.history.shared.follow();
                    seq = self.catch_up(seq, &mut stream).await?;
                }
                Err(RecvError::Closed) => return Ok(()),
            }
        }
    }

    /// Sends the records after one. Returns the number of the last one.
    async fn catch_up(self: &Arc<Self>, mut seq: i64, stream: &mut UnixStream) -> io::Result<i64> {
        loop {
            let service = Arc::clone(self);
            let page = spawn_blocking(move || {
                let mut page = Vec::new();
                let last = service.read(|reader| reader.page(seq, &mut page))?;
                anyhow::Ok((page, last))
            });
            let (page, last) = page
                .await
                .map_err(io::Error::other)?
                .map_err(io::Error::other)?;
            stream.write_all(&page).await?;
            match last {
                Some(last) => seq = last,
                None => return Ok(seq),
            }
        }
    }
}

async fn refuse(mut stream: UnixStream, reason: &str) -> io::Result<()> {
    let refusal = json!({ "error": reason });
    stream.write_all(format!("{refusal}\n").as_bytes()).await
}

/// Says `ok` before the first byte, so that a refusal can still come instead.
struct Answer<W: Write> {
    out: W,
    has_begun: bool,
}

impl<W: Write> Answer<W> {
    fn begin(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.has_begun, true) {
            writeln!(self.out, "{ACCEPTED}")?;
        }
        Ok(())
    }
}

impl<W: Write> Write for Answer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.begin()?;
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
