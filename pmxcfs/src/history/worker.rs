//! The thread `history`: the only one that writes `history.db`.
//!
//! | what happens | what the thread does |
//! |---|---|
//! | another process holds the file | tries again every second; changes gather |
//! | changes gather beyond the limit | drops them; a gap record and a comparison with the tree follow |
//! | the disk is full or fails | the same, and says so |
//! | the file is broken, or has another version | puts it aside, begins a new one |
//! | the file is gone | begins a new one |
//!
//! The daemon notices none of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use pmxcfs_api_types::time::wall_clock_secs;
use pmxcfs_memdb::store::Committed;
use pmxcfs_memdb::{MemDb, RootState};
use rusqlite::TransactionBehavior;

use super::base::{Base, begin, differing, known_contents, known_versions};
use super::busy::Busy;
use super::compare::Mark;
use super::prune;
use super::schema::{HistoryError, HistoryFile, set_aside};
use super::settings::{Settings, stable_name};
use super::shared::Shared;
use super::window::Window;
use super::write::{NodeName, Writer};

/// How long changes gather.
const GATHER: Duration = Duration::from_secs(2);

/// Bytes after which they do not gather any longer.
const GATHER_BYTES: usize = 1 << 20;

/// Pause after a file that is held.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// Pause after another failure.
const FAILURE_PAUSE: Duration = Duration::from_secs(2);

/// Time between two looks at what is too old or too much, and at the end of an hour.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);

/// Why there is a gap when changes do not fit.
const TOO_FAST: &str = "changes came faster than the history could be written";

/// What the thread is told.
pub(super) enum Message {
    /// A commit, and its size.
    Committed(Committed, usize),
    /// Write down everything so far, then drop the sender.
    Flush(Sender<()>),
    /// End.
    Stop,
}

/// The thread's state.
pub(super) struct Worker {
    pub(super) settings: Settings,
    pub(super) tree: Arc<MemDb>,
    pub(super) shared: Arc<Shared>,
    pub(super) node_name: NodeName,
    file: Option<HistoryFile>,
    window: Window,
    /// When the first change of the window came.
    since: Option<Instant>,
    /// Why the table of entries has to be compared with the tree, before anything else.
    gap: Option<String>,
    /// The state of the table of entries.
    version: u64,
    /// The tree at the start: the state that the first records follow. With its entries if there is no file yet.
    base: Option<Base>,
    /// The tree that it was compared with.
    compared: Option<RootState>,
    busy: Busy,
    not_before: Option<Instant>,
    prune_at: Instant,
}

impl Worker {
    pub(super) fn new(
        settings: Settings,
        tree: Arc<MemDb>,
        shared: Arc<Shared>,
        node_name: NodeName,
    ) -> Self {
        let has_file = settings.file.metadata().is_ok_and(|file| file.len() > 0);
        let base = Base::of(&tree.read(), has_file);
        Self {
            settings,
            tree,
            shared,
            node_name,
            file: None,
            window: Window::default(),
            since: None,
            gap: None,
            version: 0,
            base: Some(base),
            compared: None,
            busy: Busy::default(),
            not_before: None,
            prune_at: Instant::now() + PRUNE_INTERVAL,
        }
    }

    /// Body of the thread.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        self.try_write();
        loop {
            let wait = self.due().saturating_duration_since(Instant::now());
            match messages.recv_timeout(wait) {
                Ok(Message::Committed(committed, size)) => {
                    self.take(committed);
                    self.shared.taken(size, self.window.size);
                }
                Ok(Message::Flush(_done)) => self.try_write(),
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.due() <= Instant::now() {
                self.try_write();
            }
        }
        self.try_write();
        self.end();
    }

    /// An orderly end leaves no gap behind, even if nothing was recorded of the last changes. Files that were too busy are compared
    /// at the next start.
    fn end(&mut self) {
        if let Some(file) = self.file.take()
            && self.gap.is_none()
            && self.window.root.is_none()
            && !self.busy.has_skipped()
        {
            let version = self.version.cast_signed();
            let update = "UPDATE state SET version = ?1 WHERE version != ?1";
            let _gap = file.connection.execute(update, [version]);
        }
    }

    fn due(&self) -> Instant {
        let write_at = match self.since {
            Some(since) if self.window.size < GATHER_BYTES => since + GATHER,
            Some(since) => since,
            None if self.gap.is_some() || self.file.is_none() => Instant::now(),
            None => self.prune_at,
        };
        let at = write_at.min(self.prune_at);
        self.not_before.map_or(at, |not_before| at.max(not_before))
    }

