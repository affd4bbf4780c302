//! Where everything is in the memory, in words of 8 bytes.
//!
//! | from word | words each | what |
//! |---|---|---|
//! | 0 | | header: [`MAGIC_AT`] and the following |
//! | 512 | 4 | answers |
//! | 131,584 | 8 | handles |
//! | 8,520,192 | 16 | names |
//! | 42,074,624 | | end of what is mapped; behind it, in bytes, what a planned change hands over |
//!
//! Whatever changes here, or in what the words mean, changes [`LAYOUT_VERSION`]. So does another order of the plugins, since
//! the kernel knows them by their indices. Tests fail then (fs/tests/layout.rs; takeover.rs of the integration tests).

/// Bytes of a word.
pub(super) const WORD_SIZE: usize = 8;

/// The first word of all: `PMXCFSTB`.
pub(super) const MAGIC: u64 = u64::from_be_bytes(*b"PMXCFSTB");

/// The version of all that these tables mean.
pub(super) const LAYOUT_VERSION: u64 = 1;

pub(super) const MAGIC_AT: usize = 0;
pub(super) const VERSION_AT: usize = 1;
/// How many node ids have been drawn from the counter.
pub(super) const DRAWN_AT: usize = 2;
/// The last number that a handle has got.
pub(super) const LAST_HANDLE_AT: usize = 3;
/// What a planned change hands over: a commit word and the length in bytes.
pub(super) const KEPT_AT: usize = 8;
/// What was agreed with the kernel: a commit word, the number of bytes, and at most [`AGREED_SIZE`] bytes.
pub(super) const AGREED_AT: usize = 16;
pub(super) const AGREED_SIZE: usize = (512 - AGREED_AT - 2) * WORD_SIZE;

/// One of the tables: slots of the same size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Area {
    /// Word of the first slot.
    first: usize,
    /// Words of a slot.
    width: usize,
    /// How many there are.
    pub(super) capacity: u32,
    /// Word of the header that says how many slots have ever been used.
    pub(super) used_at: usize,
}

impl Area {
    /// A word of a slot.
    pub(super) fn word(&self, slot: u32, word: usize) -> usize {
        self.first + slot as usize * self.width + word
    }

    const fn end(&self) -> usize {
        self.first + self.capacity as usize * self.width
    }
}

/// As many as Linux has threads by default, and each of them waits for one answer at most.
pub(super) const ANSWERS: Area = Area {
    first: 512,
    width: 4,
    capacity: 1 << 15,
    used_at: 4,
};

pub(super) const HANDLES: Area = Area {
    first: ANSWERS.end(),
    width: 8,
    capacity: 1 << 20,
    used_at: 5,
};

/// Eight times the entries that a tree may have.
pub(super) const NAMES: Area = Area {
    first: HANDLES.end(),
    width: 16,
    capacity: 1 << 21,
    used_at: 6,
};

/// Bytes of the mapping.
pub(super) const MAPPED_SIZE: usize = NAMES.end() * WORD_SIZE;

/// Bytes for what a planned change hands over.
pub(super) const KEPT_SIZE: u64 = 1 << 29;

/// Bytes of the file. Those that nobody has written to take no memory.
pub(super) const FILE_SIZE: u64 = MAPPED_SIZE as u64 + KEPT_SIZE;
