//! What becomes of changes: they gather, and become records of the file, which is opened, begun and compared as it needs.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use pmxcfs_api_types::time::wall_clock_secs;
use pmxcfs_memdb::store::Committed;
use pmxcfs_memdb::{EntryKind, MemDb, RootState, Tree};
use rusqlite::{OptionalExtension, TransactionBehavior};
use zstd::bulk::Compressor;

use super::busy::Busy;
use super::compare::Mark;
use super::entries::{
    Entries, Found, Versions, differing, last_change, side, versions, with_content,
};
use super::prune::{Clock, is_too_large, prune};
use super::query::page;
use super::schema::{HistoryError, HistoryFile, set_aside};
use super::settings::Settings;
use super::shared::{Shared, Subscription};
use super::window::Window;
use super::write::{LEVEL, NodeName, Writer};

/// The file and what it lacks.
pub(super) struct Recorder {
    pub(super) settings: Settings,
    tree: Arc<MemDb>,
    pub(super) shared: Arc<Shared>,
    node_name: NodeName,
    file: Option<HistoryFile>,
    pub(super) window: Window,
    /// Why the table of entries has to be compared with the tree, before anything else.
    gap: Option<String>,
    /// The state of the table of entries.
    version: u64,
    /// Number of the last record.
    seq: i64,
    /// The tree at the start: the state that the first records follow.
    begin: Option<Begin>,
    /// The tree that the table was compared with.
    compared: Option<RootState>,
    busy: Busy,
    clock: Clock,
    compressor: Compressor<'static>,
}

/// A state of the tree. Its entries are there if there was no file.
struct Begin {
    root: RootState,
    entries: Option<Vec<Found>>,
}

impl Begin {
    fn of(tree: &Tree, has_file: bool) -> Self {
        Self {
            root: tree.root(),
            entries: (!has_file).then(|| differing(tree, &Versions::new())),
        }
    }
}

impl Recorder {
    pub(super) fn new(
        settings: Settings,
        tree: Arc<MemDb>,
        shared: Arc<Shared>,
        node_name: NodeName,
    ) -> io::Result<Self> {
        let compressor = Compressor::new(LEVEL)?;
        let has_file = settings.file.metadata().is_ok_and(|file| file.len() > 0);
        let begin = Some(Begin::of(&tree.read(), has_file));
        Ok(Self {
            settings,
            tree,
            shared,
            node_name,
            file: None,
            window: Window::default(),
            gap: None,
            version: 0,
            seq: 0,
            begin,
            compared: None,
            busy: Busy::new(Instant::now()),
            clock: Clock::new(),
            compressor,
        })
    }

    /// What comes after the last record.
    pub(super) fn subscribe(&self) -> Subscription {
        (self.shared.follow(), self.seq)
    }

    /// Whether the file has to be opened.
    pub(super) const fn is_closed(&self) -> bool {
        self.file.is_none()
    }

    /// Whether changes are missing, which a comparison with the tree will find.
    pub(super) const fn is_lost(&self) -> bool {
        self.gap.is_some()
    }

    /// Takes a commit. A synchronisation is written at once, and what cannot be written then is compared later.
    pub(super) fn take(&mut self, mut committed: Committed) -> Result<(), HistoryError> {
        if self.is_lost() {
            return Ok(());
        }
        let Some(synchronisation) = committed.synchronisation.take() else {
            self.gather(committed);
            return Ok(());
        };
        let is_known = |compared: RootState| {
            committed.root.version < compared.version || committed.root == compared
        };
        if self.compared.is_some_and(is_known) {
            return Ok(());
        }
        let former = committed.former.into_iter();
        let former = former.map(|former| (former.inode, former.data));
        let mark = Mark {
            source: "synchronisation",
            version: committed.root.version,
            leader: Some(synchronisation.leader),
            former: former.collect(),
            ..Mark::default()
        };
        let written = self.write();
        let written = written.and_then(|()| self.compare(&synchronisation.entries, &mark));
        if written.is_err() {
            self.lose("a synchronisation could not be written");
        }
        written
    }

    /// Has the changes of a commit wait. Followers hear of them at once.
    fn gather(&mut self, committed: Committed) {
        let version = committed.root.version;
        let touched = self.window.add(committed);
        if self.shared.follower_count() == 0 {
            return;
        }
        let mut records = self.window.preview(&touched);
        records.retain(|record| {
            let mut paths = [&record.path, &record.from].into_iter();
            paths.any(|path| !path.is_empty() && !self.settings.is_left_out(path))
        });
        for record in &mut records {
            record.node = (self.node_name)(record.node_id);
        }
        self.shared.tell_followers(self.seq, version, &records);
    }

