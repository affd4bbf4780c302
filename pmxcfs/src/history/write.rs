//! Changes become records, within one transaction.
//!
//! The changes of a [`Window`] are known one by one, in their order. Where only the entries that differ are known, `compare` makes
//! the records.

use pmxcfs_memdb::EntryKind;
use pmxcfs_memdb::store::Effect;
use rusqlite::{OptionalExtension, params};
use sha2::{Digest as _, Sha256};
use zstd::bulk::Compressor;

use super::entries::{Entries, Known};
use super::record::{FILE, Record, Side};
use super::settings::Settings;
use super::window::{Pending, Window, made};

/// How hard contents are compressed: more takes processor time that the node has better use for.
pub(super) const LEVEL: i32 = 3;

/// Contents below this size are small.
const SMALL_SIZE: usize = 64 * 1024;

/// Finds the name of a node.
pub(super) type NodeName = Box<dyn Fn(u32) -> String + Send>;

/// Writes records within a transaction.
pub(super) struct Writer<'a> {
    pub(super) entries: Entries<'a>,
    pub(super) settings: &'a Settings,
    pub(super) node_name: &'a NodeName,
    /// Used again and again: it costs more to make than a small content takes.
    pub(super) compressor: &'a mut Compressor<'static>,
    /// Clock of this node.
    pub(super) now: u32,
    pub(super) records: Vec<Record>,
    pub(super) left_out_count: u64,
}

