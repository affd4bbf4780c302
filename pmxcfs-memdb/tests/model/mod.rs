//! The rules of the tree, written down as naively as possible: one flat table that is searched from end to end.

use std::collections::BTreeMap;

use bytes::Bytes;
use pmxcfs_api_types::{
    FsError::{self, Access, Exists, Invalid, NotDirectory, NotEmpty, NotFound, TooBig},
    VmType, Vmid,
    names::VERSIONED_PATHS,
};
use pmxcfs_memdb::{Entry, EntryKind, Guest, GuestList, Operation, RootState, Rules, Stamp};

pub(crate) struct Model {
    rules: Rules,
    pub(crate) entries: BTreeMap<u64, Entry>,
    pub(crate) guests: GuestList,
    pub(crate) file_versions: [u32; 43],
    registrations: u32,
}

type Config = (Bytes, VmType, Vmid);

impl Model {
    pub(crate) fn new(root: RootState, rules: Rules) -> Self {
        let entry = Entry {
            inode: 0,
            parent: 0,
            version: root.version,
            writer: root.writer,
            mtime: root.mtime,
            size: 0,
            kind: EntryKind::Directory,
            name: Bytes::new(),
            data: Bytes::new(),
        };
        Self {
            rules,
            entries: BTreeMap::from([(0, entry)]),
            guests: GuestList::default(),
            file_versions: [0; 43],
            registrations: 0,
        }
    }

    pub(crate) fn root(&self) -> RootState {
        let root = &self.entries[&0];
        RootState {
            version: root.version,
            writer: root.writer,
            mtime: root.mtime,
        }
    }

