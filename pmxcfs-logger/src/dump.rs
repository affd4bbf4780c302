//! The log as JSON: the file `.clusterlog` and the answer to its IPC operation.
//!
//! C daemons print texts as they are, so one odd tag makes the document invalid for everybody. Here it is always valid
//! JSON, and equal byte for byte to what C daemons print wherever that is valid: see [`write_json_text`].

use crate::digest::user_digest;
use crate::entry::EntryView;
use crate::ring::RingView;

/// Number of entries in the file, and in an answer when the client gives none.
pub const DEFAULT_LIMIT: u32 = 50;

impl RingView<'_> {
    /// The newest entries as JSON: at most `limit`, of this user or, if that is empty, of all. Leaves out the oldest
    /// entry of a ring that has wrapped, as C daemons do.
    pub fn dump(&self, limit: u32, user: &[u8]) -> String {
        let filter = (!user.is_empty()).then(|| user_digest(user));
        let entries = self
            .walk()
            .take_while(|step| !step.is_cut_off)
            .map(|step| step.entry)
            .filter(|entry| filter.is_none_or(|digest| entry.ident_digest == digest))
            .take(usize::try_from(limit).unwrap_or(usize::MAX));

        let mut out = String::from("{\n\"data\": [\n");
        let empty = out.len();
        for entry in entries {
            if out.len() > empty {
                out.push_str(",\n");
            }
            write_entry(&mut out, &entry);
        }
        if out.len() > empty {
            out.push('\n');
        }
        out.push_str("]\n}\n");
        out
    }
}

fn write_entry(out: &mut String, entry: &EntryView<'_>) {
    out.push_str(&format!(
        "{{\"uid\": {}, \"time\": {}, \"pri\": {}, \"tag\": \"",
        entry.uid, entry.time, entry.priority
    ));
    write_json_text(out, entry.tag());
    out.push_str(&format!("\", \"pid\": {}, \"node\": \"", entry.pid));
    write_json_text(out, entry.node());
    out.push_str("\", \"user\": \"");
    write_json_text(out, entry.ident());
    out.push_str("\", \"msg\": \"");
    write_json_text(out, entry.message());
    out.push_str("\"}");
}

/// Writes a text that may already contain JSON escapes between the quotes of a JSON string.
///
/// A backslash that starts a valid escape stays, since messages are stored with `\"` and `\uXXXX` in them (halves of
/// surrogate pairs are valid as a pair only); any other backslash is doubled. Quotes get a backslash, control bytes become
/// `\u00XX`, and bytes that are not UTF-8 become `?`.
pub fn write_json_text(out: &mut String, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        write_valid(out, chunk.valid());
        out.extend(chunk.invalid().iter().map(|_| '?'));
    }
}

fn write_valid(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let mut length = character.len_utf8();
        match character {
            '\\' => {
                length = escape_length(rest.as_bytes());
                if length == 1 {
                    out.push('\\');
                }
                out.push_str(rest.get(..length).unwrap_or_default());
            }
            '"' => out.push_str("\\\""),
            '\0'..='\x1f' => out.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => out.push(character),
        }
        rest = rest.get(length..).unwrap_or_default();
    }
}

/// Length of the JSON escape that a text starting with a backslash begins with; 1 if it begins with none.
fn escape_length(text: &[u8]) -> usize {
    match text.get(1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
        Some(b'u') => match hex_escape(text) {
            Some(0xd800..=0xdbff) => match text.get(6..).and_then(hex_escape) {
                Some(0xdc00..=0xdfff) => 12,
                _ => 1,
            },
            Some(0xdc00..=0xdfff) | None => 1,
            Some(_) => 6,
        },
        _ => 1,
    }
}

/// Value of `\uXXXX` at the start of a text.
fn hex_escape(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |value, digit| {
        Some(value * 16 + char::from(*digit).to_digit(16)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &[u8]) -> String {
        let mut out = String::new();
        write_json_text(&mut out, text);
        out
    }

    #[test]
    fn texts_become_valid_json_and_valid_escapes_stay() {
        let table: [(&[u8], &str); 17] = [
            (b"plain / text", "plain / text"),
            (b"a \\\"quoted\\\" \\u00fc", "a \\\"quoted\\\" \\u00fc"),
            (b"back\\\\slash", "back\\\\slash"),
            (b"C:\\", "C:\\\\"),
            (b"C:\\x", "C:\\\\x"),
            (b"\\u12", "\\\\u12"),
            (b"\\u12g4", "\\\\u12g4"),
            (b"\\", "\\\\"),
            (b"\\\\\\", "\\\\\\\\"),
            (b"\\ud83d\\ude00", "\\ud83d\\ude00"),
            (b"\\ud83d", "\\\\ud83d"),
            (b"\\ude00", "\\\\ude00"),
            (b"\\ud83d\\u0041", "\\\\ud83d\\u0041"),
            (b"ta\"g", "ta\\\"g"),
            (b"\x01\n\x7f", "\\u0001\\u000a\x7f"),
            (b"caf\xc3\xa9", "caf\u{e9}"),
            (b"\xff\\\xc3", "?\\\\?"),
        ];
        for (text, expected) in table {
            assert_eq!(escaped(text), expected, "{}", text.escape_ascii());
            let json: Result<String, _> = serde_json::from_str(&format!("\"{}\"", escaped(text)));
            assert!(json.is_ok(), "{}", text.escape_ascii());
        }
    }
}
