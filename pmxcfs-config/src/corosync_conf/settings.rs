//! What a corosync.conf says about the cluster.

use super::{Document, Setting, number};

/// How many links corosync can use.
pub const LINK_COUNT: usize = 8;

/// A setting's value and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value<'a> {
    /// The bytes, without white space around.
    pub text: &'a [u8],
    /// Counted from 1.
    pub line: usize,
}

impl Value<'_> {
    /// The number, if it is one that corosync reads and that fits.
    #[must_use]
    pub fn number<N: TryFrom<i128>>(&self) -> Option<N> {
        N::try_from(number::parse(self.text)?).ok()
    }
}

/// The settings of corosync.conf that concern a cluster of this daemon. Where a setting is repeated, the last one is here, as
/// in corosync.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CorosyncConf<'a> {
    /// Section `totem`.
    pub totem: Totem<'a>,
    /// Where sections `nodelist` open.
    pub nodelist_lines: Vec<usize>,
    /// Sections `node` of section `nodelist`, in the order of the file. In a second `nodelist` corosync starts to count anew:
    /// its first node changes the first node of the first one, and so on.
    pub nodes: Vec<Node<'a>>,
    /// Section `quorum`.
    pub quorum: Quorum<'a>,
}

/// Section `totem`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totem<'a> {
    /// Version of the format; 2.
    pub version: Option<Value<'a>>,
    /// Name of the cluster.
    pub cluster_name: Option<Value<'a>>,
    /// Version of this configuration, as corosync reads it. This daemon compares
    /// [`config_version`](crate::config_version), which can be another one.
    pub config_version: Option<Value<'a>>,
    /// `knet`, `udp` or `udpu`.
    pub transport: Option<Value<'a>>,
    /// Sections `interface`, in the order of the file.
    pub interfaces: Vec<Interface<'a>>,
}

/// Section `interface` of section `totem`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface<'a> {
    /// Where it opens.
    pub line: usize,
    /// Which link it is about; link 0 if missing.
    pub link_number: Option<Value<'a>>,
}

/// Section `node` of section `nodelist`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node<'a> {
    /// Where it opens.
    pub line: usize,
    /// Its name.
    pub name: Option<Value<'a>>,
    /// Its id, `nodeid`.
    pub node_id: Option<Value<'a>>,
    /// How many votes it has; 1 if missing.
    pub quorum_votes: Option<Value<'a>>,
    /// `ring0_addr` to `ring7_addr`.
    pub addresses: [Option<Value<'a>>; LINK_COUNT],
    /// Keys and values that look like addresses of links that corosync does not have.
    pub other_addresses: Vec<(&'a [u8], Value<'a>)>,
}

/// Section `quorum`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quorum<'a> {
    /// `corosync_votequorum`.
    pub provider: Option<Value<'a>>,
    /// Votes of all nodes, if it is not to be computed from the node list.
    pub expected_votes: Option<Value<'a>>,
    /// Whether one node of two is enough.
    pub two_node: Option<Value<'a>>,
    /// Whether there is a section `device`, so that a quorum device votes too.
    pub has_device: bool,
}

impl<'a> CorosyncConf<'a> {
    /// Picks the settings out of a document. Nothing is checked: what is not there, or makes no sense, stays as it is.
    #[must_use]
    pub fn read(document: &Document<'a>) -> Self {
        let mut conf = Self::default();
        let mut position = 0;
        for (path, section) in document.sections() {
            let settings = section.settings();
            match &path[..] {
                b"totem" => settings.for_each(|setting| conf.totem.set(setting)),
                b"totem.interface" => {
                    let mut interface = Interface {
                        line: section.line,
                        ..Interface::default()
                    };
                    settings.for_each(|setting| interface.set(setting));
                    conf.totem.interfaces.push(interface);
                }
                b"nodelist" => {
                    conf.nodelist_lines.push(section.line);
                    position = 0;
                }
                b"nodelist.node" => {
                    let node = conf.node_at(position, section.line);
                    settings.for_each(|setting| node.set(setting));
                    position += 1;
                }
                b"quorum" => settings.for_each(|setting| conf.quorum.set(setting)),
                b"quorum.device" => conf.quorum.has_device = true,
                _ => {}
            }
        }
        conf
    }

    fn node_at(&mut self, position: usize, line: usize) -> &mut Node<'a> {
        if position >= self.nodes.len() {
            self.nodes.push(Node::default());
        }
        let last = self.nodes.len() - 1;
        let node = &mut self.nodes[position.min(last)];
        node.line = line;
        node
    }
}

impl<'a> Totem<'a> {
    fn set(&mut self, setting: &Setting<'a>) {
        let field = match setting.key {
            b"version" => &mut self.version,
            b"cluster_name" => &mut self.cluster_name,
            b"config_version" => &mut self.config_version,
            b"transport" => &mut self.transport,
            _ => return,
        };
        *field = Some(setting.into());
    }
}

impl<'a> Interface<'a> {
    fn set(&mut self, setting: &Setting<'a>) {
        if setting.key == b"linknumber" {
            self.link_number = Some(setting.into());
        }
    }
}

impl<'a> Node<'a> {
    /// Under what name it is seen: its own, or else its address on link 0.
    #[must_use]
    pub fn shown_name(&self) -> Option<&'a [u8]> {
        let [first_address, ..] = self.addresses;
        self.name.or(first_address).map(|value| value.text)
    }

    fn set(&mut self, setting: &Setting<'a>) {
        let field = match setting.key {
            b"name" => &mut self.name,
            b"nodeid" => &mut self.node_id,
            b"quorum_votes" => &mut self.quorum_votes,
            key => match address_of(key) {
                Some(Some(link)) => &mut self.addresses[link],
                Some(None) => return self.other_addresses.push((key, setting.into())),
                None => return,
            },
        };
        *field = Some(setting.into());
    }
}

/// `Some` for `ring..._addr`, with the number of the link if corosync has it.
fn address_of(key: &[u8]) -> Option<Option<usize>> {
    let number = key.strip_prefix(b"ring")?.strip_suffix(b"_addr")?;
    Some(match number {
        [digit @ b'0'..=b'7'] => Some(usize::from(digit - b'0')),
        _ => None,
    })
}

impl<'a> Quorum<'a> {
    fn set(&mut self, setting: &Setting<'a>) {
        let field = match setting.key {
            b"provider" => &mut self.provider,
            b"expected_votes" => &mut self.expected_votes,
            b"two_node" => &mut self.two_node,
            _ => return,
        };
        *field = Some(setting.into());
    }
}

impl<'a> From<&Setting<'a>> for Value<'a> {
    fn from(setting: &Setting<'a>) -> Self {
        Self {
            text: setting.value,
            line: setting.line,
        }
    }
}
