//! The command line of `pmxcfs-db`.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use pmxcfs_config::{PathOptions, Paths};

use super::lock::Use;
use crate::history::query::Moment;
use crate::tools::records::{ListArgs, moment};

/// Exit statuses, as `--help` lists them.
const STATUSES: &str = "\
Exit status:
  0    done; check: nothing is wrong; diff: no difference; repair: nothing is left to do
  1    check: warnings; close: a journal that belongs to another database; diff: differences; repair: something is to be done, or left; salvage: something is lost
  2    the command failed or could not be carried out; nothing was changed
  3    check: the daemon would not start with this database
  255  create: failed, as create_pmxcfs_db reports it";

/// Check, repair, salvage, show, copy and make databases of pmxcfs, while the daemon is stopped
#[derive(Debug, Parser)]
#[command(
    name = "pmxcfs-db",
    version,
    after_help = STATUSES
)]
pub struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a database of the regular files of a directory, as the installer does
    Create(CreateArgs),
    /// Report everything that is wrong with a database, and what to do about it
    Check(Reading),
    /// Bring the crash journal and SQLite's log of a killed daemon into the database
    Close(Location),
    /// Repair a database that does not load; without --apply only show what would be done
    Repair(RepairArgs),
    /// Make a new database of what can be read of a damaged one, and report what is lost
    Salvage(SalvageArgs),
    /// Show the tree
    Dump(DumpArgs),
    /// Write the tree to a new directory
    Export(ExportArgs),
    /// Make a database of a directory tree
    Import(ImportArgs),
    /// Show how two databases differ, and which one would lead a synchronisation
    Diff(DiffArgs),
    /// Show the history of changes beside a database, without a daemon
    History(HistoryArgs),
    /// Show what a crash journal holds
    Journal(JournalArgs),
    /// Print completions for a shell
    #[command(hide = true)]
    Completions {
        /// Program to complete
        #[arg(long, value_enum, default_value_t)]
        program: Program,

        shell: Shell,
    },
}

/// Which database.
#[derive(Debug, Clone, Args)]
pub(super) struct Location {
    /// The database [/var/lib/pve-cluster/config.db]
    #[arg(long, value_name = "FILE")]
    pub(super) db: Option<PathBuf>,

    /// Put all default paths below this directory
    #[arg(long, value_name = "DIR")]
    pub(super) root_dir: Option<PathBuf>,

    /// Directory of the crash journal [/run/pve-cluster]
    #[arg(long, value_name = "DIR")]
    pub(super) run_dir: Option<PathBuf>,
}

/// How a database is read.
#[derive(Debug, Clone, Args)]
pub(super) struct ReadOptions {
    /// Also read a database that a daemon is using, as of its last commit, without disturbing the daemon
    #[arg(long)]
    pub(super) live: bool,

    /// Leave out the changes that only the crash journal of a killed daemon holds
    #[arg(long)]
    pub(super) ignore_journal: bool,
}

/// Which database, and how it is read.
#[derive(Debug, Args)]
pub(super) struct Reading {
    #[command(flatten)]
    pub(super) location: Location,

    #[command(flatten)]
    pub(super) options: ReadOptions,
}

impl ReadOptions {
    /// How the database is used.
    pub(super) const fn purpose(&self) -> Use {
        if self.live { Use::ReadLive } else { Use::Read }
    }
}

#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// Directory whose regular files become files of the root directory
    #[arg(value_name = "DIR")]
    pub(super) directory: PathBuf,

    /// The database; files are added to one that exists
    #[arg(value_name = "FILE")]
    pub(super) database: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct RepairArgs {
    #[command(flatten)]
    pub(super) location: Location,

    /// Repair, after keeping a copy of the database beside it
    #[arg(long)]
    pub(super) apply: bool,

    /// Leave out the changes that only the crash journal of a killed daemon holds
    #[arg(long)]
    pub(super) ignore_journal: bool,
}

#[derive(Debug, Args)]
pub(super) struct SalvageArgs {
    /// The damaged database; it stays as it is
    #[arg(value_name = "DAMAGED")]
    pub(super) damaged: PathBuf,

