//! The history beside a database, while no daemon runs.

use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, bail};
use pmxcfs_memdb::{Rules, Tree};

use super::cli::{HistoryArgs, Location, ReadOptions, Reading};
use super::source::{Source, require_loadable};
use crate::history::query::{Query, Reader, State};
use crate::history::schema::open_read_only;
use crate::tools::program::{CommandResult, Outcome, Output};
use crate::tools::records::{DiffArgs, paged, path_at, show_diff, show_records, tree_path};

/// Runs the command.
pub(super) fn run(args: &HistoryArgs, output: &mut Output<'_>) -> CommandResult {
    let location = Location {
        db: args.database.clone(),
        root_dir: args.root_dir.clone(),
        run_dir: None,
    };
    let options = ReadOptions {
        live: true,
        ignore_journal: false,
    };
    let reading = Reading { location, options };
    let source = Source::read_with_notes(&reading, output.notes)?;
    require_loadable(&source.path, &source.examined)?;
    let (root, entries) = (source.examined.root, source.examined.entries);
    let tree = Tree::from_entries(root, entries, Rules::Local, 0)?;
    let file = source.path.with_file_name("history.db");
    let connection = open_read_only(&file);
    let present = |path: &[u8]| tree.lookup(path).cloned();
    let reader = Reader {
        connection: connection.with_context(|| format!("cannot read {}", file.display()))?,
        present: &present,
    };
    let mount = reading.location.paths().mount_dir;
    if args.show {
        show(&reader, args, &mount, output.out)?;
        return Ok(Outcome::Good);
    }
    let query = if args.diff {
        let (path, since, until) = (args.list.path.clone(), args.list.since, args.until);
        DiffArgs { path, since, until }.query(&mount)
    } else {
        args.list.query(&mount)
    };
    answer(&reader, &query, args, output)?;
    Ok(Outcome::Good)
}

fn show(
    reader: &Reader<'_>,
    args: &HistoryArgs,
    mount: &Path,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let given = args.list.path.as_deref().context("which file?")?;
    let (path, at) = path_at(given)?;
    match reader.state(&tree_path(path, mount), at)? {
        State::File(Some(content)) => out.write_all(&content)?,
        State::File(None) => bail!("that content was not kept, only that it changed"),
        State::Directory => bail!("{} was a directory", path.display()),
        State::Absent => bail!("there was no {} at that moment", path.display()),
    }
    Ok(())
}

fn answer(
    reader: &Reader<'_>,
    query: &Query,
    args: &HistoryArgs,
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    if args.list.json {
        return reader.answer(query, output.out);
    }
    let mut lines = Vec::new();
    reader.answer(query, &mut lines)?;
    paged(output, |out, is_coloured| match args.diff {
        true => show_diff(&lines[..], out, is_coloured),
        false => show_records(&lines[..], out, is_coloured),
    })
}
