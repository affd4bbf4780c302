//! What can be wrong with a corosync.conf.

use std::fmt;

use super::SyntaxErrorKind;

/// How much is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It works, though hardly as it was meant.
    Warning,
    /// corosync refuses the file, or the cluster cannot work with it as it is.
    Error,
    /// The daemon does not pass it on to the host; C daemons do not either.
    Refused,
}

/// Something that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Counted from 1; `None` if it concerns no single line.
    pub line: Option<usize>,
    /// What it is.
    pub problem: Problem,
}

impl Finding {
    /// See [`Problem::severity`].
    #[must_use]
    pub const fn severity(&self) -> Severity {
        self.problem.severity()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        self.problem.fmt(f)
    }
}

/// What is wrong, in words that say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// No number behind `config_version`. The text is the one that operators search for.
    #[error(
        "unable to parse cluster config_version: add 'config_version: NUMBER' to section totem"
    )]
    NoConfigVersion,

    /// corosync cannot read it.
    #[error("{0}")]
    Syntax(SyntaxErrorKind),
    /// Not a number, or out of range.
    #[error("{key} has to be a whole number from {min} to {max}, not '{value}'")]
    NotANumber {
        /// Path of the setting.
        key: String,
        /// Its value.
        value: String,
        /// Smallest value that is accepted.
        min: i128,
        /// Largest value that is accepted.
        max: i128,
    },
    /// Format of the file.
    #[error("section totem needs 'version: 2', the only format there is")]
    TotemVersion,
    /// The node list of the daemon needs it.
    #[error("section totem has no cluster_name: add one, or pmxcfs shows no members")]
    NoClusterName,
    /// Name of the transport.
    #[error("'{0}' is no transport: use knet, udp or udpu, or leave it out for knet")]
    UnknownTransport(String),
    /// More than one link with anything but knet.
    #[error("transport {transport} carries one link: remove ring1_addr and above, or use knet")]
    LinksNeedKnet {
        /// The transport.
        transport: String,
    },
    /// No node at all.
    #[error("section nodelist has no node: add one for each member")]
    NoNodes,
    /// More than one node list.
    #[error(
        "a nodelist opens in line {first_line} already, and this one overwrites its nodes: put all nodes into one"
    )]
    SecondNodelist {
        /// Where the first one opens.
        first_line: usize,
    },
    /// A node without `ring0_addr` up to `ring7_addr`.
    #[error("node '{0}' has no address: add ring0_addr")]
    NoAddress(String),
    /// A node with an address without text.
    #[error("the address of a node is empty: give an address, or remove the line")]
    EmptyAddress,
    /// `ring8_addr` and the like.
    #[error("'{0}' is not the address of a link: there are ring0_addr to ring7_addr")]
    UnknownLink(String),
    /// Nodes have different sets of links.
    #[error(
        "node '{node}' has links {found} where the first node has {expected}: give all nodes the same links"
    )]
    LinksDiffer {
        /// The node.
        node: String,
        /// Numbers of its links.
        found: String,
        /// Numbers of the first node's links.
        expected: String,
    },
    /// No `name`, with one link.
    #[error("the node has no name: add one, or it is shown as '{0}'")]
    NoName(String),
    /// No `name`, with several links.
    #[error("the node has no name, which corosync needs with more than one link")]
    NoNameManyLinks,
    /// No `nodeid`, or 0.
    #[error("node '{0}' has no nodeid above 0: add one, or pmxcfs leaves the node out")]
    NoNodeId(String),
    /// Two nodes have one id.
    #[error(
        "nodeid {id} is that of the node in line {first_line} already: each node needs its own"
    )]
    DuplicateNodeId {
        /// The id.
        id: u32,
        /// Where the first of the two opens.
        first_line: usize,
    },
    /// Two nodes have one name.
    #[error(
        "'{name}' is the name of the node in line {first_line} already: each node needs its own"
    )]
    DuplicateName {
        /// The name.
        name: String,
        /// Where the first of the two opens.
        first_line: usize,
    },
    /// Two nodes have one address.
    #[error(
        "'{address}' is an address of the node in line {first_line} already: each node needs its own"
    )]
    DuplicateAddress {
        /// The address.
        address: String,
        /// Where the first of the two opens.
        first_line: usize,
    },
    /// Which service tells whether there is quorum.
    #[error(
        "section quorum needs 'provider: corosync_votequorum', or there is no quorum to wait for"
    )]
    QuorumProvider,

    /// The host is none of the nodes.
    #[error("this node '{0}' is not in the node list: corosync will not be a member here")]
    OwnNodeMissing(String),
    /// The version does not tell the new text from the old one.
    #[error(
        "config_version {version} is not above {present}, that of the present file: increase it with each change"
    )]
    VersionNotLarger {
        /// Version of the new text.
        version: u64,
        /// Version of the present file.
        present: u64,
    },
    /// The first `config_version` of the text is not the one that counts for corosync.
    #[error(
        "pmxcfs takes {compared} for the config_version, the first that the text has, but corosync takes {loaded}"
    )]
    TwoConfigVersions {
        /// What this daemon and C daemons compare.
        compared: u64,
        /// What corosync reads.
        loaded: String,
    },
    /// A key is given twice in one section.
    #[error("'{key}' is also in line {first_line} of the same section: this one counts")]
    DuplicateSetting {
        /// The key.
        key: String,
        /// Where it was first.
        first_line: usize,
    },
    /// `interface` of a link that does not exist.
    #[error("link {0} does not exist: linknumber is 0 to 7")]
    UnknownInterface(u8),
    /// Two `interface` sections of one link.
    #[error("link {link} has an interface section in line {first_line} already: put both into one")]
    DuplicateInterface {
        /// The link.
        link: u8,
        /// Where the first of the two opens.
        first_line: usize,
    },
    /// A node that cannot help to reach quorum.
    #[error("node '{0}' has no vote: remove quorum_votes, or set it to 1")]
    NoVotes(String),
    /// A node without which there is no quorum.
    #[error("node '{name}' has {votes} of {total} votes: without it the others have no quorum")]
    OneNodeDecides {
        /// The node.
        name: String,
        /// Its votes.
        votes: u64,
        /// Votes of all nodes.
        total: u64,
    },
    /// `expected_votes` is not the sum.
    #[error("expected_votes is {expected}, and the nodes have {total}: remove expected_votes")]
    ExpectedVotes {
        /// What is given.
        expected: u32,
        /// Votes of all nodes.
        total: u64,
    },
    /// `two_node` with another number of nodes.
    #[error("two_node is for two nodes, and there are {0}: remove it")]
    TwoNode(usize),
}

