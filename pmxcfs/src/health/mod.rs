//! Health at a glance: what the daemon knows of itself, for whoever asks.

pub mod counters;
mod operations;

pub use operations::{FuseOperation, IpcOperation};
