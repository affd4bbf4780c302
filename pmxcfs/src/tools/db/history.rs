//! The history beside a database, while no daemon runs.

use std::io::{BufRead, Cursor};

use anyhow::Context as _;
use pmxcfs_memdb::{Rules, Tree};

use super::cli::{HistoryArgs, Location, ReadOptions, Reading};
use super::source::{Source, require_loadable};
use crate::history::query::{Query, Reader};
use crate::history::schema::open_read_only;
use crate::tools::program::{CommandResult, Output};
use crate::tools::records::{DiffArgs, History};

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
    let ask = |query: &Query| -> anyhow::Result<Box<dyn BufRead>> {
        let mut answer = Vec::new();
        reader.answer(query, &mut answer)?;
        Ok(Box::new(Cursor::new(answer)))
    };
    let history = History {
        ask: &ask,
        mount: &reading.location.paths().mount_dir,
    };
    match &args.list.path {
        Some(path) if args.show => history.show(path, output),
        path if args.diff => {
            let (path, since, until) = (path.clone(), args.list.since, args.until);
            history.diff(&DiffArgs { path, since, until }, output)
        }
        _ => history.list(&args.list, output),
    }
}
