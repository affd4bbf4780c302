//! Questions to a history as operators put them, and its answers as people read them.

use std::ffi::OsStr;
use std::io::{BufRead, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, anyhow};
use clap::{Args, ValueHint};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::program::Output;
use crate::history::query::{Moment, Query};
use crate::history::record::RecordJson;
use crate::text::{bytes, printable};

/// Which records.
#[derive(Debug, Clone, Args)]
pub(super) struct ListArgs {
    /// Show changes of this file or directory, and of what is below it
    #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(super) path: Option<PathBuf>,

    /// Show changes after this time, such as "yesterday" or "2 hours ago", or after this version
    #[arg(long, value_name = "TIME|VERSION", value_parser = moment)]
    pub(super) since: Option<Moment>,

    /// Show changes by this node, a name or an id
    #[arg(long, value_name = "NODE")]
    pub(super) node: Option<String>,

    /// Show at most so many, the newest
    #[arg(long, short = 'n', value_name = "NUMBER")]
    pub(super) limit: Option<u64>,

    /// Print JSON, one line for each record
    #[arg(long)]
    pub(super) json: bool,
}

impl ListArgs {
    /// The question.
    pub(super) fn query(&self, mount: &Path) -> Query {
        Query::List {
            path: self.path.as_ref().map(|path| tree_path(path, mount)),
            since: self.since,
            node: self.node.clone(),
            limit: self.limit,
        }
    }
}

/// What differs between two moments.
#[derive(Debug, Clone, Args)]
pub(super) struct DiffArgs {
    /// Compare this file or directory only
    #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(super) path: Option<PathBuf>,

    /// Compare from this time or version on [the beginning of the history]
    #[arg(long, value_name = "TIME|VERSION", value_parser = moment)]
    pub(super) since: Option<Moment>,

    /// Compare up to this time or version, now by default
    #[arg(long, value_name = "TIME|VERSION", value_parser = moment)]
    pub(super) until: Option<Moment>,
}

impl DiffArgs {
    /// The question.
    pub(super) fn query(&self, mount: &Path) -> Query {
        Query::Diff {
            path: self.path.as_ref().map(|path| tree_path(path, mount)),
            since: self.since,
            until: self.until,
        }
    }
}

/// Reads a moment: digits are a version, all else a time as `date -d` takes it.
pub(super) fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(version) = text.parse() {
        return Ok(Moment::Version(version));
    }
    let time = parse_datetime::parse_datetime(text);
    let time = time.map_err(|_unknown| {
        format!(
            "'{text}' is neither a version nor a time, such as \"yesterday\" or \"2 hours ago\""
        )
    })?;
    let secs = time.unix_epoch_second();
    u32::try_from(secs)
        .map(Moment::Time)
        .map_err(|_range| format!("'{text}' is out of range"))
}

/// Splits `PATH@MOMENT`.
pub(super) fn path_at(given: &Path) -> anyhow::Result<(&Path, Option<Moment>)> {
    let name = given.as_os_str().as_bytes();
    let Some(at) = name.iter().rposition(|byte| *byte == b'@') else {
        return Ok((given, None));
    };
    // `@` and seconds since 1970 are a time, too.
    let at = match at.checked_sub(1) {
        Some(before) if name[before] == b'@' => before,
        _ => at,
    };
    let (path, text) = (&name[..at], &name[at + 1..]);
    let text = std::str::from_utf8(text).context("the time behind the @ is no text")?;
    let moment = moment(text).map_err(|error| anyhow!(error))?;
    Ok((Path::new(OsStr::from_bytes(path)), Some(moment)))
}

/// The path in the tree that somebody means: below the mount, or as if the mount were the present directory.
pub(super) fn tree_path(given: &Path, mount: &Path) -> Vec<u8> {
    let here = std::env::current_dir().ok();
    let here = here.filter(|here| here.starts_with(mount));
    let full = here.as_deref().unwrap_or(mount).join(given);
    let below = full.strip_prefix(mount).unwrap_or(&full);
    let mut names = Vec::new();
    for component in below.components() {
        match component {
            Component::Normal(name) => names.push(name.as_bytes()),
            Component::ParentDir => drop(names.pop()),
            _ => {}
        }
    }
    names.join(&b'/')
}

/// Shows records, each a line of JSON.
pub(super) fn show_records(
    lines: impl BufRead,
    out: &mut dyn Write,
    is_coloured: bool,
) -> anyhow::Result<()> {
    for line in lines.lines() {
        show_record(&line?, out, is_coloured)?;
    }
    Ok(())
}

