//! What one daemon saw and sent.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use pmxcfs_dfsm::core::MemberId;
use serde_json::Value;

use super::support::{read, unhex};

/// One event of one group.
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    /// A join that corosync took.
    Join,
    Leave,
    /// The connection died.
    Lost,
    Membership {
        members: Vec<MemberId>,
        has_joined: bool,
    },
    Delivered {
        sender: MemberId,
        message: Bytes,
    },
    Sent {
        message: Bytes,
        is_blocked: bool,
    },
}

pub(crate) struct Recording {
    pub(crate) node: u32,
    directory: PathBuf,
    events: Vec<Value>,
}

pub(crate) fn sequences(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

pub(crate) fn nodes(sequence: &Path) -> Vec<u32> {
    (1..=32)
        .filter(|node| sequence.join(format!("node{node}.jsonl.gz")).exists())
        .collect()
}

impl Recording {
    pub(crate) fn load(directory: &Path, node: u32) -> Self {
        let text = read(&directory.join(format!("node{node}.jsonl.gz")));
        let lines = text
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        Self {
            node,
            directory: directory.to_owned(),
            events: lines
                .map(|line| serde_json::from_slice(line).unwrap())
                .collect(),
        }
    }

    /// The events of a group, with their time in seconds.
    pub(crate) fn group(&self, name: &str) -> Vec<(f64, Seen)> {
        let events = self.events.iter().filter(|event| event["group"] == name);
        events
            .filter_map(|event| Some((event["t"].as_f64().unwrap(), seen(event)?)))
            .collect()
    }

    /// The rows of the database at the end, if they were recorded.
    pub(crate) fn rows(&self) -> Option<Vec<String>> {
        let path = self.directory.join(format!("node{}.db.txt", self.node));
        let text = String::from_utf8(std::fs::read(path).ok()?).unwrap();
        Some(text.lines().map(str::to_owned).collect())
    }

    /// Messages of the database group seen by any node of the sequence.
    pub(crate) fn all_messages(&self) -> Vec<Bytes> {
        let mut messages = Vec::new();
        for node in nodes(&self.directory) {
            for (_, event) in Self::load(&self.directory, node).group("pve_dcdb_v1") {
                if let Seen::Sent { message, .. } = event {
                    messages.push(message);
                }
            }
        }
        messages
    }
}

fn seen(event: &Value) -> Option<Seen> {
    let rc = event["rc"].as_i64();
    Some(match event["ev"].as_str()? {
        "join" if rc == Some(1) => Seen::Join,
        "leave" => Seen::Leave,
        "dispatch" => Seen::Lost,
        "confchg" => Seen::Membership {
            members: event["members"].as_array()?.iter().map(member).collect(),
            has_joined: !event["joined"].as_array()?.is_empty(),
        },
        "deliver" => Seen::Delivered {
            sender: MemberId {
                node: number(&event["node"]),
                pid: number(&event["pid"]),
            },
            message: payload(event),
        },
        "mcast" => Seen::Sent {
            message: payload(event),
            is_blocked: rc != Some(1),
        },
        _ => return None,
    })
}

fn payload(event: &Value) -> Bytes {
    let mut bytes = unhex(event["hex"].as_str().unwrap()).to_vec();
    bytes.resize(event["len"].as_u64().unwrap() as usize, 0);
    Bytes::from(bytes)
}

fn member(value: &Value) -> MemberId {
    MemberId {
        node: number(&value[0]),
        pid: number(&value[1]),
    }
}

fn number(value: &Value) -> u32 {
    value.as_u64().unwrap() as u32
}
