//! Plays a script: lines with `>` are commands, `#` comments, everything else is output and made anew.

use bytes::Bytes;
use pmxcfs_dfsm::core::{Event, MemberId};
use pmxcfs_memdb::{Operation, ROOT_INODE, Stamp};

use super::cluster::Cluster;

/// What the script makes, output included.
pub(crate) fn play(script: &str) -> String {
    let mut cluster = Cluster::new(0);
    let mut written = Vec::new();
    for line in script.lines() {
        if line.is_empty() || line.starts_with('#') {
            written.push(line.to_owned());
        } else if let Some(command) = line.strip_prefix("> ") {
            written.push(line.to_owned());
            let words: Vec<&str> = command.split_whitespace().collect();
            run(&mut cluster, words[0], &words[1..]);
            let output = cluster.transcript.drain(..);
            written.extend(output.map(|line| format!("  {line}")));
        }
    }
    written.join("\n") + "\n"
}

fn run(cluster: &mut Cluster, command: &str, words: &[&str]) {
    let number = |index: usize| words[index].parse::<usize>().unwrap();
    let node = || number(0) - 1;
    match command {
        "nodes" => *cluster = Cluster::new(number(0)),
        "start" => cluster.start(node(), true),
        "start-empty" => cluster.start(node(), false),
        "crash" => cluster.crash(node()),
        "stop" => cluster.nodes[node()].is_stopped = true,
        "continue" => cluster.nodes[node()].is_stopped = false,
        "congested" => cluster.is_congested = words[0] == "yes",
        "order" => cluster.order(node()),
        "deliver" => (0..number(1)).for_each(|_| cluster.deliver(node())),
        "tick" => cluster.tick(node()),
        "time" => {
            cluster.now_ms += number(0) as u64;
            for node in running(cluster) {
                cluster.tick(node);
            }
            settle(cluster);
        }
        "run" => settle(cluster),
        "mkdir" => {
            let path = Bytes::copy_from_slice(words[1].as_bytes());
            cluster.ask(node(), Operation::Mkdir { path });
        }
        "partition" => {
            let sides: Vec<usize> = (0..words.len()).map(number).collect();
            cluster.partition(&sides);
            for node in 0..sides.len() {
                if cluster.is_quorum_news(node) {
                    cluster.tell_quorum(node);
                }
            }
        }
        "ghost" => {
            let ghost = MemberId {
                node: number(0) as u32,
                pid: 99,
            };
            cluster.ghosts.push((0, ghost));
            cluster.change_view(0);
        }
        "corrupt" => corrupt(cluster, node(), words[1]),
        "break-disk" => {
            cluster.nodes[node()]
                .process
                .as_mut()
                .unwrap()
                .disk()
                .is_failed = true
        }
        "mend-disk" => {
            cluster.nodes[node()]
                .process
                .as_mut()
                .unwrap()
                .disk()
                .is_failed = false;
            cluster.feed(node(), Event::Mended);
        }
        "show" => show(cluster),
        other => panic!("unknown command {other}"),
    }
}

fn running(cluster: &Cluster) -> Vec<usize> {
    let runs = |node: &usize| !cluster.nodes[*node].is_stopped;
    (0..cluster.nodes.len()).filter(runs).collect()
}

/// Everything that is on its way arrives.
fn settle(cluster: &mut Cluster) {
    for _ in 0..50 {
        for node in running(cluster) {
            cluster.order(node);
            cluster.deliver(node);
        }
    }
}

/// A change that no other member makes.
fn corrupt(cluster: &mut Cluster, node: usize, path: &str) {
    let tree = &mut cluster.nodes[node].process.as_mut().unwrap().disk().tree;
    let path = Bytes::copy_from_slice(path.as_bytes());
    let stamp = Stamp {
        writer: 0,
        mtime: 1,
    };
    tree.apply(&Operation::Mkdir { path }, stamp, 0, &mut Vec::new())
        .unwrap();
}

fn show(cluster: &mut Cluster) {
    for node in 0..cluster.nodes.len() {
        let line = match (cluster.mode(node), cluster.tree(node)) {
            (Some(mode), Some(tree)) => {
                let entries = tree.entries().filter(|entry| entry.inode != ROOT_INODE);
                let entries = entries.map(|entry| {
                    format!("{}:{}", entry.inode, String::from_utf8_lossy(&entry.name))
                });
                let entries: Vec<String> = entries.collect();
                format!(
                    "{mode:?} version {} [{}]",
                    tree.root().version,
                    entries.join(" ")
                )
            }
            _ => "down".to_owned(),
        };
        cluster.transcript.push(format!("{} is {line}", node + 1));
    }
}
