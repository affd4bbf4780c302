//! Each problem is found, where it is, and nothing else.

use super::*;
use crate::corosync_conf::Severity;

/// Three nodes, nothing wrong.
const GOOD: &str = "\
totem {
  version: 2
  cluster_name: lab
  config_version: 3
  transport: knet
  interface {
    linknumber: 0
  }
}
nodelist {
  node {
    name: a
    nodeid: 1
    quorum_votes: 1
    ring0_addr: 10.0.0.1
  }
  node {
    name: b
    nodeid: 2
    quorum_votes: 1
    ring0_addr: 10.0.0.2
  }
  node {
    name: c
    nodeid: 3
    quorum_votes: 1
    ring0_addr: 10.0.0.3
  }
}
quorum {
  provider: corosync_votequorum
}
";

fn said(text: &str) -> Vec<String> {
    let surroundings = Surroundings {
        node_name: "a",
        present_version: Some(2),
    };
    let findings = check(text.as_bytes(), &surroundings);
    findings.iter().map(ToString::to_string).collect()
}

fn edited(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    GOOD.replacen(from, to, 1)
}

#[test]
fn nothing_is_said_of_a_good_file() {
    assert_eq!(said(GOOD), [""; 0]);
    assert_eq!(said(&GOOD.replace('\n', "\r\n")), [""; 0]);
    let unknown = "  frobnicate: 7\n  extra {\n    abc: x\n  }\n  transport: knet";
    assert_eq!(said(&edited("  transport: knet", unknown)), [""; 0]);
    let alone = Surroundings {
        node_name: "a",
        present_version: None,
    };
    assert_eq!(check(GOOD.as_bytes(), &alone), []);
}

#[test]
fn each_problem_is_named_with_its_line() {
    let table = [
        (
            "  version: 2\n",
            "",
            "section totem needs 'version: 2', the only format there is",
        ),
        (
            "version: 2",
            "version: 1",
            "line 2: section totem needs 'version: 2', the only format there is",
        ),
        (
            "  cluster_name: lab\n",
            "",
            "section totem has no cluster_name: add one, or pmxcfs shows no members",
        ),
        (
            "transport: knet",
            "transport: tcp",
            "line 5: 'tcp' is no transport: use knet, udp or udpu, or leave it out for knet",
        ),
        (
            "transport: knet",
            "token: 3s",
            "line 5: totem.token has to be a whole number from 0 to 4294967295, not '3s'",
        ),
        (
            "linknumber: 0",
            "linknumber: 8",
            "line 6: link 8 does not exist: linknumber is 0 to 7",
        ),
        (
            "  interface {",
            "  interface {\n    mcastport: 5405\n  }\n  interface {",
            "line 9: link 0 has an interface section in line 6 already: put both into one",
        ),
        (
            "    nodeid: 1\n",
            "",
            "line 11: node 'a' has no nodeid above 0: add one, or pmxcfs leaves the node out",
        ),
        (
            "nodeid: 1",
            "nodeid: 0",
            "line 11: node 'a' has no nodeid above 0: add one, or pmxcfs leaves the node out",
        ),
        (
            "nodeid: 2",
            "nodeid: 1",
            "line 17: nodeid 1 is that of the node in line 11 already: each node needs its own",
        ),
        (
            "name: b",
            "name: a",
            "line 17: 'a' is the name of the node in line 11 already: each node needs its own",
        ),
        (
            "10.0.0.2",
            "10.0.0.1",
            "line 21: '10.0.0.1' is an address of the node in line 11 already: each node needs its own",
        ),
        (
            "    ring0_addr: 10.0.0.2\n",
            "",
            "line 17: node 'b' has no address: add ring0_addr",
        ),
        (
            "10.0.0.2",
            "",
            "line 21: the address of a node is empty: give an address, or remove the line",
        ),
        (
            "ring0_addr: 10.0.0.2",
            "ring0_addr: 10.0.0.2\n    ring8_addr: 10.8.0.2",
            "line 22: 'ring8_addr' is not the address of a link: there are ring0_addr to ring7_addr",
        ),
        (
            "ring0_addr: 10.0.0.2",
            "ring0_addr: 10.0.0.2\n    ring1_addr: 10.1.0.2",
            "line 17: node 'b' has links 0 1 where the first node has 0: give all nodes the same links",
        ),
        (
            "    name: b\n",
            "",
            "line 17: the node has no name: add one, or it is shown as '10.0.0.2'",
        ),
        (
            "name: a",
            "name: x",
            "this node 'a' is not in the node list: corosync will not be a member here",
        ),
        (
            "corosync_votequorum",
            "other",
            "line 31: section quorum needs 'provider: corosync_votequorum', or there is no quorum to wait for",
        ),
        (
            "nodeid: 2\n    quorum_votes: 1",
            "nodeid: 2\n    quorum_votes: 0",
            "line 17: node 'b' has no vote: remove quorum_votes, or set it to 1",
        ),
        (
            "nodeid: 2\n    quorum_votes: 1",
            "nodeid: 2\n    quorum_votes: 2",
            "line 17: node 'b' has 2 of 4 votes: without it the others have no quorum",
        ),
        (
            "corosync_votequorum",
            "corosync_votequorum\n  expected_votes: 4",
            "line 32: expected_votes is 4, and the nodes have 3: remove expected_votes",
        ),
        (
            "corosync_votequorum",
            "corosync_votequorum\n  two_node: 1",
            "line 32: two_node is for two nodes, and there are 3: remove it",
        ),
        (
            "cluster_name: lab",
            "cluster_name: bal\n  cluster_name: lab",
            "line 4: 'cluster_name' is also in line 3 of the same section: this one counts",
        ),
        (
            "totem {",
            "# config_version: 7\ntotem {",
            "line 5: pmxcfs takes 7 for the config_version, the first that the text has, but corosync takes 3",
        ),
        (
            "config_version: 3",
            "config_version: 2",
            "config_version 2 is not above 2, that of the present file: increase it with each change",
        ),
        (
            "  config_version: 3\n",
            "",
            "unable to parse cluster config_version: add 'config_version: NUMBER' to section totem",
        ),
        (
            "quorum {",
            "quorum",
            "line 30: neither 'KEY: VALUE', nor the start or end of a section",
        ),
    ];
    for (from, to, expected) in table {
        assert_eq!(said(&edited(from, to)), [expected], "{from:?} -> {to:?}");
    }
}

