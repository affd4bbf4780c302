//! The generated files in the root of the mount.

use std::sync::Arc;

use bytes::Bytes;
use pmxcfs_memdb::MemDb;
use pmxcfs_status::Status;

use crate::fs::{DebugSwitch, Plugins};
use crate::logging::LogLevel;

/// All generated files, for the node of this name.
pub(super) fn documents(
    node_name: &str,
    db: &Arc<MemDb>,
    status: &Arc<Status>,
    level: LogLevel,
) -> Plugins {
    let mut plugins = Plugins::with_links(node_name);
    let mut document = |name, render: fn(&Status, &MemDb) -> Bytes| {
        let (status, db) = (Arc::clone(status), Arc::clone(db));
        plugins.file(name, move || render(&status, &db));
    };
    document(".version", |status, db| {
        status.version_document(&*db.read())
    });
    document(".members", |status, _| status.members_document());
    document(".vmlist", |status, db| {
        status.guest_list_document(db.read().guests())
    });
    document(".rrd", |status, _| status.rrd_document());
    document(".clusterlog", |status, _| status.log_document());
    plugins.file(".debug", DebugSwitch(level));
    plugins
}
