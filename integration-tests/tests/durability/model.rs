//! A worker that changes one directory and knows what must be in it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Content of a file; `None` for a directory.
type State = BTreeMap<String, Option<Vec<u8>>>;

const NAME_COUNT: u64 = 12;
const LARGEST_WRITE: u64 = 8_000;
const LARGEST_OFFSET: u64 = 60_000;

/// One operation that the kernel hands over as one request: it is done or not, never half.
#[derive(Debug, Clone)]
enum Operation {
    MakeDirectory(String),
    RemoveDirectory(String),
    Create(String),
    Write(String, u64, Vec<u8>),
    Truncate(String, u64),
    Rename(String, String),
    Unlink(String),
}

/// The worker's own pseudo-random numbers (xorshift), so that a run needs no other process's luck.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Works in one directory that nobody else touches.
#[derive(Debug)]
pub(crate) struct Worker {
    directory: PathBuf,
    random: Random,
    state: State,
    /// Sent, but not known to be done.
    in_flight: Option<Operation>,
    acknowledged_count: u64,
}

impl Worker {
    pub(crate) fn new(directory: PathBuf, seed: u64) -> Self {
        fs::create_dir(&directory).unwrap();
        Self {
            directory,
            random: Random(seed | 1),
            state: State::new(),
            in_flight: None,
            acknowledged_count: 0,
        }
    }

    pub(crate) fn acknowledged_count(&self) -> u64 {
        self.acknowledged_count
    }

    /// Works until the daemon is gone.
    pub(crate) fn run(&mut self) {
        assert!(self.in_flight.is_none(), "verified before it goes on");
        loop {
            let operation = self.choose();
            self.in_flight = Some(operation.clone());
            match perform(&self.directory, &operation) {
                Ok(()) => {
                    apply(&mut self.state, &operation);
                    self.in_flight = None;
                    self.acknowledged_count += 1;
                }
                Err(error) if is_gone(&error) => return,
                Err(error) => panic!("{operation:?}: {error}"),
            }
        }
    }

    /// Compares with what is there: everything acknowledged, and the last operation either done or not.
    pub(crate) fn verify(&mut self) {
        let actual = observe(&self.directory);
        let mut done = self.state.clone();
        if let Some(operation) = self.in_flight.take() {
            apply(&mut done, &operation);
            if actual == done {
                self.state = done;
                return;
            }
            assert_states_equal(
                &self.directory,
                &actual,
                &self.state,
                &format!("(in flight: {operation:?})"),
            );
        } else {
            assert_states_equal(&self.directory, &actual, &self.state, "(nothing in flight)");
        }
    }

    fn choose(&mut self) -> Operation {
        let name = format!("n{}", self.random.below(NAME_COUNT));
        match self.state.get(&name) {
            None => match self.random.below(4) {
                0 => Operation::MakeDirectory(name),
                _ => Operation::Create(name),
            },
            Some(None) => Operation::RemoveDirectory(name),
            Some(Some(_content)) => match self.random.below(10) {
                0 => Operation::Unlink(name),
                1 => Operation::Truncate(name, self.random.below(LARGEST_OFFSET)),
                2 | 3 => {
                    let target = format!("n{}", self.random.below(NAME_COUNT));
                    if target == name || matches!(self.state.get(&target), Some(None)) {
                        Operation::Unlink(name)
                    } else {
                        Operation::Rename(name, target)
                    }
                }
                _ => {
                    let length = self.random.below(LARGEST_WRITE) + 1;
                    let offset = self.random.below(LARGEST_OFFSET);
                    let byte = self.random.below(256) as u8;
                    Operation::Write(name, offset, vec![byte; length as usize])
                }
            },
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOTCONN | libc::ECONNABORTED | libc::ECONNREFUSED | libc::EINTR)
    )
}

fn perform(directory: &Path, operation: &Operation) -> io::Result<()> {
    let at = |name: &String| directory.join(name);
    match operation {
        Operation::MakeDirectory(name) => fs::create_dir(at(name)),
        Operation::RemoveDirectory(name) => fs::remove_dir(at(name)),
        Operation::Create(name) => File::create_new(at(name)).map(drop),
        Operation::Write(name, offset, data) => {
            let file = OpenOptions::new().write(true).open(at(name))?;
            let written = file.write_at(data, *offset)?;
            assert_eq!(written, data.len());
            Ok(())
        }
        Operation::Truncate(name, size) => Ok(nix::unistd::truncate(
            &at(name),
            i64::try_from(*size).unwrap(),
        )?),
        Operation::Rename(from, to) => fs::rename(at(from), at(to)),
        Operation::Unlink(name) => fs::remove_file(at(name)),
    }
}

fn apply(state: &mut State, operation: &Operation) {
    match operation {
        Operation::MakeDirectory(name) => {
            state.insert(name.clone(), None);
        }
        Operation::Create(name) => {
            state.insert(name.clone(), Some(Vec::new()));
        }
        Operation::RemoveDirectory(name) | Operation::Unlink(name) => {
            state.remove(name);
        }
        Operation::Write(name, offset, data) => {
            let Some(Some(content)) = state.get_mut(name) else {
                panic!("{name} is a file");
            };
            let (start, end) = (*offset as usize, *offset as usize + data.len());
            if content.len() < end {
                content.resize(end, 0);
            }
            content[start..end].copy_from_slice(data);
        }
        Operation::Truncate(name, size) => {
            let Some(Some(content)) = state.get_mut(name) else {
                panic!("{name} is a file");
            };
            content.resize(*size as usize, 0);
        }
        Operation::Rename(from, to) => {
            let content = state.remove(from).unwrap();
            state.insert(to.clone(), content);
        }
    }
}

fn observe(directory: &Path) -> State {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let is_directory = entry.metadata().unwrap().is_dir();
            (
                name,
                (!is_directory).then(|| fs::read(entry.path()).unwrap()),
            )
        })
        .collect()
}

fn assert_states_equal(directory: &Path, actual: &State, expected: &State, remark: &str) {
    let size = |content: &Option<Vec<u8>>| content.as_ref().map(Vec::len);
    let mut names: Vec<&String> = actual.keys().chain(expected.keys()).collect();
    names.sort();
    names.dedup();
    let differences: Vec<String> = names
        .into_iter()
        .filter(|name| actual.get(*name) != expected.get(*name))
        .map(|name| {
            let (actual, expected) = (actual.get(name).map(size), expected.get(name).map(size));
            format!("{name}: size {actual:?}, acknowledged {expected:?}")
        })
        .collect();
    assert!(
        differences.is_empty(),
        "{} {remark}: what is there is not what was acknowledged:\n  {}",
        directory.display(),
        differences.join("\n  ")
    );
}
