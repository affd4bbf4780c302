//! Change counters of the paths that `.version` lists.

use pmxcfs_api_types::names::VERSIONED_PATHS;

/// Number of counted paths.
pub const VERSIONED_PATH_COUNT: usize = VERSIONED_PATHS.len();

/// The counters, in the order of [`VERSIONED_PATHS`].
#[derive(Debug, Clone)]
pub(crate) struct FileVersions {
    pub(crate) counters: [u32; VERSIONED_PATH_COUNT],
    /// Grows whenever any of the counters does.
    pub(crate) generation: u64,
}

impl FileVersions {
    pub(crate) const fn new() -> Self {
        Self {
            counters: [0; VERSIONED_PATH_COUNT],
            generation: 0,
        }
    }

    /// Counts a change of this path, if it is one of the counted ones. The comparison is literal, as peers make it.
    pub(crate) fn bump(&mut self, path: &[u8]) {
        let counted = VERSIONED_PATHS
            .iter()
            .position(|versioned| versioned.as_bytes() == path);
        if let Some(index) = counted {
            self.counters[index] = self.counters[index].wrapping_add(1);
            self.generation += 1;
        }
    }

    /// Counts a change of every path: the tree was loaded or replaced.
    pub(crate) fn bump_all(&mut self) {
        for counter in &mut self.counters {
            *counter = counter.wrapping_add(1);
        }
        self.generation += 1;
    }
}
