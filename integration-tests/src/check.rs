//! Tables of expectations that report every deviation, not only the first.

use std::fmt::Debug;
use std::io;

use nix::errno::Errno;

/// Collects deviations and fails the test with all of them when it is dropped.
#[derive(Debug, Default)]
pub struct Check {
    row_count: usize,
    deviations: Vec<String>,
}

impl Check {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that a row holds or not.
    pub fn holds(&mut self, row: &str, condition: bool) {
        self.row_count += 1;
        if !condition {
            self.deviations.push(format!("{row}: does not hold"));
        }
    }

    /// The row's value must be this one.
    pub fn equal<T: PartialEq + Debug>(&mut self, row: &str, actual: T, expected: T) {
        self.row_count += 1;
        if actual != expected {
            self.deviations
                .push(format!("{row}: {actual:?} instead of {expected:?}"));
        }
    }

    /// The call must succeed.
    pub fn ok<T, E: Into<io::Error>>(&mut self, row: &str, result: Result<T, E>) -> Option<T> {
        self.row_count += 1;
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                let errno = errno_of(&error.into());
                self.deviations
                    .push(format!("{row}: {errno:?} instead of success"));
                None
            }
        }
    }

    /// The call must fail with this errno.
    pub fn errno<T, E: Into<io::Error>>(
        &mut self,
        row: &str,
        expected: Errno,
        result: Result<T, E>,
    ) {
        self.row_count += 1;
        match result {
            Ok(_) => self
                .deviations
                .push(format!("{row}: success instead of {expected:?}")),
            Err(error) => {
                let errno = errno_of(&error.into());
                if errno != expected {
                    self.deviations
                        .push(format!("{row}: {errno:?} instead of {expected:?}"));
                }
            }
        }
    }
}

/// The errno behind an I/O error; `UnknownErrno` if it has none.
#[must_use]
pub fn errno_of(error: &io::Error) -> Errno {
    error
        .raw_os_error()
        .map_or(Errno::UnknownErrno, Errno::from_raw)
}

impl Drop for Check {
    fn drop(&mut self) {
        if !std::thread::panicking() && !self.deviations.is_empty() {
            panic!(
                "{} of {} rows deviate:\n  {}",
                self.deviations.len(),
                self.row_count,
                self.deviations.join("\n  ")
            );
        }
    }
}
