//! The shape of the source: which crate depends on which, and which file of a crate on which.

mod circles;
mod crates;
mod files;
mod modules;
mod uses;
