//! A database that cannot be opened for writing.

use std::io;
use std::path::Path;
use std::sync::Arc;

use pmxcfs_memdb::store::{Backend, BackendError, Medium, SegmentFile, SystemMedium};

#[derive(Debug)]
pub(crate) struct BrokenDatabase(SystemMedium);

impl BrokenDatabase {
    pub(crate) fn shared() -> Arc<dyn Medium> {
        Arc::new(Self(SystemMedium))
    }
}

impl Medium for BrokenDatabase {
    fn open_backend(&self, _database: &Path) -> Result<Box<dyn Backend>, BackendError> {
        Err(io::Error::from(io::ErrorKind::StorageFull).into())
    }

    fn open_segment(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        self.0.open_segment(path)
    }

    fn remove_segment(&self, path: &Path) -> io::Result<()> {
        self.0.remove_segment(path)
    }
}
