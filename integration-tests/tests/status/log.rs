//! The cluster log: what clients may put into it, and how it comes out.

use std::fs;

use integration_tests::{Check, Host, IpcClient};
use serde_json::Value;

use crate::requests::{ask, cluster_log, json, log};

fn entries(client: &mut IpcClient, limit: u32, user: &[u8]) -> Vec<Value> {
    let answer = ask(client, 8, &cluster_log(limit, user)).unwrap();
    json(&answer)["data"].as_array().unwrap().clone()
}

fn texts(entries: &[Value], field: &str) -> Vec<String> {
    entries
        .iter()
        .map(|entry| entry[field].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn odd_texts_stay_readable_and_the_document_valid() {
    let host = Host::new();
    let daemon = host.start();
    let mut client = host.ipc();
    let table: [(&[u8], &str); 10] = [
        (b"say \"hi\"", "say \"hi\""),
        (b"a\tb\nc\x01\x1f\x7f", "a#009b#010c#001#031#127"),
        (b"C:\\", "C:\\"),
        (b"C:\\xyz \\", "C:\\xyz \\"),
        (b"\\u00e9 of the Perl side", "\u{e9} of the Perl side"),
        (b"\\ud800 half", "\\ud800 half"),
        (
            "\u{e9}\u{20ac}\u{ffff}".as_bytes(),
            "\u{e9}\u{20ac}\u{ffff}",
        ),
        ("a\u{1f600}z".as_bytes(), "az"),
        (b"caf\xc3\xa9 \xff", "caf?? ?"),
        (b"\xff \x7f\x05\"", "? ?#005\""),
    ];
    {
        let mut check = Check::new();
        for (text, expected) in table {
            let row = text.escape_ascii().to_string();
            check.equal(
                &row,
                ask(&mut client, 7, &log(6, b"root@pam", b"test", text)),
                Ok(Vec::new()),
            );
            let newest = entries(&mut client, 1, b"");
            check.equal(&row, newest[0]["msg"].as_str(), Some(expected));
            let file = json(&fs::read(host.path(".clusterlog")).unwrap());
            check.equal(&row, file["data"][0].clone(), newest[0].clone());
        }
        let odd = ask(
            &mut client,
            7,
            &log(3, b"us\"er\x01\\", b"ta\"g\n\xff\\", b"m"),
        );
        check.equal("odd user and tag", odd, Ok(Vec::new()));
        let newest = entries(&mut client, 1, b"").remove(0);
        check.equal("user", newest["user"].as_str(), Some("us\"er\u{1}\\"));
        check.equal("tag", newest["tag"].as_str(), Some("ta\"g\n?\\"));
        check.equal("priority", newest["pri"].as_u64(), Some(3));
        check.equal("node", newest["node"].as_str(), Some("node1"));
        check.equal(
            "pid",
            newest["pid"].as_u64(),
            Some(std::process::id().into()),
        );
        let same = entries(&mut client, 5, b"us\"er\x01\\");
        check.equal("found by its user", same.len(), 1);
    }
    daemon.stop();
}

#[test]
fn no_bytes_break_the_document() {
    let host = Host::new();
    let daemon = host.start();
    let mut client = host.ipc();
    // Bytes that mean something in JSON, UTF-8 or the log's own escapes, in an order without a pattern.
    const ALPHABET: &[u8] = b"\\\\\"u0dD89#{}\n\x01\x7f\xc3\xa9\xed\xa0\x80\xf0\x9f\xff a";
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(below).unwrap()).unwrap()
    };
    for _ in 0..400 {
        let mut text = |longest: usize| -> Vec<u8> {
            let length = random(longest);
            (0..length)
                .map(|_| ALPHABET[random(ALPHABET.len())])
                .collect()
        };
        let body = log(6, &text(20), &text(20), &text(300));
        assert_eq!(ask(&mut client, 7, &body), Ok(Vec::new()));
        assert_eq!(
            entries(&mut client, 1, b"").len(),
            1,
            "{}",
            body.escape_ascii()
        );
    }
    json(&fs::read(host.path(".clusterlog")).unwrap());
    daemon.stop();
}

#[test]
fn limits_order_and_filter() {
    let host = Host::new();
    let daemon = host.start();
    let mut client = host.ipc();
    let first = entries(&mut client, 10, b"");
    assert_eq!(texts(&first, "msg"), ["starting cluster log"]);
    assert_eq!(first[0]["pid"].as_u64(), Some(daemon.pid().into()));
    for number in 0..120 {
        let user = ["root@pam", "joe@pve"][number % 2];
        client
            .log(6, user, "test", &format!("message {number}"))
            .unwrap();
    }
    {
        let mut check = Check::new();
        for (limit, count) in [
            (0, 50),
            (1, 1),
            (50, 50),
            (51, 51),
            (1000, 121),
            (u32::MAX, 121),
        ] {
            check.equal(
                &format!("limit {limit}"),
                entries(&mut client, limit, b"").len(),
                count,
            );
        }
        check.equal(
            "file",
            json(&fs::read(host.path(".clusterlog")).unwrap())["data"]
                .as_array()
                .unwrap()
                .len(),
            50,
        );
        let joe = entries(&mut client, 3, b"joe@pve");
        check.equal(
            "newest first",
            texts(&joe, "msg"),
            ["message 119", "message 117", "message 115"]
                .map(String::from)
                .to_vec(),
        );
        check.equal(
            "of one user",
            texts(&joe, "user"),
            vec!["joe@pve".to_owned(); 3],
        );
        check.equal(
            "all of one user",
            entries(&mut client, 1000, b"joe@pve").len(),
            60,
        );
        check.equal(
            "50 of one user",
            entries(&mut client, 0, b"joe@pve").len(),
            50,
        );
        check.equal("of the daemon", entries(&mut client, 0, b"root").len(), 1);
        check.equal(
            "of nobody",
            ask(&mut client, 8, &cluster_log(0, b"nobody")),
            Ok(b"{\n\"data\": [\n]\n}\n".to_vec()),
        );
        let uids: Vec<u64> = entries(&mut client, 1000, b"")
            .iter()
            .map(|entry| entry["uid"].as_u64().unwrap())
            .collect();
        check.holds(
            "numbered one by one",
            uids.windows(2).all(|pair| pair[0] == pair[1] + 1),
        );
    }
    daemon.stop();
}

#[test]
fn long_messages_are_cut_and_old_ones_overwritten() {
    let host = Host::new();
    let daemon = host.start();
    let mut client = host.ipc();
    for number in 0..100_u32 {
        // Every length around the limit, ending in units of every length.
        let text = [
            &b"x".repeat(4000 + usize::try_from(number).unwrap())[..],
            "\u{e9}\n\"".as_bytes(),
        ]
        .concat();
        assert_eq!(
            ask(&mut client, 7, &log(6, b"root@pam", b"long", &text)),
            Ok(Vec::new())
        );
        let newest = entries(&mut client, 1, b"").remove(0);
        assert!(
            newest["msg"]
                .as_str()
                .unwrap()
                .starts_with(&"x".repeat(3900)),
            "{number}"
        );
    }
    let all = entries(&mut client, 1000, b"");
    assert!(
        (25..=31).contains(&all.len()),
        "{} entries of 4 KiB in 128 KiB",
        all.len()
    );
    let giant = b"y".repeat(900_000);
    assert_eq!(
        ask(&mut client, 7, &log(6, b"root@pam", b"long", &giant)),
        Ok(Vec::new())
    );
    let newest = entries(&mut client, 1, b"").remove(0);
    assert!(newest["msg"].as_str().unwrap().len() < 4096);
    daemon.stop();
}
