//! Documents and updates of C daemons.
//!
//! A snapshot is rebuilt from what it shows: the state is brought about by the events that lead to it, then each document is
//! rendered and compared. What the C daemon prints in the order of its hash tables is compared line by line in any order,
//! everything else byte by byte.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use crate::support::{Recorder, TestClock};
use bytes::Bytes;
use pmxcfs_api_types::names::VERSIONED_PATHS;
use pmxcfs_api_types::path::GuestConfig;
use pmxcfs_api_types::{NodeId, VmType, Vmid};
use pmxcfs_logger::{Ring, Submission};
use pmxcfs_memdb::{Guest, GuestList};
use pmxcfs_status::{Status, TreeVersions, UpdateError};
use serde_json::Value;

fn status_vectors() -> PathBuf {
    let directory = std::env::var_os("PMXCFS_VECTORS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors"),
        PathBuf::from,
    );
    directory.join("status")
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap()
}

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

fn bytes_of(value: &Value) -> Bytes {
    Bytes::copy_from_slice(value.as_str().unwrap().as_bytes())
}

/// What one node showed in one situation.
struct Snapshot {
    directory: PathBuf,
    members: Value,
    version: Value,
    guests: Value,
}

impl Snapshot {
    fn all() -> Vec<Self> {
        let directory = status_vectors().join("snapshots");
        let manifest = json(&read(&directory.join("manifest.json")));
        let mut snapshots = Vec::new();
        for situation in manifest.as_object().unwrap().keys() {
            let count = snapshots.len();
            for node in std::fs::read_dir(directory.join(situation)).unwrap() {
                let directory = node.unwrap().path();
                let file = |name: &str| json(&read(&directory.join(name)));
                snapshots.push(Self {
                    members: file("dot-members.txt"),
                    version: file("dot-version.txt"),
                    guests: file("dot-vmlist.txt"),
                    directory,
                });
            }
            assert!(snapshots.len() > count, "{situation} is empty");
        }
        assert!(!snapshots.is_empty());
        snapshots
    }

    fn file(&self, name: &str) -> Vec<u8> {
        read(&self.directory.join(name))
    }

    fn own_name(&self) -> &str {
        self.members["nodename"].as_str().unwrap()
    }

    /// Nodes with id, online flag and address.
    fn nodes(&self) -> BTreeMap<&str, (NodeId, bool, Option<Bytes>)> {
        let Some(list) = self.members.get("nodelist") else {
            return BTreeMap::new();
        };
        let list = list.as_object().unwrap().iter();
        list.map(|(name, node)| {
            let address = node.get("ip").map(bytes_of);
            (
                name.as_str(),
                (NodeId(number(&node["id"])), node["online"] == 1, address),
            )
        })
        .collect()
    }

    fn log_entries(&self) -> Vec<Value> {
        json(&self.file("dot-clusterlog.txt"))["data"]
            .as_array()
            .unwrap()
            .clone()
    }

    /// A daemon in this situation.
    fn rebuild(&self) -> Status {
        let own_name = self.own_name();
        let nodes = self.nodes();
        let own_address = nodes
            .get(own_name)
            .and_then(|(_, _, address)| address.clone());
        let own_start = self.log_entries().into_iter().find(|entry| {
            entry["node"] == own_name && entry["uid"] == 1 && entry["msg"] == "starting cluster log"
        });
        let address = own_address.map(|text| std::str::from_utf8(&text).unwrap().parse().unwrap());
        let pid = number(&own_start.expect("the own start is in the log")["pid"]);
        let clock = TestClock::at(number(&self.version["starttime"]));
        let rrd = Recorder::default().rrd_sink();
        let status = Status::new(own_name, address, pid, Box::new(clock), rrd);
        self.rebuild_members(&status, &nodes);
        self.rebuild_keys(&status, &nodes);
        self.rebuild_samples(&status);
        self.rebuild_log(&status);
        status
    }

    fn rebuild_members(
        &self,
        status: &Status,
        nodes: &BTreeMap<&str, (NodeId, bool, Option<Bytes>)>,
    ) {
        let Some(cluster) = self.members.get("cluster") else {
            // Without a node list only addresses that clients set are counted.
            for count in 0..number(&self.members["version"]) {
                let address = Bytes::from(format!("192.0.2.{count}\0"));
                status.set_value(b"nodeip", &address).unwrap();
            }
            return;
        };
        let mut events = number(&self.members["version"]);
        let list = nodes
            .iter()
            .map(|(name, (id, _, _))| (*id, Bytes::copy_from_slice(name.as_bytes())));
        let config_version = i32::try_from(cluster["version"].as_i64().unwrap()).unwrap();
        status.replace_node_list(bytes_of(&cluster["name"]), config_version, list);
        events -= 1;
        for (name, (id, _, address)) in nodes {
            let Some(address) = address else { continue };
            if *name == self.own_name() {
                assert_eq!(status.own_address(), [address, &b"\0"[..]].concat());
            } else {
                let value = [address, &b"\0"[..]].concat();
                status.apply_value(*id, b"nodeip", &value).unwrap();
            }
            events -= 1;
        }
        let is_seen = nodes.values().any(|(_, is_online, _)| *is_online);
        assert!(events > 0 || !is_seen, "at least one membership");
        for _ in 0..events {
            let online = nodes.values().filter(|(_, is_online, _)| *is_online);
            status.set_online(online.map(|(id, _, _)| *id));
        }
        status.set_quorate(cluster["quorate"] == 1);
    }

