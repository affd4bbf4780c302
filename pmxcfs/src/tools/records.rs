//! Questions to a history as operators put them, and its answers as people read them.

use std::ffi::OsStr;
use std::io::{BufRead, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::program::{CommandResult, Outcome, Output};
use crate::history::query::{List, Moment, Query, Shown, State};
use crate::text::{bytes, printable};

/// Which records.
#[derive(Debug, Clone, Args)]
pub(super) struct ListArgs {
    /// Show changes of this file or directory, and of what is below it
    #[arg(value_name = "PATH")]
    pub(super) path: Option<PathBuf>,

    /// Show changes after this time, such as "yesterday" or "2 hours ago", or after this version
    #[arg(long, value_name = "TIME|VERSION", value_parser = moment)]
    pub(super) since: Option<Moment>,

    /// Show changes by this node, a name or an id
    #[arg(long, value_name = "NODE")]
    pub(super) node: Option<String>,

    /// Show at most so many, the newest
    #[arg(long, short = 'n', value_name = "NUMBER")]
    pub(super) limit: Option<u32>,

    /// Print JSON, one line for each record
    #[arg(long)]
    pub(super) json: bool,
}

/// What differs between two moments.
#[derive(Debug, Clone, Args)]
pub(super) struct DiffArgs {
    /// Compare this file or directory only
    #[arg(value_name = "PATH")]
    pub(super) path: Option<PathBuf>,

    /// Compare from this time or version on [the beginning of the history]
    #[arg(long, value_name = "TIME|VERSION", value_parser = moment)]
    pub(super) since: Option<Moment>,

    /// Compare up to this time or version, now by default
    #[arg(long, value_name = "TIME|VERSION", value_parser = moment)]
    pub(super) until: Option<Moment>,
}

/// Asks a question. The answer follows.
pub(super) type Ask<'a> = &'a dyn Fn(&Query) -> anyhow::Result<Box<dyn BufRead>>;

/// A history, wherever its answers come from.
pub(super) struct History<'a> {
    /// Asks it.
    pub(super) ask: Ask<'a>,
    /// Where its tree is mounted.
    pub(super) mount: &'a Path,
}

impl History<'_> {
    /// Lists records.
    pub(super) fn list(&self, args: &ListArgs, output: &mut Output<'_>) -> CommandResult {
        let list = List {
            path: self.tree_path(args.path.as_deref()),
            since: args.since,
            node: args.node.clone(),
            limit: args.limit,
        };
        let query = Query::List(list);
        if args.json {
            std::io::copy(&mut (self.ask)(&query)?, output.out)?;
            return Ok(Outcome::Good);
        }
        self.answer(&query, show_record, output)
    }

    /// Shows what differs.
    pub(super) fn diff(&self, args: &DiffArgs, output: &mut Output<'_>) -> CommandResult {
        let query = Query::Diff {
            path: self.tree_path(args.path.as_deref()),
            since: args.since,
            until: args.until,
        };
        self.answer(&query, show_diff_line, output)
    }

    /// Shows a content, byte for byte.
    pub(super) fn show(&self, given: &Path, output: &mut Output<'_>) -> CommandResult {
        match self.state_at(given)?.state {
            State::File(content) => output.out.write_all(&content)?,
            _ => bail!("{} was a directory", given.display()),
        }
        Ok(Outcome::Good)
    }

    /// What was at `PATH@MOMENT`, if there was something and it was kept.
    pub(super) fn state_at(&self, given: &Path) -> anyhow::Result<Shown> {
        let (path, at) = path_at(given)?;
        let shown = self.state(&tree_path(path, self.mount), at)?;
        let path = path.display();
        match shown.state {
            State::Absent => bail!("there was no {path} at that moment"),
            State::Unkept => {
                bail!("the content of {path} at that moment was not kept, only that it changed")
            }
            _ => Ok(shown),
        }
    }

    /// What was or is at a path of the tree.
    pub(super) fn state(&self, path: &[u8], at: Option<Moment>) -> anyhow::Result<Shown> {
        let path = path.to_vec();
        let mut answer = (self.ask)(&Query::Show { path, at })?;
        let mut head = String::new();
        answer.read_line(&mut head)?;
        let shown = serde_json::from_str(&head);
        let mut shown: Shown = shown.context("the answer is not understood")?;
        if let State::File(content) = &mut shown.state {
            answer.read_to_end(content)?;
        }
        Ok(shown)
    }

    fn tree_path(&self, given: Option<&Path>) -> Option<Vec<u8>> {
        given.map(|given| tree_path(given, self.mount))
    }

    /// Shows an answer line by line.
    fn answer(&self, query: &Query, show: ShowLine, output: &mut Output<'_>) -> CommandResult {
        let mut answer = (self.ask)(query)?;
        // The daemon does not wait for somebody who reads page by page.
        let mut lines = Vec::new();
        answer.read_to_end(&mut lines)?;
        paged(output, |out, is_coloured| {
            let mut lines = lines.split_inclusive(|byte| *byte == b'\n');
            lines.try_for_each(|line| show(line, out, is_coloured))
        })?;
        Ok(Outcome::Good)
    }
}

