//! The IPC service of pmxcfs, compatible with libqb's IPC clients and without libqb.
//!
//! Clients (the Perl module `PVE::IPCC`, programs linked with libqb 2.0.x) connect to an abstract stream socket,
//! agree on a transport and exchange requests and responses through shared-memory rings or datagram sockets. This
//! crate carries messages; what they mean is the business of a [`Handler`].
//!
//! What a client may do to the server is bounded everywhere: nothing a client writes is used before it is copied and
//! checked, nothing waits for a client, every queue and every table has a limit, and a client that breaks a rule loses
//! its connection and nothing else. See [`Server`] for the threads.

mod accept;
mod admission;
mod config;
mod connection;
mod directory;
mod exchange;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod handler;
mod listener;
mod readiness;
mod ring;
mod server;
mod service;
mod shm;
mod shm_channel;
mod sigbus;
mod socket_channel;
mod stop;
mod throttle;
pub mod wire;

pub use config::{ServerConfig, forced_socket_directory};
pub use handler::{Access, Answer, Handler, PeerCredentials, Request};
pub use server::Server;
pub use wire::setup::Transport;