    /// Notes that changes are missing behind those that have gathered.
    pub(super) fn lose(&mut self, reason: &str) {
        self.gap.get_or_insert_with(|| reason.to_owned());
    }

    /// Writes what has gathered, and what is missing.
    pub(super) fn write(&mut self) -> Result<(), HistoryError> {
        if self.is_lost() {
            self.shared.resume();
        }
        if self.file.as_ref().is_some_and(|file| !file.is_in_place()) {
            self.file = None;
            tracing::warn!(
                "{} is gone, a new history begins",
                self.settings.file.display()
            );
            self.lose("the history before is gone");
        }
        if self.file.is_none() {
            self.open()?;
        }
        self.make_room()?;
        self.write_window()?;
        if let Some(reason) = self.gap.clone() {
            self.compare_with_tree(&reason)?;
            self.gap = None;
        }
        Ok(())
    }

    fn write_window(&mut self) -> Result<(), HistoryError> {
        let Some(root) = self.window.root else {
            return Ok(());
        };
        let mut window = std::mem::take(&mut self.window);
        for pending in &mut window.pending {
            let step = &pending.step;
            let is_counted =
                step.kind != Some(EntryKind::Directory) && !self.settings.is_left_out(&step.path);
            pending
                .is_skipped
                .get_or_insert_with(|| is_counted && self.busy.counts(&step.path, step.changes));
        }
        let known = self.version;
        let written = self.transact(false, |writer| {
            writer.apply(&window, known)?;
            Ok(root.version)
        });
        if written.is_err() {
            self.window = window;
        }
        written
    }

    /// Notes that the file has been written, and gives back what SQLite keeps of it.
    pub(super) fn works(&self) {
        let size = self.file.as_ref().and_then(|file| {
            file.connection.release_memory().ok()?;
            file.size().ok()
        });
        self.shared.works(size);
    }

    /// Puts a file aside that is of no use. Returns whether that worked.
    pub(super) fn begin_anew(&mut self, error: &HistoryError) -> bool {
        let path = self.settings.file.display();
        self.file = None;
        match set_aside(&self.settings.file) {
            Ok(aside) => {
                tracing::warn!(%error, "{path} cannot be used, a new history begins; the file is kept as {}", aside.display());
                self.lose("the history before was broken");
                true
            }
            Err(error) => {
                tracing::warn!(%error, "cannot put {path} aside");
                false
            }
        }
    }

    /// The database is on the same filesystem, so a file that has its size takes nothing more before old records are gone.
    fn make_room(&mut self) -> Result<(), HistoryError> {
        if let Some(file) = &mut self.file
            && is_too_large(file, &self.settings)?
        {
            prune(file, &self.settings, self.clock.secs())?;
            if is_too_large(file, &self.settings)? {
                return Err(HistoryError::NoRoom);
            }
        }
        Ok(())
    }

