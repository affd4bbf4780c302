//! Corosync's configuration.
//!
//! The token times out after a second. With 400 ms, members of rings on a busy machine left and came back, and rings stood still.
//!
//! While there is no token, corosync does not read the requests of its clients and polls for them without a pause. Many of them with
//! realtime priority on few processors then keep each other from passing the token, for ever.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

/// Hosts in a ring whose corosyncs have realtime priority, which is corosync's default.
const REALTIME_COUNT: usize = 5;

/// Address of a host.
pub(super) fn address(number: usize) -> Ipv4Addr {
    let last = u8::try_from(number).expect("a small cluster");
    Ipv4Addr::new(10, 77, 0, last)
}

/// A configuration for hosts `node1` to `nodeN`.
pub(super) fn configuration(size: usize, version: u32) -> String {
    let mut text = format!(
        "totem {{\n  version: 2\n  cluster_name: test\n  config_version: {version}\n  transport: knet\n  crypto_cipher: none\n  \
         crypto_hash: none\n  token: 1000\n  secauth: off\n  ip_version: ipv4-6\n  interface {{\n    linknumber: 0\n  }}\n}}\n\
         nodelist {{\n"
    );
    for number in 1..=size {
        let address = address(number);
        write!(
            text,
            "  node {{\n    name: node{number}\n    nodeid: {number}\n    quorum_votes: 1\n    ring0_addr: {address}\n  }}\n"
        )
        .expect("a text can be extended");
    }
    text.push_str(
        "}\nquorum {\n  provider: corosync_votequorum\n}\nlogging {\n  debug: off\n  to_syslog: no\n  to_stderr: no\n  \
         to_logfile: yes\n  logfile: /run/corosync.log\n}\n",
    );
    if size > REALTIME_COUNT {
        text.push_str("system {\n  sched_rr: no\n  priority: max\n}\n");
    }
    text
}
