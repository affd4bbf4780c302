//! Finds properties in guest configs and prints them as JSON.
//!
//! The search follows the C daemon line by line, quirks included: of several lines with one name the last counts, but
//! reading ends early once as many values were replaced as names are looked for. So with one name the second line wins.

use pmxcfs_api_types::Vmid;

use crate::json::{write_number, write_raw_string, write_string};

/// Values of the named properties in one config, in the order of the names, which may repeat. Looks at the part in front
/// of the first section. The values are parts of the config.
#[must_use]
pub fn find_properties<'a>(config: &'a [u8], names: &[&[u8]]) -> Vec<Option<&'a [u8]>> {
    find(config, names, &FirstBytes::of(names))
}

/// Prints the named properties of guests, given in ascending order with their configs. Guests without any of them are left
/// out.
#[must_use]
pub fn render_properties<C: AsRef<[u8]>>(
    guests: impl IntoIterator<Item = (Vmid, C)>,
    names: &[&[u8]],
) -> Vec<u8> {
    let first_bytes = FirstBytes::of(names);
    let mut out = b"{\n".to_vec();
    let empty = out.len();
    for (vmid, config) in guests {
        let values = find(config.as_ref(), names, &first_bytes);
        if values.iter().any(Option::is_some) {
            if out.len() > empty {
                out.extend_from_slice(b",\n");
            }
            write_guest(&mut out, vmid, names, &values);
        }
    }
    out.extend_from_slice(b"\n}\n");
    out
}

fn write_guest(out: &mut Vec<u8>, vmid: Vmid, names: &[&[u8]], values: &[Option<&[u8]>]) {
    write_number(out, format_args!("\"{vmid}\":{{"));
    let empty = out.len();
    for (name, value) in names.iter().zip(values) {
        let Some(value) = value else { continue };
        if out.len() > empty {
            out.push(b',');
        }
        write_string(out, name);
        out.extend_from_slice(b": ");
        write_raw_string(out, value);
    }
    out.push(b'}');
}

/// Which first bytes a line can have to be of interest.
struct FirstBytes([bool; 256]);

impl FirstBytes {
    fn of(names: &[&[u8]]) -> Self {
        let mut wanted = [false; 256];
        for name in names {
            wanted[usize::from(name.first().copied().unwrap_or(b':'))] = true;
        }
        Self(wanted)
    }

    fn contains(&self, byte: u8) -> bool {
        self.0[usize::from(byte)]
    }
}

fn find<'a>(config: &'a [u8], names: &[&[u8]], first_bytes: &FirstBytes) -> Vec<Option<&'a [u8]>> {
    let mut values = vec![None; names.len()];
    let mut replaced_count = 0;
    let mut rest = config;
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let line = &rest[..end];
        rest = rest.get(end + 1..).unwrap_or_default();
        match line.first() {
            Some(b'[') => break,
            Some(first) if first_bytes.contains(*first) => {}
            _ => continue,
        }
        for (name, value) in names.iter().zip(&mut values) {
            if let Some(found) = value_of(line, name) {
                replaced_count += usize::from(value.replace(found).is_some());
            }
        }
        if replaced_count >= names.len() {
            break;
        }
    }
    values
}

/// The value in a line, if the line has this name. A NUL ends the line; white space in front of it is no value, while of a
/// whole line of white space the last byte is one.
fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let after_name = line.strip_prefix(name)?.strip_prefix(b":")?;
    let end = memchr::memchr(0, after_name);
    let text = &after_name[..end.unwrap_or(after_name.len())];
    let last = text.len().checked_sub(1)?;
    let start = match text.iter().position(|byte| !is_white(*byte)) {
        Some(start) => start,
        None if end.is_none() => last,
        None => return None,
    };
    let stop = text
        .iter()
        .rposition(|byte| !is_white(*byte))
        .unwrap_or(last);
    Some(&text[start..=stop])
}

/// White space as `isspace` has it.
const fn is_white(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(config: &str) -> Option<String> {
        let values = find_properties(config.as_bytes(), &[b"lock"]);
        values[0].map(|value| String::from_utf8(value.to_vec()).unwrap())
    }

    #[test]
    fn values_are_trimmed_and_end_at_a_nul() {
        let table = [
            ("lock: backup", Some("backup")),
            ("lock:backup\n", Some("backup")),
            ("lock: \t a b \r\n", Some("a b")),
            ("lock:", None),
            ("lock:\n", None),
            ("lock: ", Some(" ")),
            ("lock: \t", Some("\t")),
            ("lock: a\0b", Some("a")),
            ("lock: \0b", None),
            ("lock:\0b", None),
            ("lo\0ck: a", None),
            ("\0lock: a", None),
            ("lock : a", None),
            ("lockx: a", None),
            (" lock: a", None),
            ("#lock: a", None),
            ("Lock: a", None),
            ("name: x\n[snap]\nlock: a", None),
            ("\n\nlock: a", Some("a")),
            ("", None),
        ];
        for (config, expected) in table {
            assert_eq!(lock(config).as_deref(), expected, "{config:?}");
        }
    }

    #[test]
    fn later_lines_replace_until_as_many_were_replaced_as_names_are_looked_for() {
        let config = b"lock: 1\nlock: 2\nlock: 3\nname: a\nlock: 4\nname: b\n";
        let found = |names: &[&[u8]]| -> Vec<String> {
            let values = find_properties(config, names);
            let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
            values
                .iter()
                .map(|value| value.map(text).unwrap_or_default())
                .collect()
        };
        assert_eq!(found(&[b"lock"]), ["2"]);
        assert_eq!(found(&[b"lock", b"name"]), ["3", ""]);
        assert_eq!(found(&[b"lock", b"name", b"memory"]), ["4", "a", ""]);
        assert_eq!(found(&[b"lock", b"lock"]), ["2", "2"]);
    }

    #[test]
    fn output_is_valid_json_whatever_the_config_holds() {
        let configs = [
            (Vmid(9), &b"lock: a\"b\\c\x01d\n"[..]),
            (Vmid(10), b"name: none\n"),
            (Vmid(100), b"lock: \xff\n"),
        ];
        let out = render_properties(configs, &[b"lock"]);
        assert_eq!(
            out,
            b"{\n\"9\":{\"lock\": \"a\\\"b\\\\c\\u0001d\"},\n\"100\":{\"lock\": \"\xff\"}\n}\n"
        );
        assert_eq!(render_properties(configs, &[b"zzz"]), b"{\n\n}\n");
        let quoted = render_properties([(Vmid(1), "a\"b: c")], &[b"a\"b"]);
        assert_eq!(quoted, b"{\n\"1\":{\"a\\\"b\": \"c\"}\n}\n");
    }

    #[test]
    fn an_empty_name_finds_lines_that_start_with_a_colon() {
        assert_eq!(find_properties(b"a: b\n: c\n", &[b""]), [Some(&b"c"[..])]);
    }
}