    fn rebuild_keys(&self, status: &Status, nodes: &BTreeMap<&str, (NodeId, bool, Option<Bytes>)>) {
        for (node, keys) in self.version["kvstore"].as_object().unwrap() {
            let set = |key: &str, value: &'static [u8]| {
                let key = key.as_bytes();
                if node == self.own_name() {
                    status.set_value(key, &Bytes::from_static(value)).unwrap();
                } else {
                    let sender = nodes[node.as_str()].0;
                    status.apply_value(sender, key, value).unwrap();
                }
            };
            if keys.as_object().unwrap().is_empty() && node != self.own_name() {
                // The table of a peer is there once it has set a key, and stays when it has removed them all.
                set("made and removed", b"value\0");
                set("made and removed", b"");
            }
            for (key, version) in keys.as_object().unwrap() {
                for _ in 0..=number(version) {
                    set(key, b"value\0");
                }
            }
        }
    }

    fn rebuild_samples(&self, status: &Status) {
        for line in self
            .file("dot-rrd.txt")
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let colon = line.iter().position(|byte| *byte == b':').unwrap();
            let key = [b"rrd/", &line[..colon]].concat();
            let value = Bytes::from([&line[colon + 1..], b"\0"].concat());
            status.set_value(&key, &value).unwrap();
        }
    }

    fn rebuild_log(&self, status: &Status) {
        let mut ring = Ring::new();
        for entry in self.log_entries().iter().rev() {
            let text = |name: &str| entry[name].as_str().unwrap().as_bytes();
            // Escapes are as clients send them, but for quotes, which are escaped when an entry is made.
            let message = serde_json::to_string(&entry["msg"])
                .unwrap()
                .replace("\\\"", "\"");
            let message = message
                .strip_prefix('"')
                .unwrap()
                .strip_suffix('"')
                .unwrap();
            let submission = Submission {
                priority: u8::try_from(number(&entry["pri"])).unwrap(),
                pid: number(&entry["pid"]),
                ident: text("user"),
                tag: text("tag"),
                message: message.as_bytes(),
            };
            let (uid, time) = (number(&entry["uid"]), number(&entry["time"]));
            let entry = submission.pack(uid, time, text("node")).unwrap();
            ring.append(&entry.view());
        }
        assert_eq!(status.merge_states(&[None, Some(&ring.to_state())], 0), []);
    }

    fn guest_list(&self) -> GuestList {
        let mut list = GuestList {
            version: number(&self.guests["version"]),
            guests: BTreeMap::new(),
        };
        let Some(ids) = self.guests.get("ids") else {
            return list;
        };
        for (id, guest) in ids.as_object().unwrap() {
            let kind = VmType::ALL
                .into_iter()
                .find(|kind| kind.name() == guest["type"])
                .unwrap();
            list.guests.insert(
                Vmid(id.parse().unwrap()),
                Guest {
                    node: bytes_of(&guest["node"]),
                    kind,
                    version: number(&guest["version"]),
                },
            );
        }
        list
    }

    fn check(&self, name: &str, operation: u32, document: &[u8], is_ordered: bool) {
        let response = format!("ipc-op{operation}.bin");
        for file in [name, &response] {
            let recorded = self.file(file);
            let shown = format!(
                "{} {file}: {}",
                self.directory.display(),
                document.escape_ascii()
            );
            if is_ordered {
                assert!(document == recorded, "{shown}");
            } else {
                assert_eq!(json(document), json(&recorded), "{shown}");
                assert_eq!(lines(document), lines(&recorded), "{shown}");
                assert_eq!(document.len(), recorded.len(), "{shown}");
            }
        }
    }
}

/// Lines without what depends on which of them is the last.
fn lines(text: &[u8]) -> BTreeSet<String> {
    let text = std::str::from_utf8(text).unwrap();
    text.lines()
        .map(|line| line.trim_end_matches([',', '}']).to_owned())
        .collect()
}

