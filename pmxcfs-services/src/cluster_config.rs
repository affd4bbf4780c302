//! **ClusterConfigService**: name and nodes of the cluster, as corosync has loaded them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::corosync::{Cmap, CmapValue, CorosyncError};
use crate::framework::{Context, Failure, Service};

const NODE_PREFIX: &str = "nodelist.node.";
const VERSION_KEY: &str = "totem.config_version";
const NAME_KEY: &str = "totem.cluster_name";

/// The cluster as corosync has loaded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Name of the cluster.
    pub name: String,
    /// `config_version`; 0 if there is none.
    pub version: u64,
    /// Names of the nodes that have a name and an id, by id: `name`, or `ring0_addr` of a node without. Of two with one id,
    /// the later one in corosync's map counts.
    pub nodes: BTreeMap<u32, String>,
}

impl ClusterConfig {
    /// Makes the list from the keys below `nodelist.node.`, which are in the order of their names.
    pub fn new(name: String, version: u64, keys: &[(String, CmapValue)]) -> Self {
        let mut nodes: BTreeMap<&str, NodeKeys<'_>> = BTreeMap::new();
        for (key, value) in keys {
            let rest = key.strip_prefix(NODE_PREFIX);
            if let Some((index, subkey)) = rest.and_then(|rest| rest.split_once('.')) {
                nodes.entry(index).or_default().insert(subkey, value);
            }
        }
        Self {
            name,
            version,
            nodes: nodes.values().filter_map(node).collect(),
        }
    }
}

/// The keys of one node in the map, without their prefix.
type NodeKeys<'a> = BTreeMap<&'a str, &'a CmapValue>;

/// Id and name of a node that has both.
fn node(keys: &NodeKeys<'_>) -> Option<(u32, String)> {
    let text = |key| match keys.get(key) {
        Some(CmapValue::Text(text)) => Some(text),
        _ => None,
    };
    let Some(CmapValue::Number(id)) = keys.get("nodeid") else {
        return None;
    };
    let id = u32::try_from(*id).ok().filter(|id| *id != 0)?;
    let name = text("name").or_else(|| text("ring0_addr"))?;
    (!name.is_empty()).then(|| (id, name.clone()))
}

/// Takes a configuration that corosync has loaded.
pub type ConfigSink = Box<dyn Fn(ClusterConfig) + Send + Sync>;

/// Reads the map after connecting and after each change. It is ready once the nodes are known; the list stays when corosync
/// goes.
pub struct ClusterConfigService {
    sink: ConfigSink,
}

impl ClusterConfigService {
    /// Hands everything that is read to `sink`.
    pub const fn new(sink: ConfigSink) -> Self {
        Self { sink }
    }

    /// The walk waits for corosync, a round trip for each key.
    async fn read(&self, cmap: &Arc<Cmap>) -> Result<(), Failure> {
        let cmap = Arc::clone(cmap);
        let config = tokio::task::spawn_blocking(move || read(&cmap)).await??;
        tracing::info!(
            "update cluster info (cluster name  {}, version = {})",
            config.name,
            config.version
        );
        (self.sink)(config);
        Ok(())
    }
}

impl Service for ClusterConfigService {
    fn name(&self) -> &'static str {
        "cluster configuration"
    }

    async fn run(&mut self, context: &mut Context) -> Result<(), Failure> {
        let connect = || Cmap::connect(&[NODE_PREFIX], &[VERSION_KEY]);
        let cmap = Arc::new(tokio::task::spawn_blocking(connect).await??);
        self.read(&cmap).await?;
        context.ready();
        loop {
            tokio::select! {
                changed = cmap.receive() => changed?,
                () = context.stopped() => return Ok(()),
            }
            self.read(&cmap).await?;
        }
    }
}

fn read(cmap: &Cmap) -> Result<ClusterConfig, CorosyncError> {
    let only = |key: &str| -> Result<Option<CmapValue>, CorosyncError> {
        let found = cmap.read(key)?.into_iter().find(|(found, _)| found == key);
        Ok(found.map(|(_, value)| value))
    };
    let Some(CmapValue::Text(name)) = only(NAME_KEY)? else {
        return Err(CorosyncError::MissingKey("totem.cluster_name"));
    };
    let version = match only(VERSION_KEY)? {
        Some(CmapValue::Number(version)) => version,
        _ => {
            tracing::error!("corosync has loaded no {VERSION_KEY}, using 0");
            0
        }
    };
    Ok(ClusterConfig::new(name, version, &cmap.read(NODE_PREFIX)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(key: &str, value: &str) -> (String, CmapValue) {
        (
            format!("{NODE_PREFIX}{key}"),
            CmapValue::Text(value.to_owned()),
        )
    }

    fn number(key: &str, value: u64) -> (String, CmapValue) {
        (format!("{NODE_PREFIX}{key}"), CmapValue::Number(value))
    }

    fn listed(keys: &[(String, CmapValue)]) -> Vec<(u32, String)> {
        let config = ClusterConfig::new("c".to_owned(), 1, keys);
        let nodes = config.nodes.into_iter();
        nodes.collect()
    }

    #[test]
    fn a_name_is_preferred_to_an_address_wherever_it_stands() {
        for keys in [
            [
                text("0.name", "one"),
                text("0.ring0_addr", "10.0.0.1"),
                number("0.nodeid", 1),
            ],
            [
                text("0.ring0_addr", "10.0.0.1"),
                number("0.nodeid", 1),
                text("0.name", "one"),
            ],
        ] {
            assert_eq!(listed(&keys), [(1, "one".to_owned())]);
        }
        let keys = [text("0.ring0_addr", "10.0.0.1"), number("0.nodeid", 1)];
        assert_eq!(listed(&keys), [(1, "10.0.0.1".to_owned())]);
    }

    #[test]
    fn nodes_without_name_or_id_are_left_out() {
        let keys = [
            number("0.nodeid", 1),
            text("1.name", "two"),
            text("2.name", "three"),
            number("2.nodeid", 0),
            text("3.name", "four"),
            number("3.nodeid", 4),
            number("3.quorum_votes", 2),
            text("3.other", "ignored"),
        ];
        assert_eq!(listed(&keys), [(4, "four".to_owned())]);
    }

    #[test]
    fn of_two_nodes_with_one_id_the_later_one_counts() {
        let keys = [
            text("0.name", "old"),
            number("0.nodeid", 7),
            text("1.name", "new"),
            number("1.nodeid", 7),
        ];
        assert_eq!(listed(&keys), [(7, "new".to_owned())]);
    }

    #[test]
    fn an_id_that_does_not_fit_is_no_id() {
        let keys = [text("0.name", "n"), number("0.nodeid", 1 << 40)];
        assert_eq!(listed(&keys), []);
    }
}
