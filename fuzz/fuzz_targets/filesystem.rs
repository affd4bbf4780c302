//! The filesystem without a mount: random requests, while another node changes the tree between them, beside a plain model.
//!
//! The daemon's crate is large and only some of its files are wanted, so they are taken by their paths, the model with them.
#![no_main]
#![allow(
    dead_code,
    unused_imports,
    unfulfilled_lint_expectations,
    reason = "their home is another crate"
)]

#[path = "../../pmxcfs/src/fs"]
mod fs {
    mod answers;
    mod attributes;
    mod changes;
    mod filesystem;
    mod handles;
    mod name_index;
    mod names;
    mod node;
    mod open;
    mod plugins;
    mod request;
    mod request_id;
    mod second_walks;
    mod tables;
    pub mod tests;

    pub use attributes::{Attributes, Kind};
    pub use changes::{Created, IfExists, NewAttributes, WriteAt};
    pub use filesystem::Filesystem;
    pub use node::ROOT_ID;
    pub use open::Listed;
    pub use plugins::{Plugins, ReadOnly};
    pub use request_id::RequestId;
    pub use tables::Tables;
}

#[path = "."]
mod history {
    #[path = "../../pmxcfs/src/history/asker.rs"]
    pub(crate) mod asker;
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fs::tests::model::run_bytes(bytes));
