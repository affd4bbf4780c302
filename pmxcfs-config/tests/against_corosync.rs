//! The real corosync is asked about the same texts. It only tests them (`corosync -t`): nothing is started.

use std::fs;
use std::process::Command;

use pmxcfs_config::corosync_conf::{
    CorosyncConf, Document, Problem, Severity, Surroundings, check,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const GOOD: &str = "\
totem {
  version: 2
  cluster_name: lab
  config_version: 3
  transport: knet
}
nodelist {
  node {
    name: a
    nodeid: 1
    ring0_addr: 127.0.0.1
  }
  node {
    name: b
    nodeid: 2
    ring0_addr: 127.0.0.2
  }
}
quorum {
  provider: corosync_votequorum
}
logging {
  to_syslog: no
  to_stderr: yes
}
";

/// What corosync says to a text.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Accepted,
    /// It does not get through the text, and stops in this line.
    Unreadable(usize),
    /// It does not want what the text says.
    Refused,
}

fn ask_corosync(text: &[u8]) -> (Verdict, String) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(file.path(), text).expect("written");
    // A node without an address makes it look for the host's name, which may take a resolver long to deny.
    let output = Command::new("corosync")
        .env("RES_OPTIONS", "timeout:1 attempts:1")
        .arg("-t")
        .arg("-c")
        .arg(file.path())
        .output()
        .expect("corosync is installed");
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    let place = format!("parser error: {}:", file.path().display());
    let line = said
        .split_once(&place)
        .and_then(|(_, rest)| rest.split_once(':'));
    let verdict = match line {
        Some((line, _)) => Verdict::Unreadable(line.parse().expect("a line number")),
        None if output.status.success() => Verdict::Accepted,
        None => Verdict::Refused,
    };
    (verdict, said)
}

/// Line in which corosync has to stop: its parser looks at numbers, too.
fn expected_stop(text: &[u8]) -> Option<usize> {
    let surroundings = Surroundings {
        node_name: "a",
        present_version: None,
    };
    check(text, &surroundings)
        .into_iter()
        .filter(|finding| {
            matches!(
                finding.problem,
                Problem::Syntax(_) | Problem::NotANumber { .. }
            )
        })
        .find_map(|finding| finding.line)
}

fn worst(text: &[u8]) -> Option<Severity> {
    let surroundings = Surroundings {
        node_name: "a",
        present_version: None,
    };
    check(text, &surroundings)
        .iter()
        .map(|finding| finding.severity())
        .max()
}

fn edited(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    GOOD.replacen(from, to, 1)
}

#[test]
fn corosync_accepts_what_nothing_is_said_about() {
    let second_link = GOOD
        .replace(
            "ring0_addr: 127.0.0.1",
            "ring0_addr: 127.0.0.1\n    ring1_addr: 127.0.1.1",
        )
        .replace(
            "ring0_addr: 127.0.0.2",
            "ring0_addr: 127.0.0.2\n    ring1_addr: 127.0.1.2",
        );
    let texts = [
        GOOD.to_owned(),
        GOOD.replace('\n', "\r\n"),
        GOOD.replace("  ", "\t"),
        GOOD.trim_end().to_owned(),
        GOOD.replace("totem {", "# comment {\ntotem{"),
        edited("  transport: knet\n", ""),
        edited("transport: knet", "transport: udpu"),
        edited(
            "transport: knet",
            "frobnicate: 7\n  extra {\n    abc: x\n  }",
        ),
        second_link,
    ];
    for text in texts {
        let (verdict, said) = ask_corosync(text.as_bytes());
        assert_eq!(
            (verdict, worst(text.as_bytes())),
            (Verdict::Accepted, None),
            "{said}\n{text}"
        );
    }
}

#[test]
fn corosync_refuses_only_what_is_an_error_here() {
    let table = [
        ("version: 2", "version: 1"),
        ("  version: 2\n", ""),
        ("config_version: 3", "config_version: x3"),
        ("transport: knet", "transport: tcp"),
        ("nodeid: 2", "nodeid: 1"),
        ("    nodeid: 1\n", ""),
        ("nodeid: 2", "nodeid: 0"),
        ("    ring0_addr: 127.0.0.1\n", ""),
        ("ring0_addr: 127.0.0.1", "ring1_addr: 127.0.0.1"),
        ("ring0_addr: 127.0.0.1", "ring0_addr:"),
        (
            "ring0_addr: 127.0.0.1",
            "ring0_addr: 127.0.0.1\n    ring8_addr: 127.0.0.1",
        ),
        (
            "ring0_addr: 127.0.0.1",
            "ring0_addr: 127.0.0.1\n    ring1_addr: 127.0.1.1",
        ),
    ];
    for (from, to) in table {
        let text = edited(from, to);
        let (verdict, said) = ask_corosync(text.as_bytes());
        assert_ne!(verdict, Verdict::Accepted, "{from:?} -> {to:?}");
        assert!(
            worst(text.as_bytes()) >= Some(Severity::Error),
            "{from:?} -> {to:?}: {said}"
        );
    }
}