#[test]
fn documents_are_those_of_the_c_daemon() {
    for snapshot in Snapshot::all() {
        let status = snapshot.rebuild();
        snapshot.check("dot-members.txt", 2, &status.members_document(), true);
        snapshot.check("dot-clusterlog.txt", 8, &status.log_document(), true);
        snapshot.check("dot-clusterlog.txt", 8, &status.log_response(0, b""), true);

        let guests = snapshot.guest_list();
        let is_small = guests.guests.len() <= 1;
        snapshot.check(
            "dot-vmlist.txt",
            3,
            &status.guest_list_document(&guests),
            is_small,
        );

        let files = VERSIONED_PATHS.map(|path| number(&snapshot.version[path]));
        let versions = TreeVersions {
            guest_list: number(&snapshot.version["vmlist"]),
            files: &files,
            files_generation: 1,
        };
        let tables = snapshot.version["kvstore"].as_object().unwrap();
        let is_ordered = tables
            .values()
            .all(|keys| keys.as_object().unwrap().len() <= 1);
        snapshot.check(
            "dot-version.txt",
            1,
            &status.version_document(versions),
            is_ordered,
        );

        let samples = status.rrd_document();
        for file in ["dot-rrd.txt", "ipc-op10.bin"] {
            let mut recorded = snapshot.file(file);
            // The C daemon appends the NUL to a text that it has just made, not to one that it keeps for two seconds.
            if recorded.last() == Some(&0) {
                recorded.pop();
            }
            assert_eq!(lines(&samples), lines(&recorded));
            assert_eq!(samples.len(), recorded.len());
        }
        assert_eq!(status.rrd_response(), [&samples[..], b"\0"].concat());
    }
}

/// The guests that the database rows of a snapshot hold are those in its guest list.
#[test]
fn guest_lists_show_the_configs_in_the_database() {
    for snapshot in Snapshot::all() {
        let rows = String::from_utf8(snapshot.file("db.txt")).unwrap();
        let mut entries = HashMap::new();
        for row in rows.lines() {
            let fields: Vec<&str> = row.split('|').collect();
            entries.insert(
                fields[0].to_owned(),
                (fields[1].to_owned(), fields[6].to_owned()),
            );
        }
        let path_of = |inode: &str| {
            let mut path = Vec::new();
            let mut inode = inode;
            while let Some((parent, name)) = entries.get(inode).filter(|_| inode != "0") {
                path.insert(0, name.as_str());
                inode = parent;
            }
            path.join("/")
        };
        let paths: Vec<String> = entries.keys().map(|inode| path_of(inode)).collect();
        let configs = paths
            .iter()
            .filter_map(|path| GuestConfig::parse(path.as_bytes()));
        let stored: BTreeSet<_> = configs
            .map(|config| (config.vmid, config.node.to_vec(), config.kind))
            .collect();
        let list = snapshot.guest_list();
        let listed = list
            .guests
            .iter()
            .map(|(vmid, guest)| (*vmid, guest.node.to_vec(), guest.kind));
        assert_eq!(stored, listed.collect(), "{}", snapshot.directory.display());
    }
}

#[test]
fn updates_of_c_daemons_are_applied() {
    let directory = status_vectors();
    let manifest = json(&read(&directory.join("manifest.json")));
    let clock = TestClock::at(1);
    let rrd = Recorder::default().rrd_sink();
    let status = Status::new("observer", None, 1, Box::new(clock), rrd);
    let mut count = 0;
    for message in manifest["messages"].as_array().unwrap() {
        let decoded = &message["decoded"];
        if decoded["subtype_name"] != "UPDATE" {
            continue;
        }
        let payload =
            Bytes::from(read(&directory.join(message["file"].as_str().unwrap())).split_off(24));
        let (key, value) = (bytes_of(&decoded["key"]), payload.slice(256..));

        let sender = NodeId(number(&message["sender_nodeid"]));
        if count == 0 {
            let refused = status.apply_value(sender, &key, &value);
            assert_eq!(
                refused,
                Err(UpdateError::UnknownSender(sender)),
                "no node list"
            );
            let list = (1..=9).map(|id| (NodeId(id), format!("node{id}").into()));
            status.replace_node_list(Bytes::from_static(b"lab"), 1, list);
        }
        assert_eq!(status.apply_value(sender, &key, &value), Ok(()));
        let name = format!("node{sender}");
        if key == "nodeip" {
            let address = value.slice(..value.len() - 1);
            assert_eq!(
                json(&status.members_document())["nodelist"][name]["ip"]
                    .as_str()
                    .unwrap(),
                address
            );
        } else if !key.starts_with(b"rrd/") {
            assert_eq!(status.value(name.as_bytes(), &key), Ok(value));
        }
        count += 1;
    }
    assert!(count > 0);
}
