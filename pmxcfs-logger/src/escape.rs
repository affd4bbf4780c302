//! How log messages are made printable before they are stored and sent.
//!
//! The form is fixed by what peers store. It is not JSON escaping: a backslash passes through, because clients have
//! already turned text outside ASCII into `\uXXXX`. The dump repairs what that leaves open (see
//! [`write_json_text`](crate::write_json_text)).

/// Room that must be left in the buffer for another unit to be written: the longest unit (6 bytes) and a NUL.
const RESERVE: usize = 7;

/// Buffers up to this size stay empty.
const MIN_BUFFER_SIZE: usize = 10;

/// Escapes a text into at most `buffer_size` bytes including a NUL that is not part of the result.
///
/// In valid UTF-8, control characters and DEL become `#` and three decimal digits, characters from U+0080 to U+FFFF
/// become `\u` and four hexadecimal digits, and higher ones vanish. In other text, control bytes become `#0` and two
/// digits, and bytes from 7F up become `?`. With `quotes`, `"` becomes `\"`. Writing stops before a unit once fewer than 8
/// bytes are left; a unit is never split. Says as well where the last unit begins.
pub fn escape(text: &[u8], quotes: bool, buffer_size: usize) -> (Vec<u8>, usize) {
    let limit = match buffer_size {
        0..=MIN_BUFFER_SIZE => 0,
        _ => buffer_size - RESERVE,
    };
    let (mut out, mut last_unit) = (Vec::new(), 0);
    let valid = std::str::from_utf8(text);
    let bytes = if valid.is_err() { text } else { &[] };
    let characters = valid.unwrap_or_default().chars();
    for unit in characters.chain(bytes.iter().copied().map(char::from)) {
        if out.len() >= limit {
            break;
        }
        last_unit = out.len();
        match u32::from(unit) {
            0x22 if quotes => out.extend_from_slice(b"\\\""),
            code @ 0..=0x1f => out.extend_from_slice(format!("#{code:03}").as_bytes()),
            0x7f.. if valid.is_err() => out.push(b'?'),
            0x7f => out.extend_from_slice(b"#127"),
            code @ 0x80..=0xffff => out.extend_from_slice(format!("\\u{code:04x}").as_bytes()),
            0x1_0000.. => {}
            _ => out.extend(u8::try_from(unit)),
        }
    }
    (out, last_unit)
}
