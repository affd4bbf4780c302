//! Records of what differs from the table of entries: after a synchronisation, a gap, a summary, and at a start.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use pmxcfs_memdb::{Entry, EntryKind, ROOT_INODE, RootState};
use rusqlite::params;

use super::record::{Record, Side};
use super::write::{KNOWN, Known, Writer, made};

/// Why entries are compared.
pub(super) struct Mark {
    /// `record.source`.
    pub(super) source: &'static str,
    /// Version of the records.
    pub(super) version: u64,
    /// The leader of a synchronisation; else each record has the entry's writer.
    pub(super) leader: Option<u32>,
    /// Changes that each record stands for.
    pub(super) changes: u64,
}

impl Writer<'_> {
    /// Compares entries with the table, and writes a record for each that has another content or place. `None` is gone.
    pub(super) fn compare(
        &mut self,
        rows: &[(u64, Option<Entry>)],
        former: &HashMap<u64, Bytes>,
        mark: &Mark,
    ) -> rusqlite::Result<()> {
        let new: HashMap<u64, &Entry> = rows
            .iter()
            .filter_map(|(inode, entry)| Some((*inode, entry.as_ref()?)))
            .collect();
        // What was where. The first record that mentions a path has what was there before.
        let mut old = HashMap::new();
        let mut present = Vec::new();
        let mut known_rows = HashMap::new();
        for (inode, entry) in rows {
            let Some(mut known) = self.known(*inode)? else {
                continue;
            };
            if known.side.content.is_none()
                && let Some(data) = former.get(inode)
            {
                known.side.content = self.intern(&known.path, Some(data))?;
            }
            old.insert(known.path.clone(), known.clone());
            if entry.is_some() {
                known_rows.insert(*inode, known);
            }
            self.delete_entry(*inode)?;
        }
        for (inode, entry) in &new {
            let path = self.new_path(entry, &new)?;
            let path = path.filter(|path| !self.settings.is_left_out(path));
            if let Some(path) = path {
                let known = known_rows.remove(inode);
                present.push((known.is_none(), path, *entry, known));
            }
        }
        // What moved away makes room for what is new.
        present.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
        for (_, path, entry, known) in present {
            let from = known.as_ref().map(|known| known.path.clone());
            let replaced = old.remove(&path);
            if let Some(from) = &from {
                old.remove(from);
            }
            self.compare_one(entry, path.clone(), known, replaced, mark)?;
            if let Some(from) = from.filter(|from| *from != path)
                && entry.is_directory()
            {
                self.move_below(&from, &path, mark)?;
            }
        }
        let mut gone: Vec<Known> = old.into_values().collect();
        gone.sort_by(|one, other| other.path.cmp(&one.path));
        for known in gone {
            let mut record = self.marked(mark, known.writer, "remove");
            record.before = known.side;
            record.path = known.path;
            self.push(record);
        }
        Ok(())
    }

    fn compare_one(
        &mut self,
        entry: &Entry,
        path: Vec<u8>,
        known: Option<Known>,
        replaced: Option<Known>,
        mark: &Mark,
    ) -> rusqlite::Result<()> {
        let content = match entry.kind {
            EntryKind::File => self.intern(&path, Some(&entry.content()))?,
            EntryKind::Directory => None,
        };
        let after = Side {
            kind: Some(entry.kind as u8),
            size: entry.size,
            mtime: entry.mtime,
            content,
        };
        let root = RootState {
            version: entry.version,
            writer: entry.writer,
            mtime: entry.mtime,
        };
        self.put_entry(entry.inode, &path, root, &after)?;
        let mut record = self.marked(mark, entry.writer, made(entry.kind));
        match (known, replaced) {
            (Some(known), _) if known.path == path => {
                if known.side.kind == after.kind && known.side.content == after.content {
                    return Ok(());
                }
                record.operation = "content".to_owned();
                record.before = known.side;
            }
            (Some(known), replaced) => {
                record.operation = "rename".to_owned();
                record.before = replaced.map(|replaced| replaced.side).unwrap_or_default();
                // A change of the content on the way is a record of its own, before the move.
                if known.side.content != after.content {
                    let mut written = record.clone();
                    written.operation = "content".to_owned();
                    written.path.clone_from(&known.path);
                    written.before = known.side;
                    written.after = after.clone();
                    self.push(written);
                }
                record.from = Some(known.path);
            }
            (None, Some(replaced)) => {
                if replaced.side.kind == after.kind {
                    if replaced.side.content == after.content {
                        return Ok(());
                    }
                    record.operation = "content".to_owned();
                }
                record.before = replaced.side;
            }
            (None, None) => {}
        }
        record.after = after;
        record.path = path;
        self.push(record);
        Ok(())
    }

    /// A directory has moved with all that is in it, as only a synchronisation does it.
    fn move_below(&mut self, from: &[u8], to: &[u8], mark: &Mark) -> rusqlite::Result<()> {
        let (low, high) = ([from, b"/"].concat(), [from, b"0"].concat());
        let inside = {
            let select = format!("{KNOWN} WHERE path >= ?1 AND path < ?2 ORDER BY path");
            let mut statement = self.transaction.prepare_cached(&select)?;
            let rows = statement.query_map(params![low, high], Known::read)?;
            rows.collect::<rusqlite::Result<Vec<Known>>>()?
        };
        for known in inside {
            let path = [to, &known.path[from.len()..]].concat();
            self.transaction
                .prepare_cached("UPDATE entry SET path = ?2 WHERE inode = ?1")?
                .execute(params![known.inode.cast_signed(), path])?;
            let mut record = self.marked(mark, known.writer, "rename");
            record.from = Some(known.path);
            record.after = known.side;
            record.path = path;
            self.push(record);
        }
        Ok(())
    }

    fn marked(&self, mark: &Mark, writer: u32, operation: &str) -> Record {
        Record {
            version: mark.version,
            time: self.now,
            operation: operation.to_owned(),
            source: mark.source.to_owned(),
            node_id: mark.leader.unwrap_or(writer),
            changes: mark.changes,
            ..Record::default()
        }
    }

    /// Path of an entry among entries of which some have moved. `None` if it is below something that is left out.
    fn new_path(
        &self,
        entry: &Entry,
        new: &HashMap<u64, &Entry>,
    ) -> rusqlite::Result<Option<Vec<u8>>> {
        let mut names = vec![entry.name.to_vec()];
        let mut parent = entry.parent;
        let mut seen = HashSet::from([entry.inode]);
        while parent != ROOT_INODE {
            if !seen.insert(parent) {
                return Ok(None);
            }
            match (new.get(&parent), self.known(parent)?) {
                (Some(directory), _) => {
                    names.push(directory.name.to_vec());
                    parent = directory.parent;
                }
                (None, Some(known)) => {
                    names.push(known.path);
                    break;
                }
                (None, None) => return Ok(None),
            }
        }
        names.reverse();
        Ok(Some(names.join(&b'/')))
    }
}
