//! Every path that the daemon uses, in one place.

use std::path::{Path, PathBuf};

use clap::Args;

/// Options for paths. An option that is not given stands for the C daemon's path, below `root_dir` if that is given.
#[derive(Debug, Clone, Default, Args)]
pub struct PathOptions {
    /// Put all paths below this directory
    #[arg(long, value_name = "DIR")]
    pub root_dir: Option<PathBuf>,

    /// Mount point [/etc/pve]
    #[arg(long, value_name = "DIR")]
    pub mount_dir: Option<PathBuf>,

    /// Directory of the database [/var/lib/pve-cluster]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// RAM-backed directory of the crash journal and the restart flag [/run/pve-cluster]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,

    /// PID file [/run/pve-cluster.pid]
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,

    /// Configuration of corosync on this host [/etc/corosync/corosync.conf]
    #[arg(long, value_name = "FILE")]
    pub corosync_conf: Option<PathBuf>,

    /// Directory of RRD files [/var/lib/rrdcached/db]
    #[arg(long, value_name = "DIR")]
    pub rrd_dir: Option<PathBuf>,

    /// Socket of rrdcached [/var/run/rrdcached.sock]
    #[arg(long, value_name = "FILE")]
    pub rrdcached_socket: Option<PathBuf>,
}

/// The daemon's paths. All are absolute, since it changes its working directory to `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Mount point, `/etc/pve`.
    pub mount_dir: PathBuf,
    /// Directory of the database and the instance lock, `/var/lib/pve-cluster`.
    pub state_dir: PathBuf,
    /// RAM-backed directory of the crash journal and the restart flag, `/run/pve-cluster`.
    pub run_dir: PathBuf,
    /// PID file that the systemd unit reads, `/run/pve-cluster.pid`.
    pub pid_file: PathBuf,
    /// corosync's configuration on this host, `/etc/corosync/corosync.conf`.
    pub corosync_conf: PathBuf,
    /// Top directory of RRD files, `/var/lib/rrdcached/db`.
    pub rrd_dir: PathBuf,
    /// Socket of rrdcached, `/var/run/rrdcached.sock`.
    pub rrdcached_socket: PathBuf,
}

impl PathOptions {
    /// All paths. Relative ones are taken from the working directory.
    pub fn paths(&self) -> Paths {
        let working_dir = std::env::current_dir().unwrap_or_else(|_gone| PathBuf::from("/"));
        Paths::resolve(self, &working_dir)
    }
}

impl Paths {
    fn resolve(options: &PathOptions, working_dir: &Path) -> Self {
        let root = options
            .root_dir
            .as_ref()
            .map_or_else(|| PathBuf::from("/"), |root| working_dir.join(root));
        let pick = |given: &Option<PathBuf>, default: &str| match given {
            Some(path) => working_dir.join(path),
            None => root.join(default),
        };
        Self {
            mount_dir: pick(&options.mount_dir, "etc/pve"),
            state_dir: pick(&options.state_dir, "var/lib/pve-cluster"),
            run_dir: pick(&options.run_dir, "run/pve-cluster"),
            pid_file: pick(&options.pid_file, "run/pve-cluster.pid"),
            corosync_conf: pick(&options.corosync_conf, "etc/corosync/corosync.conf"),
            rrd_dir: pick(&options.rrd_dir, "var/lib/rrdcached/db"),
            rrdcached_socket: pick(&options.rrdcached_socket, "var/run/rrdcached.sock"),
        }
    }

    /// The database file.
    pub fn database(&self) -> PathBuf {
        self.state_dir.join("config.db")
    }

    /// The history of changes. Not known to the C daemon.
    pub fn history(&self) -> PathBuf {
        self.state_dir.join("history.db")
    }

    /// The file whose lock says that an instance runs. Never removed.
    pub fn lock_file(&self) -> PathBuf {
        self.state_dir.join(".pmxcfs.lockfile")
    }

    /// The file that tells IPC clients to wait for a restart instead of failing.
    pub fn restart_flag(&self) -> PathBuf {
        self.run_dir.join("cfs-restart-flag")
    }

    /// The socket over which `pmxcfs-ctl` asks the daemon. Not known to the C daemon.
    pub fn control_socket(&self) -> PathBuf {
        self.run_dir.join("ctl.sock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_c_daemons() {
        let paths = Paths::resolve(&PathOptions::default(), Path::new("/usr"));
        assert_eq!(paths.mount_dir, Path::new("/etc/pve"));
        assert_eq!(
            paths.database(),
            Path::new("/var/lib/pve-cluster/config.db")
        );
        assert_eq!(
            paths.lock_file(),
            Path::new("/var/lib/pve-cluster/.pmxcfs.lockfile")
        );
        assert_eq!(
            paths.restart_flag(),
            Path::new("/run/pve-cluster/cfs-restart-flag")
        );
        assert_eq!(
            paths.control_socket(),
            Path::new("/run/pve-cluster/ctl.sock")
        );
        assert_eq!(paths.pid_file, Path::new("/run/pve-cluster.pid"));
        assert_eq!(
            paths.corosync_conf,
            Path::new("/etc/corosync/corosync.conf")
        );
        assert_eq!(paths.rrd_dir, Path::new("/var/lib/rrdcached/db"));
        assert_eq!(paths.rrdcached_socket, Path::new("/var/run/rrdcached.sock"));
    }

    #[test]
    fn one_option_moves_everything_and_single_ones_win() {
        let options = PathOptions {
            root_dir: Some("lab".into()),
            state_dir: Some("state".into()),
            run_dir: Some("/dev/shm/run".into()),
            ..PathOptions::default()
        };
        let paths = Paths::resolve(&options, Path::new("/tmp"));
        assert_eq!(paths.mount_dir, Path::new("/tmp/lab/etc/pve"));
        assert_eq!(paths.state_dir, Path::new("/tmp/state"));
        assert_eq!(paths.run_dir, Path::new("/dev/shm/run"));
    }
}
