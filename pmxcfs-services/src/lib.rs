//! Connections to corosync, and services that keep trying while it is not there.
//!
//! `framework` runs services; `corosync` holds the connections. On both stand the services: [`quorum::QuorumService`],
//! [`cluster_config::ClusterConfigService`], and [`group::Group`], which drives a replication group: one for the database,
//! one for the status.

pub mod cluster_config;
pub mod corosync;
pub mod framework;
pub mod group;
pub mod quorum;
