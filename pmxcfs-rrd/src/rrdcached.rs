//! A client of rrdcached: the one command that is needed, over its unix socket.
//!
//! The protocol is lines of text. `UPDATE path time:value:...` is answered by one line that begins with a number:
//! negative for a refusal, else the count of lines that follow. Updates are sent in batches and the answers read
//! afterwards. The caller keeps batches so small that neither side's socket buffer fills up.
//!
//! A daemon that is not there costs a failed connect for each batch. One that is there and does not answer would cost the
//! timeout each time, so it is left alone for growing intervals.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pmxcfs_api_types::time::wall_clock_secs;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::backend::{Answer, Backend, Update};

/// Longest line that rrdcached takes, line feed included.
const MAX_LINE_SIZE: u64 = 4096;

/// Most lines that are skipped after an answer.
const MAX_EXTRA_LINES: u32 = 1000;

const FIRST_HOLD_OFF: Duration = Duration::from_secs(10);
const LONGEST_HOLD_OFF: Duration = Duration::from_secs(300);

/// The connection to rrdcached, made when needed and kept.
pub(crate) struct Rrdcached {
    socket: PathBuf,
    timeout: Duration,
    connection: Option<BufReader<UnixStream>>,
    /// Until when the daemon is left alone, and for how long that is.
    hold_off: Option<(Instant, Duration)>,
}

impl Rrdcached {
    /// `timeout` bounds the wait for the daemon to take or to answer one batch.
    pub(crate) fn new(socket: PathBuf, timeout: Duration) -> Self {
        Self {
            socket,
            timeout,
            connection: None,
            hold_off: None,
        }
    }

    /// One batch on the present connection, or on a new one.
    fn exchange(&mut self, updates: &[Update], answers: &mut Vec<Answer>) -> io::Result<()> {
        let exchanged = self.try_exchange(updates, answers);
        match exchanged {
            Ok(()) => self.hold_off = None,
            Err(_) => self.connection = None,
        }
        exchanged
    }

    fn try_exchange(&mut self, updates: &[Update], answers: &mut Vec<Answer>) -> io::Result<()> {
        let deadline = Instant::now() + self.timeout;
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => self.connection.insert(BufReader::new(open(&self.socket)?)),
        };
        let lines: Vec<Vec<u8>> = updates.iter().map(update_line).collect();
        let is_sent = |line: &&Vec<u8>| line.len() as u64 <= MAX_LINE_SIZE;
        let request: Vec<u8> = lines.iter().filter(is_sent).flatten().copied().collect();
        connection.get_ref().set_write_timeout(Some(self.timeout))?;
        connection
            .get_mut()
            .write_all(&request)
            .map_err(timed_out)?;
        for line in &lines {
            answers.push(if is_sent(&line) {
                read_answer(connection, deadline)?
            } else {
                Err("too long for a line of rrdcached".into())
            });
        }
        Ok(())
    }

    /// Leaves a daemon alone that hangs or talks nonsense. One that is not there can be asked again at any time.
    fn note_failure(&mut self, error: &io::Error) {
        let is_absent = matches!(
            error.kind(),
            ErrorKind::NotFound | ErrorKind::ConnectionRefused
        );
        if !is_absent && !is_closed(error) {
            let interval = self.hold_off.map_or(FIRST_HOLD_OFF, |(_, interval)| {
                (interval * 2).min(LONGEST_HOLD_OFF)
            });
            self.hold_off = Some((Instant::now() + interval, interval));
        }
    }
}

impl Backend for Rrdcached {
    fn update(&mut self, updates: &[Update], answers: &mut Vec<Answer>) -> io::Result<()> {
        if self
            .hold_off
            .is_some_and(|(until, _)| Instant::now() < until)
        {
            return Err(ErrorKind::TimedOut.into());
        }
        let was_connected = self.connection.is_some();
        let mut exchanged = self.exchange(updates, answers);
        // A kept connection may be to a daemon that has been restarted since: its successor may take the batch.
        if was_connected && answers.is_empty() && exchanged.as_ref().is_err_and(is_closed) {
            exchanged = self.exchange(updates, answers);
        }
        exchanged.inspect_err(|error| self.note_failure(error))
    }
}

/// Connects without waiting: a daemon whose queue of connections is full counts as hanging.
fn open(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.connect(&SockAddr::unix(path)?)?;
    socket.set_nonblocking(false)?;
    Ok(socket.into())
}

