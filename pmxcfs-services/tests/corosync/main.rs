//! The connections and services on a real corosync of one node.
//!
//! Each test makes a host of its own: a thread in network, mount and UTS namespaces, and a corosync that ends with it. That
//! takes root and the packages of corosync; without them the tests fail.

#[cfg(test)]
mod cluster_config;
#[cfg(test)]
mod cpg;
#[cfg(test)]
mod flow;
#[cfg(test)]
mod host;
#[cfg(test)]
mod member;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod quorum;