/// Shows a line, its newline included.
type ShowLine = fn(&[u8], &mut dyn Write, bool) -> anyhow::Result<()>;

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

/// Shows a record, which is a line of JSON.
pub(super) fn show_record(
    line: &[u8],
    out: &mut dyn Write,
    is_coloured: bool,
) -> anyhow::Result<()> {
    let record = serde_json::from_slice(line);
    let record: Value = record.context("the answer is not understood")?;
    let text = |name: &str| record[name].as_str().map(printable);
    let (operation, path) = (text("operation"), text("path"));
    let operation = operation.unwrap_or_default();
    if operation == "behind" {
        writeln!(out, "--- {} ---", text("reason").unwrap_or_default())?;
        return Ok(());
    }
    let (begin, end) = match (is_coloured, &*operation) {
        (false, _) => ("", ""),
        (true, "remove") => ("\x1b[31m", "\x1b[m"),
        (true, "create" | "mkdir") => ("\x1b[32m", "\x1b[m"),
        (true, "gap") => ("\x1b[33m", "\x1b[m"),
        (true, _) => ("\x1b[36m", "\x1b[m"),
    };
    write!(
        out,
        "{}  {:>8}  {:<12} {begin}{operation:<8}{end}",
        local_time(&text("time").unwrap_or_default()),
        record["version"],
        text("node").unwrap_or_default(),
    )?;
    if let Some(from) = text("from") {
        write!(out, " {from} ->")?;
    }
    let reason = text("reason").unwrap_or_default();
    write!(out, " {}{reason}", path.unwrap_or_default())?;
    let mut remarks = Vec::new();
    remarks.extend(record["size"].as_u64().map(bytes));
    if record["changes"] != 1 {
        remarks.push(format!("{} changes", record["changes"]));
    }
    remarks.extend(text("source").filter(|source| source != "operation"));
    if let Some(program) = text("program") {
        let (pid, uid) = (&record["pid"], &record["uid"]);
        remarks.push(format!("{program}[{pid}] of uid {uid}"));
    }
    if !remarks.is_empty() {
        write!(out, "  ({})", remarks.join(", "))?;
    }
    writeln!(out)?;
    Ok(())
}

fn local_time(rfc3339: &str) -> String {
    let Ok(time) = rfc3339.parse::<Timestamp>() else {
        return rfc3339.to_owned();
    };
    let local = time.to_zoned(TimeZone::system());
    local.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Shows a line of a unified diff.
pub(super) fn show_diff_line(
    line: &[u8],
    out: &mut dyn Write,
    is_coloured: bool,
) -> anyhow::Result<()> {
    let colour = match line.first() {
        Some(b'+') => "\x1b[32m",
        Some(b'-') => "\x1b[31m",
        Some(b'@') => "\x1b[36m",
        _ => "",
    };
    if !is_coloured || colour.is_empty() {
        out.write_all(line)?;
        return Ok(());
    }
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    out.write_all(&[colour.as_bytes(), text, b"\x1b[m\n"].concat())?;
    Ok(())
}

/// Whether the output is shown in colours.
pub(super) fn is_coloured(output: &Output<'_>) -> bool {
    let no_color = std::env::var_os("NO_COLOR");
    output.is_terminal && no_color.is_none_or(|value| value.is_empty())
}

/// Runs `show` on the output; on a terminal through a pager, with colours.
pub(super) fn paged(
    output: &mut Output<'_>,
    show: impl FnOnce(&mut dyn Write, bool) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if !output.is_terminal {
        return show(output.out, false);
    }
    let is_coloured = is_coloured(output);
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
