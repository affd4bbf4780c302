//! What can happen to a cluster, one thing at a time, and how it is written down.
//!
//! A story is a list of steps. A step that does not fit the moment does nothing, so steps can be left out of a story to
//! find out which ones matter. Nodes are written with the numbers that members have, from 1 on.

use std::fmt;

use bytes::Bytes;
use pmxcfs_memdb::Operation;

/// One of the two groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    Database,
    Status,
}

/// A message that no daemon sends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Injection {
    /// Shorter than any header.
    Short,
    /// An operation whose lengths do not add up.
    Lengths,
    /// An application message with an unknown number.
    Subtype,
    /// A start of a synchronisation, from whoever sends it.
    SyncStart,
    /// A state of an epoch that nobody is in.
    StaleState,
    /// The same for the end of an update.
    StaleComplete,
    NewerProtocol,
    OlderProtocol,
}

const INJECTIONS: [(Injection, &str); 8] = [
    (Injection::Short, "short"),
    (Injection::Lengths, "lengths"),
    (Injection::Subtype, "subtype"),
    (Injection::SyncStart, "sync-start"),
    (Injection::StaleState, "stale-state"),
    (Injection::StaleComplete, "stale-complete"),
    (Injection::NewerProtocol, "newer-protocol"),
    (Injection::OlderProtocol, "older-protocol"),
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// A daemon starts, with what is on its disk or with a new database.
    Start {
        node: usize,
        is_empty: bool,
    },
    /// From now on a C daemon runs there, or one under test.
    Install {
        node: usize,
        is_ours: bool,
    },
    Crash(usize),
    /// Corosync dies, of the last messages of the host `lost` reach nobody else.
    KillCorosync {
        node: usize,
        lost: usize,
    },
    StartCorosync(usize),
    /// Corosync and daemon die together.
    CrashHost {
        node: usize,
        lost: usize,
    },
    Stop(usize),
    Continue(usize),
    /// Corosync takes so many messages and then none, or all again.
    Congest {
        node: usize,
        capacity: Option<usize>,
    },
    InterruptNext(usize),
    /// What is delivered next comes in together with what comes after it.
    GatherNext(usize),
    /// The oldest unsent message of a host gets its place in the order.
    Order {
        node: usize,
        channel: Channel,
    },
    /// A daemon receives what is next.
    Deliver {
        node: usize,
        channel: Channel,
        count: usize,
    },
    Tick(usize),
    /// Time passes, in milliseconds.
    Later(u64),
    Partition {
        sides: Vec<usize>,
        lost: usize,
        in_steps: bool,
    },
    Ghost {
        node: usize,
        channel: Channel,
    },
    /// The daemon is told whether it is quorate, if that is news.
    Quorum(usize),
    BreakDisk {
        node: usize,
        after: u32,
    },
    MendDisk(usize),
    SlowDisk {
        node: usize,
        ms: u64,
    },
    /// The wall clock is set.
    Clock {
        node: usize,
        offset_secs: u32,
    },
    Ask {
        node: usize,
        operation: Operation,
    },
    Set {
        node: usize,
        key: String,
        value: String,
    },
    Log {
        node: usize,
        text: String,
    },
    Inject {
        node: usize,
        what: Injection,
    },
    /// Changes one tree behind the protocol's back.
    Corrupt {
        node: usize,
        path: String,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { node, is_empty } => {
                let empty = if *is_empty { "-empty" } else { "" };
                write!(f, "start{empty} {}", node + 1)
            }
            Self::Install { node, is_ours } => {
                let kind = if *is_ours { "ours" } else { "c" };
                write!(f, "install {} {kind}", node + 1)
            }
            Self::Crash(node) => write!(f, "crash {}", node + 1),
            Self::KillCorosync { node, lost } => write!(f, "kill-corosync {} {lost}", node + 1),
            Self::StartCorosync(node) => write!(f, "start-corosync {}", node + 1),
            Self::CrashHost { node, lost } => write!(f, "crash-host {} {lost}", node + 1),
            Self::Stop(node) => write!(f, "stop {}", node + 1),
            Self::Continue(node) => write!(f, "continue {}", node + 1),
            Self::Congest { node, capacity } => match capacity {
                Some(count) => write!(f, "takes {} {count}", node + 1),
                None => write!(f, "takes {} all", node + 1),
            },
            Self::GatherNext(node) => write!(f, "gather {}", node + 1),
            Self::InterruptNext(node) => write!(f, "interrupt {}", node + 1),
            Self::Order { node, channel } => write!(f, "order {}{channel}", node + 1),
            Self::Deliver {
                node,
                channel,
                count,
            } => write!(f, "deliver {} {count}{channel}", node + 1),
            Self::Tick(node) => write!(f, "tick {}", node + 1),
            Self::Later(ms) => write!(f, "later {ms}"),
            Self::Partition {
                sides,
                lost,
                in_steps,
            } => {
                write!(f, "partition")?;
                for side in sides {
                    write!(f, " {side}")?;
                }
                if *lost > 0 {
                    write!(f, " lost {lost}")?;
                }
                if *in_steps {
                    write!(f, " in-steps")?;
                }
                Ok(())
            }
            Self::Ghost { node, channel } => write!(f, "ghost {}{channel}", node + 1),
            Self::Quorum(node) => write!(f, "quorum {}", node + 1),
            Self::BreakDisk { node, after } => write!(f, "break-disk {} {after}", node + 1),
            Self::MendDisk(node) => write!(f, "mend-disk {}", node + 1),
            Self::Clock { node, offset_secs } => write!(f, "clock {} {offset_secs}", node + 1),
            Self::SlowDisk { node, ms } => write!(f, "slow-disk {} {ms}", node + 1),
            Self::Ask { node, operation } => write_operation(f, node + 1, operation),
            Self::Set { node, key, value } => write!(f, "set {} {key} {value}", node + 1),
            Self::Log { node, text } => write!(f, "log {} {text}", node + 1),
            Self::Inject { node, what } => {
                let known = INJECTIONS.iter().find(|(known, _)| known == what);
                write!(
                    f,
                    "inject {} {}",
                    node + 1,
                    known.map_or("", |known| known.1)
                )
            }
            Self::Corrupt { node, path } => write!(f, "corrupt {} {path}", node + 1),
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Database => "",
            Self::Status => " status",
        })
    }
}

