//! corosync.conf: its syntax, what it says about the cluster, and what is wrong with it.
//!
//! The daemon hands this file from the database to the host and never refuses one that a C peer accepts: members that
//! disagree about it would run different configurations. So nothing here decides; [`check()`] tells an operator what corosync
//! will say before corosync reads the file. What decides is [`config_version`](crate::config_version).
//!
//! The rules are those of corosync 3.1.7, found by asking it: `tests/against_corosync.rs` asks again.

mod check;
mod finding;
mod number;
mod settings;
mod syntax;

pub use check::{Surroundings, check};
pub use finding::{Finding, Problem, Severity};
pub use settings::{CorosyncConf, Interface, LINK_COUNT, Node, Quorum, Totem, Value};
pub use syntax::{Document, Item, Section, Setting, SyntaxError, SyntaxErrorKind};
