//! The history of a running daemon: show it, undo it, follow it.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context as _, bail};

use super::cli::{FollowArgs, RestoreArgs, ShowArgs};
use super::client;
use super::mount::require_mounted;
use crate::history::query::{Head, Moment, Query, State, render_diff};
use crate::history::record::RecordJson;
use crate::tools::program::{CommandResult, Outcome, Output};
use crate::tools::records::{
    DiffArgs, ListArgs, paged, path_at, show_diff, show_record, show_records, tree_path,
};

/// Lists records.
pub(super) fn list(
    socket: &Path,
    mount: &Path,
    args: &ListArgs,
    output: &mut Output<'_>,
) -> CommandResult {
    let mut records = client::question(socket, &args.query(mount))?;
    if args.json {
        std::io::copy(&mut records, output.out)?;
    } else {
        // The daemon does not wait for somebody who reads page by page.
        let mut lines = Vec::new();
        records.read_to_end(&mut lines)?;
        paged(output, |out, is_coloured| {
            show_records(&lines[..], out, is_coloured)
        })?;
    }
    Ok(Outcome::Good)
}

/// Shows a content, byte for byte.
pub(super) fn show(
    socket: &Path,
    mount: &Path,
    args: &ShowArgs,
    output: &mut Output<'_>,
) -> CommandResult {
    let (path, at) = path_at(&args.path)?;
    match state(socket, tree_path(path, mount), at)? {
        State::File(Some(content)) => output.out.write_all(&content)?,
        _ => bail!("{} was a directory", path.display()),
    }
    Ok(Outcome::Good)
}

/// Shows what differs.
pub(super) fn diff(
    socket: &Path,
    mount: &Path,
    args: &DiffArgs,
    output: &mut Output<'_>,
) -> CommandResult {
    let mut lines = Vec::new();
    client::question(socket, &args.query(mount))?.read_to_end(&mut lines)?;
    paged(output, |out, is_coloured| {
        show_diff(&lines[..], out, is_coloured)
    })?;
    Ok(Outcome::Good)
}

/// Shows records as they come, until it is interrupted.
pub(super) fn follow(
    socket: &Path,
    mount: &Path,
    args: &FollowArgs,
    output: &mut Output<'_>,
) -> CommandResult {
    let wanted = args.path.as_ref().map(|path| tree_path(path, mount));
    let wanted = wanted.map(|path| String::from_utf8_lossy(&path).into_owned());
    let records = client::question(socket, &Query::Follow { from: args.from })?;
    for line in records.lines() {
        let line = line?;
        let record: RecordJson =
            serde_json::from_str(&line).context("the daemon's answer is not understood")?;
        if !concerns(&record, wanted.as_deref()) {
            continue;
        }
        match args.json {
            true => writeln!(output.out, "{line}")?,
            false => show_record(&line, output.out, output.is_terminal)?,
        }
        output.out.flush()?;
    }
    bail!("the daemon has ended");
}

/// Notices and gaps concern everybody.
fn concerns(record: &RecordJson, wanted: Option<&str>) -> bool {
    let is_below = |path: &str, wanted: &str| {
        let rest = path.strip_prefix(wanted);
        rest.is_some_and(|rest| wanted.is_empty() || rest.is_empty() || rest.starts_with('/'))
    };
    match wanted {
        None => true,
        Some(_) if record.path.is_empty() => true,
        Some(wanted) => {
            let from = record.from.as_deref();
            is_below(&record.path, wanted) || from.is_some_and(|from| is_below(from, wanted))
        }
    }
}

/// Puts back what was at a path, by an ordinary write.
pub(super) fn restore(
    socket: &Path,
    mount: &Path,
    args: &RestoreArgs,
    output: &mut Output<'_>,
) -> CommandResult {
    let (path, at) = path_at(&args.path)?;
    if at.is_none() {
        bail!("which version? Name it as PATH@VERSION or PATH@TIME; pmxcfs-ctl history has them");
    }
    let wanted = state(socket, tree_path(path, mount), at)?;
    let target = tree_path(args.to.as_deref().unwrap_or(path), mount);
    require_mounted(mount)?;
    let place = mount.join(OsStr::from_bytes(&target));
    let shown = place.display();
    let present = present(&place).with_context(|| format!("cannot look at {shown}"))?;
    if args.dry_run {
        let diff = render_diff(&target, &present, &wanted);
        paged(output, |out, is_coloured| {
            show_diff(&diff[..], out, is_coloured)
        })?;
        return Ok(Outcome::Good);
    }
    if present == wanted {
        writeln!(output.notes, "{shown} is like that already")?;
        return Ok(Outcome::Good);
    }
    if present != State::Absent && !args.force {
        bail!("{shown} has changed since; --dry-run shows how, --force overwrites it");
    }
    match (&wanted, &present) {
        (State::Directory, State::Absent) => fs::create_dir(&place),
        (State::File(Some(content)), State::Absent | State::File(_)) => replace(&place, content),
        _ => bail!("{shown} is no longer of the same kind; move it away first"),
    }
    .with_context(|| format!("cannot restore {shown}"))?;
    Ok(Outcome::Good)
}

fn present(place: &Path) -> std::io::Result<State> {
    match fs::metadata(place) {
        Ok(metadata) if metadata.is_dir() => Ok(State::Directory),
        Ok(_) => Ok(State::File(Some(fs::read(place)?))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(State::Absent),
        Err(error) => Err(error),
    }
}

/// As programs write to the mount: no reader sees half of it, and the rules of the target are asked.
fn replace(place: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut new = place.as_os_str().to_owned();
    new.push(format!(".tmp.{}", std::process::id()));
    let written = fs::write(&new, content).and_then(|()| fs::rename(&new, place));
    if written.is_err() {
        // The first error is the one that counts.
        let _removed = fs::remove_file(&new);
    }
    written
}

/// What was at a path; something was.
fn state(socket: &Path, path: Vec<u8>, at: Option<Moment>) -> anyhow::Result<State> {
    let mut answer = client::question(socket, &Query::Show { path, at })?;
    let mut head = String::new();
    answer.read_line(&mut head)?;
    let head: Head = serde_json::from_str(&head).context("the answer is not understood")?;
    if head.is_directory {
        return Ok(State::Directory);
    }
    let mut content = Vec::new();
    answer.read_to_end(&mut content)?;
    if content.len() != head.size {
        bail!("the answer is incomplete");
    }
    Ok(State::File(Some(content)))
}
