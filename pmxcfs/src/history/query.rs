//! Questions to a history, answered from the file and from the tree as it is now.
//!
//! What was at a path at some moment is what the first later record says was there before; if there is none, it is what is there
//! now. So contents that have not changed since the history began need not be in it.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use anyhow::{Context as _, bail};
use pmxcfs_memdb::{Entry, EntryKind};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};
use serde::{Deserialize, Serialize};
use similar::TextDiff;

use super::record::{COLUMNS, FILE, Record, Side};
use crate::text::time;

/// Largest content.
const CONTENT_SIZE: usize = 2 << 20;

/// How long the search for common lines of a file may take.
const DIFF_PATIENCE: Duration = Duration::from_secs(1);

/// A moment in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Moment {
    /// Right after this version of the tree.
    Version(u64),
    /// At the end of this second.
    Time(u32),
}

/// Which records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct List {
    /// Of this entry and what is below it.
    pub(crate) path: Option<Vec<u8>>,
    /// After this moment.
    pub(crate) since: Option<Moment>,
    /// Of the node with this name or id.
    pub(crate) node: Option<String>,
    /// At most so many.
    pub(crate) limit: Option<u32>,
}

/// A question. Paths are bytes, without a leading slash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Query {
    /// Records, the newest first, each a line of JSON.
    List(List),
    /// What is at a path: a line of JSON, [`Shown`], and the content.
    Show {
        /// The path.
        path: Vec<u8>,
        /// When; now if absent.
        at: Option<Moment>,
    },
    /// A unified diff.
    Diff {
        /// Of this entry and what is below it.
        path: Option<Vec<u8>>,
        /// From this moment; from the beginning if absent.
        since: Option<Moment>,
        /// To this one; to the present if absent.
        until: Option<Moment>,
    },
    /// Changes as they come, each a line of JSON. It has no end.
    Follow {
        /// First the records after this version.
        from: Option<u64>,
    },
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    /// Nothing.
    Absent,
    /// A directory.
    Directory,
    /// A file whose content was not kept.
    Unkept,
    /// A file with this content.
    File(#[serde(skip)] Vec<u8>),
}

/// What is at a path, and since when at the latest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shown {
    /// The version of the tree at the moment asked for; for the present, the one that changed the entry last.
    pub(crate) version: u64,
    /// What is there.
    pub(crate) state: State,
}

/// Finds what is at a path now.
pub(crate) type Present<'a> = &'a dyn Fn(&[u8]) -> Option<Entry>;

/// Answers questions.
pub(crate) struct Reader<'a> {
    /// The file.
    pub(crate) connection: Connection,
    /// The tree.
    pub(crate) present: Present<'a>,
}

/// Records after one up to another, the oldest first, a page of them at most; without changes that led to this version or one
/// before.
pub(super) fn page(
    connection: &Connection,
    after: i64,
    last: i64,
    version: u64,
) -> rusqlite::Result<Vec<Record>> {
    let select = format!(
        "SELECT {COLUMNS} FROM record AS r WHERE r.seq > ?1 AND r.seq <= ?2 \
         AND (r.version > ?3 OR r.source != 'operation') ORDER BY r.seq LIMIT 1000"
    );
    let mut statement = connection.prepare_cached(&select)?;
    let values = params![after, last, version.cast_signed()];
    let records = statement.query_map(values, Record::read)?;
    records.collect()
}

