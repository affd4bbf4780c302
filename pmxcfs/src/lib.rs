//! The Proxmox VE cluster filesystem daemon.
//!
//! A library only so that tests can reach the parts; the binary is a few lines around [`daemon::start`].

pub mod cli;
mod cluster;
pub mod daemon;

pub mod fs;
pub mod fuse;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod health;
mod history;
pub mod ipc;
pub mod logging;
mod replace_file;
mod text;
pub mod tools;
