//! What the feed has to tell the operator.
//!
//! The feed returns notes instead of logging, so that tests see what is told, and how often.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use tracing::{info, warn};

/// One message.
#[derive(Debug)]
pub(crate) enum Note {
    /// A sample whose key or value is no good.
    BadSample {
        key: Vec<u8>,
        reason: String,
        unreported_count: u64,
    },
    /// A file could not be created; the sample is lost.
    NotCreated {
        path: PathBuf,
        reason: String,
        unreported_count: u64,
    },
    /// An update was refused; the sample is lost.
    Refused {
        path: PathBuf,
        by: &'static str,
        reason: String,
        unreported_count: u64,
    },
    /// rrdcached does not answer; files are written directly from now on.
    DaemonGone { reason: String },
    /// rrdcached answers again.
    DaemonBack,
    /// librrd cannot be used; samples are lost.
    LibraryMissing {
        reason: String,
        unreported_count: u64,
    },
    /// The queue was full; samples are being dropped.
    Dropping { dropped_count: u64 },
    /// The queue has been worked off after an overflow.
    CaughtUp { dropped_count: u64 },
}

impl Note {
    /// Hands the note to the log.
    pub(crate) fn log(&self) {
        match self {
            Self::DaemonGone { .. } | Self::DaemonBack | Self::CaughtUp { .. } => info!("{self}"),
            _ => warn!("{self}"),
        }
    }
}

impl Display for Note {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadSample {
                key,
                reason,
                unreported_count,
            } => {
                write!(
                    f,
                    "RRD value of key \"{}\" refused: {reason}",
                    key.escape_ascii()
                )?;
                write_unreported(f, *unreported_count)
            }
            Self::NotCreated {
                path,
                reason,
                unreported_count,
            } => {
                write!(f, "cannot create RRD file {}: {reason}", path.display())?;
                write_unreported(f, *unreported_count)
            }
            Self::Refused {
                path,
                by,
                reason,
                unreported_count,
            } => {
                write!(
                    f,
                    "RRD update of {} refused by {by}: {reason}",
                    path.display()
                )?;
                write_unreported(f, *unreported_count)
            }
            Self::DaemonGone { reason } => {
                write!(
                    f,
                    "rrdcached does not answer, writing RRD files directly: {reason}"
                )
            }
            Self::DaemonBack => write!(f, "rrdcached answers, RRD updates go through it"),
            Self::LibraryMissing {
                reason,
                unreported_count,
            } => {
                write!(f, "librrd cannot be loaded, RRD values are lost: {reason}")?;
                write_unreported(f, *unreported_count)
            }
            Self::Dropping { dropped_count } => write!(
                f,
                "RRD files cannot be written as fast as values come, {dropped_count} values dropped so far"
            ),
            Self::CaughtUp { dropped_count } => write!(
                f,
                "RRD files are up to date again, {dropped_count} values were dropped"
            ),
        }
    }
}

fn write_unreported(f: &mut Formatter<'_>, count: u64) -> fmt::Result {
    match count {
        0 => Ok(()),
        _ => write!(f, " ({count} failures before this one were not reported)"),
    }
}
