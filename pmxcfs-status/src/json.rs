//! Strings in JSON documents.
//!
//! The C daemon prints names, keys and addresses as they are, so a quote in one of them makes a document invalid for
//! all its readers. What needs no escaping comes out the same here.

/// Appends formatted text to a document.
macro_rules! put {
    ($out:expr, $($text:tt)*) => {
        std::io::Write::write_fmt($out, format_args!($($text)*)).expect("a Vec takes everything")
    };
}

pub(crate) use put;

/// Writes a JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        write_escaped(out, chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

/// Writes a JSON string with its quotes, with high bytes as they are. Guest configs may be in any encoding, and clients of
/// the property operations have always seen the bytes of the config.
pub(crate) fn write_raw_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    write_escaped(out, text);
    out.push(b'"');
}

fn write_escaped(out: &mut Vec<u8>, text: &[u8]) {
    let is_escaped = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
    let mut rest = text;
    while let Some(place) = rest.iter().position(is_escaped) {
        out.extend_from_slice(&rest[..place]);
        match rest[place] {
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            byte => put!(out, "\\u{byte:04x}"),
        }
        rest = &rest[place + 1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_valid_json_and_plain_ones_unchanged() {
        let table: [(&[u8], &str); 6] = [
            (b"node-1", "node-1"),
            ("\u{fc}".as_bytes(), "\u{fc}"),
            (b"a\"b\\c", "a\"b\\c"),
            (b"\x00\n\x1f\x7f", "\x00\n\x1f\x7f"),
            (b"x\xffy", "x\u{fffd}y"),
            (b"", ""),
        ];
        for (text, expected) in table {
            let mut out = Vec::new();
            write_string(&mut out, text);
            let parsed: String = serde_json::from_slice(&out).unwrap();
            assert_eq!(parsed, expected);
        }
        let mut out = Vec::new();
        write_raw_string(&mut out, b"\xff\"\x01");
        assert_eq!(out, b"\"\xff\\\"\\u0001\"");
    }
}