    pub(crate) fn path_of(&self, inode: u64) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = inode;
        while at != 0 {
            names.insert(0, self.entries[&at].name.to_vec());
            at = self.entries[&at].parent;
        }
        names.join(&b'/')
    }

    pub(crate) fn apply(&mut self, operation: &Operation, stamp: Stamp) -> Result<u32, FsError> {
        match operation {
            Operation::Mkdir { path } => {
                let (parent, name) = self.directory_and_base(path)?;
                if self.find(parent, &name).is_some() {
                    return Err(Exists);
                }
                self.add(parent, &name, EntryKind::Directory, stamp);
            }
            Operation::Create { path } => {
                let (parent, name) = self.directory_and_base(path)?;
                self.guest_rule(path)?;
                match self.find(parent, &name) {
                    Some(found) if self.is_directory(found) => return Err(NotDirectory),
                    Some(_) => return Err(Exists),
                    None => self.add(parent, &name, EntryKind::File, stamp),
                }
                self.count(path);
                self.register(path);
            }
            Operation::Write {
                path,
                offset,
                data,
                truncate,
            } => return self.write(path, *offset, data, *truncate, stamp),
            Operation::Delete { path } => {
                let found = self.walk(path).ok_or(NotFound)?;
                if found == 0 {
                    return Err(Access);
                }
                if self.child_count(found) > 0 {
                    return Err(NotEmpty);
                }
                self.count(path);
                let removed = self.entries.remove(&found).expect("found");
                self.step(stamp);
                let is_guest = removed.kind == EntryKind::File || self.rules == Rules::Replicated;
                if let Some((_, _, id)) = config(path)
                    && is_guest
                {
                    self.unregister(id);
                }
            }
            Operation::Rename { from, to } => self.rename(from, to, stamp)?,
            Operation::SetMtime { path, mtime } => {
                let (parent, name) = self.directory_and_base(path)?;
                let found = self.find(parent, &name).ok_or(NotFound)?;
                let entry = &self.entries[&found];
                let in_lock_directory = strip(path)
                    .strip_suffix(&name[..])
                    .is_some_and(|directory| strip(directory) == b"priv/lock");
                if in_lock_directory
                    && self.is_directory(found)
                    && (*mtime < entry.mtime || stamp.writer != entry.writer)
                {
                    return Err(Access);
                }
                let stamp = Stamp {
                    mtime: *mtime,
                    ..stamp
                };
                self.step(stamp);
                self.mark(found, stamp);
                self.count(path);
            }
        }
        Ok(0)
    }

    fn write(
        &mut self,
        path: &[u8],
        offset: u64,
        data: &[u8],
        truncate: bool,
        stamp: Stamp,
    ) -> Result<u32, FsError> {
        let offset = usize::try_from(offset).expect("64 bits");
        let end = offset
            .checked_add(data.len())
            .filter(|end| *end <= 1_048_576);
        let end = end.ok_or(TooBig)?;
        let (parent, name) = self.directory_and_base(path)?;
        self.guest_rule(path)?;
        let found = self.find(parent, &name).ok_or(NotFound)?;
        if self.is_directory(found) {
            return Err(NotDirectory);
        }
        self.step(stamp);
        self.mark(found, stamp);
        self.count(path);
        self.register(path);

        let entry = self.entries.get_mut(&found).expect("found");
        let mut content = entry.data.to_vec();
        if content.is_empty() && data.is_empty() {
            entry.size = u32::try_from(offset).expect("checked");
            return Ok(0);
        }
        let new_size = if content.is_empty() || end > content.len() || truncate {
            end
        } else {
            content.len()
        };
        content.resize(new_size, 0);
        content[offset..end].copy_from_slice(data);
        entry.size = u32::try_from(new_size).expect("checked");
        entry.data = content.into();
        Ok(u32::try_from(data.len()).expect("checked"))
    }

    fn rename(&mut self, from: &[u8], to: &[u8], stamp: Stamp) -> Result<(), FsError> {
        let source = self.walk(from).ok_or(NotFound)?;
        if source == 0 {
            return Err(Access);
        }
        let is_file = !self.is_directory(source);
        if is_file && self.guest_rule(to).is_err() {
            let id = |path| config(path).map(|(_, _, id)| id);
            if id(from) != id(to) {
                return Err(Exists);
            }
        }
        if !is_file && from.len() > 10 && from.starts_with(b"priv/lock/") {
            return Err(Access);
        }
        let (replaced, parent, name) = match self.walk(to) {
            Some(0) => return Err(Access),
            Some(target) if self.child_count(target) > 0 => return Err(NotEmpty),
            Some(target) if target == source => return Ok(()),
            Some(target) => {
                let entry = &self.entries[&target];
                (Some(target), entry.parent, entry.name.to_vec())
            }
            None => {
                let (parent, name) = self.directory_and_base(to)?;
                if self.find(parent, &name).is_some() {
                    return Err(Invalid);
                }
                (None, parent, name)
            }
        };
        let former = replaced.and_then(|target| self.entries.remove(&target));
        if self.child_count(source) > 0 {
            self.count(from);
            self.count(to);
            if let Some(entry) = former
                && self.rules == Rules::Local
            {
                self.entries.insert(entry.inode, entry);
            }
            return Err(NotEmpty);
        }
        if parent == source {
            if let Some(entry) = former {
                self.entries.insert(entry.inode, entry);
            }
            return Err(Invalid);
        }
        self.count(from);
        self.count(to);
        self.step(stamp);
        self.mark(source, stamp);
        let entry = self.entries.get_mut(&source).expect("found");
        entry.parent = parent;
        entry.name = name.into();
        if is_file {
            if let Some((_, _, id)) = config(from) {
                self.unregister(id);
            }
            self.register(to);
        }
        Ok(())
    }

    fn find(&self, parent: u64, name: &[u8]) -> Option<u64> {
        let mut rows = self.entries.values();
        let row = rows.find(|row| row.inode != 0 && row.parent == parent && row.name == name)?;
        Some(row.inode)
    }

    fn walk(&self, path: &[u8]) -> Option<u64> {
        let mut at = 0;
        if path == b"." {
            return Some(at);
        }
        for name in path.split(|byte| *byte == b'/') {
            if !name.is_empty() {
                at = self.find(at, name)?;
            }
        }
        Some(at)
    }

    fn directory_and_base(&self, path: &[u8]) -> Result<(u64, Vec<u8>), FsError> {
        let path = strip(path);
        let mut parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let name = parts.pop().expect("at least one part").to_vec();
        let directory = strip(&parts.join(&b'/')).to_vec();
        let parent = self.walk(&directory).ok_or(NotFound)?;
        if !self.is_directory(parent) {
            return Err(NotDirectory);
        }
        if [&b""[..], b".", b".."].contains(&&name[..]) {
            return Err(Access);
        }
        Ok((parent, name))
    }

    fn is_directory(&self, inode: u64) -> bool {
        self.entries[&inode].kind == EntryKind::Directory
    }

    fn child_count(&self, inode: u64) -> usize {
        let rows = self.entries.values();
        rows.filter(|row| row.inode != 0 && row.parent == inode)
            .count()
    }

    fn step(&mut self, stamp: Stamp) {
        let root = self.entries.get_mut(&0).expect("the root");
        root.version += 1;
        root.writer = stamp.writer;
        root.mtime = stamp.mtime;
    }

    fn mark(&mut self, inode: u64, stamp: Stamp) {
        let version = self.root().version;
        let entry = self.entries.get_mut(&inode).expect("found");
        entry.version = version;
        entry.writer = stamp.writer;
        entry.mtime = stamp.mtime;
    }

    fn add(&mut self, parent: u64, name: &[u8], kind: EntryKind, stamp: Stamp) {
        self.step(stamp);
        let version = self.root().version;
        let entry = Entry {
            inode: version,
            parent,
            version,
            writer: stamp.writer,
            mtime: stamp.mtime,
            size: 0,
            kind,
            name: Bytes::copy_from_slice(name),
            data: Bytes::new(),
        };
        self.entries.insert(version, entry);
    }

    fn count(&mut self, path: &[u8]) {
        for (counter, versioned) in self.file_versions.iter_mut().zip(VERSIONED_PATHS) {
            if versioned.as_bytes() == path {
                *counter += 1;
            }
        }
    }

    fn guest_rule(&self, path: &[u8]) -> Result<(), FsError> {
        match config(path) {
            Some((node, kind, id)) => match self.guests.guests.get(&id) {
                Some(guest) if (&guest.node, guest.kind) != (&node, kind) => Err(Exists),
                _ => Ok(()),
            },
            None => Ok(()),
        }
    }

    fn register(&mut self, path: &[u8]) {
        if let Some((node, kind, id)) = config(path) {
            self.guests.version += 1;
            self.registrations += 1;
            let version = self.registrations;
            let guest = Guest {
                node,
                kind,
                version,
            };
            self.guests.guests.insert(id, guest);
        }
    }

    fn unregister(&mut self, id: Vmid) {
        self.guests.version += 1;
        self.guests.guests.remove(&id);
    }
}

/// Without slashes at the end.
fn strip(mut path: &[u8]) -> &[u8] {
    while let [front @ .., b'/'] = path {
        path = front;
    }
    path
}

/// `nodes/NODE/DIR/ID.conf`, literally.
fn config(path: &[u8]) -> Option<Config> {
    let text = str::from_utf8(path).ok()?;
    let parts: Vec<&str> = text.split('/').collect();
    let &["nodes", node, directory, name] = &parts[..] else {
        return None;
    };
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let is_node = !node.is_empty() && node.chars().all(inner) && node.trim_matches('-') == node;
    let kind = match directory {
        "qemu-server" => VmType::Qemu,
        "openvz" => VmType::Openvz,
        "lxc" => VmType::Lxc,
        _ => return None,
    };
    let digits = name.strip_suffix(".conf")?;
    let is_plain = digits.chars().all(|c| c.is_ascii_digit()) && !digits.starts_with('0');
    let id = digits.parse().ok().filter(|_| is_plain && is_node)?;
    Some((Bytes::copy_from_slice(node.as_bytes()), kind, Vmid(id)))
}