/// Shows one.
pub(super) fn show_record(
    line: &str,
    out: &mut dyn Write,
    is_coloured: bool,
) -> anyhow::Result<()> {
    let record: RecordJson =
        serde_json::from_str(line).context("the daemon's answer is not understood")?;
    if record.seq == 0 {
        let reason = record.reason.as_deref().unwrap_or_default();
        writeln!(out, "--- {} ---", printable(reason))?;
        return Ok(());
    }
    let (begin, end) = match (is_coloured, record.operation.as_str()) {
        (false, _) => ("", ""),
        (true, "remove") => ("\x1b[31m", "\x1b[m"),
        (true, "create" | "mkdir") => ("\x1b[32m", "\x1b[m"),
        (true, "gap") => ("\x1b[33m", "\x1b[m"),
        (true, _) => ("\x1b[36m", "\x1b[m"),
    };
    write!(
        out,
        "{}  {:>8}  {:<12} {begin}{:<8}{end}",
        local_time(&record.time),
        record.version,
        printable(&record.node),
        record.operation,
    )?;
    if let Some(from) = &record.from {
        write!(out, " {} ->", printable(from))?;
    }
    write!(out, " {}", printable(&record.path))?;
    if let Some(reason) = &record.reason {
        write!(out, "{}", printable(reason))?;
    }
    let mut remarks = Vec::new();
    remarks.extend(record.size.map(|size| bytes(size.into())));
    if record.changes > 1 {
        remarks.push(format!("{} changes", record.changes));
    }
    if record.source != "operation" {
        remarks.push(record.source.clone());
    }
    if let (Some(program), Some(pid), Some(uid)) = (&record.program, record.pid, record.uid) {
        remarks.push(format!("{}[{pid}] of uid {uid}", printable(program)));
    }
    if !remarks.is_empty() {
        write!(out, "  ({})", remarks.join(", "))?;
    }
    writeln!(out)?;
    Ok(())
}

fn local_time(rfc3339: &str) -> String {
    let Ok(time) = rfc3339.parse::<Timestamp>() else {
        return printable(rfc3339);
    };
    let local = time.to_zoned(TimeZone::system());
    local.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Shows a unified diff.
pub(super) fn show_diff(
    lines: impl BufRead,
    out: &mut dyn Write,
    is_coloured: bool,
) -> anyhow::Result<()> {
    for line in lines.split(b'\n') {
        let line = line?;
        let colour = match line.first() {
            Some(b'+') => "\x1b[32m",
            Some(b'-') => "\x1b[31m",
            Some(b'@') => "\x1b[36m",
            _ => "",
        };
        let is_coloured = is_coloured && !colour.is_empty();
        if is_coloured {
            out.write_all(colour.as_bytes())?;
        }
        out.write_all(&line)?;
        if is_coloured {
            out.write_all(b"\x1b[m")?;
        }
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// Runs `show` on the output; on a terminal through a pager, with colours.
pub(super) fn paged(
    output: &mut Output<'_>,
    show: impl FnOnce(&mut dyn Write, bool) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if !output.is_terminal {
        return show(output.out, false);
    }
    let is_coloured = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let pager = std::env::var_os("PAGER").unwrap_or_else(|| "less -FRX".into());
    let mut shell = Command::new("sh");
    let started = shell.arg("-c").arg(pager).stdin(Stdio::piped()).spawn();
    let Ok(mut pager) = started else {
        return show(output.out, is_coloured);
    };
    let shown = match &mut pager.stdin {
        Some(stdin) => show(stdin, is_coloured),
        None => Ok(()),
    };
    drop(pager.stdin.take());
    pager.wait()?;
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_versions_or_times() {
        assert_eq!(moment("17"), Ok(Moment::Version(17)));
        assert_eq!(moment("@1700000000"), Ok(Moment::Time(1_700_000_000)));
        for text in [
            "yesterday",
            "2 hours ago",
            "2026-11-01",
            "2026-11-01 12:30",
            "now",
            "last week",
            "1 day ago",
        ] {
            assert!(matches!(moment(text), Ok(Moment::Time(_))), "{text}");
        }
        assert!(moment("when it was").is_err());
    }

    #[test]
    fn what_is_behind_the_last_at_is_the_moment() {
        for (given, path, at) in [
            ("a.cfg@5", "a.cfg", Some(Moment::Version(5))),
            ("a.cfg@@5", "a.cfg", Some(Moment::Time(5))),
            ("user@pam@5", "user@pam", Some(Moment::Version(5))),
            ("a.cfg", "a.cfg", None),
        ] {
            let split = path_at(Path::new(given)).expect(given);
            assert_eq!(split, (Path::new(path), at));
        }
    }

    #[test]
    fn paths_are_taken_below_the_mount() {
        let mount = Path::new("/etc/pve");
        for (given, path) in [
            ("storage.cfg", "storage.cfg"),
            ("/etc/pve/nodes/a/../b", "nodes/b"),
            ("/storage.cfg", "storage.cfg"),
            ("/etc/pve", ""),
            ("./a//b/", "a/b"),
        ] {
            assert_eq!(
                tree_path(Path::new(given), mount),
                path.as_bytes(),
                "{given}"
            );
        }
    }
}
