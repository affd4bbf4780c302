//! Writers that remember what they were told.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::ClusterHost;

/// What one writer was told.
#[derive(Debug, Default)]
pub struct LoadReport {
    /// Files whose last write succeeded, with their contents.
    pub acknowledged: BTreeMap<String, Vec<u8>>,
    /// Number of writes that succeeded.
    pub success_count: u64,
    /// Number of writes that failed.
    pub failure_count: u64,
    /// Longest time that one write took.
    pub longest: Duration,
}

/// A writer on one host: makes and overwrites files of its own until it is stopped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
}

impl Default for Load {
    fn default() -> Self {
        Self::new()
    }
}

impl Load {
    /// Not running yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            stop: Arc::default(),
        }
    }

    /// Ends all runs.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Writes until the load is stopped. A file whose last write failed may have either content, so it is given up.
    pub fn run(&self, host: &ClusterHost, label: &str) -> LoadReport {
        let mut report = LoadReport::default();
        host.inside(|| {
            let mut number = 0u64;
            while !self.stop.load(Ordering::Acquire) {
                let name = format!("load-{label}-{}", number % 50);
                let data = format!("{label} {number}").into_bytes();
                let begin = Instant::now();
                let result = write(&format!("/etc/pve/{name}"), &data);
                report.longest = report.longest.max(begin.elapsed());
                match result {
                    Ok(()) => {
                        report.success_count += 1;
                        report.acknowledged.insert(name, data);
                    }
                    Err(_) => {
                        report.failure_count += 1;
                        report.acknowledged.remove(&name);
                        std::thread::park_timeout(Duration::from_millis(20));
                    }
                }
                number += 1;
            }
        });
        report
    }
}

impl LoadReport {
    /// What was acknowledged and is not there.
    #[must_use]
    pub fn lost_on(&self, host: &ClusterHost) -> Vec<String> {
        let missing =
            self.acknowledged
                .iter()
                .filter_map(|(name, expected)| match host.read(name) {
                    Ok(found) if found == *expected => None,
                    Ok(found) => Some(format!(
                        "{name}: {:?} instead of {:?}",
                        String::from_utf8_lossy(&found),
                        String::from_utf8_lossy(expected)
                    )),
                    Err(error) => Some(format!("{name}: {error}")),
                });
        missing.collect()
    }
}

fn write(path: &str, data: &[u8]) -> io::Result<()> {
    std::fs::write(path, data)
}