#[test]
fn a_second_node_list_overwrites_the_first() {
    let second = "nodelist {\n  node {\n    nodeid: 2\n  }\n}\n";
    let text = format!("{GOOD}{second}");
    let (verdict, said) = ask_corosync(text.as_bytes());
    assert!(
        said.contains("Nodeid 2 appears twice"),
        "{verdict:?}: {said}"
    );
    let document = Document::parse(text.as_bytes()).expect("good");
    let nodes = CorosyncConf::read(&document).nodes;
    let ids: Vec<Option<u32>> = nodes
        .iter()
        .map(|node| node.node_id.and_then(|id| id.number()))
        .collect();
    assert_eq!(ids, [Some(2), Some(2)]);
    assert_eq!(worst(text.as_bytes()), Some(Severity::Error));
}

#[test]
fn both_stop_in_the_same_line() {
    let long = |size: usize| format!("abc: {}\n", "x".repeat(size));
    let name = |size: usize| format!("{} {{\nabc: x\n}}\n", "a".repeat(size));
    let texts = [
        "totem { version: 2\n}\n".to_owned(),
        "totem {\n} x\n".to_owned(),
        "totem {\nx }\n".to_owned(),
        "}\n".to_owned(),
        " {\n}\n".to_owned(),
        "totem {\n".to_owned(),
        "a {{\n".to_owned(),
        "a {\n}}\n".to_owned(),
        "abc\n".to_owned(),
        ": x\n".to_owned(),
        "ab: x\n".to_owned(),
        "a b: x\n".to_owned(),
        "a@b: x\n".to_owned(),
        "abc: x\r\r\n\x0c\n".to_owned(),
        "\0garbage\nabc\n".to_owned(),
        "abc: x\0y\n".to_owned(),
        "abc: x\0y".to_owned(),
        format!("\0{}garbage\n", "y".repeat(509)),
        format!("\0{}\n", "y".repeat(510)),
        long(505),
        long(506),
        name(250),
        name(251),
        name(253),
        name(254),
        "a {\n".repeat(128),
        "totem {\n  version: 2.0\n}\n".to_owned(),
        "totem {\n  version: \t +2 \t\n  token: -1\n}\n".to_owned(),
        "totem {\n  interface {\n    mcastport: 65536\n  }\n}\n".to_owned(),
        "nodelist {\n  node {\n    nodeid: 4294967296\n  }\n}\n".to_owned(),
        "quorum {\n  two_node: 256\n}\n".to_owned(),
        "quorum {\n  device {\n    votes: x\n  }\n}\n".to_owned(),
    ];
    for text in texts {
        for text in [text.clone(), format!("{GOOD}{text}")] {
            assert_same_stop(text.as_bytes());
        }
    }
}

fn assert_same_stop(text: &[u8]) {
    let (verdict, said) = ask_corosync(text);
    let stop = match verdict {
        Verdict::Unreadable(line) => Some(line),
        Verdict::Accepted | Verdict::Refused => None,
    };
    assert_eq!(stop, expected_stop(text), "{said}\n{}", text.escape_ascii());
    assert!(stop.is_some() || Document::parse(text).is_ok());
}

#[test]
fn both_stop_in_the_same_line_of_random_texts() {
    let words = [
        "sec {\n",
        "a",
        "totem {\n",
        "{",
        "}",
        "}\n",
        ":",
        ": 1\n",
        ": x\n",
        "abc: x\n",
        " ",
        "\t",
        "\r",
        "\n",
        "#",
        "\0",
        "-",
        "/",
        "@",
        "\x0b",
        "\u{e4}",
    ];
    let filler = (500..520usize).prop_map(|size| "y".repeat(size));
    let word = prop::sample::select(words.to_vec()).prop_map(str::to_owned);
    let texts = prop::collection::vec(prop_oneof![1 => filler, 60 => word], 0..30);
    let config = Config {
        cases: 150,
        failure_persistence: None,
        ..Config::default()
    };
    let result = TestRunner::new(config).run(&texts, |words| {
        assert_same_stop(words.concat().as_bytes());
        Ok(())
    });
    result.expect("corosync and the parser agree");
}
