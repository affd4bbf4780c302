//! Questions to the history, and followers, at the control socket.
//!
//! They leave the socket's own clients at once, so that neither many nor slow ones keep `status` from being answered. A question
//! is answered on a thread of its own, a few at a time. A follower is a task that waits for changes; one that falls behind is told
//! so and gets what it has missed from the file, at a pace that leaves the processors to those who work.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pmxcfs_api_types::time::wall_clock_secs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::History;
use super::pieces::{END, PieceWriter, failure, piece};
use super::query::{Query, Reader, page};
use super::record::Record;
use super::schema::open_read_only;

/// Questions at a time.
const QUERY_COUNT: usize = 4;

/// Followers at a time.
const FOLLOWER_COUNT: usize = 64;

/// How long a question waits for its turn, for what is acknowledged to be written, and for a reader that does not read.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often the time that a page of missed records took is rested, for each follower that there is.
const REST: u32 = 2;

/// Largest piece of an answer.
const PIECE_SIZE: usize = 64 * 1024;

/// Serves a history, with places for those who ask.
pub(crate) struct HistoryService {
    /// The history.
    pub(crate) history: History,
    queries: Arc<Semaphore>,
    followers: Arc<Semaphore>,
    /// One follower at a time reads what it has missed.
    catching_up: Semaphore,
}

impl HistoryService {
    /// Nobody asks yet.
    pub(crate) fn new(history: History) -> Self {
        Self {
            history,
            queries: Arc::new(Semaphore::new(QUERY_COUNT)),
            followers: Arc::new(Semaphore::new(FOLLOWER_COUNT)),
            catching_up: Semaphore::new(1),
        }
    }

    /// Answers a question in JSON, which a client has sent on this stream, in pieces. Call it on a runtime.
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
        let Ok(Ok(turn)) = timeout(PATIENCE, turn).await else {
            return refuse(stream, "too many questions at a time; ask again").await;
        };
        let mut stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let answered = spawn_blocking(move || {
            let _turn = turn;
            self.history.flush(PATIENCE);
            let mut out = BufWriter::with_capacity(PIECE_SIZE, PieceWriter(&stream));
            let answered = self.read(|reader| reader.answer(&query, &mut out));
            out.flush()?;
            drop(out);
            match answered {
                Ok(()) => stream.write_all(END),
                Err(error) => stream.write_all(&failure(&format!("{error:#}"))),
            }
        });
        answered.await?
    }

    fn read<R>(&self, call: impl FnOnce(&Reader<'_>) -> anyhow::Result<R>) -> anyhow::Result<R> {
        let connection = open_read_only(&self.history.file)?;
        let present = |path: &[u8]| self.history.tree.read().lookup(path).cloned();
        let present = &present;
        call(&Reader {
            connection,
            present,
        })
    }

    async fn follow(self: Arc<Self>, from: Option<u64>, mut stream: UnixStream) -> io::Result<()> {
        let place = Arc::clone(&self.followers).try_acquire_owned();
        let Ok(_place) = place else {
            return refuse(stream, "there are too many followers").await;
        };
        let Some((mut live, mut seq)) = self.history.follow().await else {
            return refuse(stream, "the history has ended").await;
        };
        // Tells that the follower hears of everything from now on.
        stream.write_all(&piece(b"\n")).await?;
        if let Some(version) = from {
            let service = Arc::clone(&self);
            let begin = move || service.read(|reader| reader.seq_at(version));
            match spawn_blocking(begin).await? {
                Ok(begin) => self.catch_up(&mut stream, begin, seq, 0).await?,
                Err(error) => return refuse(stream, &format!("{error:#}")).await,
            }
        }
        let (mut version, mut byte) = (0, [0]);
        loop {
            let lines = tokio::select! {
                lines = live.recv() => lines,
                // Nothing is expected of a follower: it is gone.
                _ = stream.read(&mut byte) => return Ok(()),
            };
            match lines {
                Ok(lines) => {
                    stream.write_all(&piece(&lines.text)).await?;
                    (seq, version) = (lines.seq, lines.version);
                }
                Err(RecvError::Lagged(_)) => {
                    stream.write_all(&piece(&behind().to_line())).await?;
                    let Some((renewed, last)) = self.history.follow().await else {
                        return Ok(());
                    };
                    self.catch_up(&mut stream, seq, last, version).await?;
                    (live, seq) = (renewed, last);
                }
                Err(RecvError::Closed) => return Ok(()),
            }
        }
    }

    /// Sends the records after one up to another, but for changes that led to this version or one before.
    async fn catch_up(
        self: &Arc<Self>,
        stream: &mut UnixStream,
        mut seq: i64,
        last: i64,
        version: u64,
    ) -> io::Result<()> {
        while seq < last {
            let turn = self.catching_up.acquire().await;
            let (service, begin) = (Arc::clone(self), Instant::now());
            let records = spawn_blocking(move || {
                let page = |reader: &Reader<'_>| Ok(page(&reader.connection, seq, last, version)?);
                service.read(page)
            });
            let records = records.await?.map_err(io::Error::other)?;
            seq = records.last().and_then(|record| record.seq).unwrap_or(last);
            let lines: Vec<u8> = records.iter().flat_map(Record::to_line).collect();
            let followers = u32::try_from(self.history.shared.follower_count()).unwrap_or(u32::MAX);
            sleep(begin.elapsed().saturating_mul(REST * followers)).await;
            drop(turn);
            stream.write_all(&piece(&lines)).await?;
        }
        Ok(())
    }
}

/// The notice to a follower that has missed changes.
fn behind() -> Record {
    let reason = "the reader fell behind; what it missed follows from the file";
    Record {
        time: wall_clock_secs(),
        operation: "behind".to_owned(),
        reason: Some(reason.to_owned()),
        ..Record::default()
    }
}

async fn refuse(mut stream: UnixStream, reason: &str) -> io::Result<()> {
    stream.write_all(&failure(reason)).await
}
