//! The database of this node: opened at the start, closed at the stop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use pmxcfs_api_types::limits::MAX_FILE_SIZE;
use pmxcfs_api_types::names::COROSYNC_CONF;
use pmxcfs_config::{Config, Paths};
use pmxcfs_memdb::store::{ShutdownOutcome, Store, StoreConfig};
use pmxcfs_memdb::{Entry, EntryKind, MemDb, Operation, ROOT_INODE, Rules, Tree};

/// How long the last commit may take, if another process holds the database. The crash journal keeps the rest for the next
/// start.
const PATIENCE: Duration = Duration::from_millis(600);

/// The open database. Dropping it commits the queue and closes it, within bounds.
pub(super) struct Database {
    pub(super) db: Arc<MemDb>,
    /// The rules of local or of cluster mode.
    pub(super) rules: Rules,
}

impl Database {
    /// Opens or creates the database, replays the crash journal, and imports corosync's configuration on the first start. Its
    /// content then decides between local and cluster mode.
    pub(super) fn open(config: &Config, started: Instant) -> anyhow::Result<Self> {
        let paths = &config.paths;
        let file = paths.database();
        let import = first_start_import(config)?;
        let failed = || {
            let file = file.display();
            format!("memdb_open failed - unable to open database '{file}'")
        };
        let store_config = StoreConfig {
            accept_empty: import.is_some(),
            ..StoreConfig::new(file.clone(), &paths.run_dir)
        };
        let (store, loaded) = Store::open(store_config).with_context(failed)?;
        for warning in &loaded.warnings {
            tracing::warn!("{}: {warning}", file.display());
        }
        let rules = rules(config, &loaded.entries, import.is_some());
        let tree = Tree::from_entries(loaded.root, loaded.entries, rules, 0)
            .map_err(|finding| anyhow!("{finding} - {}", finding.advice()))
            .with_context(failed)?;
        for warning in tree.warnings() {
            tracing::warn!("{}: {warning} - {}", file.display(), warning.advice());
        }
        let db = MemDb::new(tree, started);
        db.start_store(store)
            .context("cannot start the store's thread")?;
        let database = Self { db, rules };
        if let Some(text) = import {
            import_corosync_conf(&database.db, text)
                .context("memdb_write failed - unable to import corosync.conf")?;
        }
        Ok(database)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        close(&self.db);
    }
}

/// The text that a first start imports, read and checked before the database exists: a refusal must not change the next start.
fn first_start_import(config: &Config) -> anyhow::Result<Option<Bytes>> {
    let Paths { corosync_conf, .. } = &config.paths;
    let database = std::fs::metadata(config.paths.database());
    if config.force_local || database.is_ok_and(|metadata| metadata.len() > 0) {
        return Ok(None);
    }
    let Ok(text) = std::fs::read(corosync_conf) else {
        return Ok(None);
    };
    if text.len() as u64 > MAX_FILE_SIZE {
        bail!(
            "memdb_write failed - unable to import corosync.conf: {} is larger than {MAX_FILE_SIZE} bytes",
            corosync_conf.display()
        );
    }
    Ok(Some(text.into()))
}

/// The leading slash keeps the import from counting as a change of the versioned path.
fn import_corosync_conf(db: &MemDb, data: Bytes) -> anyhow::Result<()> {
    let path = Bytes::from(format!("/{COROSYNC_CONF}"));
    db.apply_and_wait(&Operation::Create { path: path.clone() })?;
    db.apply_and_wait(&Operation::Write {
        path,
        offset: 0,
        data,
        truncate: false,
    })?;
    Ok(())
}

/// Local or cluster mode: a corosync.conf in the database, or about to be imported, makes a member.
fn rules(config: &Config, entries: &[Entry], is_imported: bool) -> Rules {
    let is_configured = is_imported
        || entries.iter().any(|entry| {
            entry.parent == ROOT_INODE
                && entry.inode != ROOT_INODE
                && entry.name == COROSYNC_CONF.as_bytes()
                && entry.kind == EntryKind::File
        });
    if is_configured && !config.force_local {
        return Rules::Replicated;
    }
    if is_configured {
        tracing::info!("forcing local mode (although corosync.conf exists)");
    }
    Rules::Local
}

/// Commits the queue and closes the database, within bounds.
pub(super) fn close(db: &MemDb) {
    match db.shutdown(PATIENCE) {
        None | Some(ShutdownOutcome::Clean) => tracing::debug!("database closed"),
        Some(ShutdownOutcome::LogKept) => {
            tracing::info!(
                "another process has the database open, so SQLite's log stays beside it"
            );
        }
        Some(ShutdownOutcome::JournalKept { reason }) => {
            tracing::warn!(
                "{reason}: the last changes are in the crash journal, the next start applies them"
            );
        }
        Some(ShutdownOutcome::Lost { reason }) => {
            tracing::error!(
                "{reason}, and the crash journal is incomplete: the last changes are lost"
            );
        }
        Some(outcome) => {
            tracing::warn!(
                ?outcome,
                "the database was not closed; the next start applies the crash journal"
            );
        }
    }
}