fn write_operation(f: &mut fmt::Formatter<'_>, node: usize, operation: &Operation) -> fmt::Result {
    let text = |path: &Bytes| String::from_utf8_lossy(path).into_owned();
    match operation {
        Operation::Mkdir { path } => write!(f, "mkdir {node} {}", text(path)),
        Operation::Create { path } => write!(f, "create {node} {}", text(path)),
        Operation::Delete { path } => write!(f, "delete {node} {}", text(path)),
        Operation::Rename { from, to } => write!(f, "rename {node} {} {}", text(from), text(to)),
        Operation::SetMtime { path, mtime } => write!(f, "touch {node} {} {mtime}", text(path)),
        Operation::Write {
            path,
            offset,
            data,
            truncate,
        } => {
            let word = if *truncate { "truncate" } else { "write" };
            write!(f, "{word} {node} {} {offset} {}", text(path), data.len())
        }
    }
}

/// Bytes of a write with a length, the same for all.
pub(crate) fn written(length: usize) -> Bytes {
    (0..length).map(|index| b'a' + (index % 26) as u8).collect()
}

impl Step {
    /// Reads a step; `None` if the first word is no step.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (command, words) = words.split_first()?;
        let number = |index: usize| -> usize { words[index].parse().unwrap() };
        let optional = |index: usize| words.get(index).and_then(|word| word.parse().ok());
        let node = || number(0) - 1;
        let channel = match words.last() {
            Some(&"status") => Channel::Status,
            _ => Channel::Database,
        };
        let ask = |operation| Self::Ask {
            node: node(),
            operation,
        };
        let path = |index: usize| Bytes::copy_from_slice(words[index].as_bytes());
        Some(match *command {
            "start" | "start-empty" => Self::Start {
                node: node(),
                is_empty: *command == "start-empty",
            },
            "install" => Self::Install {
                node: node(),
                is_ours: words[1] == "ours",
            },
            "crash" => Self::Crash(node()),
            "kill-corosync" => Self::KillCorosync {
                node: node(),
                lost: optional(1).unwrap_or(0),
            },
            "start-corosync" => Self::StartCorosync(node()),
            "crash-host" => Self::CrashHost {
                node: node(),
                lost: optional(1).unwrap_or(0),
            },
            "stop" => Self::Stop(node()),
            "continue" => Self::Continue(node()),
            "takes" => Self::Congest {
                node: node(),
                capacity: optional(1),
            },
            "gather" => Self::GatherNext(node()),
            "interrupt" => Self::InterruptNext(node()),
            "order" => Self::Order {
                node: node(),
                channel,
            },
            "deliver" => Self::Deliver {
                node: node(),
                channel,
                count: optional(1).unwrap_or(1),
            },
            "tick" => Self::Tick(node()),
            "later" => Self::Later(number(0) as u64),
            "partition" => Self::Partition {
                sides: words.iter().map_while(|word| word.parse().ok()).collect(),
                lost: words
                    .iter()
                    .position(|word| *word == "lost")
                    .map_or(0, |index| number(index + 1)),
                in_steps: words.contains(&"in-steps"),
            },
            "ghost" => Self::Ghost {
                node: node(),
                channel,
            },
            "quorum" => Self::Quorum(node()),
            "break-disk" => Self::BreakDisk {
                node: node(),
                after: optional(1).unwrap_or(0) as u32,
            },
            "mend-disk" => Self::MendDisk(node()),
            "clock" => Self::Clock {
                node: node(),
                offset_secs: number(1) as u32,
            },
            "slow-disk" => Self::SlowDisk {
                node: node(),
                ms: number(1) as u64,
            },
            "set" => Self::Set {
                node: node(),
                key: words[1].to_owned(),
                value: words.get(2).copied().unwrap_or_default().to_owned(),
            },
            "log" => Self::Log {
                node: node(),
                text: words[1..].join(" "),
            },
            "inject" => {
                let known = INJECTIONS.iter().find(|(_, name)| *name == words[1]);
                Self::Inject {
                    node: node(),
                    what: known.unwrap().0,
                }
            }
            "corrupt" => Self::Corrupt {
                node: node(),
                path: words[1].to_owned(),
            },
            "mkdir" => ask(Operation::Mkdir { path: path(1) }),
            "create" => ask(Operation::Create { path: path(1) }),
            "delete" => ask(Operation::Delete { path: path(1) }),
            "rename" => ask(Operation::Rename {
                from: path(1),
                to: path(2),
            }),
            "touch" => ask(Operation::SetMtime {
                path: path(1),
                mtime: number(2) as u32,
            }),
            "write" | "truncate" => ask(Operation::Write {
                path: path(1),
                offset: number(2) as u64,
                data: written(number(3)),
                truncate: *command == "truncate",
            }),
            _ => return None,
        })
    }
}