fn update_line(update: &Update) -> Vec<u8> {
    let mut line = b"UPDATE ".to_vec();
    escape_into(&mut line, update.path.as_os_str().as_bytes());
    line.push(b' ');
    match update.text.strip_prefix("N:") {
        // librrd knows N as the present time, rrdcached does not: its C client replaces it, too.
        Some(values) => {
            let text = format!("{}:{values}", wall_clock_secs());
            escape_into(&mut line, text.as_bytes());
        }
        None => escape_into(&mut line, update.text.as_bytes()),
    }
    line.push(b'\n');
    line
}

fn escape_into(line: &mut Vec<u8>, field: &[u8]) {
    for byte in field {
        if matches!(byte, b' ' | b'\\') {
            line.push(b'\\');
        }
        line.push(*byte);
    }
}

/// Reads one answer with the lines that belong to it; an error inside is the daemon's reason for a refusal.
fn read_answer(
    connection: &mut BufReader<UnixStream>,
    deadline: Instant,
) -> io::Result<Result<(), String>> {
    let line = read_line(connection, deadline)?;
    let answer = parse_answer(&line)?;
    if let Ok(line_count) = &answer {
        for _ in 0..*line_count {
            read_line(connection, deadline)?;
        }
    }
    Ok(answer.map(|_line_count| ()))
}

/// Reads a line, without its end, of at most [`MAX_LINE_SIZE`] bytes.
fn read_line(connection: &mut BufReader<UnixStream>, deadline: Instant) -> io::Result<Vec<u8>> {
    let remaining = deadline.saturating_duration_since(Instant::now());
    if remaining.is_zero() {
        return Err(ErrorKind::TimedOut.into());
    }
    connection.get_ref().set_read_timeout(Some(remaining))?;
    let mut line = Vec::new();
    let read_size = connection
        .take(MAX_LINE_SIZE)
        .read_until(b'\n', &mut line)
        .map_err(timed_out)?;
    match line.pop() {
        Some(b'\n') => Ok(line),
        Some(_) if read_size as u64 == MAX_LINE_SIZE => {
            Err(invalid("answer longer than a line may be"))
        }
        _ => Err(ErrorKind::UnexpectedEof.into()),
    }
}

/// The first line of an answer: how many lines follow, or the daemon's reason for a refusal.
fn parse_answer(line: &[u8]) -> io::Result<Result<u32, String>> {
    let text = String::from_utf8_lossy(line);
    let (number, message) = text.split_once(' ').unwrap_or((&text, ""));
    match number.trim_end().parse::<i64>().map(u32::try_from) {
        Err(_) => Err(invalid("answer without a number")),
        Ok(Ok(line_count)) if line_count <= MAX_EXTRA_LINES => Ok(Ok(line_count)),
        Ok(_) if !number.starts_with('-') => Err(invalid("answer of too many lines")),
        Ok(_) => Ok(Err(message.trim().to_owned())),
    }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, reason)
}

