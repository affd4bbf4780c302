//! Local mode, and corosync.conf in the database and on disk.

use std::fs;

use integration_tests::daemon::RESOLVABLE_NAME;
use integration_tests::{Host, database, proc};

const COROSYNC_CONF: &str = "totem {\n  version: 2\n  config_version: 3\n  cluster_name: test\n}\n";

fn put_on_disk(host: &Host, text: &str) {
    fs::create_dir_all(host.corosync_conf().parent().unwrap()).unwrap();
    fs::write(host.corosync_conf(), text).unwrap();
}

/// A start without `-l` leads to cluster mode: nothing can be written while there is no corosync.
fn assert_is_member(host: &Host) {
    let daemon = host.start_with(["-f"]);
    assert!(host.path("corosync.conf").is_file());
    let refused = fs::write(host.path("new"), "").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    daemon.stop();
    assert!(!proc::is_mounted(&host.mount_dir()));
}

#[test]
fn the_first_start_imports_the_file_on_disk() {
    let host = Host::with_node_name(RESOLVABLE_NAME);
    put_on_disk(&host, COROSYNC_CONF);
    assert_is_member(&host);
    let row = "SELECT writer, version - inode, type, data FROM tree WHERE name = 'corosync.conf'";
    assert_eq!(
        database::query(&host.database(), row),
        format!("0|1|8|{}", COROSYNC_CONF.trim_end())
    );
    let daemon = host.start();
    assert!(
        host.log()
            .contains("forcing local mode (although corosync.conf exists)")
    );
    assert_eq!(
        fs::read_to_string(host.path("corosync.conf")).unwrap(),
        COROSYNC_CONF
    );
    daemon.stop();
}

#[test]
fn only_the_first_start_imports() {
    let host = Host::with_node_name(RESOLVABLE_NAME);
    host.start().stop();
    put_on_disk(&host, COROSYNC_CONF);
    let daemon = host.start_with(["-f"]);
    assert!(
        !host.path("corosync.conf").exists(),
        "the file on disk does not decide"
    );
    daemon.stop();
}

#[test]
fn local_mode_imports_nothing() {
    let host = Host::new();
    put_on_disk(&host, COROSYNC_CONF);
    let daemon = host.start();
    assert!(!host.path("corosync.conf").exists());
    daemon.stop();
    assert_eq!(
        fs::read_to_string(host.corosync_conf()).unwrap(),
        COROSYNC_CONF
    );
}

#[test]
fn a_refused_import_does_not_change_the_next_start() {
    let host = Host::with_node_name(RESOLVABLE_NAME);
    put_on_disk(&host, &"#".repeat(1024 * 1024 + 1));
    let status = host.failed_start(["-f"]);
    assert_eq!(status.code(), Some(255));
    assert!(
        host.log().contains("unable to import corosync.conf"),
        "{}",
        host.log()
    );
    put_on_disk(&host, COROSYNC_CONF);
    assert_is_member(&host);
    let daemon = host.start();
    assert_eq!(
        fs::read_to_string(host.path("corosync.conf")).unwrap(),
        COROSYNC_CONF
    );
    daemon.stop();
}

#[test]
fn the_database_decides_about_the_mode() {
    let host = Host::with_node_name(RESOLVABLE_NAME);
    let daemon = host.start();
    fs::write(host.path("corosync.conf"), "").unwrap();
    daemon.stop();
    // Even an empty file counts; a missing one or a directory does not.
    assert_is_member(&host);
    let daemon = host.start();
    fs::remove_file(host.path("corosync.conf")).unwrap();
    fs::create_dir(host.path("corosync.conf")).unwrap();
    daemon.stop();
    host.start_with(["-f"]).stop();
}

#[test]
fn without_a_name_that_others_can_reach_there_is_only_local_mode() {
    let host = Host::with_node_name("localhost");
    let status = host.failed_start(["-f"]);
    assert_eq!(status.code(), Some(255));
    let words = "Unable to resolve node name 'localhost' to a non-loopback IP address - missing entry in '/etc/hosts' or DNS?";
    assert!(host.log().contains(words), "{}", host.log());
    host.start().stop();
}
