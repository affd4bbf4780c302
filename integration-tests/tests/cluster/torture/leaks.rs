//! What a daemon holds of the system's, compared with what it held when it was young.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use integration_tests::cluster::{ClusterHost, LIMIT};
use integration_tests::{proc, wait};

/// How much there is of each thing: an open file or socket of a kind, a thread, a client's shared memory, a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Usage(BTreeMap<String, usize>);

impl Usage {
    /// What the daemon of a host uses now.
    pub(super) fn of(host: &ClusterHost) -> Self {
        let process = format!("/proc/{}", host.daemon_pid());
        let process = Path::new(&process);
        host.inside(|| {
            let mut usage = Self(BTreeMap::new());
            for file in entries(&process.join("fd")) {
                // A descriptor that was closed meanwhile is not there any more.
                if let Ok(target) = fs::read_link(file) {
                    usage.count(&kind(&target.to_string_lossy()));
                }
            }
            for task in entries(&process.join("task")) {
                let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
                usage.count(&format!("thread {}", name.trim_end()));
            }
            for directory in entries(Path::new("/dev/shm")) {
                let is_ours = |file: &Path| file.to_string_lossy().contains("-pve2-");
                if directory.is_dir() && entries(&directory).iter().any(|file| is_ours(file)) {
                    usage.count("shared memory of an IPC client");
                }
            }
            for line in fs::read_to_string(process.join("mountinfo"))
                .unwrap_or_default()
                .lines()
            {
                let mount_point = line.split(' ').nth(4).unwrap_or_default();
                usage.count(&format!("mount {mount_point}"));
            }
            usage
        })
    }

    fn count(&mut self, what: &str) {
        *self.0.entry(what.to_owned()).or_default() += 1;
    }

    /// Waits until a host's daemon uses no more than this.
    ///
    /// # Panics
    /// If it goes on doing so; with a list of what is too much.
    pub(super) fn assert_no_more_of(&self, host: &ClusterHost) {
        let mut excess = String::new();
        let is_clean = wait::try_until(LIMIT, || {
            excess = self.excess(&Self::of(host));
            excess.is_empty().then_some(())
        });
        let name = host.name();
        assert!(is_clean.is_some(), "left over on {name}:\n{excess}");
    }

    fn excess(&self, later: &Self) -> String {
        let mut text = String::new();
        for (what, count) in &later.0 {
            let before = self.0.get(what).copied().unwrap_or(0);
            if *count > before {
                writeln!(text, "{what}: {count} instead of {before}")
                    .expect("a text can be extended");
            }
        }
        text
    }
}

/// The most memory that a daemon may have, whatever happens to it.
#[derive(Debug)]
pub(super) struct MemoryBound {
    bytes: u64,
}

impl MemoryBound {
    /// Of a young daemon's.
    const FACTOR: u64 = 3;

    /// From the memory of a host's daemon, which has just been started.
    pub(super) fn of(host: &ClusterHost) -> Self {
        let bytes = Self::FACTOR * proc::resident_bytes(host.daemon_pid());
        Self { bytes }
    }

    /// # Panics
    /// If the daemon that runs there now has ever had more. A C daemon may.
    pub(super) fn assert_kept(&self, host: &ClusterHost) {
        if host.is_c() {
            return;
        }
        let peak = proc::peak_bytes(host.daemon_pid());
        let (name, bytes) = (host.name(), self.bytes);
        assert!(
            peak <= bytes,
            "the daemon of {name} had {peak} bytes of memory; the bound is {bytes}"
        );
    }
}

/// The target of a descriptor without the numbers that no two have in common. A ring of libqb has the name of its file.
fn kind(target: &str) -> String {
    let target = target.split(":[").next().unwrap_or(target);
    match target.strip_prefix("/dev/shm/qb-") {
        Some(ring) => format!("ring {}", ring.rsplit('/').next().unwrap_or(ring)),
        None => format!("descriptor of {target}"),
    }
}

fn entries(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}