impl Problem {
    /// How bad it is.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Self::NoConfigVersion => Severity::Refused,
            Self::Syntax(_)
            | Self::NotANumber { .. }
            | Self::TotemVersion
            | Self::NoClusterName
            | Self::UnknownTransport(_)
            | Self::LinksNeedKnet { .. }
            | Self::NoNodes
            | Self::SecondNodelist { .. }
            | Self::NoAddress(_)
            | Self::EmptyAddress
            | Self::UnknownLink(_)
            | Self::LinksDiffer { .. }
            | Self::NoNameManyLinks
            | Self::NoNodeId(_)
            | Self::DuplicateNodeId { .. }
            | Self::DuplicateName { .. }
            | Self::DuplicateAddress { .. }
            | Self::QuorumProvider => Severity::Error,
            Self::NoName(_)
            | Self::OwnNodeMissing(_)
            | Self::VersionNotLarger { .. }
            | Self::TwoConfigVersions { .. }
            | Self::DuplicateSetting { .. }
            | Self::UnknownInterface(_)
            | Self::DuplicateInterface { .. }
            | Self::NoVotes(_)
            | Self::OneNodeDecides { .. }
            | Self::ExpectedVotes { .. }
            | Self::TwoNode(_) => Severity::Warning,
        }
    }
}
