//! What holds for any text of a corosync.conf. Called by the tests below and by the fuzz target.

use crate::config_version;
use crate::corosync_conf::{CorosyncConf, Document, Item, Problem, Surroundings, check};

/// Reading and checking end well, and the plain form of a text that can be read says the same as the text.
pub fn corosync_conf(text: &[u8]) {
    let line_count = text.iter().filter(|byte| **byte == b'\n').count() + 1 + text.len() / 511;
    let surroundings = Surroundings {
        node_name: "node1",
        present_version: Some(3),
    };
    let findings = check(text, &surroundings);
    for finding in &findings {
        assert!(
            finding
                .line
                .is_none_or(|line| (1..=line_count).contains(&line))
        );
        assert!(!finding.to_string().is_empty());
    }
    let is_refused = findings
        .iter()
        .any(|finding| finding.problem == Problem::NoConfigVersion);
    assert_eq!(is_refused, config_version(text).is_none());

    let Ok(mut document) = Document::parse(text) else {
        return;
    };
    let plain = document.render();
    let mut again = Document::parse(&plain).expect("what was read can be written and read");
    assert_eq!(again.render(), plain);
    let (conf, conf_again) = (CorosyncConf::read(&document), CorosyncConf::read(&again));
    assert_eq!(conf.nodes.len(), conf_again.nodes.len());
    forget_lines(&mut document.items);
    forget_lines(&mut again.items);
    assert_eq!(document, again);
}

fn forget_lines(items: &mut [Item<'_>]) {
    for item in items {
        match item {
            Item::Setting(setting) => setting.line = 0,
            Item::Section(section) => {
                section.line = 0;
                forget_lines(&mut section.items);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::corosync_conf;

    /// Pieces that add up to something like a corosync.conf more often than bytes do.
    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        let words = [
            "totem {\n",
            "nodelist {\n",
            "node {\n",
            "interface {\n",
            "quorum {\n",
            "a {\n",
            "}\n",
            "}",
            "{",
            "\n",
            "\r\n",
            "\r",
            " ",
            "\t",
            ":",
            "#",
            "\0",
            "version",
            "config_version",
            "cluster_name",
            "nodeid",
            "name",
            "ring0_addr",
            "ring1_addr",
            "ring9_addr",
            "quorum_votes",
            "two_node",
            "expected_votes",
            "provider",
            "linknumber",
            ": 0\n",
            ": 1\n",
            ": 2\n",
            ": -1\n",
            ": 99999999999\n",
            ": x\n",
            ": node1\n",
            ":\n",
        ];
        let filler = (0..520usize).prop_map(|size| vec![b'x'; size]);
        let byte = any::<u8>().prop_map(|byte| vec![byte]);
        let word = prop::sample::select(words.to_vec()).prop_map(|word| word.as_bytes().to_vec());
        let piece = prop_oneof![1 => filler, 2 => byte, 40 => word];
        prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_bytes(text in prop::collection::vec(any::<u8>(), 0..400)) {
            corosync_conf(&text);
        }

        #[test]
        fn likely_texts(text in pieces()) {
            corosync_conf(&text);
        }
    }
}
