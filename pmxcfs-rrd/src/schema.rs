//! What the files hold: data sources, archives, and the arguments that create them.
//!
//! Readers (the Perl graphs) address sources by name and archives by function and resolution, and files live for years,
//! so nothing here may change without a new directory name.

/// Seconds between two primary data points.
pub const STEP_SECS: u32 = 60;

/// Seconds without a value after which a source counts as unknown.
const HEARTBEAT_SECS: u32 = 120;

/// Sources of which RRD keeps the rate; of all others it keeps the value.
const COUNTERS: [&str; 4] = ["netin", "netout", "diskread", "diskwrite"];

/// Archives of every file, in file order: function, steps of [`STEP_SECS`] that one row covers, rows.
const ARCHIVES: [(&str, u32, u32); 8] = [
    ("AVERAGE", 1, 1440),
    ("AVERAGE", 30, 1440),
    ("AVERAGE", 360, 1440),
    ("AVERAGE", 10080, 570),
    ("MAX", 1, 1440),
    ("MAX", 30, 1440),
    ("MAX", 360, 1440),
    ("MAX", 10080, 570),
];

/// One of the three kinds of files.
#[derive(Debug, PartialEq, Eq)]
pub struct Schema {
    /// Directory of the files below the top directory of RRD files, and the head of keys that send exactly [`Self::sources`].
    pub directory: &'static str,
    /// Head of keys of old senders.
    pub old_head: &'static str,
    /// Names behind the head of a key: the last one is the file's, one before it is the directory's.
    pub name_count: usize,
    /// Columns in front of the time that are for live displays only and never reach RRD.
    pub live_column_count: usize,
    /// Names of the data sources in file order, which is the order of the columns behind the time.
    pub sources: &'static [&'static str],
    /// Sources at the end that old senders do not know.
    pub appended_source_count: usize,
}

impl Schema {
    /// A node of the cluster.
    pub const NODE: Self = Self {
        directory: "pve-node-9.0",
        old_head: "pve2-node",
        name_count: 1,
        live_column_count: 2,
        sources: &[
            "loadavg",
            "maxcpu",
            "cpu",
            "iowait",
            "memtotal",
            "memused",
            "swaptotal",
            "swapused",
            "roottotal",
            "rootused",
            "netin",
            "netout",
            "memavailable",
            "arcsize",
            "pressurecpusome",
            "pressureiosome",
            "pressureiofull",
            "pressurememorysome",
            "pressurememoryfull",
        ],
        appended_source_count: 7,
    };

    /// A guest, whatever its type.
    pub const VM: Self = Self {
        directory: "pve-vm-9.0",
        old_head: "pve2.3-vm",
        name_count: 1,
        live_column_count: 4,
        sources: &[
            "maxcpu",
            "cpu",
            "maxmem",
            "mem",
            "maxdisk",
            "disk",
            "netin",
            "netout",
            "diskread",
            "diskwrite",
            "memhost",
            "pressurecpusome",
            "pressurecpufull",
            "pressureiosome",
            "pressureiofull",
            "pressurememorysome",
            "pressurememoryfull",
        ],
        appended_source_count: 7,
    };

    /// A storage as one node sees it. The directory of its file is named after the node.
    pub const STORAGE: Self = Self {
        directory: "pve-storage-9.0",
        old_head: "pve2-storage",
        name_count: 2,
        live_column_count: 0,
        sources: &["total", "used"],
        appended_source_count: 0,
    };

    /// All schemas.
    pub const ALL: [&'static Self; 3] = [&Self::NODE, &Self::VM, &Self::STORAGE];

    /// Arguments of `rrdtool create` behind the step and the start time. Sources accept everything from 0 up.
    pub fn create_arguments(&self) -> Vec<String> {
        let sources = self.sources.iter().map(|source| {
            let kind = if COUNTERS.contains(source) {
                "DERIVE"
            } else {
                "GAUGE"
            };
            format!("DS:{source}:{kind}:{HEARTBEAT_SECS}:0:U")
        });
        let archives = ARCHIVES
            .map(|(function, steps, row_count)| format!("RRA:{function}:0.5:{steps}:{row_count}"));
        sources.chain(archives).collect()
    }
}

/// Start time of a new file, in seconds since 1970.
///
/// The C daemon takes `midnight`, the beginning of the local day. RRD refuses values that are not later than the start,
/// so a value stamped before midnight and handled after it, or stamped by a clock that is behind, would be lost. Such a
/// value moves the start to one step before itself.
pub fn start_time(midnight: i64, value_time: Option<i64>) -> i64 {
    value_time
        .and_then(|time| time.checked_sub(i64::from(STEP_SECS)))
        .filter(|before| *before > 0)
        .map_or(midnight, |before| before.min(midnight))
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
        let covered_steps = ARCHIVES.map(|(_, steps, row_count)| u64::from(steps * row_count));
        let longest = covered_steps.into_iter().max();
        assert!(longest.is_some_and(|steps| steps * u64::from(STEP_SECS) > 10 * 365 * 86_400));
    }
}
