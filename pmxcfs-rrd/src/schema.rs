//! What the files hold: data sources, archives, and the arguments that create them.
//!
//! Readers (the Perl graphs) address sources by name and archives by function and resolution, and files live for years,
//! so nothing here may change without a new directory name.

/// Seconds between two primary data points.
pub const STEP_SECS: u32 = 60;

/// Seconds without a value after which a source counts as unknown.
const HEARTBEAT_SECS: u32 = 120;

/// One of the three kinds of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Schema {
    /// A node of the cluster.
    Node,
    /// A guest, whatever its type.
    Vm,
    /// A storage as one node sees it.
    Storage,
}

/// How RRD reads the values of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// The value itself.
    Gauge,
    /// A counter of which the rate is kept.
    Derive,
}

/// One column of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataSource {
    /// Name under which readers ask for it.
    pub name: &'static str,
    /// How its values are read.
    pub kind: SourceKind,
}

/// How an archive combines primary data points into one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Archive {
    /// RRD's name of the function.
    pub function: &'static str,
    /// Steps that one row covers.
    pub steps_per_row: u32,
    /// Rows until the oldest is overwritten.
    pub row_count: u32,
}

/// The archives of every file, in file order.
pub const ARCHIVES: [Archive; 8] = [
    archive("AVERAGE", 1, 1440),
    archive("AVERAGE", 30, 1440),
    archive("AVERAGE", 360, 1440),
    archive("AVERAGE", 10080, 570),
    archive("MAX", 1, 1440),
    archive("MAX", 30, 1440),
    archive("MAX", 360, 1440),
    archive("MAX", 10080, 570),
];

const NODE_SOURCES: [DataSource; 19] = [
    gauge("loadavg"),
    gauge("maxcpu"),
    gauge("cpu"),
    gauge("iowait"),
    gauge("memtotal"),
    gauge("memused"),
    gauge("swaptotal"),
    gauge("swapused"),
    gauge("roottotal"),
    gauge("rootused"),
    derive("netin"),
    derive("netout"),
    gauge("memavailable"),
    gauge("arcsize"),
    gauge("pressurecpusome"),
    gauge("pressureiosome"),
    gauge("pressureiofull"),
    gauge("pressurememorysome"),
    gauge("pressurememoryfull"),
];

const VM_SOURCES: [DataSource; 17] = [
    gauge("maxcpu"),
    gauge("cpu"),
    gauge("maxmem"),
    gauge("mem"),
    gauge("maxdisk"),
    gauge("disk"),
    derive("netin"),
    derive("netout"),
    derive("diskread"),
    derive("diskwrite"),
    gauge("memhost"),
    gauge("pressurecpusome"),
    gauge("pressurecpufull"),
    gauge("pressureiosome"),
    gauge("pressureiofull"),
    gauge("pressurememorysome"),
    gauge("pressurememoryfull"),
];

const STORAGE_SOURCES: [DataSource; 2] = [gauge("total"), gauge("used")];

impl Schema {
    /// All schemas.
    pub const ALL: [Self; 3] = [Self::Node, Self::Vm, Self::Storage];

    /// Directory of the schema's files, below the top directory of RRD files.
    #[must_use]
    pub fn directory(self) -> &'static str {
        match self {
            Self::Node => "pve-node-9.0",
            Self::Vm => "pve-vm-9.0",
            Self::Storage => "pve-storage-9.0",
        }
    }

    /// Data sources in file order, which is the order of the columns after the time.
    #[must_use]
    pub fn sources(self) -> &'static [DataSource] {
        match self {
            Self::Node => &NODE_SOURCES,
            Self::Vm => &VM_SOURCES,
            Self::Storage => &STORAGE_SOURCES,
        }
    }

    /// Columns in front of the time that are for live displays only and never reach RRD.
    #[must_use]
    pub fn live_column_count(self) -> usize {
        match self {
            Self::Node => 2,
            Self::Vm => 4,
            Self::Storage => 0,
        }
    }

    /// Sources at the end that senders of the old keys (`pve2-...`) do not know.
    #[must_use]
    pub fn appended_source_count(self) -> usize {
        match self {
            Self::Node | Self::Vm => 7,
            Self::Storage => 0,
        }
    }

    /// Arguments of `rrdtool create` after the step and the start time. Sources accept everything from 0 up.
    #[must_use]
    pub fn create_arguments(self) -> Vec<String> {
        let sources = self.sources().iter().map(|source| {
            let kind = match source.kind {
                SourceKind::Gauge => "GAUGE",
                SourceKind::Derive => "DERIVE",
            };
            format!("DS:{}:{kind}:{HEARTBEAT_SECS}:0:U", source.name)
        });
        let archives = ARCHIVES.iter().map(|archive| {
            let Archive {
                function,
                steps_per_row,
                row_count,
            } = archive;
            format!("RRA:{function}:0.5:{steps_per_row}:{row_count}")
        });
        sources.chain(archives).collect()
    }
}

/// Start time of a new file, in seconds since the epoch.
///
/// The C daemon takes `midnight`, the beginning of the local day. RRD refuses values that are not later than the start,
/// so a value stamped before midnight and handled after it, or stamped by a clock that is behind, would be lost. Such a
/// value moves the start to one step before itself.
#[must_use]
pub fn start_time(midnight: i64, value_time: Option<i64>) -> i64 {
    value_time
        .and_then(|time| time.checked_sub(i64::from(STEP_SECS)))
        .filter(|before| *before > 0)
        .map_or(midnight, |before| before.min(midnight))
}

const fn gauge(name: &'static str) -> DataSource {
    DataSource {
        name,
        kind: SourceKind::Gauge,
    }
}

const fn derive(name: &'static str) -> DataSource {
    DataSource {
        name,
        kind: SourceKind::Derive,
    }
}

const fn archive(function: &'static str, steps_per_row: u32, row_count: u32) -> Archive {
    Archive {
        function,
        steps_per_row,
        row_count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_is_midnight_unless_the_value_is_older() {
        let midnight = 1_795_305_600;
        let cases = [
            ("no usable time", None, midnight),
            ("later today", Some(midnight + 48_805), midnight),
            ("one step after midnight", Some(midnight + 60), midnight),
            ("at midnight", Some(midnight), midnight - 60),
            ("yesterday", Some(midnight - 5), midnight - 65),
            ("clock years behind", Some(1_000_000_000), 999_999_940),
            ("too early for any start", Some(60), midnight),
            ("zero", Some(0), midnight),
            ("smallest number", Some(i64::MIN), midnight),
            ("far future", Some(i64::MAX), midnight),
        ];
        for (name, value_time, expected) in cases {
            assert_eq!(start_time(midnight, value_time), expected, "{name}");
        }
    }

    #[test]
    fn averages_reach_back_at_least_ten_years() {
        let covered_secs = |archive: &Archive| {
            u64::from(archive.steps_per_row) * u64::from(archive.row_count) * u64::from(STEP_SECS)
        };
        let longest = ARCHIVES.iter().map(covered_secs).max();
        assert!(longest.is_some_and(|secs| secs > 10 * 365 * 86_400));
    }
}
