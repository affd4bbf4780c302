//! Changes of the last moments, before they become records.
//!
//! Writes to one file that follow each other closely are one change with the last content. Nothing here looks at the file or
//! at the tree.

use std::collections::HashMap;

use bytes::Bytes;
use pmxcfs_memdb::store::{Asker, Committed, Effect, Step};
use pmxcfs_memdb::{Entry, RootState};

/// A change that will be a record.
#[derive(Debug)]
pub(super) struct Pending {
    /// The root after the last change that it stands for.
    pub(super) root: RootState,
    pub(super) inode: u64,
    pub(super) effect: Effect,
    pub(super) asker: Option<Asker>,
    /// How many changes it stands for.
    pub(super) changes: u64,
    /// Content afterwards. Absent if no commit saw it.
    pub(super) content: Option<Bytes>,
}

/// Changes since the last transaction.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) pending: Vec<Pending>,
    /// The last change of each entry.
    last: HashMap<u64, usize>,
    /// Contents before the first change.
    pub(super) former: HashMap<u64, Bytes>,
    /// Contents of removed files.
    pub(super) removed: HashMap<u64, Bytes>,
    /// The last root.
    pub(super) root: Option<RootState>,
    /// About how many bytes it holds.
    pub(super) size: usize,
}

impl Window {
    /// Takes what a commit brought.
    pub(super) fn add(&mut self, committed: Committed) {
        self.root = Some(committed.root);
        let mut changed = Vec::new();
        for step in committed.steps {
            changed.push(self.add_step(step));
        }
        for former in committed.former {
            self.size += former.data.len();
            if former.is_last {
                self.removed.insert(former.inode, former.data);
            } else {
                self.former.entry(former.inode).or_insert(former.data);
            }
        }
        self.take_contents(changed, &committed.rows);
    }

    fn add_step(&mut self, step: Step) -> usize {
        if let Some(index) = self.last.get(&step.inode)
            && let Some(pending) = self.pending.get_mut(*index)
            && continues(pending, &step)
        {
            pending.root = step.root;
            pending.asker = step.asker.or(pending.asker);
            pending.changes += 1;
            if let (Effect::Written { size }, Effect::Written { size: new }) =
                (&mut pending.effect, &step.effect)
            {
                *size = *new;
            }
            return *index;
        }
        let index = self.pending.len();
        self.last.insert(step.inode, index);
        self.size += size_of::<Pending>();
        self.pending.push(Pending {
            root: step.root,
            inode: step.inode,
            effect: step.effect,
            asker: step.asker,
            changes: 1,
            content: None,
        });
        index
    }

    /// The rows have the contents after the last write to each file; of a file that is gone by then, the removal has it. What
    /// a file had before it was written once more within this commit is not known.
    fn take_contents(&mut self, mut changed: Vec<usize>, rows: &[(u64, Option<Entry>)]) {
        changed.sort_unstable();
        changed.dedup();
        let mut is_known = HashMap::new();
        for index in changed.into_iter().rev() {
            let Some(pending) = self.pending.get_mut(index) else {
                continue;
            };
            let inode = pending.inode;
            let is_last = is_known.entry(inode).or_insert(true);
            let content = is_last.then(|| {
                let row = rows.binary_search_by_key(&inode, |(inode, _)| *inode);
                match row.ok().and_then(|found| rows[found].1.as_ref()) {
                    Some(entry) => Some(entry.content()),
                    None => self.removed.get(&inode).cloned(),
                }
            });
            if pending.effect == Effect::Removed {
                continue;
            }
            let former_size = pending.content.as_ref().map_or(0, Bytes::len);
            pending.content = content.flatten();
            let size = pending.content.as_ref().map_or(0, Bytes::len);
            self.size = (self.size + size).saturating_sub(former_size);
            *is_last &= !pending.is_write();
        }
    }
}

impl Pending {
    /// Whether the content changed; a move leaves it as it is.
    fn is_write(&self) -> bool {
        matches!(self.effect, Effect::Written { .. }) || self.changes > 1
    }
}

/// Whether a step is one more write to a file that is being written by the same node.
fn continues(pending: &Pending, step: &Step) -> bool {
    let is_new = pending.changes > 1 || pending.inode == pending.root.version;
    let can_grow = match &pending.effect {
        Effect::Written { .. } => true,
        Effect::Placed { .. } => is_new,
        Effect::Removed => false,
    };
    let is_write = matches!(step.effect, Effect::Written { .. });
    is_write && can_grow && pending.root.writer == step.root.writer
}

#[cfg(test)]
mod tests {
    use pmxcfs_memdb::EntryKind;
    use pmxcfs_memdb::store::Former;

    use super::*;

    fn step(version: u64, inode: u64, effect: Effect) -> Step {
        let root = RootState {
            version,
            writer: 1,
            mtime: 7,
        };
        Step {
            root,
            inode,
            effect,
            asker: None,
        }
    }

    fn placed(name: &'static str) -> Effect {
        Effect::Placed {
            parent: 0,
            name: Bytes::from_static(name.as_bytes()),
            kind: EntryKind::File,
        }
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
            leader: None,
        }
    }

    #[test]
    fn writes_to_one_file_are_one_change_with_the_last_content() {
        let mut window = Window::default();
        let written = |size| Effect::Written { size };
        let first = vec![step(5, 5, placed("f")), step(6, 5, written(1))];
        window.add(committed(first, vec![(5, Some(entry(5, b"a")))]));
        let second = vec![step(7, 5, written(2))];
        window.add(committed(second, vec![(5, Some(entry(5, b"ab")))]));
        assert_eq!(window.pending.len(), 1);
        let pending = &window.pending[0];
        assert_eq!((pending.changes, pending.root.version), (3, 7));
        assert_eq!(pending.content.as_deref(), Some(&b"ab"[..]));
    }

    #[test]
    fn what_is_written_and_moved_in_one_commit_has_its_content_in_both() {
        let mut window = Window::default();
        let steps = vec![
            step(5, 5, placed("f.tmp.1")),
            step(6, 5, Effect::Written { size: 1 }),
            step(7, 3, Effect::Removed),
            step(7, 5, placed("f")),
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
        let first = vec![step(5, 5, placed("f.tmp.1"))];
        window.add(committed(first, vec![(5, Some(entry(5, b"")))]));
        let second = vec![
            step(6, 5, Effect::Written { size: 1 }),
            step(7, 5, placed("f")),
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
            step(5, 5, placed("f")),
            step(6, 5, Effect::Written { size: 4 }),
            step(7, 5, Effect::Removed),
        ];
        let mut gone = committed(steps, vec![(5, None)]);
        gone.former.push(Former {
            inode: 5,
            data: Bytes::from_static(b"last"),
            is_last: true,
        });
        window.add(gone);
        assert_eq!(window.pending[0].content.as_deref(), Some(&b"last"[..]));
        assert_eq!(window.removed[&5], &b"last"[..]);
    }
}
