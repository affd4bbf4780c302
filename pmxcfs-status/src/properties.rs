//! Finds properties in guest configs and prints them as JSON.
//!
//! The search follows the C daemon line by line, quirks included: of several lines with one name the last counts, but
//! reading ends early once as many values were replaced as names are looked for. So with one name the second line wins. A
//! name that repeats is looked for once, counts as often as it was asked for, and its value is printed as often.

use pmxcfs_api_types::{FsError, Result, Vmid};

use crate::json::{put, write_raw_string, write_string};

/// The named properties of guests in JSON, as far as it is made. No more than its limit and one value is ever held.
pub struct PropertyPage<'n> {
    /// Each name as it is printed in front of its value.
    names: Vec<Vec<u8>>,
    search: Search<'n>,
    text: Vec<u8>,
    max_size: usize,
}

/// Begin of the page, before the first guest.
const OPENING: &[u8] = b"{\n";

impl<'n> PropertyPage<'n> {
    /// Without a guest. The page may have at most `max_size` bytes.
    pub fn new(names: &[&'n [u8]], max_size: usize) -> Self {
        let printed = |name: &&[u8]| {
            let mut text = Vec::new();
            write_string(&mut text, name);
            text.extend_from_slice(b": ");
            text
        };
        Self {
            names: names.iter().map(printed).collect(),
            search: Search::new(names),
            text: OPENING.to_vec(),
            max_size,
        }
    }

    /// Adds a guest with a higher id than those before, unless it has none of the properties.
    ///
    /// # Errors
    /// [`FsError::MessageTooLarge`] if the page has too many bytes, whatever comes.
    pub fn add(&mut self, vmid: Vmid, config: &[u8]) -> Result<()> {
        let out = &mut self.text;
        let mut values = Vec::with_capacity(self.search.names.len());
        self.search.find(config, &mut values);
        if values.iter().all(Option::is_none) {
            return Ok(());
        }
        if out.len() > OPENING.len() {
            out.extend_from_slice(b",\n");
        }
        put!(out, "\"{vmid}\":{{");
        let first = out.len();
        for (name, place) in self.names.iter().zip(&self.search.places) {
            let Some(value) = values[*place] else {
                continue;
            };
            if out.len() > first {
                out.push(b',');
            }
            out.extend_from_slice(name);
            write_raw_string(out, value);
            if out.len() > self.max_size {
                return Err(FsError::MessageTooLarge);
            }
        }
        out.push(b'}');
        Ok(())
    }

    /// The whole page.
    ///
    /// # Errors
    /// [`FsError::MessageTooLarge`] as in [`Self::add`].
    pub fn finish(mut self) -> Result<Vec<u8>> {
        self.text.extend_from_slice(b"\n}\n");
        if self.text.len() > self.max_size {
            return Err(FsError::MessageTooLarge);
        }
        Ok(self.text)
    }
}

/// What is looked for, each name once.
pub(crate) struct Search<'n> {
    /// The different names, and how often each was asked for.
    names: Vec<(&'n [u8], usize)>,
    /// For each name that was asked for its place in `names`.
    pub(crate) places: Vec<usize>,
    /// Which first bytes a line can have to be of interest.
    first_bytes: [bool; 256],
}

impl<'n> Search<'n> {
    pub(crate) fn new(names: &[&'n [u8]]) -> Self {
        let mut search = Self {
            names: Vec::with_capacity(names.len()),
            places: Vec::with_capacity(names.len()),
            first_bytes: [false; 256],
        };
        for name in names {
            let known = search.names.iter().position(|(known, _)| known == name);
            let place = known.unwrap_or(search.names.len());
            match known {
                Some(place) => search.names[place].1 += 1,
                None => search.names.push((name, 1)),
            }
            search.places.push(place);
            search.first_bytes[usize::from(name.first().copied().unwrap_or(b':'))] = true;
        }
        search
    }

    /// Puts the value of each different name into `values`.
    pub(crate) fn find<'a>(&self, config: &'a [u8], values: &mut Vec<Option<&'a [u8]>>) {
        values.resize(self.names.len(), None);
        let mut replaced_count = 0;
        let mut rest = config;
        while !rest.is_empty() && replaced_count < self.places.len() {
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let line = &rest[..end];
            rest = rest.get(end + 1..).unwrap_or_default();
            match line.first() {
                Some(b'[') => break,
                Some(first) if self.first_bytes[usize::from(*first)] => {}
                _ => continue,
            }
            for ((name, count), value) in self.names.iter().zip(values.iter_mut()) {
                if let Some(found) = value_of(line, name)
                    && value.replace(found).is_some()
                {
                    replaced_count += count;
                }
            }
        }
    }
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
    use crate::fuzzing::{find_properties, render_properties};

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
        let out = render_properties(configs, &[b"lock"], 1000).unwrap();
        assert_eq!(
            out,
            b"{\n\"9\":{\"lock\": \"a\\\"b\\\\c\\u0001d\"},\n\"100\":{\"lock\": \"\xff\"}\n}\n"
        );
        let none = render_properties(configs, &[b"zzz"], 1000).unwrap();
        assert_eq!(none, b"{\n\n}\n");
        let quoted = render_properties([(Vmid(1), "a\"b: c")], &[b"a\"b"], 1000).unwrap();
        assert_eq!(quoted, b"{\n\"1\":{\"a\\\"b\": \"c\"}\n}\n");
    }

    #[test]
    fn a_name_that_repeats_is_printed_as_often() {
        let out = render_properties(
            [(Vmid(1), b"a: 1\na: 2\na: 3\na: 4\nb: x\n")],
            &[b"a", b"b", b"a"],
            1000,
        );
        // Two names count as replaced with each line, so the search ends with the third.
        assert_eq!(out.unwrap(), b"{\n\"1\":{\"a\": \"3\",\"a\": \"3\"}\n}\n");
    }

    #[test]
    fn what_is_too_large_ends_where_it_gets_too_large() {
        let config = [&b"lock: "[..], &[b'x'; 1000], b"\n"].concat();
        let guests = |count| (0..count).map(|vmid| (Vmid(vmid), &config[..]));
        let names = [&b"lock"[..]; 254];
        for (names, limit, seen) in [(&names[..], 10_000, 1), (&names[..1], 10_000, 10)] {
            let mut seen_count = 0;
            let counted = guests(1000).inspect(|_| seen_count += 1);
            let result = render_properties(counted, names, limit);
            assert_eq!(result, Err(FsError::MessageTooLarge));
            assert_eq!(seen_count, seen);
        }
        let exact = render_properties(guests(3), &names[..1], usize::MAX).unwrap();
        for (limit, fits) in [(exact.len(), true), (exact.len() - 1, false)] {
            let result = render_properties(guests(3), &names[..1], limit);
            assert_eq!(result.is_ok(), fits);
        }
    }

    #[test]
    fn an_empty_name_finds_lines_that_start_with_a_colon() {
        assert_eq!(find_properties(b"a: b\n: c\n", &[b""]), [Some(&b"c"[..])]);
    }
}
