//! Changes of the last moments, before they become records.
//!
//! Writes to one file that follow each other closely are one change with the last content. Nothing here looks at the file or
//! at the tree.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pmxcfs_api_types::text::until_nul;
use pmxcfs_memdb::store::{Asker, Committed, Effect, FormerKind, Step};
use pmxcfs_memdb::{Entry, EntryKind, RootState};

use super::record::Record;

/// Writes to one file are one change if they come within this time of the first one.
pub(super) const MERGE_TIME: Duration = Duration::from_secs(2);

/// A change that will be a record.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) step: Step,
    /// Content afterwards. Absent if no commit saw it.
    pub(super) content: Option<Bytes>,
    since: Instant,
    /// The file changes too often to be recorded. Unknown before it is counted.
    pub(super) is_skipped: Option<bool>,
    /// Further writes are another change.
    is_closed: bool,
}

/// Changes since the last transaction.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) pending: Vec<Pending>,
    /// The last change of each file that wrote to it.
    writes: HashMap<u64, usize>,
    /// Contents before the first change.
    pub(super) former: HashMap<u64, Bytes>,
    /// Contents of removed files.
    pub(super) removed: HashMap<u64, Bytes>,
    /// The last root.
    pub(super) root: Option<RootState>,
    /// About how many bytes it holds.
    pub(super) size: usize,
}

/// The changes that a commit is a part of, with the number of operations that each got from it.
pub(super) type Touched = BTreeMap<usize, u64>;

impl Window {
    /// Takes what a commit brought.
    pub(super) fn add(&mut self, committed: Committed) -> Touched {
        let now = Instant::now();
        self.root = Some(committed.root);
        let mut touched = Touched::new();
        for step in committed.steps {
            let changes = step.changes;
            *touched.entry(self.add_step(step, now)).or_default() += changes;
        }
        for former in committed.former {
            self.size += former.data.len();
            if former.kind == FormerKind::LastContent {
                self.removed.insert(former.inode, former.data);
            } else {
                self.former.entry(former.inode).or_insert(former.data);
            }
        }
        self.take_contents(&touched, &committed.rows);
        touched
    }

    fn add_step(&mut self, step: Step, now: Instant) -> usize {
        let next = self.pending.len();
        let is_write = step.is_write();
        let last = self.writes.get(&step.inode).copied();
        if let Some((index, pending)) = last.and_then(|at| Some((at, self.pending.get_mut(at)?))) {
            let last = &mut pending.step;
            let is_open = !pending.is_closed && now.duration_since(pending.since) < MERGE_TIME;
            if is_write && is_open && last.root.writer == step.root.writer {
                last.append(step.root, step.size, step.changes, step.asker);
                let content = pending.content.take();
                self.size -= content.map_or(0, |content| content.len());
                return index;
            }
            pending.is_closed = true;
        }
        if is_write {
            self.writes.insert(step.inode, next);
        }
        self.size += size_of::<Pending>() + step.path.len();
        self.pending.push(Pending {
            step,
            content: None,
            since: now,
            is_skipped: None,
            is_closed: false,
        });
        next
    }

    /// The rows have the contents after the last write to each file; of a file that is gone by then, the removal has it. What
    /// a file had before it was written once more within this commit is not known.
    fn take_contents(&mut self, touched: &Touched, rows: &[(u64, Option<Entry>)]) {
        for index in touched.keys() {
            let pending = &mut self.pending[*index];
            let inode = pending.step.inode;
            let is_last = self.writes.get(&inode).is_none_or(|write| write <= index);
            if !is_last || pending.step.effect == Effect::Removed {
                continue;
            }
            let row = rows.binary_search_by_key(&inode, |(inode, _)| *inode);
            let entry = row.ok().and_then(|found| rows[found].1.as_ref());
            if let Some(entry) = entry {
                let content = entry.content();
                self.size += content.len();
                pending.content = Some(content);
            } else {
                pending.content = self.removed.get(&inode).cloned();
            }
        }
    }

