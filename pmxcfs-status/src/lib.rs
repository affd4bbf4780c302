//! Soft state of the daemon, and the documents that clients read it from.
//!
//! Members and quorum, the keys that nodes set for each other, the last RRD values and the cluster log live in memory
//! only. [`Status`] holds them behind one lock per concept and is what IPC operations, generated files and the cluster
//! part of the daemon talk to; the modules below it are plain data without locks or clocks. Guests and file versions
//! belong to the tree and come in as values.

mod cached;
mod clock;
pub mod documents;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod json;
mod keys;
mod members;
mod properties;
mod samples;
mod status;

pub use clock::{Clock, SystemClock};
pub use documents::TreeVersions;
pub use keys::{KeyStore, KeyTable, UpdateError};
pub use members::{ClusterInfo, Member, Members};
pub use properties::PropertyPage;
pub use samples::{RrdSink, SampleTable};
pub use status::{Peers, Status};
