//! The history of a running daemon: undo it, follow it.

use std::ffi::OsStr;
use std::fs;
use std::io::BufRead as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context as _, bail};
use pmxcfs_api_types::files::with_suffix;
use serde_json::Value;

use super::cli::{FollowArgs, RestoreArgs};
use super::mount::require_mounted;
use crate::history::query::{Query, State, render_diff};
use crate::text::escape_path;
use crate::tools::program::{CommandResult, Outcome, Output};
use crate::tools::records::{
    History, is_coloured, paged, path_at, show_diff_line, show_record, tree_path,
};

/// Shows changes as they come, until it is interrupted.
pub(super) fn follow(
    history: &History<'_>,
    args: &FollowArgs,
    output: &mut Output<'_>,
) -> CommandResult {
    let wanted = args.path.as_ref();
    let wanted = wanted.map(|path| escape_path(&tree_path(path, history.mount)));
    let is_coloured = is_coloured(output);
    let changes = (history.ask)(&Query::Follow { from: args.from })?;
    for line in changes.lines() {
        let line = line? + "\n";
        // An empty line comes first.
        if line.len() == 1
            || wanted
                .as_ref()
                .is_some_and(|wanted| !concerns(&line, wanted))
        {
            continue;
        }
        match args.json {
            true => output.out.write_all(line.as_bytes())?,
            false => show_record(line.as_bytes(), output.out, is_coloured)?,
        }
        output.out.flush()?;
    }
    Ok(Outcome::Good)
}

/// Whether a record is about this path or what is below it. Notices and gaps concern everybody.
fn concerns(line: &str, wanted: &str) -> bool {
    let record = serde_json::from_str(line).unwrap_or(Value::Null);
    let is_below = |path: &str| {
        let rest = path.strip_prefix(wanted);
        rest.is_some_and(|rest| wanted.is_empty() || rest.is_empty() || rest.starts_with('/'))
    };
    let path = record["path"].as_str().unwrap_or_default();
    path.is_empty() || is_below(path) || record["from"].as_str().is_some_and(is_below)
}

/// Puts back what was at a path, by an ordinary write.
pub(super) fn restore(
    history: &History<'_>,
    args: &RestoreArgs,
    output: &mut Output<'_>,
) -> CommandResult {
    let (path, at) = path_at(&args.path)?;
    if at.is_none() {
        bail!("which version? Name it as PATH@VERSION or PATH@TIME; pmxcfs-ctl history has them");
    }
    let wanted = history.state_at(&args.path)?;
    let target = tree_path(args.to.as_deref().unwrap_or(path), history.mount);
    require_mounted(history.mount)?;
    let place = history.mount.join(OsStr::from_bytes(&target));
    let shown = place.display();
    let present = history.state(&target, None)?;
    if args.dry_run {
        let diff = render_diff(&target, &present.state, &wanted.state);
        paged(output, |out, is_coloured| {
            let mut lines = diff.split_inclusive(|byte| *byte == b'\n');
            lines.try_for_each(|line| show_diff_line(line, out, is_coloured))
        })?;
        return Ok(Outcome::Good);
    }
    if present.state == wanted.state {
        writeln!(output.notes, "{shown} is like that already")?;
        return Ok(Outcome::Good);
    }
    if present.version > wanted.version && !args.force {
        bail!(
            "{shown} has changed since, with version {}; --dry-run shows how, --force overwrites it",
            present.version
        );
    }
    match (&wanted.state, &present.state) {
        (State::Directory, State::Absent) => fs::create_dir(&place),
        (State::File(content), State::Absent | State::File(_)) => replace(&place, content),
        _ => bail!("{shown} is no longer of the same kind; move it away first"),
    }
    .with_context(|| format!("cannot restore {shown}"))?;
    Ok(Outcome::Good)
}

/// As programs write to the mount: no reader sees half of it, and the rules of the target are asked.
fn replace(place: &Path, content: &[u8]) -> std::io::Result<()> {
    let new = with_suffix(place, format!(".tmp.{}", std::process::id()));
    let written = fs::write(&new, content).and_then(|()| fs::rename(&new, place));
    if written.is_err() {
        // The first error is the one that counts.
        let _removed = fs::remove_file(&new);
    }
    written
}