    /// What followers hear of a commit at once: a record for each entry and what was done with it.
    pub(super) fn preview(&self, touched: &Touched) -> Vec<Record> {
        let told = touched.iter().filter_map(|(index, changes)| {
            let pending = &self.pending[*index];
            let replaces = |next: &Pending| {
                let (step, next) = (&pending.step, &next.step);
                step.effect == Effect::Removed && (step.root, &step.path) == (next.root, &next.path)
            };
            let is_told = pending.step.effect != Effect::Touched
                && !self.pending.get(index + 1).is_some_and(replaces);
            let mut record = is_told.then(|| pending.record())?;
            if pending.step.changes > *changes {
                // Its beginning was told before.
                record.operation = "content".to_owned();
            }
            record.changes = *changes;
            record.after.kind = pending.step.kind.map(|kind| kind as u8);
            record.after.size = pending.step.size;
            Some(record)
        });
        told.collect()
    }
}

impl Pending {
    /// The record without what only the history knows.
    pub(super) fn record(&self) -> Record {
        let step = &self.step;
        let (operation, from) = match &step.effect {
            Effect::Made => (made(step.kind), Vec::new()),
            Effect::Moved { from } => ("rename", from.to_vec()),
            Effect::Touched | Effect::Written => ("content", Vec::new()),
            Effect::Removed => ("remove", Vec::new()),
        };
        let asker = step.asker.as_ref();
        Record {
            version: step.root.version,
            time: step.root.mtime,
            operation: operation.to_owned(),
            source: "operation".to_owned(),
            path: step.path.to_vec(),
            from,
            node_id: step.root.writer,
            changes: step.changes,
            uid: asker.map(|asker| asker.uid),
            pid: asker.map(|asker| asker.pid),
            program: asker.map(program),
            ..Record::default()
        }
    }
}

fn program(asker: &Asker) -> String {
    String::from_utf8_lossy(until_nul(&asker.program)).into_owned()
}

/// The operation that makes an entry.
pub(super) const fn made(kind: Option<EntryKind>) -> &'static str {
    match kind {
        Some(EntryKind::Directory) => "mkdir",
        _ => "create",
    }
}

#[cfg(test)]
mod tests {
    use pmxcfs_memdb::store::Former;

    use super::*;

    fn step(version: u64, inode: u64, path: &'static str, effect: Effect) -> Step {
        let root = RootState {
            version,
            writer: 1,
            mtime: 7,
        };
        Step {
            root,
            inode,
            path: Bytes::from_static(path.as_bytes()),
            kind: Some(EntryKind::File),
            size: 0,
            effect,
            changes: 1,
            asker: None,
        }
    }

    fn moved(from: &'static str) -> Effect {
        let from = Bytes::from_static(from.as_bytes());
        Effect::Moved { from }
    }

    fn entry(inode: u64, data: &'static [u8]) -> Entry {
        Entry {
            inode,
            parent: 0,
            version: inode,
            writer: 1,
            mtime: 7,
            size: u32::try_from(data.len()).expect("small"),
            kind: EntryKind::File,
            name: Bytes::from_static(b"f"),
            data: Bytes::from_static(data),
        }
    }

    fn committed(steps: Vec<Step>, rows: Vec<(u64, Option<Entry>)>) -> Committed {
        Committed {
            root: steps
                .last()
                .map_or_else(RootState::default, |step| step.root),
            steps,
            rows,
            former: Vec::new(),
            is_incomplete: false,
            synchronisation: None,
        }
    }

    #[test]
    fn writes_to_one_file_are_one_change_with_the_last_content() {
        let mut window = Window::default();
        let first = vec![
            step(5, 5, "f", Effect::Made),
            step(6, 5, "f", Effect::Written),
        ];
        window.add(committed(first, vec![(5, Some(entry(5, b"a")))]));
        let second = vec![step(7, 5, "f", Effect::Written)];
        window.add(committed(second, vec![(5, Some(entry(5, b"ab")))]));
        assert_eq!(window.pending.len(), 1);
        let pending = &window.pending[0];
        assert_eq!((pending.step.changes, pending.step.root.version), (3, 7));
        assert_eq!(pending.content.as_deref(), Some(&b"ab"[..]));
    }

