//! The database file: its table, reading and checking its rows, writing them.

mod create;
mod load;
pub(crate) mod schema;
mod sqlite;

pub use create::create;
pub(crate) use load::{
    RawRow, Rows, effective_root, read, read_range, read_raw, read_root, validate,
};
pub(crate) use schema::wal_path;
pub use sqlite::SqliteBackend;