    fn take(&mut self, committed: Committed) {
        if self.shared.take_loss() || committed.is_incomplete {
            self.lose(TOO_FAST);
        }
        if self.gap.is_some() {
            return;
        }
        if committed.leader.is_some() {
            let is_known = |compared: RootState| {
                committed.root.version < compared.version || committed.root == compared
            };
            if self.compared.is_some_and(is_known) {
                return;
            }
            // Each in a transaction of its own; what cannot be written now is compared later.
            let written = self.write();
            let written = written.and_then(|()| self.write_sync(&committed));
            if let Err(error) = written {
                self.failed(&error);
                self.lose("a synchronisation could not be written");
            }
            return;
        }
        self.since.get_or_insert_with(Instant::now);
        self.window.add(committed);
    }

    fn lose(&mut self, reason: &str) {
        self.window = Window::default();
        self.since = None;
        self.gap.get_or_insert_with(|| reason.to_owned());
    }

    /// Writes what has gathered, and deals with a file that cannot be written.
    fn try_write(&mut self) {
        if self.shared.take_loss() {
            self.lose(TOO_FAST);
        }
        if self.not_before.is_some_and(|at| at > Instant::now()) {
            return;
        }
        match self.write().and_then(|()| self.tidy()) {
            Ok(()) => {
                self.not_before = None;
                self.shared.works();
                if let Some(Ok(size)) = self.file.as_ref().map(HistoryFile::size) {
                    self.shared.measured(size);
                }
            }
            Err(error) => self.failed(&error),
        }
        self.shared.taken(0, self.window.size);
    }

    fn failed(&mut self, error: &HistoryError) {
        let pause = if error.is_busy() {
            BUSY_PAUSE
        } else {
            FAILURE_PAUSE
        };
        self.not_before = Some(Instant::now() + pause);
        let path = self.settings.file.display().to_string();
        if error.is_broken() {
            self.file = None;
            match set_aside(&self.settings.file) {
                Ok(aside) => {
                    tracing::warn!(%error, "{path} cannot be used, a new history begins; the file is kept as {}", aside.display());
                    self.lose("the history before was broken");
                    self.not_before = None;
                }
                Err(error) => tracing::warn!(%error, "cannot put {path} aside"),
            }
        }
        if self.shared.fails(error.to_string(), error.is_busy()) {
            tracing::warn!(%error, "{path} cannot be written: no history until it can; the daemon serves without it");
        }
    }

    fn write(&mut self) -> Result<(), HistoryError> {
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
        if let Some(reason) = self.gap.clone() {
            self.compare_with_tree(&reason)?;
            self.gap = None;
        }
        let Some(root) = self.window.root else {
            return Ok(());
        };
        let (known, window) = (self.version, std::mem::take(&mut self.window));
        let mut busy = self.busy.clone();
        let written = self.transact(|writer| {
            writer.apply(&window, known, &mut busy)?;
            Ok(root.version)
        });
        match written {
            Ok(()) => {
                self.busy = busy;
                self.since = None;
            }
            Err(error) => {
                self.window = window;
                return Err(error);
            }
        }
        Ok(())
    }

    /// The database is on the same filesystem, so a file that has its size takes nothing more before old records are gone.
    fn make_room(&mut self) -> Result<(), HistoryError> {
        if let Some(file) = &mut self.file
            && prune::is_too_large(file, &self.settings)?
        {
            prune::prune(file, &self.settings)?;
            if prune::is_too_large(file, &self.settings)? {
                return Err(HistoryError::NoRoom);
            }
        }
        Ok(())
    }

    /// Opens the file. A new one gets the tree's metadata as its base; an old one is compared with the tree.
    fn open(&mut self) -> Result<(), HistoryError> {
        let mut file = HistoryFile::open(&self.settings.file)?;
        let stored = file
            .connection
            .prepare("SELECT version FROM state")?
            .query_map([], |row| row.get::<_, i64>(0))?
            .next()
            .transpose()?;
        let base = self.base.take();
        match stored {
            Some(version) => {
                self.version = version.cast_unsigned();
                let root = base.map_or_else(|| self.tree.read().root(), |base| base.root);
                let waits = self.window.pending.first();
                let begins = waits.map_or(root.version, |first| first.root.version - 1);
                self.gap = self.gap.take().or_else(|| {
                    (begins != self.version)
                        .then(|| "the tree changed while no history was kept".to_owned())
                });
            }
            None => {
                self.want_contents(&HashSet::new());
                let base = base.filter(|base| base.entries.is_some());
                let base = base.unwrap_or_else(|| Base::of(&self.tree.read(), false));
                let transaction = file
                    .connection
                    .transaction_with_behavior(TransactionBehavior::Immediate)?;
                begin(&transaction, &self.settings, &base)?;
                transaction.commit()?;
                self.version = base.root.version;
                self.compared = Some(base.root);
            }
        }
        let known = known_contents(&file)?;
        self.want_contents(&known);
        let is_new = file.is_new;
        self.file = Some(file);
        if let Some(reason) = self.gap.take_if(|_| is_new) {
            let version = self.version;
            self.transact(|writer| {
                writer.gap(&reason, version);
                Ok(version)
            })?;
        }
        Ok(())
    }