    #[test]
    fn writes_that_come_later_are_another_change() {
        let mut window = Window::default();
        window.add(committed(vec![step(5, 5, "f", Effect::Made)], Vec::new()));
        let earlier = Instant::now().checked_sub(MERGE_TIME);
        window.pending[0].since = earlier.expect("the host runs for longer");
        for version in [6, 7] {
            let write = vec![step(version, 5, "f", Effect::Written)];
            window.add(committed(write, Vec::new()));
        }
        let changes = window.pending.iter().map(|pending| pending.step.changes);
        assert_eq!(changes.collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn what_is_written_and_moved_in_one_commit_has_its_content_in_both() {
        let mut window = Window::default();
        let steps = vec![
            step(5, 5, "f.tmp.1", Effect::Made),
            step(6, 5, "f.tmp.1", Effect::Written),
            step(7, 3, "f", Effect::Removed),
            step(7, 5, "f", moved("f.tmp.1")),
        ];
        window.add(committed(steps, vec![(3, None), (5, Some(entry(5, b"x")))]));
        let contents = window
            .pending
            .iter()
            .map(|pending| pending.content.as_deref());
        let contents: Vec<_> = contents.collect();
        assert_eq!(contents, [Some(&b"x"[..]), None, Some(&b"x"[..])]);
    }

    #[test]
    fn what_is_written_again_and_moved_has_the_last_content_in_both() {
        let mut window = Window::default();
        let first = vec![step(5, 5, "f.tmp.1", Effect::Made)];
        window.add(committed(first, vec![(5, Some(entry(5, b"")))]));
        let second = vec![
            step(6, 5, "f.tmp.1", Effect::Written),
            step(7, 5, "f", moved("f.tmp.1")),
        ];
        window.add(committed(second, vec![(5, Some(entry(5, b"x")))]));
        for pending in &window.pending {
            assert_eq!(pending.content.as_deref(), Some(&b"x"[..]));
        }
    }

    #[test]
    fn a_removed_file_keeps_what_was_written_last() {
        let mut window = Window::default();
        let steps = vec![
            step(5, 5, "f", Effect::Made),
            step(6, 5, "f", Effect::Written),
            step(7, 5, "f", Effect::Removed),
        ];
        let mut gone = committed(steps, vec![(5, None)]);
        gone.former.push(Former {
            inode: 5,
            kind: FormerKind::LastContent,
            data: Bytes::from_static(b"last"),
        });
        window.add(gone);
        assert_eq!(window.pending[0].content.as_deref(), Some(&b"last"[..]));
        assert_eq!(window.removed[&5], &b"last"[..]);
    }

    #[test]
    fn followers_hear_of_each_commit_what_the_history_makes_one_record_of() {
        let mut window = Window::default();
        let written = |version, size| Step {
            size,
            ..step(version, 5, "f.tmp.1", Effect::Written)
        };
        let told = |window: &mut Window, steps, rows| {
            let touched = window.add(committed(steps, rows));
            let told = window.preview(&touched).into_iter();
            told.map(|record| (record.operation, record.changes, record.after.size))
                .collect::<Vec<_>>()
        };
        let first = vec![step(5, 5, "f.tmp.1", Effect::Made), written(6, 1)];
        let rows = vec![(5, Some(entry(5, b"a")))];
        assert_eq!(
            told(&mut window, first, rows),
            [("create".to_owned(), 2, 1)]
        );
        let second = vec![
            written(7, 2),
            step(8, 3, "f", Effect::Removed),
            Step {
                size: 2,
                ..step(8, 5, "f", moved("f.tmp.1"))
            },
        ];
        let rows = vec![(3, None), (5, Some(entry(5, b"ab")))];
        let expected = [("content".to_owned(), 1, 2), ("rename".to_owned(), 1, 2)];
        assert_eq!(told(&mut window, second, rows), expected);
    }
}
