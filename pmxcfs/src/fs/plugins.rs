//! Plugins: names in the root of the mount that the tree does not hold, generated files and links.

use bytes::Bytes;
use pmxcfs_api_types::{FsError, Result};

use super::attributes::{Attributes, Kind};

/// A file whose text is made when it is asked for.
pub trait GeneratedFile: Send + Sync {
    /// The text as it is now. Called for each `stat` and each `open`, so it must be cheap when nothing changed.
    fn render(&self) -> Bytes;

    /// Permission bits.
    fn mode(&self) -> u16 {
        0o440
    }

    /// A write to the file.
    ///
    /// # Errors
    /// [`FsError::Io`] for files that cannot be written.
    fn write(&self, _offset: u64, _data: &[u8]) -> Result<u32> {
        Err(FsError::Io)
    }

    /// A truncation, as `open` with `O_TRUNC` makes one.
    ///
    /// # Errors
    /// [`FsError::Io`] for files that cannot be written.
    fn truncate(&self) -> Result<()> {
        Err(FsError::Io)
    }
}

/// A function is a file that can only be read.
impl<F: Fn() -> Bytes + Send + Sync> GeneratedFile for F {
    fn render(&self) -> Bytes {
        self()
    }
}

/// What a plugin is.
pub enum Content {
    /// A symbolic link with this target.
    Link(String),
    /// A generated file.
    File(Box<dyn GeneratedFile>),
}

/// A name in the root of the mount that the tree does not hold. It hides an entry of the same name.
pub struct Plugin {
    /// Name in the root directory.
    pub name: &'static str,
    /// What it is.
    pub content: Content,
}

impl Plugin {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self.content {
            Content::Link(_) => Kind::Link,
            Content::File(_) => Kind::File,
        }
    }

    /// What `stat` shows: without times, and for a generated file the size of the text as it is now, unless the size of
    /// an open one is given.
    pub(super) fn attributes(
        &self,
        id: u64,
        gid: u32,
        is_quorate: bool,
        open_size: Option<usize>,
    ) -> Attributes {
        let (mode, size) = match &self.content {
            Content::Link(target) => (if is_quorate { 0o755 } else { 0o555 }, target.len()),
            Content::File(file) => {
                let size = open_size.unwrap_or_else(|| file.render().len());
                (file.mode(), size)
            }
        };
        Attributes {
            id,
            kind: self.kind(),
            mode,
            link_count: 1,
            size: size as u64,
            mtime: 0,
            gid,
            is_generated: true,
        }
    }
}

/// The plugins of this daemon, in the order in which listings show them.
#[derive(Default)]
pub struct Plugins {
    plugins: Vec<Plugin>,
}

impl Plugins {
    /// Those that every node has: `local` and the guest directories of this node.
    pub fn with_links(node_name: &str) -> Self {
        let mut plugins = Self::default();
        plugins.link("local", format!("nodes/{node_name}"));
        for directory in ["qemu-server", "openvz", "lxc"] {
            plugins.link(directory, format!("nodes/{node_name}/{directory}"));
        }
        plugins
    }

    fn link(&mut self, name: &'static str, target: String) {
        self.plugins.push(Plugin {
            name,
            content: Content::Link(target),
        });
    }

    /// Adds a generated file.
    pub fn file(&mut self, name: &'static str, file: impl GeneratedFile + 'static) {
        self.plugins.push(Plugin {
            name,
            content: Content::File(Box::new(file)),
        });
    }

    /// The plugin of that name, with its index.
    pub fn find(&self, name: &[u8]) -> Option<(usize, &Plugin)> {
        self.plugins
            .iter()
            .enumerate()
            .find(|(_, plugin)| plugin.name.as_bytes() == name)
    }

    /// The plugin at an index.
    pub fn at(&self, index: usize) -> Option<&Plugin> {
        self.plugins.get(index)
    }

    /// All of them, in order of their indices.
    pub fn iter(&self) -> impl Iterator<Item = &Plugin> {
        self.plugins.iter()
    }
}
