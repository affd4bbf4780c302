//! The generated files in the root of the mount.

use std::sync::Arc;

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
    let (of_version, tree) = (Arc::clone(status), Arc::clone(db));
    plugins.file(".version", move || {
        of_version.version_document(&*tree.read())
    });
    let members = Arc::clone(status);
    plugins.file(".members", move || members.members_document());
    let (guests, tree) = (Arc::clone(status), Arc::clone(db));
    plugins.file(".vmlist", move || {
        guests.guest_list_document(tree.read().guests())
    });
    let samples = Arc::clone(status);
    plugins.file(".rrd", move || samples.rrd_document());
    let log = Arc::clone(status);
    plugins.file(".clusterlog", move || log.log_document());
    plugins.file(".debug", DebugSwitch(level));
    plugins
}