#[test]
fn several_links_need_knet_and_names() {
    let two_links = (1..=3).fold(GOOD.to_owned(), |text, node| {
        let address = format!("ring0_addr: 10.0.0.{node}");
        text.replace(
            &address,
            &format!("{address}\n    ring1_addr: 10.1.0.{node}"),
        )
    });
    assert_eq!(said(&two_links), [""; 0]);
    let udp = said(&two_links.replace("knet", "udpu"));
    assert_eq!(udp.len(), 3, "{udp:?}");
    assert_eq!(
        udp[0],
        "line 11: transport udpu carries one link: remove ring1_addr and above, or use knet"
    );
    assert_eq!(
        said(&two_links.replace("    name: b\n", "")),
        ["line 18: the node has no name, which corosync needs with more than one link"]
    );
}

#[test]
fn a_quorum_device_changes_what_votes_mean() {
    let device = "quorum {\n  expected_votes: 3\n  device {\n    votes: 1\n  }";
    let text = edited("quorum {", device).replacen("quorum_votes: 1", "quorum_votes: 3", 1);
    assert_eq!(said(&text), [""; 0]);
}

#[test]
fn an_empty_text_lacks_everything() {
    let findings = check(
        b"",
        &Surroundings {
            node_name: "a",
            present_version: None,
        },
    );
    let problems: Vec<Problem> = findings
        .into_iter()
        .map(|finding| finding.problem)
        .collect();
    let expected = [
        Problem::NoConfigVersion,
        Problem::TotemVersion,
        Problem::NoClusterName,
        Problem::NoNodes,
        Problem::QuorumProvider,
    ];
    assert_eq!(problems, expected);
    let severities = expected.map(|problem| problem.severity());
    assert_eq!(severities[0], Severity::Refused);
    assert!(
        severities[1..]
            .iter()
            .all(|severity| *severity == Severity::Error)
    );
}
