//! Writes the first inputs of the fuzz targets below `fuzz/corpus`, made of the golden vectors of the crates. What no vector
//! has is made by hand here.

mod rows;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// Larger inputs only slow a fuzzer down.
const MAX_SEED_SIZE: usize = 16 * 1024;

/// Length of the headers in front of a state message's payload, and of a normal message's.
const STATE_HEADER: usize = 32;
const NORMAL_HEADER: usize = 24;

fn main() -> anyhow::Result<()> {
    let mut seeds = Seeds::new()?;
    seeds.messages()?;
    seeds.cluster_log()?;
    seeds.ipc()?;
    seeds.guests()?;
    seeds.store()?;
    println!("{} seeds in {}", seeds.count, seeds.corpus.display());
    Ok(())
}

struct Seeds {
    workspace: PathBuf,
    corpus: PathBuf,
    count: usize,
}

impl Seeds {
    fn new() -> anyhow::Result<Self> {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let workspace = fs::canonicalize(fuzz.join(".."))?;
        Ok(Self {
            corpus: workspace.join("fuzz/corpus"),
            workspace,
            count: 0,
        })
    }

    /// Adds an input of a target.
    fn add(&mut self, target: &str, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        if bytes.len() > MAX_SEED_SIZE {
            return Ok(());
        }
        let directory = self.corpus.join(target);
        fs::create_dir_all(&directory)?;
        fs::write(directory.join(format!("seed-{name}")), bytes)?;
        self.count += 1;
        Ok(())
    }

    /// Name and content of the vectors of a crate in a directory, unpacked.
    fn vectors(
        &self,
        crate_name: &str,
        directory: &str,
        extension: &str,
    ) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        let directory = match env::var_os("PMXCFS_VECTORS") {
            Some(vectors) => PathBuf::from(vectors).join(directory),
            None => self
                .workspace
                .join(crate_name)
                .join("tests/vectors")
                .join(directory),
        };
        let mut found = Vec::new();
        let entries = fs::read_dir(&directory).with_context(|| directory.display().to_string())?;
        for entry in entries {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let plain_name = name.strip_suffix(".gz").unwrap_or(&name).to_owned();
            if !path.is_file() || !plain_name.ends_with(extension) {
                continue;
            }
            let mut bytes = fs::read(&path)?;
            if plain_name != name {
                let packed = std::mem::take(&mut bytes);
                flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut bytes)?;
            }
            found.push((plain_name, bytes));
        }
        ensure!(
            !found.is_empty(),
            "no {extension} in {}",
            directory.display()
        );
        found.sort();
        Ok(found)
    }

    /// Messages of both groups, and what is inside of them.
    fn messages(&mut self) -> anyhow::Result<()> {
        for directory in ["dcdb", "dcdb/malformed", "status"] {
            let prefix = directory.replace('/', "-");
            for (name, message) in self.vectors("pmxcfs-dfsm", directory, ".bin")? {
                self.add("cpg_message", &format!("{prefix}-{name}"), &message)?;
                let inner = |header: usize| message.get(header..).unwrap_or_default();
                if directory == "dcdb" && name.starts_with("state-") {
                    self.add("index", &name, inner(STATE_HEADER))?;
                }
                if directory == "dcdb" && name.starts_with("update-") {
                    self.add("inode_update", &name, inner(STATE_HEADER))?;
                }
                if directory == "status" && name.starts_with("log-") {
                    self.add("cluster_log_entry", &name, inner(NORMAL_HEADER))?;
                }
                if let Some(start) =
                    find(&message, b"totem {").or_else(|| find(&message, b"logging {"))
                {
                    self.add(
                        "corosync_conf",
                        &format!("{prefix}-{name}"),
                        &message[start..],
                    )?;
                }
            }
        }
        self.add(
            "corosync_conf",
            "odd",
            include_bytes!("../odd-corosync.conf"),
        )
    }

    fn cluster_log(&mut self) -> anyhow::Result<()> {
        for (name, entry) in self.vectors("pmxcfs-logger", "clusterlog", ".bin")? {
            self.add("cluster_log_entry", &name, &entry)?;
        }
        for (name, ring) in self.vectors("pmxcfs-logger", "clusterlog", ".base")? {
            self.add("cluster_log_ring", &name, used_part(&ring))?;
        }
        Ok(())
    }

    fn ipc(&mut self) -> anyhow::Result<()> {
        for directory in ["ipc", "ipc/shm"] {
            for (name, bytes) in self.vectors("pmxcfs-ipc", directory, ".bin")? {
                if name.starts_with("connect-request") {
                    let name = format!("{}-{name}", directory.replace('/', "-"));
                    self.add("ipc_handshake", &name, &bytes)?;
                }
            }
        }
        let mut ring = vec![0; 64];
        for (what, number) in [
            (3u8, 16u32),
            (0, 0),
            (1, 10),
            (3, 4096),
            (0, 0),
            (2, 1),
            (4, 77),
            (0, 0),
        ] {
            ring.push(what);
            ring.extend(number.to_le_bytes());
        }
        self.add("ipc_ring", "steps", &ring)?;

        let operations = self.operations()?;
        let vectors = operations["vectors"].as_array().context("vectors")?;
        for (number, vector) in vectors.iter().enumerate() {
            let operation = vector["op"].as_i64().context("op")?;
            let body = unhex(vector["request_payload_hex"].as_str().unwrap_or_default())?;
            let id = i32::try_from(operation)?.to_le_bytes();
            let is_root = u8::from(vector["read_only"] != true);
            let name = format!("{number:03}-op{operation}");
            self.add(
                "ipc_operation",
                &name,
                &[&id[..], &[is_root], &body].concat(),
            )?;
            let size = i32::try_from(16 + body.len())?.to_le_bytes();
            let framed = [&id[..], &[0; 4], &size, &[0; 4], &body].concat();
            self.add("ipc_request", &name, &framed)?;
        }
        Ok(())
    }

    fn operations(&self) -> anyhow::Result<Value> {
        let found = self.vectors("pmxcfs", "status", "ipc-ops.json")?;
        let (_, text) = found.first().context("ipc-ops.json")?;
        Ok(serde_json::from_slice(text)?)
    }

    fn guests(&mut self) -> anyhow::Result<()> {
        let operations = self.operations()?;
        let configs = operations["guest_configs"].as_object().context("configs")?;
        for (vmid, config) in configs {
            let config = unhex(config["content_hex"].as_str().context("content")?)?;
            let seed = [b"lock,name,memory,tags\0", &config[..]].concat();
            self.add("guest_properties", vmid, &seed)?;
        }
        Ok(())
    }

    fn store(&mut self) -> anyhow::Result<()> {
        for (name, database) in self.vectors("pmxcfs-memdb", "db", ".db")? {
            self.add("database", &name, &rows::encode(&database)?)?;
        }
        self.add("crash_journal", "old-format", &journal(0xff))?;
        self.add("crash_journal", "present-format", &journal(0xfb))
    }
}