impl Writer<'_> {
    /// Writes the changes that the table of entries, which has the state of version `known`, lacks.
    pub(super) fn apply(&mut self, window: &Window, known: u64) -> rusqlite::Result<()> {
        let mut pending = window.pending.iter();
        pending.try_for_each(|pending| match pending.step.root.version > known {
            true => self.apply_one(pending, window, known),
            false => Ok(()),
        })
    }

    fn apply_one(
        &mut self,
        pending: &Pending,
        window: &Window,
        version: u64,
    ) -> rusqlite::Result<()> {
        let step = &pending.step;
        // The number of an entry is the version that it came with.
        let is_new = step.effect == Effect::Made && step.inode > version;
        let known = if is_new {
            None
        } else {
            self.entries.known(step.inode)?
        };
        let is_left_out = self.settings.is_left_out(&step.path);
        match (&step.effect, known) {
            _ if pending.is_skipped == Some(true) => {}
            (Effect::Removed, Some(known)) => {
                return self.removed(pending, &step.path, known, window);
            }
            // It goes where nothing is recorded.
            (Effect::Moved { from }, Some(known)) if is_left_out => {
                return self.removed(pending, from, known, window);
            }
            // A new file that a comparison has found already, and that was written to since.
            (Effect::Made | Effect::Written, Some(known)) if !is_left_out => {
                return self.written(pending, known, window);
            }
            (Effect::Made | Effect::Moved { .. } | Effect::Touched, known) if !is_left_out => {
                return self.placed(pending, known);
            }
            _ => {}
        }
        self.left_out_count += step.changes;
        Ok(())
    }

    fn placed(&mut self, pending: &Pending, known: Option<Known>) -> rusqlite::Result<()> {
        let (step, mut record) = (&pending.step, pending.record());
        let is_touched = known.as_ref().is_some_and(|known| known.path == step.path);
        if let Some(known) = known {
            record.operation = "rename".to_owned();
            record.from = known.path;
            record.after = known.side;
        } else {
            record.operation = made(step.kind).to_owned();
            record.from = Vec::new();
            record.after.kind = step.kind.map(|kind| kind as u8);
            record.after.size = step.size;
            if step.kind == Some(EntryKind::File) {
                record.after.content = self.intern(&step.path, pending.content.as_deref())?;
            }
        }
        if !is_touched {
            record.before = self.replaced(&record)?;
        }
        self.entries
            .put(step.inode, &step.path, step.root, &record.after)?;
        if !is_touched {
            self.push(record);
        }
        Ok(())
    }

    /// What was at a path that an entry takes. Its removal is part of the same operation.
    fn replaced(&mut self, record: &Record) -> rusqlite::Result<Side> {
        if let Some(last) = self.records.last()
            && (&*last.operation, last.version) == ("remove", record.version)
            && last.path == record.path
            && let Some(removed) = self.records.pop()
        {
            return Ok(removed.before);
        }
        // Left behind while the file was too busy to be recorded.
        let stale = self.entries.take_at(&record.path)?;
        Ok(stale.map(|known| known.side).unwrap_or_default())
    }

    fn written(
        &mut self,
        pending: &Pending,
        mut known: Known,
        window: &Window,
    ) -> rusqlite::Result<()> {
        let (step, mut record) = (&pending.step, pending.record());
        if known.side.content.is_none() {
            let former = window.former.get(&step.inode).map(|data| &data[..]);
            known.side.content = self.intern(&step.path, former)?;
        }
        record.before = known.side;
        record.after = Side {
            kind: Some(FILE),
            size: step.size,
            content: self.intern(&step.path, pending.content.as_deref())?,
        };
        self.entries
            .put(step.inode, &step.path, step.root, &record.after)?;
        self.push(record);
        Ok(())
    }

    fn removed(
        &mut self,
        pending: &Pending,
        path: &[u8],
        mut known: Known,
        window: &Window,
    ) -> rusqlite::Result<()> {
        if known.side.content.is_none() {
            let last = window.removed.get(&known.inode).map(|data| &data[..]);
            known.side.content = self.intern(path, last)?;
        }
        self.entries.delete(known.inode)?;
        self.push(Record {
            operation: "remove".to_owned(),
            path: path.to_vec(),
            from: Vec::new(),
            before: known.side,
            ..pending.record()
        });
        Ok(())
    }

    /// A record that something is missing.
    pub(super) fn gap(&mut self, reason: &str, version: u64) {
        self.push(Record {
            version,
            time: self.now,
            operation: "gap".to_owned(),
            source: "comparison".to_owned(),
            reason: Some(reason.to_owned()),
            changes: 1,
            ..Record::default()
        });
    }

    pub(super) fn push(&mut self, mut record: Record) {
        record.node = (self.node_name)(record.node_id);
        self.records.push(record);
    }

    /// The row of a content, which is stored if it is new.
    pub(super) fn intern(
        &mut self,
        path: &[u8],
        data: Option<&[u8]>,
    ) -> rusqlite::Result<Option<i64>> {
        let Some(data) = data else {
            return Ok(None);
        };
        let transaction = self.entries.0;
        let hash = Sha256::digest(data);
        let stored: Option<(i64, bool)> = transaction
            .prepare_cached("SELECT id, data IS NOT NULL FROM content WHERE hash = ?1")?
            .query_row([&hash[..]], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let is_kept = self.settings.keeps_content(path);
        if let Some((id, has_data)) = stored
            && (has_data || !is_kept)
        {
            return Ok(Some(id));
        }
        // Memory is all that compressing can fail for; the hash is kept then.
        let frame = is_kept.then(|| match data.len() {
            0..SMALL_SIZE => self.compressor.compress(data).ok(),
            // It would keep memory for large ones.
            _ => zstd::bulk::compress(data, LEVEL).ok(),
        });
        let Some((id, _)) = stored else {
            let insert = "INSERT INTO content (hash, size, data) VALUES (?1, ?2, ?3)";
            let mut insert = transaction.prepare_cached(insert)?;
            let values = params![&hash[..], data.len(), frame.flatten()];
            return insert.insert(values).map(Some);
        };
        let update = "UPDATE content SET data = ?2 WHERE id = ?1";
        let mut update = transaction.prepare_cached(update)?;
        update.execute(params![id, frame.flatten()])?;
        Ok(Some(id))
    }
}