/// A socket with a timeout says that it would block.
fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
        _ => error,
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::net::UnixListener;
    use std::thread::{self, JoinHandle};

    /// Never reached where the server answers.
    const TIMEOUT: Duration = Duration::from_secs(30);

    /// Serves one connection after the other: reads as many lines as the script has answers, then sends those.
    fn serve(
        listener: UnixListener,
        scripts: Vec<(usize, &'static [u8])>,
    ) -> JoinHandle<Vec<String>> {
        thread::spawn(move || {
            let mut lines = Vec::new();
            for (line_count, reply) in scripts {
                let (stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(stream);
                for _ in 0..line_count {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    lines.push(line);
                }
                reader.get_mut().write_all(reply).unwrap();
            }
            lines
        })
    }

    fn listen() -> (tempfile::TempDir, UnixListener, Rrdcached) {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let client = Rrdcached::new(socket, TIMEOUT);
        (directory, listener, client)
    }

    fn send(client: &mut Rrdcached, updates: &[Update]) -> (Vec<Answer>, Option<ErrorKind>) {
        let mut answers = Vec::new();
        let sent = client.update(updates, &mut answers);
        (answers, sent.err().map(|error| error.kind()))
    }

    fn update(path: &str, text: &str) -> Update {
        Update {
            path: path.into(),
            text: text.into(),
        }
    }

    #[test]
    fn a_batch_is_answered_in_order() {
        let (_directory, listener, mut client) = listen();
        let reply = b"0 errors, enqueued 1 value(s).\n-1 illegal attempt\n2 lines\nx\n-1 y\n0\n";
        let server = serve(listener, vec![(4, reply)]);
        let long = "1".repeat(4096);
        let (answers, broken) = send(
            &mut client,
            &[
                update("/db/a b\\c", "5:1:2"),
                update("/db/b", "5:1:2"),
                update("/db/long", &long),
                update("/db/c", "6:1\\:2"),
                update("/db/d", "7:U:2"),
            ],
        );
        assert!(broken.is_none());
        let refusal = |text: &str| Err(text.to_owned());
        assert_eq!(
            answers,
            [
                Ok(()),
                refusal("illegal attempt"),
                refusal("too long for a line of rrdcached"),
                Ok(()),
                Ok(())
            ]
        );
        let lines = [
            "UPDATE /db/a\\ b\\\\c 5:1:2\n",
            "UPDATE /db/b 5:1:2\n",
            "UPDATE /db/c 6:1\\\\:2\n",
            "UPDATE /db/d 7:U:2\n",
        ];
        assert_eq!(server.join().unwrap(), lines);
    }

    #[test]
    fn the_present_time_is_sent_as_a_number() {
        let line = String::from_utf8(update_line(&update("/a", "N:1:2"))).unwrap();
        let time = line
            .strip_prefix("UPDATE /a ")
            .and_then(|rest| rest.strip_suffix(":1:2\n"));
        assert!(
            time.is_some_and(|time| time.parse::<u64>().is_ok()),
            "{line}"
        );
    }

    #[test]
    fn a_missing_daemon_is_asked_again_at_once() {
        let (directory, listener, mut client) = listen();
        drop(listener);
        let updates = [update("/a", "5:1")];
        let refused = send(&mut client, &updates).1;
        assert_eq!(refused, Some(ErrorKind::ConnectionRefused));
        std::fs::remove_file(directory.path().join("socket")).unwrap();
        let missing = send(&mut client, &updates).1;
        assert_eq!(missing, Some(ErrorKind::NotFound));

        let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
        let server = serve(listener, vec![(1, b"0 ok\n")]);
        assert_eq!(send(&mut client, &updates).0, [Ok(())]);
        server.join().unwrap();
    }

    #[test]
    fn a_daemon_that_dies_within_a_batch_leaves_the_rest_unanswered() {
        let (_directory, listener, mut client) = listen();
        let server = serve(listener, vec![(3, b"0 ok\n0 o")]);
        let updates = [
            update("/a", "5:1"),
            update("/b", "5:1"),
            update("/c", "5:1"),
        ];
        let (answers, broken) = send(&mut client, &updates);
        assert_eq!(answers, [Ok(())]);
        assert!(broken.is_some_and(|kind| is_closed(&kind.into())));
        server.join().unwrap();
    }

    #[test]
    fn a_kept_connection_to_a_former_daemon_is_replaced() {
        let (_directory, listener, mut client) = listen();
        let server = serve(listener, vec![(1, b"0 ok\n"), (1, b"-1 second\n")]);
        let updates = [update("/a", "5:1")];
        assert_eq!(send(&mut client, &updates).0, [Ok(())]);
        let (answers, broken) = send(&mut client, &updates);
        assert_eq!(answers, [Err("second".into())]);
        assert!(broken.is_none());
        server.join().unwrap();
    }

    #[test]
    fn a_hanging_daemon_is_left_alone_for_a_while() {
        let (_directory, listener, mut client) = listen();
        client.timeout = Duration::from_millis(50);
        let updates = [update("/a", "5:1")];
        let start = Instant::now();
        let broken = send(&mut client, &updates).1;
        assert_eq!(broken, Some(ErrorKind::TimedOut));
        assert!(start.elapsed() >= client.timeout);

        for _ in 0..1000 {
            assert!(send(&mut client, &updates).1.is_some());
        }
        listener.set_nonblocking(true).unwrap();
        listener.accept().unwrap();
        let again = listener.accept().map_err(|error| error.kind());
        assert_eq!(
            again.err(),
            Some(ErrorKind::WouldBlock),
            "one connection only"
        );

        let first = client.hold_off.unwrap().1;
        client.note_failure(&io::Error::from(ErrorKind::TimedOut));
        assert_eq!(client.hold_off.unwrap().1, first * 2);
    }

    #[test]
    fn nonsense_breaks_the_connection() {
        let endless: &'static [u8] = Box::leak(vec![b'x'; 3 * 4096].into_boxed_slice());
        for reply in [b"hello\n".as_slice(), b"\n", b"1001 lines\n", endless] {
            let (_directory, listener, mut client) = listen();
            let server = serve(listener, vec![(1, reply)]);
            let (answers, broken) = send(&mut client, &[update("/a", "5:1")]);
            let kind = broken;
            assert_eq!(kind, Some(ErrorKind::InvalidData));
            assert!(answers.is_empty() && client.connection.is_none());
            server.join().unwrap();
        }
    }

    proptest! {
        #[test]
        fn answers_never_panic(line in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(Err(message)) = parse_answer(&line) {
                prop_assert!(line.starts_with(b"-"));
                prop_assert!(message.len() <= 3 * line.len());
            }
        }
    }
}
