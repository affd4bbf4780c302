//! `dump`: the tree as text or JSON.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

use anyhow::bail;
use bytes::Bytes;
use serde_json::{Value, json};

use super::cli::DumpArgs;
use super::source::Source;
use super::view::{Item, View, kind_word};
use crate::text;
use crate::tools::program::{CommandResult, Outcome, Output};

pub(super) fn run(args: &DumpArgs, output: &mut Output<'_>) -> CommandResult {
    let source = Source::read_with_notes(&args.reading, output.notes)?;
    let mut view = View::new(&source.examined.entries);
    if let Some(path) = &args.path {
        view.below(path.as_os_str().as_bytes());
        if view.items.is_empty() {
            bail!(
                "there is no '{}' in the tree of {}",
                path.display(),
                source.path.display()
            );
        }
    }
    let print = if args.json { print_json } else { print_text };
    print(&source, &view, args.contents, output.out)?;
    Ok(Outcome::Good)
}

fn print_text(
    source: &Source,
    view: &View<'_>,
    contents: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    writeln!(out, "# {}", text::root_state(source.examined.root))?;
    writeln!(
        out,
        "# {:>8} {:>8} {:>6} {:>20} {:>8}  path",
        "inode", "version", "writer", "mtime", "size"
    )?;
    for item in &view.items {
        let entry = item.entry;
        let size = if entry.is_directory() {
            "-".to_owned()
        } else {
            entry.size.to_string()
        };
        writeln!(
            out,
            "{:>10} {:>8} {:>6} {:>20} {size:>8}  {}",
            entry.inode,
            entry.version,
            entry.writer,
            text::time(entry.mtime),
            item.shown_path()
        )?;
        if contents && !entry.is_directory() {
            print_content(&entry.data, out)?;
        }
    }
    Ok(())
}

/// Prints each line behind a bar; a backslash marks a last line without a newline.
fn print_content(content: &[u8], out: &mut dyn Write) -> io::Result<()> {
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(line) => writeln!(out, "    | {}", text::escape_path(line))?,
            None => writeln!(out, "    | {}\\", text::escape_path(line))?,
        }
    }
    Ok(())
}

fn print_json(
    source: &Source,
    view: &View<'_>,
    contents: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let root = source.examined.root;
    let head = json!({"version": root.version, "writer": root.writer, "mtime": root.mtime});
    writeln!(out, "{{\"root\": {head},\n\"entries\": [")?;
    for (index, item) in view.items.iter().enumerate() {
        let comma = if index + 1 < view.items.len() {
            ","
        } else {
            ""
        };
        writeln!(out, "{}{comma}", json_entry(item, contents))?;
    }
    writeln!(out, "]}}")?;
    Ok(())
}

fn json_entry(item: &Item<'_>, contents: bool) -> Value {
    let entry = item.entry;
    let mut fields = json!({
        "inode": entry.inode,
        "parent": entry.parent,
        "type": kind_word(entry.kind),
        "version": entry.version,
        "writer": entry.writer,
        "mtime": entry.mtime,
    });
    insert_bytes(&mut fields, "name", &entry.name);
    match &item.path() {
        Some(path) => insert_bytes(&mut fields, "path", path),
        None => fields["path"] = Value::Null,
    }
    if !entry.is_directory() {
        fields["size"] = entry.size.into();
        fields["sha256"] = text::content_digest(&entry.data).into();
        if contents {
            insert_bytes(&mut fields, "content", &entry.data);
        }
    }
    fields
}

/// Text as it is; other bytes as `KEY_hex`.
fn insert_bytes(fields: &mut Value, key: &str, bytes: &Bytes) {
    match std::str::from_utf8(bytes) {
        Ok(text) => fields[key] = text.into(),
        Err(_) => fields[format!("{key}_hex")] = format!("{bytes:x}").into(),
    }
}
