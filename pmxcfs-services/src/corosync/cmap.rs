//! Corosync's configuration map.
//!
//! Read by iteration only: single reads of the binding fail for texts of 16 bytes and more, and the values that its trackers
//! bring along are mixed up. That a tracker has something to tell is all that counts; then everything is read again, as a whole.

use rust_corosync::{CsError, DispatchFlags, cmap};

use super::error::CorosyncError;
use super::readiness::Readiness;

/// Most walks over keys that change meanwhile, after the first one.
const WALKS: usize = 10;

/// A value of the map, as far as anybody here reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CmapValue {
    /// An unsigned integer of any width.
    Number(u64),
    /// A text.
    Text(String),
}

/// A connection that is told when something below the tracked keys changes.
///
/// To be made within a tokio runtime.
pub struct Cmap {
    // Dropped before the handle: the library closes the descriptor.
    readiness: Readiness,
    handle: cmap::Handle,
}

impl Cmap {
    /// Connects and tracks keys: those that begin with one of `prefixes`, and exactly `keys`. Waits for corosync a little: not
    /// to be called from a task of the runtime.
    ///
    /// # Errors
    /// If corosync does not run or refuses.
    pub fn connect(prefixes: &[&str], keys: &[&str]) -> Result<Self, CorosyncError> {
        let handle = CorosyncError::check("cmap_initialize", cmap::initialize(cmap::Map::Icmap))?;
        let fd = CorosyncError::check("cmap_fd_get", cmap::fd_get(&handle))?;
        let readiness = Readiness::new(fd)?;
        let silent = cmap::NotifyCallback { notify_fn: None };
        let any = || cmap::TrackType::ADD | cmap::TrackType::DELETE | cmap::TrackType::MODIFY;
        let tracked = prefixes
            .iter()
            .map(|prefix| (prefix, any() | cmap::TrackType::PREFIX))
            .chain(keys.iter().map(|key| (key, any())));
        for (key, kind) in tracked {
            let added = cmap::track_add(&handle, key, kind, &silent, 0);
            CorosyncError::check("cmap_track_add", added)?;
        }
        Ok(Self { readiness, handle })
    }

    /// Waits until a tracked key has changed. It can be given up at any time.
    ///
    /// # Errors
    /// If the connection is lost.
    pub async fn receive(&self) -> Result<(), CorosyncError> {
        self.readiness.receive(|| self.dispatch()).await
    }

    /// Takes all notifications that have arrived, without waiting.
    ///
    /// # Errors
    /// If the connection is lost.
    fn dispatch(&self) -> Result<(), CorosyncError> {
        match cmap::dispatch(&self.handle, DispatchFlags::All) {
            Ok(()) | Err(CsError::CsErrTryAgain) => Ok(()),
            Err(code) => Err(CorosyncError::new("cmap_dispatch", code)),
        }
    }

    /// All keys that begin with a prefix and have a value of a known kind, in the map's order. Waits for corosync's answers.
    ///
    /// A walk takes a request for each key, and the binding ends it without a word when one fails. So it is repeated until two
    /// walks agree: neither a change nor the end of corosync on the way looks like a node less.
    ///
    /// # Errors
    /// If corosync is gone, or the keys do not stop changing.
    pub fn read(&self, prefix: &str) -> Result<Vec<(String, CmapValue)>, CorosyncError> {
        let mut seen = self.walk(prefix)?;
        for _ in 0..WALKS {
            let former = std::mem::replace(&mut seen, self.walk(prefix)?);
            if seen == former {
                return Ok(seen);
            }
        }
        Err(CorosyncError::Unsettled)
    }

    fn walk(&self, prefix: &str) -> Result<Vec<(String, CmapValue)>, CorosyncError> {
        let walk = cmap::CmapIterStart::new(&self.handle, prefix);
        let mut walk = CorosyncError::check("cmap_iter_init", walk)?.into_iter();
        let mut found = Vec::new();
        // It pauses at a text that is not UTF-8; only the second end in a row is the end. That must be reached, since the C
        // library forgets a walk only there.
        while let Some(item) = walk.next().or_else(|| walk.next()) {
            let value = match item.data() {
                cmap::Data::UInt8(number) => CmapValue::Number(u64::from(*number)),
                cmap::Data::UInt16(number) => CmapValue::Number(u64::from(*number)),
                cmap::Data::UInt32(number) => CmapValue::Number(u64::from(*number)),
                cmap::Data::UInt64(number) => CmapValue::Number(*number),
                cmap::Data::String(text) => CmapValue::Text(text.clone()),
                _ => continue,
            };
            found.push((item.key_name().to_owned(), value));
        }
        Ok(found)
    }
}
