//! The Proxmox VE cluster filesystem daemon.
//!
//! A library only so that tests can reach the parts; the binary is a few lines around [`startup::run`].

pub mod cli;
mod cluster;
pub mod daemonize;

pub mod fuse;
#[cfg(test)]
mod fuzzing;
pub mod health;
pub mod instance;
pub mod ipc;
pub mod liveness;
pub mod logging;
pub mod notify;
pub mod plugins;
mod services;
pub mod shutdown;
pub mod signals;
pub mod startup;
pub mod tools;