    /// The database to make
    #[arg(value_name = "NEW")]
    pub(super) new: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct DumpArgs {
    #[command(flatten)]
    pub(super) reading: Reading,

    /// Show contents too
    #[arg(long)]
    pub(super) contents: bool,

    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,

    /// Show only the entries at and below this path of the tree
    #[arg(value_name = "PATH")]
    pub(super) path: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    pub(super) reading: Reading,

    /// Directory to make; it must not exist or be empty
    #[arg(value_name = "DIR")]
    pub(super) directory: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    #[command(flatten)]
    pub(super) location: Location,

    /// Replace a database that exists, after keeping a copy of it
    #[arg(long)]
    pub(super) replace: bool,

    /// Skip symbolic links, devices and other entries that cannot be stored
    #[arg(long)]
    pub(super) skip_special: bool,

    /// Start versions at this number: the node with the highest version leads a synchronisation
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MAX_BASE_VERSION))]
    pub(super) base_version: u64,

    /// Directory to read
    #[arg(value_name = "DIR")]
    pub(super) directory: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    #[command(flatten)]
    pub(super) read: ReadOptions,

    /// One database
    #[arg(value_name = "A")]
    pub(super) first: PathBuf,

    /// The other database
    #[arg(value_name = "B")]
    pub(super) second: PathBuf,
}

/// Shows the history beside a database.
#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// The database; history.db lies beside it [/var/lib/pve-cluster/config.db]
    #[arg(long, value_name = "FILE", alias = "db")]
    pub(super) database: Option<PathBuf>,

    /// Put all default paths below this directory
    #[arg(long, value_name = "DIR")]
    pub(super) root_dir: Option<PathBuf>,

    /// Show the content at PATH@VERSION or PATH@TIME, byte for byte
    #[arg(long, requires = "path", conflicts_with_all = ["diff", "json"])]
    pub(super) show: bool,

    /// Show a unified diff from --since until --until
    #[arg(long, conflicts_with = "json")]
    pub(super) diff: bool,

    /// With --diff: compare up to this time or version, now by default
    #[arg(long, value_name = "TIME|VERSION", requires = "diff", value_parser = moment)]
    pub(super) until: Option<Moment>,

    #[command(flatten)]
    pub(super) list: ListArgs,
}

#[derive(Debug, Args)]
pub(super) struct JournalArgs {
    #[command(flatten)]
    pub(super) location: Location,

    /// File of a crash journal, or directory with one [the run directory]
    #[arg(value_name = "FILE|DIR")]
    pub(super) journal: Option<PathBuf>,
}

/// Programs with completions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Program {
    Pmxcfs,
    #[default]
    PmxcfsDb,
    PmxcfsCtl,
}

/// Leaves room for every change that will ever be made, and far more entries than a tree can have.
const MAX_BASE_VERSION: u64 = 1 << 62;

impl Location {
    /// A database and nothing else.
    pub(super) fn of(database: &Path) -> Self {
        Self {
            db: Some(database.to_owned()),
            root_dir: None,
            run_dir: None,
        }
    }

    /// The daemon's paths at this location.
    pub(super) fn paths(&self) -> Paths {
        let given = PathOptions {
            root_dir: self.root_dir.clone().or_else(|| self.implied_root()),
            run_dir: self.run_dir.clone(),
            ..PathOptions::default()
        };
        given.paths()
    }

    /// The database.
    pub(super) fn database(&self) -> PathBuf {
        self.db.clone().unwrap_or_else(|| self.paths().database())
    }

    /// Whether the run directory is the one of this database, whatever lies in there. Otherwise only a journal that names
    /// this very file counts.
    pub(super) fn is_paired(&self) -> bool {
        self.db.is_none() || self.run_dir.is_some() || self.implied_root().is_some()
    }

    /// The directory that a daemon has all its paths below, if the database is where such a daemon has it.
    fn implied_root(&self) -> Option<PathBuf> {
        let database = std::fs::canonicalize(self.db.as_ref()?).ok()?;
        let default = PathOptions::default().paths().database();
        let below = default.strip_prefix("/").ok()?;
        let root = database.ancestors().nth(below.components().count())?;
        (root.join(below) == database).then(|| root.to_owned())
    }
}
