//! The command line of `pmxcfs-ctl`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use pmxcfs_config::{PathOptions, Paths};

use crate::tools::records::{DiffArgs, ListArgs};

/// Exit statuses, as `--help` lists them.
const STATUSES: &str = "\
Exit status:
  0  the daemon is healthy; scrub: nothing differed; other commands: done
  1  scrub: rows differed, or the database cannot be read; else the daemon answered and is degraded: no quorum, database cannot be written, synchronisation under way, ...
  2  the daemon did not answer, or the command could not be carried out";

/// Show the health of a running pmxcfs and the history of changes, and flush its database
#[derive(Debug, Parser)]
#[command(
    name = "pmxcfs-ctl",
    version,
    after_help = STATUSES
)]
pub struct Cli {
    /// Control socket of the daemon [/run/pve-cluster/ctl.sock]
    #[arg(long, value_name = "FILE", global = true)]
    socket: Option<PathBuf>,

    /// Put all default paths below this directory
    #[arg(long, value_name = "DIR", global = true)]
    root_dir: Option<PathBuf>,

    /// Run directory of the daemon [/run/pve-cluster]
    #[arg(long, value_name = "DIR", global = true)]
    run_dir: Option<PathBuf>,

    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show everything once
    Status {
        /// Print JSON, on one line, as the daemon sends it
        #[arg(long)]
        json: bool,
    },
    /// Show everything repeatedly, with rates
    Watch(WatchArgs),
    /// Print everything in the text format of Prometheus
    Metrics,
    /// Wait until the database holds everything that was written to the mount
    Flush,
    /// Change to the program that is installed now, without an error for programs that use the mount, and wait until it serves
    Reload,
    /// Compare the database with memory now, and write rows anew that differ
    Scrub,
    #[command(flatten)]
    OfHistory(HistoryCommand),
    /// Acknowledge what synchronisations have replaced on this node
    Ack,
}

#[derive(Debug, Subcommand)]
pub(super) enum HistoryCommand {
    /// Show what changed: when, on which node, by whom; the newest first
    History(ListArgs),
    /// Print the content that a file had
    Show {
        /// The file; its present content without a version or time
        #[arg(value_name = "PATH@VERSION|PATH@TIME")]
        path: PathBuf,
    },
    /// Show what differs between two moments
    Diff(DiffArgs),
    /// Put back what was at a path, by an ordinary write
    Restore(RestoreArgs),
    /// Show changes as they come, also those of other nodes
    Follow(FollowArgs),
}

#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// Seconds between two pages
    #[arg(long, short = 'n', value_name = "SECS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(super) interval: u64,

    /// End after this many pages
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) count: Option<u64>,
}

/// What is put back.
#[derive(Debug, Clone, Args)]
pub(super) struct RestoreArgs {
    /// The file or directory, as it was then
    #[arg(value_name = "PATH@VERSION|PATH@TIME")]
    pub(super) path: PathBuf,

    /// Write it to this path instead
    #[arg(long, value_name = "OTHER")]
    pub(super) to: Option<PathBuf>,

    /// Overwrite what has changed after that version
    #[arg(long)]
    pub(super) force: bool,

    /// Only show what would change
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// Which records come.
#[derive(Debug, Clone, Args)]
pub(super) struct FollowArgs {
    /// Changes of this file or directory, and of what is below it
    #[arg(value_name = "PATH")]
    pub(super) path: Option<PathBuf>,

    /// Print JSON, one line for each record
    #[arg(long)]
    pub(super) json: bool,

    /// Begin with what came after this version
    #[arg(long, value_name = "VERSION")]
    pub(super) from: Option<u64>,
}

impl Cli {
    /// Where the daemon listens.
    pub(super) fn socket(&self) -> PathBuf {
        let default = || self.paths().control_socket();
        self.socket.clone().unwrap_or_else(default)
    }

    /// The daemon's paths, as far as they are known without asking it.
    pub(super) fn paths(&self) -> Paths {
        let given = PathOptions {
            root_dir: self.root_dir.clone(),
            run_dir: self.run_dir.clone(),
            ..PathOptions::default()
        };
        given.paths()
    }
}
