//! x
use crate::{cli::Options, logging::LogLevel, plugins::Registry};
use pmxcfs_config::Config;
use pmxcfs_memdb::MemDb;
use std::sync::Arc;
pub struct Services;
impl Services {
    pub fn start(_c: &Config, _o: &Options, _d: &Arc<MemDb>, _l: LogLevel) -> anyhow::Result<Self> {
        Ok(Self)
    }
    pub fn stop(&self) {}
    pub fn plugins(&self, _d: &Arc<MemDb>) -> Registry {
        Registry::with_links("x")
    }
    pub fn quorum(&self) -> Box<dyn Fn() -> bool + Send + Sync> {
        Box::new(|| true)
    }
}
