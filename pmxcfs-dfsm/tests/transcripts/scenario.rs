//! Plays a script: lines with `>` are commands, `#` comments, everything else is output and made anew.
//!
//! Commands are the steps of the simulation, and some that stand for many of them:
//!
//! | command | meaning |
//! |---|---|
//! | `nodes N` | a new cluster; the status group takes part with `nodes N status` |
//! | `run` | everything that is on its way arrives |
//! | `time MS` | time passes, everybody notices, everything arrives |
//! | `show` | what each node holds |
//! | `know` | the keys of other nodes that each node knows, and how many entries its log has |

use pmxcfs_memdb::ROOT_INODE;

use super::sim::{
    cluster::Cluster,
    step::{Channel, Step},
};

/// What the script makes, output included.
pub(crate) fn play(script: &str) -> String {
    let mut cluster = Cluster::new(0, false);
    let mut written = Vec::new();
    for line in script.lines() {
        if line.is_empty() || line.starts_with('#') {
            written.push(line.to_owned());
        } else if let Some(command) = line.strip_prefix("> ") {
            written.push(line.to_owned());
            run(&mut cluster, command);
            let output = cluster.network.trace.drain(..);
            written.extend(output.map(|line| format!("  {line}")));
        }
    }
    written.join("\n") + "\n"
}

fn run(cluster: &mut Cluster, command: &str) {
    let words: Vec<&str> = command.split_whitespace().collect();
    match words[0] {
        "nodes" => *cluster = Cluster::new(words[1].parse().unwrap(), words.contains(&"status")),
        "run" => settle(cluster),
        "time" => {
            cluster.apply(&Step::Later(words[1].parse().unwrap()));
            for node in 0..cluster.count() {
                cluster.apply(&Step::Tick(node));
            }
            settle(cluster);
        }
        "show" => show(cluster),
        "know" => know(cluster),
        _ => {
            let step = Step::parse(command);
            cluster.apply(&step.unwrap_or_else(|| panic!("unknown command {command}")));
        }
    }
    for node in 0..cluster.count() {
        cluster.apply(&Step::Quorum(node));
    }
}

/// Everything that is on its way arrives.
fn settle(cluster: &mut Cluster) {
    for _ in 0..50 {
        for node in 0..cluster.count() {
            for channel in [Channel::Database, Channel::Status] {
                cluster.apply(&Step::Order { node, channel });
                cluster.apply(&Step::Deliver {
                    node,
                    channel,
                    count: 1,
                });
            }
        }
    }
}

fn show(cluster: &mut Cluster) {
    for node in 0..cluster.count() {
        let line = match (cluster.mode(node), cluster.tree(node)) {
            (Some(mode), Some(tree)) => {
                let entries = tree.entries().filter(|entry| entry.inode != ROOT_INODE);
                let entries = entries.map(|entry| {
                    format!("{}:{}", entry.inode, String::from_utf8_lossy(&entry.name))
                });
                let entries: Vec<String> = entries.collect();
                let version = tree.root().version;
                format!("{mode:?} version {version} [{}]", entries.join(" "))
            }
            _ => "down".to_owned(),
        };
        cluster.network.tell(|| format!("{} is {line}", node + 1));
    }
}

fn know(cluster: &mut Cluster) {
    for node in 0..cluster.count() {
        let Some(soft) = cluster.soft(node) else {
            continue;
        };
        let peers = soft.peers.iter().map(|(peer, keys)| {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            let keys = keys
                .iter()
                .map(|(key, value)| format!("{}={}", text(key), text(value)));
            format!("of {peer} {}", keys.collect::<Vec<_>>().join(" "))
        });
        let peers: Vec<String> = peers.collect();
        let count = soft.logged().len();
        let line = format!(
            "{} knows [{}], {count} log entries",
            node + 1,
            peers.join(", ")
        );
        cluster.network.tell(|| line);
    }
}
