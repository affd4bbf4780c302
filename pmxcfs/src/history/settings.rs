//! What the history keeps, and for how long.

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;
use fast_glob::glob_match;
use pmxcfs_api_types::path::is_private;

/// Paths that change all the time and say nothing: locks, and the status files of the HA manager and of each node, with the
/// temporary files that they are renamed from.
const LEFT_OUT: &str = "priv/lock/**,ha/manager_status*,nodes/*/lrm_status*";

/// Options of the history. Each has a variable, which `/etc/default/pve-cluster` can set.
#[derive(Debug, Clone, Args)]
pub(crate) struct Settings {
    /// Keep a history of changes
    #[arg(long, value_name = "on|off", env = "PMXCFS_HISTORY", default_value = "on", value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set)]
    pub(crate) history: bool,

    /// Days after which records are removed from the history
    #[arg(long, value_name = "DAYS", env = "PMXCFS_HISTORY_DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) history_days: u32,

    /// Size of the history on disk in MiB; it takes at most a tenth of the free space, too
    #[arg(long, value_name = "MIB", env = "PMXCFS_HISTORY_SIZE", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) history_size: u32,

    /// Patterns of paths that the history leaves out, separated by commas
    #[arg(long, value_name = "GLOBS", env = "PMXCFS_HISTORY_LEFT_OUT", default_value = LEFT_OUT, value_delimiter = ',', value_parser = parse_glob)]
    pub(crate) history_left_out: Vec<String>,

    /// Keep the contents of private files and keys, too
    #[arg(long, value_name = "on|off", env = "PMXCFS_HISTORY_SECRETS", default_value = "off", value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set)]
    pub(crate) history_secrets: bool,

    /// The file; set by the daemon.
    #[arg(skip)]
    pub(crate) file: PathBuf,
}

impl Settings {
    /// Whether nothing is recorded of this path.
    pub(crate) fn is_left_out(&self, path: &[u8]) -> bool {
        let mut patterns = self.history_left_out.iter();
        patterns.any(|pattern| glob_match(pattern, path))
    }

    /// Whether the content at this path is kept, not only its hash.
    pub(crate) fn keeps_content(&self, path: &[u8]) -> bool {
        self.history_secrets || !is_secret(path)
    }

    /// Size in bytes that the file may have.
    pub(crate) fn size_bytes(&self) -> u64 {
        u64::from(self.history_size) << 20
    }
}

/// Keys, wherever they are, and what only root may read. A temporary file is as secret as what it becomes.
fn is_secret(path: &[u8]) -> bool {
    is_private(path) || stable_name(path).ends_with(b".key")
}

/// A path without the ending of a temporary file, `.tmp.` and a number, that programs write before they rename it.
pub(crate) fn stable_name(path: &[u8]) -> &[u8] {
    let digits = path.iter().rev().take_while(|byte| byte.is_ascii_digit());
    let stem = &path[..path.len() - digits.count()];
    match stem.strip_suffix(b".tmp.") {
        Some(name) if stem.len() < path.len() => name,
        _ => path,
    }
}

fn parse_glob(text: &str) -> Result<String, String> {
    match fast_glob::validate(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_left_out_or_keep_no_content_by_default() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            settings: Settings,
        }
        let line: Line = clap::Parser::try_parse_from(["pmxcfs"]).expect("defaults are valid");
        for (path, is_left_out, keeps_content) in [
            ("storage.cfg", false, true),
            ("priv/lock/ha_manager_lock", true, false),
            ("priv/lock", false, false),
            ("ha/manager_status.tmp.12", true, true),
            ("nodes/a/lrm_status", true, true),
            ("nodes/a/priv/x", false, false),
            ("nodes/a/pve-ssl.key", false, false),
            ("nodes/a/pve-ssl.key.tmp.77", false, false),
            ("nodes/a/qemu-server/100.conf", false, true),
        ] {
            let path = path.as_bytes();
            assert_eq!(line.settings.is_left_out(path), is_left_out, "{path:?}");
            assert_eq!(line.settings.keeps_content(path), keeps_content, "{path:?}");
        }
    }

    #[test]
    fn temporary_files_count_as_what_they_become() {
        for (path, name) in [
            ("a.cfg.tmp.123", "a.cfg"),
            ("a.cfg.tmp.", "a.cfg.tmp."),
            ("a123", "a123"),
            ("tmp.1", "tmp.1"),
        ] {
            assert_eq!(stable_name(path.as_bytes()), name.as_bytes());
        }
    }
}
