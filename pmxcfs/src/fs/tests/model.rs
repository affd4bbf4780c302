//! Random requests against a model, while another node changes the tree between them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;

use super::*;
use crate::fs::Kind;

/// Names in the root and below the directories.
const NAMES: [&str; 3] = ["a", "b", "c"];

/// A path of one or two names.
type Place = (Option<usize>, usize);

#[derive(Debug, Clone)]
enum Step {
    Mkdir {
        place: Place,
        by_peer: bool,
    },
    Create {
        place: Place,
        by_peer: bool,
    },
    Remove {
        place: Place,
        by_peer: bool,
    },
    Rename {
        from: Place,
        to: Place,
        by_peer: bool,
    },
    Walk {
        place: Place,
    },
    /// A request for an id that the kernel has, without a look-up before.
    Look {
        number: usize,
    },
    Open {
        number: usize,
    },
    Write {
        number: usize,
        text: String,
    },
    Close {
        number: usize,
    },
    Forget {
        number: usize,
    },
    /// Another process takes the place of this one, which is killed or hands over what only handles keep.
    Restart {
        is_planned: bool,
    },
}

fn place() -> impl Strategy<Value = Place> {
    (prop::option::of(0..NAMES.len()), 0..NAMES.len())
}

fn step() -> impl Strategy<Value = Step> {
    let number = any::<usize>;
    prop_oneof![
        1 => (place(), any::<bool>()).prop_map(|(place, by_peer)| Step::Mkdir { place, by_peer }),
        3 => (place(), any::<bool>()).prop_map(|(place, by_peer)| Step::Create { place, by_peer }),
        2 => (place(), any::<bool>()).prop_map(|(place, by_peer)| Step::Remove { place, by_peer }),
        3 => (place(), place(), any::<bool>())
            .prop_map(|(from, to, by_peer)| Step::Rename { from, to, by_peer }),
        3 => place().prop_map(|place| Step::Walk { place }),
        3 => number().prop_map(|number| Step::Look { number }),
        2 => number().prop_map(|number| Step::Open { number }),
        2 => (number(), "[a-z]{0,9}").prop_map(|(number, text)| Step::Write { number, text }),
        1 => number().prop_map(|number| Step::Close { number }),
        1 => number().prop_map(|number| Step::Forget { number }),
        1 => any::<bool>().prop_map(|is_planned| Step::Restart { is_planned }),
    ]
}

/// What there is: objects, and which path leads to which.
#[derive(Debug, Default)]
struct Model {
    /// Text of a file, `None` for a directory.
    objects: Vec<Option<String>>,
    paths: BTreeMap<String, usize>,
    /// Object of each open handle.
    handles: BTreeMap<u64, usize>,
    /// Handles of what was removed when a process was killed.
    lost: BTreeSet<u64>,
    /// Path that each id was given out for, as renames here have moved it, and how often.
    ids: BTreeMap<u64, u64>,
}

fn path_of(place: Place) -> String {
    match place {
        (None, name) => NAMES[name].to_owned(),
        (Some(directory), name) => format!("{}/{}", NAMES[directory], NAMES[name]),
    }
}

impl Model {
    fn is_directory(&self, path: &str) -> bool {
        path.is_empty()
            || self
                .paths
                .get(path)
                .is_some_and(|at| self.objects[*at].is_none())
    }

    fn has_room(&self, path: &str) -> bool {
        self.is_directory(path.rsplit_once('/').map_or("", |(directory, _)| directory))
    }

    fn is_of_one_kind(&self, from: &str, to: &str) -> bool {
        !self.paths.contains_key(to) || self.is_directory(from) == self.is_directory(to)
    }

    fn is_empty(&self, path: &str) -> bool {
        let below = format!("{path}/");
        !self.paths.keys().any(|other| other.starts_with(&below))
    }

    fn make(&mut self, path: &str, object: Option<String>) -> bool {
        let is_possible = self.has_room(path) && !self.paths.contains_key(path);
        if is_possible {
            self.objects.push(object);
            self.paths.insert(path.to_owned(), self.objects.len() - 1);
        }
        is_possible
    }

    fn remove(&mut self, path: &str) -> bool {
        let is_possible = self.paths.contains_key(path) && self.is_empty(path);
        if is_possible {
            self.paths.remove(path);
        }
        is_possible
    }

