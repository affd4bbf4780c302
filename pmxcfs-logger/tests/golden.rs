//! Rings, entries, dumps and escapes of C daemons.
//!
//! Dumps are compared byte for byte. That holds for odd texts too: wherever the C daemon's output is valid JSON, ours is
//! the same.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use pmxcfs_logger::{ClusterLog, Entry, Ring, RingView, Submission, escape, merge, text_digest};
use serde_json::Value;

fn vectors() -> PathBuf {
    std::env::var_os("PMXCFS_VECTORS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors"),
        PathBuf::from,
    )
}

fn read(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if path.extension().is_none_or(|extension| extension != "gz") {
        return bytes;
    }
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(&bytes[..])
        .read_to_end(&mut out)
        .unwrap();
    out
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&read(path)).unwrap()
}

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().expect("a number")).unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

struct Set {
    name: String,
    rings: BTreeMap<String, Vec<u8>>,
    description: Value,
}

fn sets() -> Vec<Set> {
    let directory = vectors().join("clusterlog");
    let manifest = json(&directory.join("manifest.json"));
    let sets: Vec<Set> = manifest["sets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|set| Set {
            name: set["name"].as_str().unwrap().to_owned(),
            rings: set["bases"]
                .as_array()
                .unwrap()
                .iter()
                .map(|base| {
                    let file = base["file"].as_str().unwrap();
                    let stem = file.split(".base").next().unwrap().to_owned();
                    (stem, read(&directory.join(file)))
                })
                .collect(),
            description: set.clone(),
        })
        .collect();
    assert!(!sets.is_empty());
    sets
}

/// A ring with the entries of another one, so that it can be dumped and sorted.
fn copy_of(bytes: &[u8]) -> Ring {
    let view = RingView::decode(bytes).unwrap();
    let mut entries: Vec<_> = view.walk().map(|step| step.entry).collect();
    entries.reverse();
    let mut ring = Ring::new();
    for entry in entries {
        ring.append(&entry);
    }
    ring
}

#[test]
fn rings_are_walked_as_recorded() {
    for set in sets() {
        for base in set.description["bases"].as_array().unwrap() {
            let file = base["file"].as_str().unwrap();
            let bytes = &set.rings[file.split(".base").next().unwrap()];
            let ring = RingView::decode(bytes).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert_eq!(bytes.len(), number(&base["size"]) as usize, "{file}");
            assert_eq!(ring.newest(), number(&base["cpos"]), "{file}");
            assert_eq!(
                ring.walk().count(),
                number(&base["walkable_entries"]) as usize,
                "{file}"
            );
            for (step, expected) in ring.walk().zip(base["newest"].as_array().unwrap()) {
                let entry = step.entry;
                let fields = [step.position, entry.prev, entry.next, entry.uid, entry.time];
                let names = ["offset", "prev", "next", "uid", "time"];
                assert_eq!(fields, names.map(|name| number(&expected[name])), "{file}");
                assert_eq!(entry.node(), expected["node"].as_str().unwrap().as_bytes());
                assert_eq!(entry.node_digest, text_digest(entry.node()));
                assert_eq!(entry.ident_digest, text_digest(entry.ident()));
            }
        }
    }
}

#[test]
fn sorted_rings_are_equal_byte_for_byte() {
    let mut count = 0;
    for set in sets() {
        for (stem, sorted) in &set.rings {
            let Some(name) = stem.strip_suffix("-sorted") else {
                continue;
            };
            let source = set
                .rings
                .get(&format!("{name}-unsorted"))
                .unwrap_or_else(|| &set.rings[name]);
            let ring = sort_bytes(source);
            assert!(ring == *sorted, "{stem}");
            count += 1;
        }
    }
    assert!(count > 0);
}

/// Sorts the bytes of a ring that may have wrapped.
fn sort_bytes(bytes: &[u8]) -> Vec<u8> {
    let ring = copy_of(bytes);
    assert_eq!(
        ring.walk().count(),
        RingView::decode(bytes).unwrap().walk().count()
    );
    ring.sorted().as_bytes().to_vec()
}

