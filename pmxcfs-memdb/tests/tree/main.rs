//! The rules of the tree, row by row: results, order of checks, versions, stamps, guest list, locks, digests.

mod before_send;
mod digests;
mod files;
mod guests;
mod handles;
mod harness;
mod load;
mod locks;
mod paths;
mod rename;
mod replicated;
