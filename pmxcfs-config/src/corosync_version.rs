//! The version number in a corosync.conf.

/// `config_version` of a corosync.conf, found the way the C daemon finds it.
///
/// First match anywhere in the text (comments included) of `config_version`, optional white space, `:`, optional white
/// space, digits. `None` when there is none, when it is 0, or when it does not fit 64 bits.
pub fn config_version(text: &[u8]) -> Option<u64> {
    const KEY: &[u8] = b"config_version";
    let mut rest = text;
    while let Some(found) = rest.windows(KEY.len()).position(|window| window == KEY) {
        rest = &rest[found + KEY.len()..];
        if let Some(version) = version_after_key(rest) {
            return (version > 0).then_some(version);
        }
    }
    None
}

fn version_after_key(text: &[u8]) -> Option<u64> {
    let text = text
        .trim_ascii_start()
        .strip_prefix(b":")?
        .trim_ascii_start();
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    std::str::from_utf8(&text[..end]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::config_version;

    #[test]
    fn finds_the_first_number_behind_the_key() {
        let table: [(&[u8], Option<u64>); 9] = [
            (b"totem {\n  config_version: 7\n}\n", Some(7)),
            (b"config_version :\t 12", Some(12)),
            (b"# config_version: 3\nconfig_version: 4", Some(3)),
            (b"config_version\nconfig_version: 4", Some(4)),
            (b"config_version: x config_version:5", Some(5)),
            (b"config_version: 0\nconfig_version: 4", None),
            (b"version: 2", None),
            (b"", None),
            (b"config_version: 99999999999999999999", None),
        ];
        for (text, version) in table {
            assert_eq!(
                config_version(text),
                version,
                "{}",
                String::from_utf8_lossy(text)
            );
        }
    }
}