    /// Opens the file. A new one gets the tree's metadata as its base; an old one is compared with the tree if it has another
    /// version.
    fn open(&mut self) -> Result<(), HistoryError> {
        let file = self.file.insert(HistoryFile::open(&self.settings.file)?);
        let stored = file
            .connection
            .query_row(
                "SELECT version, (SELECT coalesce(max(seq), 0) FROM record) FROM state",
                [],
                |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)),
            )
            .optional()?;
        let begin = self.begin.take();
        let Some((version, seq)) = stored else {
            let begin = begin.filter(|begin| begin.entries.is_some() && self.gap.is_none());
            return self.begin(&begin.unwrap_or_else(|| Begin::of(&self.tree.read(), false)));
        };
        let known = with_content(&file.connection)?;
        self.tree.want_former(|inode| known.contains(&inode));
        (self.version, self.seq) = (version.cast_unsigned(), seq);
        let root = begin.map_or_else(|| self.tree.read().root(), |begin| begin.root);
        let waits = self.window.pending.first();
        let follows = waits.map_or(root.version, |first| first.step.root.version - 1);
        if follows != self.version {
            self.window = Window::default();
            self.lose("the tree changed while no history was kept");
        }
        Ok(())
    }

    /// Makes this the state that the first record follows.
    fn begin(&mut self, begin: &Begin) -> Result<(), HistoryError> {
        self.tree.want_former(|_inode| false);
        let gap = self.gap.take();
        let version = begin.root.version;
        let begun = self.transact(true, |writer| {
            let transaction = writer.entries.0;
            transaction.execute_batch("DELETE FROM entry; DELETE FROM state")?;
            transaction.execute(
                "INSERT INTO state (version, oldest_version, oldest_time) VALUES (?1, ?1, ?2)",
                (version.cast_signed(), writer.now),
            )?;
            for (inode, found) in begin.entries.iter().flatten() {
                if let Some((path, entry)) = found
                    && !writer.settings.is_left_out(path)
                {
                    writer
                        .entries
                        .put(*inode, path, last_change(entry), &side(entry))?;
                }
            }
            if let Some(reason) = &gap {
                writer.gap(reason, version);
            }
            Ok(version)
        });
        match begun {
            Ok(()) => self.compared = Some(begin.root),
            Err(_) => (self.file, self.gap) = (None, gap),
        }
        begun
    }

    /// Writes a record for each entry that is another one than in the table.
    fn compare_with_tree(&mut self, reason: &str) -> Result<(), HistoryError> {
        let (rows, root) = self.differing()?;
        self.compared = Some(root);
        let mark = Mark {
            source: "comparison",
            version: root.version,
            gap: Some(reason),
            ..Mark::default()
        };
        self.compare(&rows, &mark)
    }

    /// Entries that differ from the table, and the state of the tree that they are from.
    fn differing(&self) -> Result<(Vec<Found>, RootState), HistoryError> {
        let known = self.file.as_ref().map(|file| versions(&file.connection));
        let known = known.transpose()?.unwrap_or_default();
        let tree = self.tree.read();
        Ok((differing(&tree, &known), tree.root()))
    }

    fn compare(&mut self, rows: &[Found], mark: &Mark<'_>) -> Result<(), HistoryError> {
        self.transact(true, |writer| {
            writer.compare(rows, mark)?;
            Ok(mark.version)
        })
    }

    /// Sums up what was too busy at the end of an hour; removes what is too old or too much.
    pub(super) fn tidy(&mut self) -> Result<(), HistoryError> {
        if self.busy.is_over(Instant::now()) {
            self.sum_up()?;
        }
        if let Some(file) = &mut self.file {
            prune(file, &self.settings, self.clock.secs())?;
        }
        Ok(())
    }

    /// Writes down what busy files have become.
    fn sum_up(&mut self) -> Result<(), HistoryError> {
        let changes = self.busy.next_hour(Instant::now());
        if changes.is_empty() {
            return Ok(());
        }
        let mark = Mark {
            source: "summary",
            version: self.version,
            changes: Some(changes),
            ..Mark::default()
        };
        let rows = self.differing();
        let written = rows.and_then(|(rows, _)| self.compare(&rows, &mark));
        if written.is_err() {
            self.lose("a summary could not be written");
        }
        written
    }

    /// An orderly end leaves no gap behind, even if nothing was recorded of the last changes.
    pub(super) fn end(&mut self) -> Result<(), HistoryError> {
        if self.is_lost() || self.window.root.is_some() {
            return Ok(());
        }
        self.sum_up()?;
        if let Some(file) = self.file.take() {
            let update = "UPDATE state SET version = ?1 WHERE version != ?1";
            file.connection
                .execute(update, [self.version.cast_signed()])?;
        }
        Ok(())
    }

    /// Runs one transaction, whose result is the version of the table of entries. Followers hear of its records if they have
    /// not heard of the changes.
    fn transact(
        &mut self,
        is_news: bool,
        call: impl FnOnce(&mut Writer<'_>) -> rusqlite::Result<u64>,
    ) -> Result<(), HistoryError> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let changes = file.connection.total_changes();
        let transaction = file
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut writer = Writer {
            entries: Entries(&transaction),
            settings: &self.settings,
            node_name: &self.node_name,
            compressor: &mut self.compressor,
            now: wall_clock_secs(),
            records: Vec::new(),
            left_out_count: 0,
        };
        let version = call(&mut writer)?;
        let (records, left_out_count) = (writer.records, writer.left_out_count);
        let mut seq = self.seq;
        for record in &records {
            seq = record.insert(&transaction)?;
        }
        // Changes of what is left out cost no write.
        if transaction.total_changes() != changes {
            transaction
                .prepare_cached("UPDATE state SET version = ?1")?
                .execute([version.cast_signed()])?;
            transaction.commit()?;
        } else {
            drop(transaction);
        }
        self.version = version;
        self.shared.written(&records, left_out_count, version);
        while is_news && self.seq < seq && self.shared.follower_count() > 0 {
            let page = page(&file.connection, self.seq, seq, 0)?;
            self.seq = page.last().and_then(|record| record.seq).unwrap_or(seq);
            self.shared.tell_followers(self.seq, version, &page);
        }
        self.seq = seq;
        Ok(())
    }
}
