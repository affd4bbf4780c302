//! The programs beside the daemon: `pmxcfs-ctl` and `pmxcfs-db`.

pub mod ctl;
pub mod db;
mod program;
mod records;