/// A ring up to the end of its newest entry. One that has wrapped comes out shorter than it is, and stays readable.
fn used_part(ring: &[u8]) -> &[u8] {
    let number = |offset: usize| {
        let field = ring
            .get(offset..offset + 4)
            .and_then(|field| field.try_into().ok());
        field.map_or(0, |field| u32::from_le_bytes(field) as usize)
    };
    let end = number(number(4) + 4).clamp(16.min(ring.len()), ring.len());
    &ring[..end]
}

/// Two records in the form that the target takes: a mode, then lengths and steps.
fn journal(mode: u8) -> Vec<u8> {
    let metadata = |inode: u64, kind: u8, name: &[u8]| {
        let mut bytes = inode.to_le_bytes().to_vec();
        bytes.extend([0; 8]);
        bytes.extend(inode.to_le_bytes());
        bytes.extend([1, 0, 0, 0, 1, 0, 0, 0, kind]);
        bytes.extend([name.len() as u8, 0, 0, 0]);
        bytes.extend(name);
        bytes
    };
    let mut content = vec![2];
    content.extend(metadata(2, 8, b"file"));
    for number in [3u32, 3, 6, 3] {
        content.extend(number.to_le_bytes());
    }
    content.extend(b"new");
    let mut put = vec![1];
    put.extend(metadata(9, 4, b"directory"));
    put.extend([3]);
    put.extend(3u64.to_le_bytes());
    let mut journal = vec![mode];
    for record in [put, content] {
        journal.push(record.len() as u8);
        journal.extend(record);
    }
    journal
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn unhex(text: &str) -> anyhow::Result<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?))
        .collect()
}
