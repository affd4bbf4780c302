//! Tables that outlive the process.
//!
//! The mount goes on while a process holds the connection to the kernel, and the kernel goes on using the node ids and handles
//! that a former process has given it. So what they stand for is kept in a file in RAM, whose descriptor is handed from process to
//! process with that of the connection: names, handles, the answers of changes under way, and what was agreed with the
//! kernel.
//!
//! A process may be killed between any two stores. A record counts from its commit word on, which is written last and holds a
//! checksum; what changes in a record is one word. Lookup counts and numbers are stored before the reply that names them, so
//! after a kill they are upper bounds: a record may stay for as long as the mount does, but is never freed early. In a planned
//! change a process hands over, in the same file, what it alone has: content that only open handles keep.

mod answers;
mod handles;
mod kept;
mod layout;
mod memory;
mod names;
mod slots;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

pub(super) use answers::{AnswerRecords, Outcome};
pub(super) use handles::{HandleRecord, HandleRecords, Opened};
pub(super) use kept::{Kept, KeptArea, Orphan};
use layout::{AGREED_AT, AGREED_SIZE, LAYOUT_VERSION, MAGIC, MAGIC_AT, VERSION_AT, WORD_SIZE};
use memory::Memory;
pub(super) use names::{NameRecords, NewName, words};
use slots::commit_word;

/// Why a former process's tables cannot be used. Then nobody knows what the kernel means, and the mount has to end.
#[derive(Debug, thiserror::Error)]
pub enum TablesError {
    /// A system call failed.
    #[error("cannot use the tables of names and handles")]
    System(#[from] io::Error),
    /// The descriptor stands for something else.
    #[error("the descriptor is not that of tables of names and handles")]
    NotTables,
    /// A program with another layout has made them.
    #[error(
        "the tables of names and handles have version {0}, this program knows {LAYOUT_VERSION}"
    )]
    Version(u64),
    /// They do not hold what a process can have left behind.
    #[error("the tables of names and handles are damaged: {0}")]
    Damaged(&'static str),
}

/// The tables, before a filesystem takes them over.
#[derive(Debug)]
pub struct Tables {
    memory: Arc<Memory>,
    pub(super) names: NameRecords,
    pub(super) handles: HandleRecords,
    pub(super) answers: AnswerRecords,
    /// What a former process has handed over, and where.
    pub(super) kept: Kept,
    pub(super) kept_area: KeptArea,
}

impl Tables {
    /// Tables of a new mount: nothing is known to the kernel.
    ///
    /// # Errors
    /// If there is no memory for them.
    pub fn create() -> io::Result<Self> {
        let memory = Memory::create()?;
        memory.store(VERSION_AT, LAYOUT_VERSION);
        memory.commit(MAGIC_AT, MAGIC);
        Self::of(Arc::new(memory)).map_err(io::Error::other)
    }

    /// The tables that a former process has left, which must have ended.
    ///
    /// # Errors
    /// [`TablesError`].
    pub fn open(descriptor: OwnedFd) -> Result<Self, TablesError> {
        let memory = Memory::open(descriptor)?.ok_or(TablesError::NotTables)?;
        if memory.load(MAGIC_AT) != MAGIC {
            return Err(TablesError::NotTables);
        }
        match memory.load(VERSION_AT) {
            LAYOUT_VERSION => Self::of(Arc::new(memory)),
            other => Err(TablesError::Version(other)),
        }
    }

    fn of(memory: Arc<Memory>) -> Result<Self, TablesError> {
        let of = Arc::clone;
        let kept_area = KeptArea::new(of(&memory));
        Ok(Self {
            names: NameRecords::open(of(&memory)).map_err(TablesError::Damaged)?,
            handles: HandleRecords::open(of(&memory)).map_err(TablesError::Damaged)?,
            answers: AnswerRecords::open(of(&memory)).map_err(TablesError::Damaged)?,
            kept: kept_area.read()?,
            kept_area,
            memory,
        })
    }

    /// The file to hand over.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.memory.file()
    }

    /// How many node ids another process has drawn that works on the tables.
    #[cfg(test)]
    pub(super) fn drawn_count(descriptor: OwnedFd) -> Result<u64, TablesError> {
        let memory = Memory::open(descriptor)?.ok_or(TablesError::NotTables)?;
        Ok(memory.load(layout::DRAWN_AT))
    }

    /// What a test kills the process with.
    #[cfg(test)]
    pub(super) fn killer(&self) -> Killer {
        Killer(Arc::clone(&self.memory))
    }

    /// Where to keep what is agreed with the kernel.
    pub fn agreement(&self) -> Agreement {
        Agreement(Arc::clone(&self.memory))
    }
}

/// Shows what a process leaves behind that is killed at some moment.
#[cfg(test)]
#[derive(Debug, Clone)]
pub(super) struct Killer(Arc<Memory>);

#[cfg(test)]
impl Killer {
    /// How many stores there were.
    pub(super) fn store_count(&self) -> usize {
        self.0.store_count()
    }

    /// The version of the layout, and a checksum of all words that are in use, with their places.
    pub(super) fn checksum(&self) -> (u64, u32) {
        (LAYOUT_VERSION, self.0.checksum())
    }

    /// What is left after some stores, and the first bytes of the next one.
    pub(super) fn killed_after(&self, stores: usize, bytes: usize) -> Result<Tables, TablesError> {
        let left = self.0.killed_after(stores, bytes);
        Tables::open(left.file().try_clone_to_owned()?)
    }
}

/// Keeps what is agreed with the kernel: bytes that mean something to whoever serves the mount.
#[derive(Debug)]
pub struct Agreement(Arc<Memory>);

impl Agreement {
    /// What was agreed, if anything.
    pub fn read(&self) -> Option<Vec<u8>> {
        let size = usize::try_from(self.0.load(AGREED_AT + 1)).ok()?;
        let words = (size <= AGREED_SIZE).then(|| size.div_ceil(WORD_SIZE))?;
        let words = (AGREED_AT + 2..).take(words).map(|at| self.0.load(at));
        let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        bytes.truncate(size);
        (self.0.load(AGREED_AT) == commit_word([], &bytes)).then_some(bytes)
    }

    /// Keeps what has just been agreed.
    ///
    /// # Errors
    /// If that is longer than 3 KiB.
    pub fn keep(&self, agreed: &[u8]) -> io::Result<()> {
        if agreed.len() > AGREED_SIZE {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.clear(AGREED_AT);
        self.0.store(AGREED_AT + 1, agreed.len() as u64);
        for (at, word) in (AGREED_AT + 2..).zip(words(agreed)) {
            self.0.store(at, word);
        }
        self.0.commit(AGREED_AT, commit_word([], agreed));
        Ok(())
    }
}