    /// The kernel refuses to replace a file by a directory and the reverse, and so does the tree; what comes from a peer
    /// has passed that.
    fn rename(&mut self, from: &str, to: &str, by_peer: bool) -> bool {
        let is_possible = self.paths.contains_key(from)
            && (by_peer || self.is_of_one_kind(from, to))
            && self.has_room(to)
            && self.is_empty(from)
            && self.is_empty(to)
            && !to.starts_with(&format!("{from}/"));
        if is_possible && let Some(object) = self.paths.remove(from) {
            self.paths.insert(to.to_owned(), object);
        }
        is_possible
    }
}

struct Run {
    bench: Bench,
    model: Model,
    /// Object of each inode that has been seen.
    inodes: HashMap<u64, usize>,
}

impl Run {
    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Mkdir { place, by_peer } => self.make(&path_of(*place), *by_peer, true),
            Step::Create { place, by_peer } => self.make(&path_of(*place), *by_peer, false),
            Step::Remove { place, by_peer } => self.remove(&path_of(*place), *by_peer),
            Step::Rename { from, to, by_peer } => {
                self.rename(&path_of(*from), &path_of(*to), *by_peer)
            }
            Step::Walk { place } => self.walk(&path_of(*place)),
            Step::Look { number } => self.look(*number),
            Step::Open { number } => self.open(*number),
            Step::Write { number, text } => self.write(*number, text),
            Step::Close { number } => self.close(*number),
            Step::Forget { number } => {
                self.forget(*number);
                Ok(())
            }
            Step::Restart { is_planned: true } => {
                self.bench.change();
                self.check_known_ids()
            }
            Step::Restart { is_planned: false } => self.restart(),
        }
    }

    /// The directory's id, as a walk of the kernel finds it, and the last name.
    fn parent<'a>(&mut self, path: &'a str) -> Option<(u64, &'a str)> {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        if directory.is_empty() {
            return Some((ROOT_ID, name));
        }
        let found = self.bench.fs.lookup(ROOT_ID, directory.as_bytes()).ok()?;
        self.learn(found.id);
        (found.kind == Kind::Directory).then_some((found.id, name))
    }

    fn learn(&mut self, id: u64) {
        *self.model.ids.entry(id).or_default() += 1;
    }

    fn note_inode(&mut self, path: &str) {
        let tree = self.bench.db.read();
        if let (Some(entry), Some(object)) =
            (tree.lookup(path.as_bytes()), self.model.paths.get(path))
        {
            self.inodes.insert(entry.inode, *object);
        }
    }

    fn make(&mut self, path: &str, by_peer: bool, is_directory: bool) -> Result<(), TestCaseError> {
        let bytes = Bytes::copy_from_slice(path.as_bytes());
        let done = if by_peer {
            let operation = match is_directory {
                true => Operation::Mkdir { path: bytes },
                false => Operation::Create { path: bytes },
            };
            self.bench.peer(&operation).is_ok()
        } else {
            match self.parent(path) {
                None => false,
                Some((parent, name)) if is_directory => {
                    let made = self.bench.mkdir(parent, name);
                    made.map(|made| self.learn(made.id)).is_ok()
                }
                Some((parent, name)) => match self.bench.create(parent, name, IfExists::Refuse) {
                    Ok(made) => {
                        self.learn(made.attributes.id);
                        self.model
                            .handles
                            .insert(made.handle, self.model.objects.len());
                        true
                    }
                    Err(_) => false,
                },
            }
        };
        let object = (!is_directory).then(String::new);
        prop_assert_eq!(done, self.model.make(path, object), "making {}", path);
        self.note_inode(path);
        Ok(())
    }

    fn remove(&mut self, path: &str, by_peer: bool) -> Result<(), TestCaseError> {
        let done = if by_peer {
            let path = Bytes::copy_from_slice(path.as_bytes());
            self.bench.peer(&Operation::Delete { path }).is_ok()
        } else {
            let parent = self.parent(path);
            parent.is_some_and(|(parent, name)| self.bench.remove(parent, name).is_ok())
        };
        prop_assert_eq!(done, self.model.remove(path), "removing {}", path);
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str, by_peer: bool) -> Result<(), TestCaseError> {
        if from == to {
            return Ok(());
        }
        let done = if by_peer {
            let [from, to] = [from, to].map(|path| Bytes::copy_from_slice(path.as_bytes()));
            self.bench.peer(&Operation::Rename { from, to }).is_ok()
        } else {
            let places = (self.parent(from), self.parent(to));
            let (Some(from), Some(to)) = places else {
                return Ok(());
            };
            self.bench.rename(from, to).is_ok()
        };
        prop_assert_eq!(
            done,
            self.model.rename(from, to, by_peer),
            "renaming {} to {}",
            from,
            to
        );
        Ok(())
    }

    fn walk(&mut self, path: &str) -> Result<(), TestCaseError> {
        let parent = self.parent(path);
        let found = parent.and_then(|(id, name)| self.bench.fs.lookup(id, name.as_bytes()).ok());
        let object = self.model.paths.get(path).copied();
        prop_assert_eq!(found.is_some(), object.is_some(), "walking {}", path);
        if let (Some(found), Some(object)) = (found, object) {
            self.learn(found.id);
            self.check_shows(found, object)?;
        }
        Ok(())
    }

    fn check_shows(&self, found: Attributes, object: usize) -> Result<(), TestCaseError> {
        match &self.model.objects[object] {
            None => prop_assert_eq!(found.kind, Kind::Directory),
            Some(text) => {
                prop_assert_eq!(found.kind, Kind::File);
                prop_assert_eq!(found.size, text.len() as u64);
            }
        }
        Ok(())
    }

    fn id(&self, number: usize) -> Option<u64> {
        let ids: Vec<u64> = self.model.ids.keys().copied().collect();
        (!ids.is_empty()).then(|| ids[number % ids.len()])
    }

    /// What an id leads to is somewhere now, or is open.
    fn check_is_real(&self, inode: u64) -> Result<usize, TestCaseError> {
        let object = self.inodes.get(&inode).copied();
        let object = object.ok_or_else(|| TestCaseError::fail("an inode of nothing"))?;
        let is_somewhere = self.model.paths.values().any(|at| *at == object);
        let is_open = self.model.handles.values().any(|at| *at == object);
        prop_assert!(is_somewhere || is_open);
        Ok(object)
    }

    fn look(&mut self, number: usize) -> Result<(), TestCaseError> {
        let Some(id) = self.id(number) else {
            return Ok(());
        };
        match self.bench.fs.attributes(id, None) {
            Ok(found) => {
                let inode = {
                    let (fs, tree) = (&self.bench.fs, self.bench.db.read());
                    let want = crate::fs::ways::Want::Attributes;
                    fs.names.of(&tree).target(&tree, id, want)
                };
                let object = self.check_is_real(inode.unwrap())?;
                self.check_shows(found, object)?;
            }
            Err(error) => prop_assert!(matches!(error, FsError::Stale | FsError::NotFound)),
        }
        Ok(())
    }

    fn open(&mut self, number: usize) -> Result<(), TestCaseError> {
        let Some(id) = self.id(number) else {
            return Ok(());
        };
        match self.bench.open(id) {
            Ok(handle) => {
                let Ok(crate::fs::handles::Handle::Entry { bound, .. }) =
                    self.bench.fs.handles.get(handle)
                else {
                    return Err(TestCaseError::fail("no file"));
                };
                let object = self.check_is_real(bound.inode)?;
                self.model.handles.insert(handle, object);
            }
            Err(error) => prop_assert!(matches!(error, FsError::Stale | FsError::NotFound)),
        }
        Ok(())
    }

    fn handle(&self, number: usize) -> Option<(u64, usize)> {
        let handles: Vec<_> = self.model.handles.iter().map(|(a, b)| (*a, *b)).collect();
        (!handles.is_empty()).then(|| handles[number % handles.len()])
    }

    fn write(&mut self, number: usize, text: &str) -> Result<(), TestCaseError> {
        let Some((handle, object)) = self.handle(number) else {
            return Ok(());
        };
        if let Some(content) = &mut self.model.objects[object] {
            let written = self.bench.write(handle, WriteAt::End, text);
            prop_assert_eq!(written, Ok(u32::try_from(text.len()).unwrap()));
            content.push_str(text);
        }
        Ok(())
    }

    fn close(&mut self, number: usize) -> Result<(), TestCaseError> {
        if let Some((handle, object)) = self.handle(number) {
            if let Some(content) = &self.model.objects[object] {
                prop_assert_eq!(&self.bench.read(handle).unwrap(), content);
            }
            self.bench.fs.close(handle);
            self.model.handles.remove(&handle);
        }
        Ok(())
    }

    fn forget(&mut self, number: usize) {
        if let Some(id) = self.id(number)
            && let Some(count) = self.model.ids.remove(&id)
        {
            self.bench.fs.forget(id, count);
        }
    }

    fn restart(&mut self) -> Result<(), TestCaseError> {
        self.bench.restart();
        for (handle, object) in std::mem::take(&mut self.model.handles) {
            if self.model.paths.values().any(|at| *at == object) {
                self.model.handles.insert(handle, object);
            } else {
                prop_assert_eq!(self.bench.read(handle), Err(FsError::Stale));
                self.model.lost.insert(handle);
            }
        }
        self.check_known_ids()
    }

    fn check_known_ids(&self) -> Result<(), TestCaseError> {
        let known: BTreeSet<u64> = self.bench.fs.known_ids().into_iter().collect();
        for id in self.model.ids.keys() {
            prop_assert!(known.contains(id), "the kernel knows {}", id);
        }
        Ok(())
    }

    /// Everything is as the model has it, and nothing stays behind.
    fn end(mut self) -> Result<(), TestCaseError> {
        for directory in [None, Some(0), Some(1), Some(2)] {
            for name in 0..NAMES.len() {
                self.walk(&path_of((directory, name)))?;
            }
        }
        for (handle, object) in std::mem::take(&mut self.model.handles) {
            if let Some(content) = &self.model.objects[object] {
                prop_assert_eq!(&self.bench.read(handle).unwrap(), content);
            }
            self.bench.fs.close(handle);
        }
        for handle in &self.model.lost {
            self.bench.fs.close(*handle);
        }
        for (id, count) in std::mem::take(&mut self.model.ids) {
            self.bench.fs.forget(id, count);
        }
        prop_assert_eq!(self.bench.fs.known_ids().len(), 1);
        let tree = self.bench.db.read();
        for inode in self.inodes.keys() {
            prop_assert!(!tree.is_orphan(*inode), "content outlives its last handle");
        }
        Ok(())
    }
}