    /// The tree sets aside contents that the history does not have.
    fn want_contents(&self, known: &HashSet<u64>) {
        self.tree.want_former(|inode| known.contains(&inode));
    }

    fn compare_with_tree(&mut self, reason: &str) -> Result<(), HistoryError> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let known = known_versions(file)?;
        let (rows, root) = {
            let tree = self.tree.read();
            (differing(&tree, &known), tree.root())
        };
        self.compared = Some(root);
        let mark = Mark {
            source: "comparison",
            version: root.version,
            leader: None,
            changes: 1,
        };
        self.transact(|writer| {
            writer.gap(reason, root.version);
            writer.compare(&rows, &HashMap::new(), &mark)?;
            Ok(root.version)
        })
    }

    fn write_sync(&mut self, committed: &Committed) -> Result<(), HistoryError> {
        let former = committed.former.iter();
        let former = former.map(|former| (former.inode, former.data.clone()));
        let former: HashMap<_, _> = former.collect();
        let mark = Mark {
            source: "synchronisation",
            version: committed.root.version,
            leader: committed.leader,
            changes: 1,
        };
        self.transact(|writer| {
            writer.compare(&committed.rows, &former, &mark)?;
            Ok(committed.root.version)
        })
    }

    /// Summaries at the end of an hour; old records go.
    fn tidy(&mut self) -> Result<(), HistoryError> {
        if self.prune_at > Instant::now() {
            return Ok(());
        }
        self.prune_at = Instant::now() + PRUNE_INTERVAL;
        for (path, changes) in self.busy.end_hour(wall_clock_secs()) {
            if let Err(error) = self.sum_up(&path, changes) {
                self.lose("a summary could not be written");
                return Err(error);
            }
        }
        if let Some(file) = &mut self.file {
            prune::prune(file, &self.settings)?;
        }
        Ok(())
    }

    /// Writes down what a busy file has become.
    fn sum_up(&mut self, path: &[u8], changes: u64) -> Result<(), HistoryError> {
        let tree = Arc::clone(&self.tree);
        let known = self.version;
        self.transact(|writer| {
            let stale = writer.known_below_name(path)?;
            let stale = stale
                .into_iter()
                .filter(|known| stable_name(&known.path) == path);
            let mut inodes: Vec<u64> = stale.map(|known| known.inode).collect();
            let rows = {
                let tree = tree.read();
                inodes.extend(tree.lookup(path).map(|entry| entry.inode));
                inodes.sort_unstable();
                inodes.dedup();
                let rows = inodes
                    .iter()
                    .map(|inode| (*inode, tree.entry(*inode).cloned()));
                rows.collect::<Vec<_>>()
            };
            let mark = Mark {
                source: "summary",
                version: known,
                leader: None,
                changes,
            };
            writer.compare(&rows, &HashMap::new(), &mark)?;
            Ok(known)
        })
    }

    /// Runs one transaction, whose result is the version of the table of entries, and tells followers its records.
    fn transact(
        &mut self,
        call: impl FnOnce(&mut Writer<'_>) -> rusqlite::Result<u64>,
    ) -> Result<(), HistoryError> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let transaction = file
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut writer = Writer {
            transaction: &transaction,
            settings: &self.settings,
            node_name: &self.node_name,
            now: wall_clock_secs(),
            records: Vec::new(),
            left_out_count: 0,
        };
        let version = call(&mut writer)?;
        let (mut records, left_out_count) = (writer.records, writer.left_out_count);
        for record in &mut records {
            record.insert(&transaction)?;
        }
        if !records.is_empty() || version.abs_diff(self.version) > 0 && left_out_count == 0 {
            transaction
                .prepare_cached("UPDATE state SET version = ?1")?
                .execute([version.cast_signed()])?;
            transaction.commit()?;
        }
        self.version = version;
        self.shared.written(records, left_out_count, version);
        Ok(())
    }
}
