//! The version number in a corosync.conf.

use std::sync::LazyLock;

use regex::bytes::Regex;

/// `config_version` of a corosync.conf, found the way the C daemon finds it.
///
/// First match anywhere in the text (comments included) of `config_version`, optional white space, `:`, optional white
/// space, digits. `None` when there is none, when it is 0, or when it does not fit 64 bits.
pub fn config_version(text: &[u8]) -> Option<u64> {
    static VERSION: LazyLock<Regex> = LazyLock::new(|| {
        let version = Regex::new(r"(?-u)config_version\s*:\s*(\d+)");
        version.expect("it is well formed")
    });
    let found = VERSION.captures(text)?;
    let version = std::str::from_utf8(&found[1]).ok()?.parse().ok();
    version.filter(|version| *version > 0)
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