#[test]
fn dumps_are_equal_byte_for_byte() {
    let mut count = 0;
    for set in sets() {
        for dump in set.description["dumps"].as_array().unwrap() {
            let file = dump["file"].as_str().unwrap();
            let stem = set
                .rings
                .keys()
                .filter(|stem| file.starts_with(stem.as_str()))
                .max_by_key(|stem| stem.len())
                .unwrap_or_else(|| panic!("no ring for {file}"));
            let view = RingView::decode(&set.rings[stem]).unwrap();
            let limit = number(&dump["max"]);
            let user = dump["user"].as_str().unwrap_or_default();
            let text = view.dump(limit, user.as_bytes());
            let expected = read(&vectors().join("clusterlog").join(file));
            assert!(text.as_bytes() == expected, "{file}: {text}");
            let parsed: Value = serde_json::from_str(&text).unwrap();
            assert!(parsed["data"].is_array());
            count += 1;
        }
    }
    assert!(count > 0);
}

#[test]
fn merges_are_equal_byte_for_byte() {
    let mut count = 0;
    for set in sets() {
        let Some(result) = set.rings.get(&format!("{}-result", set.name)) else {
            continue;
        };
        let local = &set.rings[&format!("{}-local", set.name)];
        let prefix = format!("{}-in", set.name);
        let mut inputs: Vec<(u32, &[u8])> = set
            .rings
            .iter()
            .filter_map(|(stem, bytes)| {
                let digits: String = stem
                    .strip_prefix(&prefix)?
                    .chars()
                    .take_while(char::is_ascii_digit)
                    .collect();
                Some((digits.parse().unwrap(), bytes.as_slice()))
            })
            .filter(|(slot, _)| *slot != 0)
            .collect();
        inputs.push((0, local));
        inputs.sort_by_key(|(slot, _)| *slot);
        let rings: Vec<_> = inputs
            .iter()
            .map(|(_, bytes)| RingView::decode(bytes).unwrap())
            .collect();
        assert!(merge(&rings).as_bytes() == result, "{}", set.name);
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn states_recorded_from_daemons_merge_to_their_newest() {
    let directory = vectors().join("status");
    let manifest = json(&directory.join("manifest.json"));
    let mut states = 0;
    for message in manifest["messages"].as_array().unwrap() {
        let decoded = &message["decoded"];
        if decoded["type_name"] != "STATE" {
            continue;
        }
        let bytes = read(&directory.join(message["file"].as_str().unwrap()));
        let payload = &bytes[bytes.len() - number(&decoded["payload_len"]) as usize..];
        let ring = RingView::decode(payload).unwrap();
        let expected = decoded["clog"]["entries"].as_array().unwrap();
        assert_eq!(ring.walk().count(), expected.len());
        for (step, expected) in ring.walk().zip(expected) {
            assert_eq!(step.position, number(&expected["offset"]));
            check_entry(&step.entry, expected);
        }
        let sorted = copy_of(payload).sorted();
        assert!(sorted.as_bytes() == payload, "a sent ring is sorted");

        let mut log = ClusterLog::new(b"new");
        assert_eq!(log.merge(&[None, Some(payload)], 0).rejected, []);
        let state = log.state();
        assert!(state.len() <= payload.len());
        assert_eq!(state[8..], payload[8..state.len()]);
        states += 1;
    }
    assert!(states > 0);
}

fn check_entry(entry: &pmxcfs_logger::EntryView<'_>, expected: &Value) {
    let numbers = [
        entry.prev,
        entry.next,
        entry.uid,
        entry.time,
        entry.pid,
        u32::from(entry.priority),
        u32::try_from(entry.size()).unwrap(),
    ];
    let names = [
        "prev",
        "next",
        "uid",
        "time",
        "pid",
        "priority",
        "total_size",
    ];
    assert_eq!(numbers, names.map(|name| number(&expected[name])));
    let texts = [entry.node(), entry.ident(), entry.tag(), entry.message()];
    let names = ["node", "ident", "tag", "msg"];
    assert_eq!(
        texts,
        names.map(|name| expected[name].as_str().unwrap().as_bytes())
    );
    let digests = [entry.node_digest, entry.ident_digest];
    let names = ["node_digest", "ident_digest"];
    assert_eq!(
        digests.map(|digest| format!("{digest:016x}")),
        names.map(|name| expected[name].as_str().unwrap().to_owned())
    );
}

#[test]
fn log_messages_of_daemons_decode_and_encode() {
    let directory = vectors().join("status");
    let manifest = json(&directory.join("manifest.json"));
    let mut count = 0;
    for message in manifest["messages"].as_array().unwrap() {
        let decoded = &message["decoded"];
        if decoded["subtype_name"] != "LOG" {
            continue;
        }
        let bytes = read(&directory.join(message["file"].as_str().unwrap()));
        let payload = &bytes[bytes.len() - number(&decoded["payload_len"]) as usize..];
        let entry = Entry::decode(payload).unwrap();
        check_entry(&entry.view(), &decoded["entry"]);
        let view = entry.view();
        let packed = Submission {
            priority: view.priority,
            pid: view.pid,
            ident: view.ident(),
            tag: view.tag(),
            message: client_text(view.message()).as_bytes(),
        }
        .pack(view.uid, view.time, view.node())
        .unwrap();
        assert_eq!(packed.as_bytes(), payload);
        count += 1;
    }
    assert!(count > 0);
}

/// What a client sent for a stored message: only the quotes were escaped by the daemon.
fn client_text(message: &[u8]) -> String {
    std::str::from_utf8(message).unwrap().replace("\\\"", "\"")
}

#[test]
fn single_entries_make_the_small_ring() {
    let directory = vectors().join("clusterlog");
    let mut ring = Ring::new();
    let mut count = 0;
    while let Ok(bytes) = std::fs::read(directory.join(format!("entry-{count}.bin"))) {
        ring.append(&Entry::decode(&bytes).unwrap().view());
        count += 1;
    }
    assert!(count > 0);
    assert!(ring.as_bytes() == read(&directory.join("small-unsorted.base.gz")));
}

#[test]
fn texts_are_escaped_as_recorded() {
    let rows = json(&vectors().join("clusterlog/escape.json"));
    let rows = rows["rows"].as_array().unwrap();
    assert!(!rows.is_empty());
    for row in rows {
        let input = unhex(row["input_hex"].as_str().unwrap());
        let quotes = row.get("quote_flag").is_none_or(|flag| number(flag) == 1);
        let size = row.get("bufsize").map_or(8192, number) as usize;
        let output = unhex(row["output_hex"].as_str().unwrap());
        assert_eq!(escape(&input, quotes, size).0, output, "{row}");
    }
}

#[test]
fn digests_are_as_recorded() {
    let rows = json(&vectors().join("clusterlog/fnv.json"));
    for row in rows.as_array().unwrap() {
        let digest = text_digest(row["text"].as_str().unwrap().as_bytes());
        assert_eq!(format!("{digest:016x}"), row["digest"].as_str().unwrap());
    }
}

/// Lengths and sizes are those of the C daemon in all rows. It stores messages that reach into the last bytes of the
/// buffer without their NUL (rows with `terminated` false), here the text is cut so that it ends with one.
#[test]
fn packing_keeps_the_recorded_limits() {
    let rows = json(&vectors().join("clusterlog/pack.json"));
    let rows = rows["rows"].as_array().unwrap();
    assert!(!rows.is_empty());
    for row in rows {
        check_pack(row);
    }
}

fn check_pack(row: &Value) {
    let field = row["field"].as_str().unwrap();
    let suffix = field.split("U+").nth(1).map_or(String::new(), |code| {
        let code = u32::from_str_radix(code, 16).unwrap();
        char::from_u32(code).unwrap().to_string()
    });
    let ascii = row
        .get("ascii")
        .or_else(|| row.get("strlen"))
        .map_or(1, number) as usize;
    let text = format!("{}{suffix}", "x".repeat(ascii));
    let recorded = row.get("entry_hex").map(|hex| unhex(hex.as_str().unwrap()));
    let recorded = recorded
        .as_deref()
        .map(|bytes| Entry::decode(bytes).unwrap());
    let recorded = recorded.as_ref().map(Entry::view);
    let is_ident = field == "ident";
    let submission = Submission {
        priority: if field == "priority 8" { 8 } else { 6 },
        pid: recorded.map_or(1, |entry| entry.pid),
        ident: if is_ident { text.as_bytes() } else { b"a" },
        tag: if is_ident { b"tag" } else { b"b" },
        message: if is_ident { b"m" } else { text.as_bytes() },
    };
    let uid = recorded.map_or(1, |entry| entry.uid);
    let time = recorded.map_or(1, |entry| entry.time);
    let Some(entry) = submission.pack(uid, time, b"node1") else {
        assert_eq!(number(&row["size"]), 0, "{row}");
        return;
    };
    let bytes = entry.as_bytes();
    assert_eq!(bytes.len(), number(&row["size"]) as usize, "{row}");
    assert_eq!(
        Entry::decode(bytes).as_ref(),
        Ok(&entry),
        "peers accept it: {row}"
    );
    if let Some(length) = row.get("msg_len") {
        assert_eq!(bytes[40..44], number(length).to_le_bytes(), "{row}");
        let message = entry.view().message();
        if row.get("terminated").is_none_or(|value| value == true) {
            assert_eq!(message.len() + 1, number(length) as usize, "{row}");
        } else {
            assert!(
                message.iter().all(|byte| *byte == b'x'),
                "no half of an escape: {row}"
            );
        }
    }
    if let Some(recorded) = row.get("entry_hex") {
        assert_eq!(bytes, unhex(recorded.as_str().unwrap()), "{row}");
        assert_eq!(u32::from(bytes[38]), number(&row["ident_len"]), "{row}");
    }
}

/// The file's lines are results of the C functions, which do not know who sent an entry.
#[test]
fn duplicates_after_a_merge_are_told_as_recorded() {
    let directory = vectors().join("clusterlog");
    let result = read(&directory.join("merge-result.base.gz"));
    let mut log = ClusterLog::new(b"node1");
    assert_eq!(log.merge(&[None, Some(&result)], 0).rejected, []);

    let text = String::from_utf8(read(&directory.join("dedup-after-merge.txt"))).unwrap();
    let mut count = 0;
    for line in text.lines().filter(|line| !line.starts_with("total ")) {
        let words: Vec<&str> = line.split(' ').collect();
        let value = |key: &str| {
            words
                .iter()
                .find_map(|word| word.strip_prefix(key))
                .unwrap()
        };
        let entry = Submission {
            priority: 6,
            pid: 1,
            ident: b"root@pam",
            tag: b"t",
            message: b"m",
        }
        .pack(
            value("uid=").parse().unwrap(),
            value("time=").parse().unwrap(),
            value("node=").as_bytes(),
        )
        .unwrap();
        let kept = match words[0] {
            "kept" => true,
            "dropped" => false,
            other => panic!("unknown result {other}"),
        };
        assert_eq!(log.receive(&entry, None), kept, "{line}");
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn the_start_entry_is_the_recorded_one() {
    let mut log = ClusterLog::new(b"node1");
    log.log_start(1_795_354_225, 27989);
    assert_eq!(
        log.dump(50, b""),
        "{\n\"data\": [\n{\"uid\": 1, \"time\": 1795354225, \"pri\": 6, \"tag\": \"cluster\", \"pid\": 27989, \
         \"node\": \"node1\", \"user\": \"root\", \"msg\": \"starting cluster log\"}\n]\n}\n"
    );
    let dropped = Submission {
        priority: 8,
        pid: 1,
        ident: b"a",
        tag: b"b",
        message: b"m",
    };
    assert_eq!(log.log(1, &dropped), None);
}