impl Reader<'_> {
    /// Writes the answer.
    ///
    /// # Errors
    /// The file cannot be read, or what is asked for is not in it. Or the output fails.
    pub(crate) fn answer(&self, query: &Query, out: &mut dyn Write) -> anyhow::Result<()> {
        match query {
            Query::List(list) => self.list(list, out),
            Query::Show { path, at } => self.show(path, *at, out),
            Query::Diff { path, since, until } => self.diff(path.as_deref(), *since, *until, out),
            Query::Follow { .. } => bail!("only a running daemon can be followed"),
        }
    }

    fn list(&self, list: &List, out: &mut dyn Write) -> anyhow::Result<()> {
        let mut condition = Condition::below(list.path.as_deref());
        condition.after(list.since);
        if let Some(node) = &list.node {
            condition.and("? IN (r.node, CAST(r.node_id AS TEXT))");
            condition.values.push(Value::Text(node.clone()));
        }
        let limit = list.limit.map_or(-1, i64::from);
        let select = format!(
            "SELECT {COLUMNS} FROM record AS r WHERE {} ORDER BY r.seq DESC LIMIT {limit}",
            condition.text
        );
        let mut statement = self.connection.prepare(&select)?;
        let records = statement.query_map(params_from_iter(condition.values), Record::read)?;
        for record in records {
            out.write_all(&record?.to_line())?;
        }
        Ok(())
    }

    fn show(&self, path: &[u8], at: Option<Moment>, out: &mut dyn Write) -> anyhow::Result<()> {
        let shown = Shown {
            version: self.version_at(path, at)?,
            state: self.state(path, at)?,
        };
        serde_json::to_writer(&mut *out, &shown)?;
        out.write_all(b"\n")?;
        if let State::File(content) = &shown.state {
            out.write_all(content)?;
        }
        Ok(())
    }

    fn version_at(&self, path: &[u8], at: Option<Moment>) -> anyhow::Result<u64> {
        Ok(match at {
            None => (self.present)(path).map_or(0, |entry| entry.version),
            Some(Moment::Version(version)) => version,
            Some(Moment::Time(time)) => {
                let select = "SELECT coalesce(max(version), 0) FROM record WHERE time <= ?1";
                let version = self.connection.query_row(select, [time], |row| row.get(0));
                version.map(i64::cast_unsigned)?.max(self.oldest()?.0)
            }
        })
    }

    /// What was at a path at a moment.
    pub(crate) fn state(&self, path: &[u8], at: Option<Moment>) -> anyhow::Result<State> {
        self.require_kept(at)?;
        self.state_at(path, at)
    }

    fn state_at(&self, path: &[u8], at: Option<Moment>) -> anyhow::Result<State> {
        let Some(after) = Condition::later(at) else {
            return Ok(state_of((self.present)(path)));
        };
        // Each has an index, in the order of records.
        let first = |column: &str| {
            let select = format!(
                "SELECT {COLUMNS} FROM record AS r WHERE r.{column} = ?1 AND {after} ORDER BY r.seq LIMIT 1"
            );
            let mut statement = self.connection.prepare_cached(&select)?;
            statement.query_row([path], Record::read).optional()
        };
        let (at_path, moved) = (first("path")?, first("from_path")?);
        match (at_path, moved) {
            (None, None) => self.unchanged(path),
            (Some(record), Some(moved)) if record.seq <= moved.seq => self.side(&record.before),
            (Some(record), None) => self.side(&record.before),
            (_, Some(moved)) => self.side(&moved.after),
        }
    }

    /// What is at a path, of which nothing later is recorded. That is what was there before, unless changes of it are left out or
    /// not recorded yet: then the content is not known.
    fn unchanged(&self, path: &[u8]) -> anyhow::Result<State> {
        let Some(entry) = (self.present)(path) else {
            return Ok(State::Absent);
        };
        let select = "SELECT max(version) FROM entry WHERE path = ?1";
        let mut statement = self.connection.prepare_cached(select)?;
        let known: Option<i64> = statement.query_row([path], |row| row.get(0))?;
        let is_known = known == Some(entry.version.cast_signed());
        Ok(match state_of(Some(entry)) {
            State::File(_) if !is_known => State::Unkept,
            state => state,
        })
    }

    fn side(&self, side: &Side) -> anyhow::Result<State> {
        if side.kind != Some(FILE) {
            let absent = side.kind.map_or(State::Absent, |_| State::Directory);
            return Ok(absent);
        }
        let select = "SELECT data FROM content WHERE id = ?1";
        let mut statement = self.connection.prepare_cached(select)?;
        let frame = statement.query_row([side.content], |row| row.get(0));
        let frame: Option<Option<Vec<u8>>> = frame.optional()?;
        Ok(match frame.flatten() {
            None => State::Unkept,
            Some(frame) => {
                let content = zstd::bulk::decompress(&frame, CONTENT_SIZE);
                State::File(content.context("a content is damaged")?)
            }
        })
    }

    fn diff(
        &self,
        path: Option<&[u8]>,
        since: Option<Moment>,
        until: Option<Moment>,
        out: &mut dyn Write,
    ) -> anyhow::Result<()> {
        let (oldest, _) = self.oldest()?;
        let since = since.unwrap_or(Moment::Version(oldest));
        self.require_kept(Some(since))?;
        self.require_kept(until)?;
        let mut condition = Condition::below(path);
        condition.after(Some(since));
        let select = format!(
            "SELECT r.path, r.from_path FROM record AS r WHERE r.operation != 'gap' AND {}",
            condition.text
        );
        let mut statement = self.connection.prepare(&select)?;
        let mut rows = statement.query(params_from_iter(condition.values))?;
        let mut paths = BTreeSet::<Vec<u8>>::new();
        while let Some(row) = rows.next()? {
            paths.insert(row.get(0)?);
            paths.extend(row.get::<_, Option<Vec<u8>>>(1)?);
        }
        for changed in &paths {
            let old = self.state_at(changed, Some(since))?;
            let new = self.state_at(changed, until)?;
            if old != new || old == State::Unkept {
                out.write_all(&render_diff(changed, &old, &new))?;
            }
        }
        Ok(())
    }

    /// The number of the last record up to a version.
    pub(crate) fn seq_at(&self, version: u64) -> anyhow::Result<i64> {
        self.require_kept(Some(Moment::Version(version)))?;
        let select = "SELECT coalesce(min(seq) - 1, (SELECT coalesce(max(seq), 0) FROM record)) \
                      FROM record WHERE version > ?1";
        let version = version.cast_signed();
        Ok(self
            .connection
            .query_row(select, [version], |row| row.get(0))?)
    }

    fn oldest(&self) -> anyhow::Result<(u64, u32)> {
        let select = "SELECT oldest_version, oldest_time FROM state";
        let oldest: Option<(i64, u32)> = self
            .connection
            .query_row(select, params![], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let (version, time) = oldest.context("the history has not begun")?;
        Ok((version.cast_unsigned(), time))
    }

    /// Fails for a moment before the history begins.
    fn require_kept(&self, at: Option<Moment>) -> anyhow::Result<()> {
        let (version, secs) = self.oldest()?;
        let is_kept = match at {
            None => true,
            Some(Moment::Version(at)) => at >= version,
            Some(Moment::Time(at)) => at >= secs,
        };
        if !is_kept {
            let since = time(secs);
            bail!("the history begins with version {version}, {since}");
        }
        Ok(())
    }
}

