//! Which plugins there are.

use bytes::Bytes;
use fuser::FileType;
use pmxcfs_api_types::FsError;

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
    fn write(&self, _offset: u64, _data: &[u8]) -> Result<u32, FsError> {
        Err(FsError::Io)
    }

    /// A truncation, as `open` with `O_TRUNC` makes one.
    ///
    /// # Errors
    /// [`FsError::Io`] for files that cannot be written.
    fn truncate(&self) -> Result<(), FsError> {
        Err(FsError::Io)
    }
}

/// A generated file that only a function stands behind.
pub struct ReadOnly<F>(pub F);

impl<F: Fn() -> Bytes + Send + Sync> GeneratedFile for ReadOnly<F> {
    fn render(&self) -> Bytes {
        (self.0)()
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
    name: &'static str,
    content: Content,
}

impl Plugin {
    /// Name in the root directory.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What it is.
    #[must_use]
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Its kind in a listing.
    #[must_use]
    pub fn file_type(&self) -> FileType {
        match self.content {
            Content::Link(_) => FileType::Symlink,
            Content::File(_) => FileType::RegularFile,
        }
    }
}

/// The plugins of this daemon, in the order in which listings show them.
#[derive(Default)]
pub struct Registry {
    plugins: Vec<Plugin>,
}

impl Registry {
    /// A registry with the links that every node has: `local` and the guest directories of this node.
    #[must_use]
    pub fn with_links(node_name: &str) -> Self {
        let mut registry = Self::default();
        registry.link("local", format!("nodes/{node_name}"));
        for directory in ["qemu-server", "openvz", "lxc"] {
            registry.link(directory, format!("nodes/{node_name}/{directory}"));
        }
        registry
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
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<(usize, &Plugin)> {
        self.plugins
            .iter()
            .enumerate()
            .find(|(_, plugin)| plugin.name.as_bytes() == name)
    }

    /// The plugin at an index.
    #[must_use]
    pub fn at(&self, index: usize) -> Option<&Plugin> {
        self.plugins.get(index)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.plugins.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.plugins.is_empty()
    }

    /// All of them, in order of their indices.
    pub fn iter(&self) -> impl Iterator<Item = &Plugin> {
        self.plugins.iter()
    }
}