fn run(steps: &[Step]) -> Result<(), TestCaseError> {
    let mut run = Run {
        bench: Bench::new(),
        model: Model::default(),
        inodes: HashMap::new(),
    };
    for step in steps {
        run.step(step)?;
    }
    run.end()
}

/// The requests that a fuzzer's bytes stand for, four each.
pub(crate) fn run_bytes(bytes: &[u8]) {
    let place = |byte: u8| {
        let byte = usize::from(byte);
        ((byte % 4).checked_sub(1), byte / 4 % NAMES.len())
    };
    let step = |&[what, first, second, number]: &[u8; 4]| {
        let (place, to, by_peer) = (place(first), place(second), number % 2 == 0);
        let number = number.into();
        match what % 10 {
            0 => Step::Mkdir { place, by_peer },
            1 => Step::Create { place, by_peer },
            2 => Step::Remove { place, by_peer },
            3 => Step::Rename {
                from: place,
                to,
                by_peer,
            },
            4 => Step::Walk { place },
            5 => Step::Look { number },
            6 => Step::Open { number },
            7 => Step::Write {
                number,
                text: "x".repeat(first.into()),
            },
            8 => Step::Close { number },
            _ if what >= 250 => Step::Restart {
                is_planned: what % 2 == 0,
            },
            _ => Step::Forget { number },
        }
    };
    let steps: Vec<Step> = bytes.as_chunks().0.iter().map(step).collect();
    run(&steps).unwrap_or_else(|error| panic!("{error}: {steps:?}"));
}

#[test]
fn any_bytes_stand_for_requests() {
    run_bytes(&[]);
    run_bytes(&(0..=255).cycle().take(4000).collect::<Vec<u8>>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_requests_and_another_node(steps in prop::collection::vec(step(), 1..80)) {
        run(&steps)?;
    }
}
