//! How log messages are made printable before they are stored and sent.
//!
//! The form is fixed by what peers store. It is not JSON escaping: a backslash passes through, because clients have
//! already turned text outside ASCII into `\uXXXX`. The dump repairs what that leaves open (see
//! [`write_json_text`](crate::write_json_text)).

/// Room that must be left in the buffer for another unit to be written: the longest unit (6 bytes) and a NUL.
const RESERVE: usize = 7;

/// Buffers up to this size stay empty.
const MIN_BUFFER_SIZE: usize = 10;

/// An escaped text and where its last unit starts.
#[derive(Debug, Default)]
pub(crate) struct Escaped {
    pub(crate) text: Vec<u8>,
    last_unit: usize,
}

impl Escaped {
    /// Leaves out the last unit if the text is longer than `size`.
    pub(crate) fn fit(&mut self, size: usize) {
        if self.text.len() > size {
            self.text.truncate(self.last_unit);
        }
    }
}

/// Escapes a text into at most `buffer_size` bytes including a NUL that is not part of the result.
///
/// In valid UTF-8, control characters and DEL become `#` and three decimal digits, characters from U+0080 to U+FFFF
/// become `\u` and four hexadecimal digits, and higher ones vanish. In other text, control bytes become `#0` and two
/// digits, and bytes from 7F up become `?`. With `quotes`, `"` becomes `\"`. Writing stops before a unit once fewer than 8
/// bytes are left; a unit is never split.
#[must_use]
pub fn escape(text: &[u8], quotes: bool, buffer_size: usize) -> Vec<u8> {
    escape_units(text, quotes, buffer_size).text
}

pub(crate) fn escape_units(text: &[u8], quotes: bool, buffer_size: usize) -> Escaped {
    let mut out = Escaped::default();
    if buffer_size <= MIN_BUFFER_SIZE {
        return out;
    }
    let limit = buffer_size - RESERVE;
    match std::str::from_utf8(text) {
        Ok(valid) => {
            for character in valid.chars() {
                if out.text.len() >= limit {
                    break;
                }
                out.last_unit = out.text.len();
                push_character(&mut out.text, character, quotes);
            }
        }
        Err(_) => {
            for &byte in text {
                if out.text.len() >= limit {
                    break;
                }
                out.last_unit = out.text.len();
                push_byte(&mut out.text, byte, quotes);
            }
        }
    }
    out
}

fn push_character(out: &mut Vec<u8>, character: char, quotes: bool) {
    match u32::from(character) {
        0x22 if quotes => out.extend_from_slice(b"\\\""),
        code @ (0..=0x1f | 0x7f) => out.extend_from_slice(format!("#{code:03}").as_bytes()),
        code @ 0x80..=0xffff => out.extend_from_slice(format!("\\u{code:04x}").as_bytes()),
        0x1_0000.. => {}
        _ => out.extend(u8::try_from(character)),
    }
}

fn push_byte(out: &mut Vec<u8>, byte: u8, quotes: bool) {
    match byte {
        b'"' if quotes => out.extend_from_slice(b"\\\""),
        0..=0x1f => out.extend_from_slice(format!("#{byte:03}").as_bytes()),
        0x20..=0x7e => out.push(byte),
        0x7f.. => out.push(b'?'),
    }
}
