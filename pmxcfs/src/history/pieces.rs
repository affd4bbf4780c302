//! An answer in pieces, so that its reader can tell a complete one from one that a dying daemon has cut.
//!
//! Each piece is a line with its length in bytes, followed by these. The last one has the length 0. A line of JSON with an
//! `error` takes the place of a piece when the answer cannot go on.

use std::io::{self, BufRead, ErrorKind, Read, Write};

use serde_json::{Value, json};

/// What ends an answer.
pub(super) const END: &[u8] = b"0\n";

/// Largest line between pieces.
const LINE_SIZE: u64 = 16 * 1024;

/// A piece.
pub(super) fn piece(bytes: &[u8]) -> Vec<u8> {
    [format!("{}\n", bytes.len()).as_bytes(), bytes].concat()
}

/// What takes the place of a piece.
pub(super) fn failure(reason: &str) -> Vec<u8> {
    format!("{}\n", json!({ "error": reason })).into_bytes()
}

/// Makes a piece of each write.
pub(super) struct PieceWriter<W>(pub(super) W);

impl<W: Write> Write for PieceWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            self.0.write_all(&piece(bytes))?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Joins pieces. An answer that was cut is an error, as is one that could not go on.
pub(crate) struct PieceReader<R> {
    inner: R,
    /// Bytes of the present piece that are left.
    left: u64,
    is_over: bool,
}

impl<R: BufRead> PieceReader<R> {
    /// Reads the beginning.
    ///
    /// # Errors
    /// As all reads.
    pub(crate) fn begin(inner: R) -> io::Result<Self> {
        let mut reader = Self {
            inner,
            left: 0,
            is_over: false,
        };
        reader.next_piece()?;
        Ok(reader)
    }

    /// The stream below.
    pub(crate) fn inner(&self) -> &R {
        &self.inner
    }

    fn next_piece(&mut self) -> io::Result<()> {
        let mut line = String::new();
        (&mut self.inner).take(LINE_SIZE).read_line(&mut line)?;
        if !line.ends_with('\n') {
            return Err(cut());
        }
        if let Ok(length) = line.trim_end().parse() {
            self.left = length;
            self.is_over = length == 0;
            return Ok(());
        }
        let refusal: Option<Value> = serde_json::from_str(&line).ok();
        let reason = refusal
            .as_ref()
            .and_then(|refusal| refusal["error"].as_str());
        let reason = reason.unwrap_or("the answer is not understood");
        Err(io::Error::other(format!("the daemon says: {reason}")))
    }
}

impl<R: BufRead> Read for PieceReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.is_over {
            self.next_piece()?;
        }
        let count = (&mut self.inner).take(self.left).read(buffer)?;
        self.left -= count as u64;
        if count == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(cut());
        }
        Ok(count)
    }
}

fn cut() -> io::Error {
    let reason = "the daemon has ended in the middle of its answer";
    io::Error::new(ErrorKind::UnexpectedEof, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut read = Vec::new();
        PieceReader::begin(bytes)?.read_to_end(&mut read)?;
        Ok(read)
    }

    #[test]
    fn a_complete_answer_is_told_from_every_part_of_it() {
        let mut sent = Vec::new();
        let mut writer = PieceWriter(&mut sent);
        writer.write_all(b"one\n").expect("memory");
        writer.write_all(b"").expect("memory");
        writer.write_all(b"two\n").expect("memory");
        sent.extend_from_slice(END);
        assert_eq!(answer(&sent).expect("complete"), b"one\ntwo\n");
        for length in 0..sent.len() {
            let cut = answer(&sent[..length]).expect_err("incomplete");
            assert_eq!(cut.kind(), ErrorKind::UnexpectedEof, "{length}");
        }
    }

    #[test]
    fn a_reason_takes_the_place_of_what_is_missing() {
        let sent = [piece(b"one"), failure("no more")].concat();
        let error = answer(&sent).expect_err("incomplete").to_string();
        assert_eq!(error, "the daemon says: no more");
        assert!(answer(b"something\n").is_err());
    }
}