/// Which records.
struct Condition {
    text: String,
    values: Vec<Value>,
}

impl Condition {
    /// Those of an entry and of what is below it. A gap concerns all.
    fn below(path: Option<&[u8]>) -> Self {
        let Some(path) = path.filter(|path| !path.is_empty()) else {
            return Self {
                text: "1".to_owned(),
                values: Vec::new(),
            };
        };
        let blob = |bytes: &[u8]| Value::Blob(bytes.to_vec());
        let (low, high) = ([path, b"/"].concat(), [path, b"0"].concat());
        let one = [blob(path), blob(&low), blob(&high)];
        Self {
            text: "(r.path = ? OR (r.path >= ? AND r.path < ?) OR r.from_path = ? \
                   OR (r.from_path >= ? AND r.from_path < ?))"
                .to_owned(),
            values: [one.clone(), one].concat(),
        }
    }

    fn and(&mut self, text: &str) {
        self.text = format!("{} AND {text}", self.text);
    }

    fn after(&mut self, moment: Option<Moment>) {
        if let Some(later) = Self::later(moment) {
            self.and(&later);
        }
    }

    /// Numbers only, so that it needs no values.
    fn later(moment: Option<Moment>) -> Option<String> {
        Some(match moment? {
            Moment::Version(version) => format!("r.version > {}", version.cast_signed()),
            Moment::Time(time) => format!("r.time > {time}"),
        })
    }
}

fn state_of(entry: Option<Entry>) -> State {
    match entry {
        None => State::Absent,
        Some(entry) if entry.kind == EntryKind::Directory => State::Directory,
        Some(entry) => State::File(entry.content().to_vec()),
    }
}

/// As `diff -u` and `git diff` show it.
pub(crate) fn render_diff(path: &[u8], old: &State, new: &State) -> Vec<u8> {
    let shown = path.escape_ascii();
    let note = |text: &str| format!("{text}: {shown}\n").into_bytes();
    let (old_text, new_text) = match (old, new) {
        (State::Absent, State::Directory) => return note("Directory made"),
        (State::Directory, State::Absent) => return note("Directory removed"),
        (State::Unkept, _) | (_, State::Unkept) => {
            return note("Changed, content not kept");
        }
        (old, new) => (content(old), content(new)),
    };
    let (Ok(old_text), Ok(new_text)) =
        (std::str::from_utf8(old_text), std::str::from_utf8(new_text))
    else {
        return note("Binary file differs");
    };
    let name = |state: &State, side: &str| match state {
        State::File(_) => format!("{side}/{shown}"),
        _ => "/dev/null".to_owned(),
    };
    // Files that have nothing in common would take minutes; they are shown as replaced.
    let diff = TextDiff::configure()
        .timeout(DIFF_PATIENCE)
        .diff_lines(old_text, new_text);
    let mut unified = diff.unified_diff();
    let text = unified.header(&name(old, "a"), &name(new, "b")).to_string();
    if text.is_empty() && old != new {
        return note(if *old == State::Absent {
            "Empty file made"
        } else {
            "Empty file removed"
        });
    }
    text.into_bytes()
}

fn content(state: &State) -> &[u8] {
    match state {
        State::File(content) => content,
        _ => b"",
    }
}
