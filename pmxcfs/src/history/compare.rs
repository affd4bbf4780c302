//! Records of what differs from the table of entries: after a synchronisation, a gap, a summary, and at a start.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use pmxcfs_memdb::Entry;

use super::busy::Skipped;
use super::entries::{Found, Known, last_change, side};
use super::record::Record;
use super::settings::stable_name;
use super::window::made;
use super::write::Writer;

/// Why entries are compared.
#[derive(Default)]
pub(super) struct Mark<'a> {
    /// `record.source`.
    pub(super) source: &'static str,
    /// Version of the records.
    pub(super) version: u64,
    /// The leader of a synchronisation; else each record has the entry's writer.
    pub(super) leader: Option<u32>,
    /// Contents before a synchronisation that the table lacks.
    pub(super) former: HashMap<u64, Bytes>,
    /// Reason of a gap, which has a record of its own.
    pub(super) gap: Option<&'a str>,
    /// The files that a summary is about, with the number of changes of each.
    pub(super) changes: Option<Skipped>,
}

impl Mark<'_> {
    fn is_about(&self, path: &[u8]) -> bool {
        let changes = self.changes.as_ref();
        changes.is_none_or(|changes| changes.contains_key(stable_name(path)))
    }
}

/// What the table has at the paths of some entries, as far as no record tells what became of it.
type Places = BTreeMap<Vec<u8>, Known>;

impl Writer<'_> {
    /// Compares entries with the table, and writes a record for each path at which something else is now.
    pub(super) fn compare(&mut self, rows: &[Found], mark: &Mark<'_>) -> rusqlite::Result<()> {
        if let Some(reason) = mark.gap {
            self.gap(reason, mark.version);
        }
        let (mut places, mut moved) = (Places::new(), HashMap::new());
        for (inode, _) in rows {
            let known = self.entries.known(*inode)?;
            let Some(mut known) = known.filter(|known| mark.is_about(&known.path)) else {
                continue;
            };
            if known.side.content.is_none() {
                let data = mark.former.get(inode).map(|data| &data[..]);
                known.side.content = self.intern(&known.path, data)?;
            }
            self.entries.delete(*inode)?;
            moved.insert(*inode, known.path.clone());
            places.insert(known.path.clone(), known);
        }
        let present = rows.iter().filter_map(|(_, now)| now.as_ref());
        let mut present: Vec<_> = present
            .filter(|(path, _)| mark.is_about(path) && !self.settings.is_left_out(path))
            .collect();
        // What moved away makes room for what is new; a directory comes before what is in it.
        present.sort_by_key(|(path, entry)| (!moved.contains_key(&entry.inode), path));
        for (path, entry) in present {
            let from = moved.get(&entry.inode).filter(|from| *from != path);
            self.compare_one(path, entry, from, &mut places, mark)?;
            if let Some(from) = from.filter(|_| entry.is_directory()) {
                self.move_below(from, path, &mut places, mark)?;
            }
        }
        // What is in a directory goes first.
        for known in places.into_values().rev() {
            let mut record = self.marked(mark, known.writer, &known.path);
            record.operation = "remove".to_owned();
            record.before = known.side;
            self.push(record);
        }
        Ok(())
    }

    fn compare_one(
        &mut self,
        path: &[u8],
        entry: &Entry,
        from: Option<&Vec<u8>>,
        places: &mut Places,
        mark: &Mark<'_>,
    ) -> rusqlite::Result<()> {
        let mut record = self.marked(mark, entry.writer, path);
        record.operation = made(Some(entry.kind)).to_owned();
        record.after = side(entry);
        if !entry.is_directory() {
            record.after.content = self.intern(path, Some(&entry.content()))?;
        }
        self.entries
            .put(entry.inode, path, last_change(entry), &record.after)?;
        if let Some(known) = places.remove(path) {
            record.before = known.side;
            if record.before.kind == record.after.kind {
                record.operation = "content".to_owned();
                if record.before.content == record.after.content {
                    return Ok(());
                }
            }
        } else if let Some(known) = from.and_then(|from| places.remove(from)) {
            if known.side.content != record.after.content {
                // It changed on its way: before the move.
                self.push(Record {
                    operation: "content".to_owned(),
                    path: known.path.clone(),
                    before: known.side,
                    ..record.clone()
                });
            }
            record.operation = "rename".to_owned();
            record.from = known.path;
        }
        self.push(record);
        Ok(())
    }

    /// A directory has moved with all that is in it, as only a synchronisation does it.
    fn move_below(
        &mut self,
        from: &[u8],
        to: &[u8],
        places: &mut Places,
        mark: &Mark<'_>,
    ) -> rusqlite::Result<()> {
        for known in self.entries.below(from)? {
            let path = [to, &known.path[from.len()..]].concat();
            self.entries.move_to(known.inode, &path)?;
            let mut record = self.marked(mark, known.writer, &path);
            record.operation = "rename".to_owned();
            record.from = known.path;
            record.after = known.side;
            record.before = places
                .remove(&path)
                .map(|replaced| replaced.side)
                .unwrap_or_default();
            self.push(record);
        }
        Ok(())
    }

    fn marked(&self, mark: &Mark<'_>, writer: u32, path: &[u8]) -> Record {
        let changes = mark.changes.as_ref();
        let changes = changes.and_then(|changes| changes.get(stable_name(path)));
        Record {
            version: mark.version,
            time: self.now,
            source: mark.source.to_owned(),
            path: path.to_vec(),
            node_id: mark.leader.unwrap_or(writer),
            changes: changes.copied().unwrap_or(1),
            ..Record::default()
        }
    }
}
