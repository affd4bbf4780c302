//! What holds for any guest config and any names. Called by the tests below and by the fuzz target.

use pmxcfs_api_types::{FsError, Vmid};

use crate::PropertyPage;
use crate::properties::Search;

/// Values of the named properties in one config, in the order of the names, which may repeat. Looks at the part in front
/// of the first section. The values are parts of the config.
pub(crate) fn find_properties<'a>(config: &'a [u8], names: &[&[u8]]) -> Vec<Option<&'a [u8]>> {
    let search = Search::new(names);
    let mut values = Vec::new();
    search.find(config, &mut values);
    search.places.iter().map(|place| values[*place]).collect()
}

/// Prints the named properties of guests, given in ascending order with their configs. Guests without any of them are left
/// out.
///
/// # Errors
/// [`FsError::MessageTooLarge`] if that is more than `max_size` bytes.
pub(crate) fn render_properties<C: AsRef<[u8]>>(
    guests: impl IntoIterator<Item = (Vmid, C)>,
    names: &[&[u8]],
    max_size: usize,
) -> Result<Vec<u8>, FsError> {
    let mut page = PropertyPage::new(names, max_size);
    for (vmid, config) in guests {
        page.add(vmid, config.as_ref())?;
    }
    page.finish()
}

/// The names are what is in front of the first NUL, separated by commas; the config is what follows. Each value is part of the
/// line that it comes from, and what is printed is one object for a guest with values.
pub fn guest_properties(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0);
    let (names, config) = bytes.split_at(end.unwrap_or(bytes.len()));
    let config = config.get(1..).unwrap_or_default();
    let names: Vec<&[u8]> = names.split(|byte| *byte == b',').take(64).collect();

    let values = find_properties(config, &names);
    assert_eq!(values.len(), names.len());
    for (name, value) in names.iter().zip(&values) {
        let Some(value) = value else { continue };
        assert!(!value.contains(&b'\n') && !value.contains(&0));
        let is_of = |line: &[u8]| {
            line.strip_prefix(*name)
                .and_then(|rest| rest.strip_prefix(b":"))
                .is_some_and(|rest| rest.windows(value.len()).any(|part| part == *value))
        };
        let lines = config.split(|byte| *byte == b'\n');
        let mut head = lines.take_while(|line| !line.starts_with(b"["));
        assert!(head.any(is_of), "the value is in no line of that name");
    }

    let shown = render_properties([(Vmid(100), config)], &names, usize::MAX).expect("no limit");
    let is_shown = values.iter().any(Option::is_some);
    assert_eq!(shown.starts_with(b"{\n\"100\":{"), is_shown);
    assert!(is_shown || shown == b"{\n\n}\n");
    assert!(shown.ends_with(b"\n}\n"));
    assert!(
        !shown.iter().any(|byte| *byte < b' ' && *byte != b'\n'),
        "unescaped control character"
    );
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::guest_properties;

    proptest! {
        #[test]
        fn any_bytes(bytes in vec(any::<u8>(), 0..200)) {
            guest_properties(&bytes);
        }

        #[test]
        fn likely_configs(bytes in "(lock|name|memory|a|,|:){1,6}\0((lock|name|memory|a)(:| |\\]){1,2}[ \t\r\x0b\x00-\x7f]{0,5}\n|\\[|\n){0,12}") {
            guest_properties(bytes.as_bytes());
        }
    }
}
