//! Keys and values come from any node: arbitrary bytes must neither panic nor get further than they may.

use std::path::Component;

use pmxcfs_rrd::columns;
use pmxcfs_rrd::key::{Generation, RrdKey};
use pmxcfs_rrd::sample::MAX_KEY_SIZE;
use pmxcfs_rrd::schema::Schema;
use proptest::prelude::*;

/// Keys that are likely to be almost right.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let head = prop_oneof![
        Just("pve2-node"),
        Just("pve2.3-vm"),
        Just("pve2-storage"),
        Just("pve2-vm"),
        Just("pve-node-9.0"),
        Just("pve-vm-9.0"),
        Just("pve-vm-"),
        Just("pve-storage-9.1"),
        Just(""),
        Just(".."),
    ];
    let name = prop_oneof![
        Just(b"..".to_vec()),
        Just(b".".to_vec()),
        Just(Vec::new()),
        prop::collection::vec(any::<u8>(), 0..6),
        prop::collection::vec(any::<u8>(), 250..260),
        "[a-z0-9]{1,5}".prop_map(String::into_bytes),
    ];
    (head, prop::collection::vec(name, 0..4)).prop_map(|(head, names)| {
        let mut key = head.as_bytes().to_vec();
        for name in names {
            key.push(b'/');
            key.extend(name);
        }
        key
    })
}

/// Values that are likely to be almost right.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let column = prop_oneof![
        5 => "[0-9]{1,4}(\\.[0-9])?",
        1 => Just("U".to_owned()),
        1 => Just(String::new()),
        1 => "[ -~\\n\\x00\u{e9}]{0,3}",
    ];
    prop_oneof![
        5 => prop::collection::vec(column, 0..30).prop_map(|columns| columns.join(":").into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..100),
    ]
}

fn schema() -> impl Strategy<Value = &'static Schema> {
    prop::sample::select(Schema::ALL.to_vec())
}

fn generation() -> impl Strategy<Value = Generation> {
    prop::sample::select(vec![
        Generation::Old,
        Generation::Current,
        Generation::Other,
    ])
}

/// The rules of the format generations, written down once more with lists of columns.
fn expected_text(schema: &Schema, generation: Generation, value: &[u8]) -> Option<String> {
    let value = value.split(|byte| *byte == 0).next()?;
    let columns: Vec<&[u8]> = value.split(|byte| *byte == b':').collect();
    let mut columns: Vec<&[u8]> = columns.get(schema.live_column_count..)?.to_vec();
    if columns.iter().all(|column| column.is_empty()) && columns.len() < 2 {
        return None;
    }
    match generation {
        Generation::Old if *schema != Schema::STORAGE => columns.extend([b"U".as_slice(); 7]),
        Generation::Other => columns.truncate(1 + schema.sources.len()),
        Generation::Old | Generation::Current => {}
    }
    let text = String::from_utf8(columns.join(&b':')).ok()?;
    let is_harmless = text.bytes().all(|byte| byte.is_ascii_graphic());
    is_harmless.then_some(text)
}

proptest! {
    #[test]
    fn arbitrary_keys_never_panic(key in prop::collection::vec(any::<u8>(), 0..400)) {
        let is_too_long = key.len() > MAX_KEY_SIZE;
        prop_assert!(!is_too_long || RrdKey::parse(&key).is_err());
    }

    #[test]
    fn accepted_keys_stay_below_their_schema(key in key()) {
        if let Ok(parsed) = RrdKey::parse(&key) {
            let path = parsed.path;
            let depth = if *parsed.schema == Schema::STORAGE { 3 } else { 2 };
            prop_assert_eq!(path.components().count(), depth);
            prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
            prop_assert!(path.starts_with(parsed.schema.directory));
            let path = path.as_os_str().as_encoded_bytes();
            prop_assert!(!path.iter().any(u8::is_ascii_control));
            prop_assert!(key.ends_with(path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()));
        }
    }

    #[test]
    fn texts_follow_the_rules(schema in schema(), generation in generation(), value in value()) {
        let before = value.clone();
        let text = columns::update_text(schema, generation, &value);
        prop_assert_eq!(&value, &before);
        let expected = expected_text(schema, generation, &value);
        match text {
            Ok(text) => {
                prop_assert_eq!(Some(&text), expected.as_ref());
                let has_right_count = text.matches(':').count() == schema.sources.len();
                prop_assert_eq!(columns::check_count(schema, &text).is_ok(), has_right_count);
                let _any_time = columns::sample_time(&text);
            }
            Err(_) => prop_assert_eq!(expected, None),
        }
    }

    #[test]
    fn storage_values_are_taken_as_they_were_sent(values in prop::collection::vec("[0-9]{1,9}", 2)) {
        let value = format!("1795354405:{}", values.join(":"));
        for generation in [Generation::Old, Generation::Current, Generation::Other] {
            let text = columns::update_text(&Schema::STORAGE, generation, value.as_bytes());
            prop_assert_eq!(text.as_deref(), Ok(value.as_str()));
        }
    }
}
