//! Looks for what is wrong with a corosync.conf before corosync does.
//!
//! Only what corosync or this daemon does with a setting is judged. Settings that neither knows, names that do not resolve and
//! numbers that are merely unusual are left alone.

use std::collections::HashMap;

use super::{
    CorosyncConf, Document, Finding, Node, Problem, Quorum, Section, Totem, Value, number,
};
use crate::config_version;

/// What a text is compared with.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// Name of this node.
    pub node_name: &'a str,
    /// [`config_version`] of the file that the text would replace, if it has one.
    pub present_version: Option<u64>,
}

/// What is wrong with the text, in the order of its lines; what concerns no line comes first.
///
/// A text that corosync cannot parse has that one finding, and at most those about its version besides.
#[must_use]
pub fn check(text: &[u8], surroundings: &Surroundings<'_>) -> Vec<Finding> {
    let mut findings = Findings::default();
    let version = config_version(text);
    findings.check_version(version, surroundings.present_version);
    match Document::parse(text) {
        Err(error) => findings.add(error.line, Problem::Syntax(error.kind)),
        Ok(document) => {
            for (path, section) in document.sections() {
                findings.check_section(&path, section);
            }
            let conf = CorosyncConf::read(&document);
            findings.check_totem(&conf.totem, version);
            if let [first_line, ref others @ ..] = conf.nodelist_lines[..] {
                for line in others {
                    findings.add(*line, Problem::SecondNodelist { first_line });
                }
            }
            findings.check_nodes(&conf.nodes, surroundings.node_name);
            findings.check_links(&conf);
            findings.check_quorum(&conf.quorum, &conf.nodes);
        }
    }
    let mut findings = findings.0;
    findings.sort_by_key(|finding| finding.line);
    findings
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, line: impl Into<Option<usize>>, problem: Problem) {
        let line = line.into();
        self.0.push(Finding { line, problem });
    }

    fn check_version(&mut self, version: Option<u64>, present: Option<u64>) {
        match (version, present) {
            (None, _) => self.add(None, Problem::NoConfigVersion),
            (Some(version), Some(present)) if version <= present => {
                self.add(None, Problem::VersionNotLarger { version, present });
            }
            _ => {}
        }
    }

    fn check_section(&mut self, path: &[u8], section: &Section<'_>) {
        let mut seen = HashMap::new();
        for setting in section.settings() {
            let key = || printable(setting.key);
            if let Some(first_line) = seen.insert(setting.key, setting.line) {
                let key = key();
                self.add(setting.line, Problem::DuplicateSetting { key, first_line });
            }
            let Some(range) = number::range(path, setting.key) else {
                continue;
            };
            if !number::parse(setting.value).is_some_and(|number| range.contains(&number)) {
                let problem = Problem::NotANumber {
                    key: format!("{}.{}", printable(path), key()),
                    value: printable(setting.value),
                    min: *range.start(),
                    max: *range.end(),
                };
                self.add(setting.line, problem);
            }
        }
    }

    fn check_totem(&mut self, totem: &Totem<'_>, version: Option<u64>) {
        if totem.version.and_then(|version| version.number()) != Some(2u32) {
            self.add(line_of(totem.version), Problem::TotemVersion);
        }
        if totem.cluster_name.is_none_or(|name| name.text.is_empty()) {
            self.add(line_of(totem.cluster_name), Problem::NoClusterName);
        }
        let loaded = totem.config_version;
        if let Some(compared) = version
            && loaded.and_then(|version| version.number()) != Some(compared)
        {
            let text = loaded.map_or("none".to_owned(), |value| printable(value.text));
            let loaded = line_of(loaded);
            let problem = Problem::TwoConfigVersions {
                compared,
                loaded: text,
            };
            self.add(loaded, problem);
        }
        let mut seen = HashMap::new();
        for interface in &totem.interfaces {
            let Some(link) = interface.link_number.map_or(Some(0), |link| link.number()) else {
                continue;
            };
            if usize::from(link) >= super::LINK_COUNT {
                self.add(interface.line, Problem::UnknownInterface(link));
            }
            if let Some(first_line) = seen.insert(link, interface.line) {
                let problem = Problem::DuplicateInterface { link, first_line };
                self.add(interface.line, problem);
            }
        }
    }

    fn check_nodes(&mut self, nodes: &[Node<'_>], own_name: &str) {
        if nodes.is_empty() {
            return self.add(None, Problem::NoNodes);
        }
        let mut ids = HashMap::new();
        let mut names = HashMap::new();
        let mut addresses = HashMap::new();
        for node in nodes {
            match node.node_id.map(|id| id.number::<u32>()) {
                None | Some(Some(0)) => self.add(node.line, Problem::NoNodeId(label(node))),
                // Said with the other numbers.
                Some(None) => {}
                Some(Some(id)) => {
                    if let Some(first_line) = ids.insert(id, node.line) {
                        self.add(node.line, Problem::DuplicateNodeId { id, first_line });
                    }
                }
            }
            if let Some(name) = node.shown_name()
                && let Some(first_line) = names.insert(name, node.line)
                && node.name.is_some()
            {
                let name = printable(name);
                self.add(node.line, Problem::DuplicateName { name, first_line });
            }
            for address in node.addresses.into_iter().flatten() {
                if address.text.is_empty() {
                    self.add(address.line, Problem::EmptyAddress);
                } else if let Some(first_line) = addresses.insert(address.text, node.line)
                    && first_line != node.line
                {
                    let address_text = printable(address.text);
                    let problem = Problem::DuplicateAddress {
                        address: address_text,
                        first_line,
                    };
                    self.add(address.line, problem);
                }
            }
        }
        if !names.contains_key(own_name.as_bytes()) {
            self.add(None, Problem::OwnNodeMissing(own_name.to_owned()));
        }
    }

    fn check_links(&mut self, conf: &CorosyncConf<'_>) {
        let transport = conf
            .totem
            .transport
            .map_or(&b"knet"[..], |value| value.text);
        if !matches!(transport, b"knet" | b"udp" | b"udpu") {
            let problem = Problem::UnknownTransport(printable(transport));
            self.add(line_of(conf.totem.transport), problem);
        }
        let mut expected = None;
        for node in &conf.nodes {
            for (key, address) in &node.other_addresses {
                self.add(address.line, Problem::UnknownLink(printable(key)));
            }
            let links = links(node);
            if links.is_empty() {
                self.add(node.line, Problem::NoAddress(label(node)));
                continue;
            }
            match (node.name, node.shown_name()) {
                (None, _) if links.len() > 1 => self.add(node.line, Problem::NoNameManyLinks),
                (None, Some(shown)) => self.add(node.line, Problem::NoName(printable(shown))),
                _ => {}
            }
            if links.len() > 1 && matches!(transport, b"udp" | b"udpu") {
                let transport = printable(transport);
                self.add(node.line, Problem::LinksNeedKnet { transport });
            }
            let expected = expected.get_or_insert_with(|| links.clone());
            if *expected != links {
                let problem = Problem::LinksDiffer {
                    node: label(node),
                    found: links.join(" "),
                    expected: expected.join(" "),
                };
                self.add(node.line, problem);
            }
        }
    }

    fn check_quorum(&mut self, quorum: &Quorum<'_>, nodes: &[Node<'_>]) {
        if quorum.provider.map(|value| value.text) != Some(b"corosync_votequorum") {
            self.add(line_of(quorum.provider), Problem::QuorumProvider);
        }
        let votes: Vec<u64> = nodes.iter().map(votes).collect();
        let total: u64 = votes.iter().sum();
        let fewest = votes.iter().copied().filter(|votes| *votes > 0).min();
        for (node, votes) in nodes.iter().zip(votes) {
            if votes == 0 {
                self.add(node.line, Problem::NoVotes(label(node)));
            } else if !quorum.has_device && Some(votes) > fewest && total - votes <= total / 2 {
                let name = label(node);
                let problem = Problem::OneNodeDecides { name, votes, total };
                self.add(node.line, problem);
            }
        }
        if let Some(value) = quorum.expected_votes
            && let Some(expected) = value.number::<u32>()
            && u64::from(expected) != total
            && !quorum.has_device
        {
            self.add(value.line, Problem::ExpectedVotes { expected, total });
        }
        if let Some(value) = quorum.two_node
            && value.number() == Some(1u8)
            && nodes.len() != 2
        {
            self.add(value.line, Problem::TwoNode(nodes.len()));
        }
    }
}

/// Votes of a node; a number that is none counts as 1, as it is said elsewhere.
fn votes(node: &Node<'_>) -> u64 {
    let votes = node.quorum_votes.and_then(|votes| votes.number::<u32>());
    votes.unwrap_or(1).into()
}

fn links(node: &Node<'_>) -> Vec<String> {
    let numbers = (0..).zip(&node.addresses);
    numbers
        .filter(|(_, address)| address.is_some())
        .map(|(number, _): (u32, _)| number.to_string())
        .collect()
}

/// What an operator knows a node by.
fn label(node: &Node<'_>) -> String {
    let id = || node.node_id.map_or(&b"?"[..], |id| id.text);
    printable(node.shown_name().unwrap_or_else(id))
}

fn line_of(value: Option<Value<'_>>) -> Option<usize> {
    value.map(|value| value.line)
}

fn printable(text: &[u8]) -> String {
    text.escape_ascii().to_string()
}

#[cfg(test)]
mod tests;
