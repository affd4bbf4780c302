//! Keys, texts and files against recordings of the C daemon at its calls into RRD.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use pmxcfs_rrd::columns;
use pmxcfs_rrd::key::{Generation, RrdKey};
use pmxcfs_rrd::sample::SampleError;
use pmxcfs_rrd::schema::{STEP_SECS, Schema};
use serde_json::Value;
use support::{Site, comparable, deadline, info, run, wait_until_written};

/// Where the C daemon keeps files.
const C_TOP: &str = "/var/lib/rrdcached/db";

/// Rows of our recording in which the C daemon takes the last digit away: the key's version is unknown to it and there is
/// no column to cut, so it overwrites the last byte of the last column it keeps. The right text is asserted instead.
const DAMAGED_KEYS: [&str; 3] = [
    "pve-node-9.1/n4",
    "pve-node-9.1/n5",
    "pve-storage-9.3/n1/local4",
];

fn vectors() -> (PathBuf, bool) {
    match std::env::var_os("PMXCFS_VECTORS") {
        Some(directory) => (Path::new(&directory).join("rrd"), false),
        None => (
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/rrd"),
            true,
        ),
    }
}

fn json(name: &str) -> Value {
    let path = vectors().0.join(name);
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

fn cases() -> Vec<Value> {
    let cases = json("updates.json")["cases"].as_array().cloned();
    cases.filter(|cases| !cases.is_empty()).expect("some cases")
}

fn text<'a>(case: &'a Value, field: &str) -> &'a str {
    case[field]
        .as_str()
        .unwrap_or_else(|| panic!("{field} in {case}"))
}

/// A value as clients set it.
fn value(case: &Value) -> Vec<u8> {
    format!("{}\0", text(case, "sent_by_client_text")).into_bytes()
}

fn below_top(path: &str) -> PathBuf {
    // `join` normalises the doubled slash of a storage key without a node.
    Path::new(path)
        .strip_prefix(C_TOP)
        .expect("a path below the top")
        .components()
        .collect()
}

fn schema_of(directory: &str) -> &'static Schema {
    Schema::ALL
        .into_iter()
        .find(|schema| schema.directory == directory)
        .unwrap_or_else(|| panic!("no schema for {directory}"))
}

#[test]
fn updates_of_the_c_daemon() {
    let mut damaged = BTreeSet::new();
    let mut compared_count = 0;
    for case in cases() {
        let key_text = text(&case, "key");
        let updates = case["updates"].as_array().expect("a list");
        let key = match RrdKey::parse(key_text.as_bytes()) {
            Ok(key) => key,
            // Names that lead out of the directory or into another's place: refused on purpose, see the key module.
            Err(SampleError::BadName(_)) => continue,
            Err(error) => {
                assert!(updates.is_empty(), "{key_text}: {error}");
                assert!(case["created"].is_null(), "{key_text}: {error}");
                continue;
            }
        };
        if let Some(created) = case["created"].as_str() {
            assert_eq!(below_top(created), key.path, "{key_text}");
        }
        let value = value(&case);
        let before = value.clone();
        let ours = columns::update_text(key.schema, key.generation, &value);
        assert_eq!(value, before, "{key_text}");
        for update in updates {
            let ours = ours
                .as_ref()
                .unwrap_or_else(|error| panic!("{key_text}: {error}"));
            let c_text = text(update, "argument");
            assert_eq!(below_top(text(update, "file")), key.path);
            if is_damaged_by_c(&key, text(&case, "sent_by_client_text")) {
                assert_eq!(Some(c_text), ours.get(..ours.len() - 1), "{key_text}");
                damaged.insert(key_text.to_owned());
            } else {
                assert_eq!(ours, c_text, "{key_text}");
                if update["rc"] == 0 {
                    assert_eq!(columns::check_count(key.schema, ours), Ok(()), "{key_text}");
                }
            }
            compared_count += 1;
        }
    }
    assert!(compared_count > 0, "no update was compared");
    if vectors().1 {
        assert_eq!(damaged, DAMAGED_KEYS.map(String::from).into());
    }
}

/// Whether the C daemon, cutting a value of unknown version, finds no separator to cut at and takes a digit instead.
fn is_damaged_by_c(key: &RrdKey, sent: &str) -> bool {
    let separator_count = sent.bytes().filter(|byte| *byte == b':').count();
    let known_count = key.schema.live_column_count + key.schema.sources.len();
    key.generation == Generation::Other && separator_count <= known_count
}

#[test]
fn texts_that_rrd_refused_for_their_count_are_refused_by_us() {
    let mut refused_count = 0;
    for case in cases() {
        let Ok(key) = RrdKey::parse(text(&case, "key").as_bytes()) else {
            continue;
        };
        let value = value(&case);
        let Ok(ours) = columns::update_text(key.schema, key.generation, &value) else {
            continue;
        };
        if let Err(SampleError::WrongColumnCount { .. }) = columns::check_count(key.schema, &ours) {
            for update in case["updates"].as_array().expect("a list") {
                assert_eq!(update["rc"], -1, "{case}");
                refused_count += 1;
            }
        }
    }
    assert!(refused_count > 0 || !vectors().1);
}

#[test]
fn create_arguments_of_the_c_daemon() {
    let recorded = json("create-arguments.json");
    let recorded = recorded.as_object().expect("an object");
    let mut directories: Vec<&str> = Schema::ALL.map(|schema| schema.directory).into();
    directories.retain(|directory| recorded.contains_key(*directory));
    assert_eq!(directories.len(), recorded.len(), "an unknown directory");
    assert!(!directories.is_empty());
    for (directory, create) in recorded {
        let arguments: Vec<&str> = create["arguments"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|argument| argument.as_str().expect("text"))
            .collect();
        assert_eq!(schema_of(directory).create_arguments(), arguments);
        assert_eq!(create["step"], STEP_SECS);
    }
}

