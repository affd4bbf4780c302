//! Memory that outlives the process: a file in RAM that a descriptor stands for.
//!
//! All of it is words of 8 bytes, so that what a process leaves behind when it is killed is a prefix of its stores, word by word:
//! a processor finishes what it has begun, and the compiler keeps the order that [`Memory::commit`] and [`Memory::clear`] ask for.
//! One process at a time uses the memory (the instance lock sees to that), and in it one lock for each part, so the atomics
//! carry no meaning between threads.
#![expect(
    unsafe_code,
    reason = "memory that does not belong to this process alone"
)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering, fence};

use memmap2::{Advice, MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::unistd::{Uid, ftruncate};

#[cfg(test)]
use pmxcfs_api_types::sync::{Mutex, Rank};

use super::layout::{FILE_SIZE, MAPPED_SIZE, WORD_SIZE};

/// Permission bits of the file.
const MODE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

/// The file keeps its size for ever, so no access to the mapping can end in SIGBUS.
const SEALS: SealFlag = SealFlag::F_SEAL_SHRINK
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_SEAL);

/// A file in RAM, mapped.
#[derive(Debug)]
pub(super) struct Memory {
    file: OwnedFd,
    map: MmapRaw,
    /// All stores, in order.
    #[cfg(test)]
    log: Mutex<Vec<(usize, u64)>>,
}

impl Memory {
    /// A file that is empty: zeros, which take no memory before they are written to.
    pub(super) fn create() -> io::Result<Self> {
        let file = create_file()?;
        fchmod(&file, MODE)?;
        ftruncate(&file, FILE_SIZE.cast_signed())?;
        fcntl(&file, FcntlArg::F_ADD_SEALS(SEALS))?;
        Self::map(file)
    }

    /// The file of another process. `None` if it is no such file.
    pub(super) fn open(file: OwnedFd) -> io::Result<Option<Self>> {
        let seals = match fcntl(&file, FcntlArg::F_GET_SEALS) {
            Ok(seals) => SealFlag::from_bits_retain(seals),
            Err(Errno::EINVAL) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let status = fstat(&file)?;
        let is_ours = seals.contains(SEALS)
            && status.st_size == FILE_SIZE.cast_signed()
            && status.st_uid == Uid::effective().as_raw()
            && Mode::from_bits_truncate(status.st_mode) == MODE;
        if !is_ours {
            return Ok(None);
        }
        Self::map(file).map(Some)
    }

    fn map(file: OwnedFd) -> io::Result<Self> {
        let map = MmapOptions::new().len(MAPPED_SIZE).map_raw(&file)?;
        // A core dump would make all of it resident.
        map.advise(Advice::DontDump)?;
        Ok(Self {
            file,
            map,
            #[cfg(test)]
            log: Mutex::new(Rank::History, Vec::new()),
        })
    }

    /// The file.
    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.map.len() / WORD_SIZE, "inside the mapping");
        // SAFETY: the index is inside the mapping (asserted), the mapping lives as long as `self`, its start is that of a page
        // and so aligned, and the file cannot shrink below it (sealed). Whatever another process does with the file, in this
        // process all accesses are atomic ones of this size.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().cast::<u64>().add(index)) }
    }

    pub(super) fn load(&self, index: usize) -> u64 {
        self.word(index).load(Ordering::Relaxed)
    }

    pub(super) fn store(&self, index: usize, value: u64) {
        self.store_in_order(index, value, Ordering::Relaxed);
    }

    /// Stores a word after everything that was stored before: from now on that counts.
    pub(super) fn commit(&self, index: usize, value: u64) {
        self.store_in_order(index, value, Ordering::Release);
    }

    /// Stores 0 before everything that is stored from now on: what the word stood for does not count any more.
    pub(super) fn clear(&self, index: usize) {
        self.store(index, 0);
        fence(Ordering::Release);
    }

    fn store_in_order(&self, index: usize, value: u64, order: Ordering) {
        #[cfg(test)]
        self.log.lock().push((index, value));
        self.word(index).store(value, order);
    }

    /// How many stores there were.
    #[cfg(test)]
    pub(super) fn store_count(&self) -> usize {
        self.log.lock().len()
    }

    /// A checksum of the words that have been stored to, with their places.
    #[cfg(test)]
    pub(super) fn checksum(&self) -> u32 {
        let words: std::collections::BTreeMap<_, _> = self.log.lock().iter().copied().collect();
        let mut checksum = crc32fast::Hasher::new();
        for (index, value) in words {
            checksum.update(&(index as u64).to_le_bytes());
            checksum.update(&value.to_le_bytes());
        }
        checksum.finalize()
    }

    /// The memory as a kill leaves it after some stores and the first bytes of the next one.
    #[cfg(test)]
    pub(super) fn killed_after(&self, stores: usize, bytes: usize) -> Self {
        let killed = Self::create().unwrap();
        let log = self.log.lock().clone();
        for (index, value) in &log[..stores] {
            killed.word(*index).store(*value, Ordering::Relaxed);
        }
        if let Some((index, value)) = log.get(stores) {
            let torn = !u64::MAX
                .checked_shl(8 * u32::try_from(bytes).unwrap())
                .unwrap_or(0);
            let word = killed.load(*index) & !torn | value & torn;
            killed.word(*index).store(word, Ordering::Relaxed);
        }
        killed
    }
}

/// A kernel before 6.3 does not know the flag that later ones want.
fn create_file() -> nix::Result<OwnedFd> {
    const NAME: &std::ffi::CStr = c"pmxcfs-tables";
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let not_executable = MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
    match memfd_create(NAME, flags | not_executable) {
        Err(Errno::EINVAL) => memfd_create(NAME, flags),
        other => other,
    }
}