/// A file with our arguments, fed with our text, is the recorded file in every field.
#[test]
fn info_of_files_is_that_of_the_c_daemons_files() {
    let create = json("create-arguments.json");
    let site = Site::new();
    let mut compared_count = 0;
    for (name, recorded) in recorded_infos() {
        let c_path = field(&recorded, "filename").trim_matches('"').to_owned();
        let last_update: i64 = field(&recorded, "last_update").parse().expect("a time");
        let relative = below_top(&c_path);
        let directory = relative.iter().next().and_then(|part| part.to_str());
        let directory = directory.expect("a schema's directory");

        let ours = site.db().join(&name);
        let start = create[directory]["start"].as_i64().expect("a time");
        run(Command::new("rrdtool")
            .arg("create")
            .arg(&ours)
            .args(["--step", &STEP_SECS.to_string()])
            .args(["--start", &start.to_string()])
            .args(schema_of(directory).create_arguments()));
        for text in texts_for(&relative, last_update) {
            run(Command::new("rrdtool").arg("update").arg(&ours).arg(text));
        }
        assert_eq!(info(&ours), comparable(&recorded), "{name}");
        compared_count += 1;
    }
    assert!(compared_count > 0, "no info file was found");
}

/// Files that the writer makes have the recorded definitions and modes.
#[test]
fn files_of_the_writer_are_defined_like_the_c_daemons() {
    let site = Site::new();
    let writer = site.writer();
    let mut expected_files = BTreeSet::new();
    for case in cases() {
        let key = text(&case, "key");
        writer.submit(key.as_bytes(), &value(&case));
        if let Ok(key) = RrdKey::parse(key.as_bytes()) {
            expected_files.insert(key.path);
        }
    }
    wait_until_written(&writer);
    for file in &expected_files {
        assert!(site.db().join(file).is_file(), "{}", file.display());
    }
    for (name, recorded) in recorded_infos() {
        let ours = site
            .db()
            .join(below_top(field(&recorded, "filename").trim_matches('"')));
        let definitions = |lines: Vec<String>| -> Vec<String> {
            let depends_on_time = [
                "last_update",
                "cdp_prep",
                "last_ds",
                ".value",
                ".unknown_sec",
            ];
            let is_definition =
                |line: &String| !depends_on_time.iter().any(|part| line.contains(part));
            lines.into_iter().filter(is_definition).collect()
        };
        let definitions_of_ours = definitions(info(&ours));
        assert!(definitions_of_ours.len() > 40);
        assert_eq!(
            definitions_of_ours,
            definitions(comparable(&recorded)),
            "{name}"
        );
    }
    let modes = recorded_modes();
    let mut compared_count = 0;
    for path in expected_files.iter().flat_map(|file| file.ancestors()) {
        if let Some(mode) = modes.get(path).filter(|_| !path.as_os_str().is_empty()) {
            let metadata = fs::metadata(site.db().join(path)).expect("made above");
            let ours = metadata.permissions().mode() & 0o777;
            assert_eq!(
                format!("{ours:o}"),
                format!("{mode:o}"),
                "{}",
                path.display()
            );
            compared_count += 1;
        }
    }
    assert!(compared_count > 0, "no mode was compared");
    assert_eq!(writer.stop(deadline()), 0);
}

/// Name and content of each `info-*.txt`.
fn recorded_infos() -> Vec<(String, String)> {
    let directory = vectors().0;
    let entries = fs::read_dir(&directory).expect("the directory of the vectors");
    let mut infos: Vec<(String, String)> = entries
        .map(|entry| entry.expect("an entry"))
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            (name.starts_with("info-") && name.ends_with(".txt"))
                .then(|| (name, fs::read_to_string(entry.path()).expect("text")))
        })
        .collect();
    infos.sort();
    infos
}

/// Value of a line `name = value`.
fn field<'a>(info: &'a str, name: &str) -> &'a str {
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))
        .unwrap_or_else(|| panic!("no {name}"))
}

/// Our texts of the recorded values that a file had taken at the time of its info.
fn texts_for(file: &Path, last_update: i64) -> Vec<String> {
    let mut texts = Vec::new();
    for case in cases() {
        let Ok(key) = RrdKey::parse(text(&case, "key").as_bytes()) else {
            continue;
        };
        let value = value(&case);
        let Ok(text) = columns::update_text(key.schema, key.generation, &value) else {
            continue;
        };
        let was_taken = case["updates"]
            .as_array()
            .is_some_and(|updates| updates.iter().any(|update| update["rc"] == 0));
        let is_in_time = columns::sample_time(&text).is_some_and(|time| time <= last_update);
        if key.path == file && was_taken && is_in_time {
            texts.push(text);
        }
    }
    assert!(!texts.is_empty(), "no value for {}", file.display());
    texts
}

/// Permission bits by path below the top directory, from lines like `ls -l` prints.
fn recorded_modes() -> BTreeMap<PathBuf, u32> {
    let listing = fs::read_to_string(vectors().0.join("created-tree.txt")).expect("a listing");
    listing
        .lines()
        .map(|line| {
            let mut words = line.split_whitespace();
            let letters = words.next().expect("a mode");
            let bits = letters.bytes().skip(1).take(9);
            let mode = bits.fold(0, |mode, letter| mode << 1 | u32::from(letter != b'-'));
            (below_top(words.last().expect("a path")), mode)
        })
        .collect()
}
