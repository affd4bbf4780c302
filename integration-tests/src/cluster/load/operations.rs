//! What a writer does, and what it learns from the answer.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::statfs::{FUSE_SUPER_MAGIC, fstatfs};

use super::{Expected, Found, Writer};
use crate::cluster::MOUNT;

/// Names of files and of directories.
const FILE_COUNT: usize = 12;
const DIRECTORY_COUNT: usize = 3;

/// Errors that say that the operation was not done, or not at this time.
const REFUSALS: [Errno; 3] = [Errno::EACCES, Errno::EBUSY, Errno::EIO];

/// Errors of a mount whose daemon is gone.
const DEAD: [Errno; 4] = [
    Errno::ENOTCONN,
    Errno::ECONNABORTED,
    Errno::ENODEV,
    Errno::ESHUTDOWN,
];

impl Writer {
    /// Does something.
    pub(super) fn step(&mut self) {
        if let Err(errno) = self.attempt() {
            let count = self.report.failures.entry(format!("{errno:?}"));
            *count.or_default() += 1;
            let is_refusal = REFUSALS.contains(&errno) || (self.is_on_c && errno == Errno::EPERM);
            if !is_refusal && !DEAD.contains(&errno) {
                let doing = self.doing.as_ref().map_or("something", |(what, _)| what);
                self.lie(format!("{doing} failed with {errno:?}"));
            }
        }
        self.note_time();
    }

    /// What is done from now on, until it is something else.
    fn begin(&mut self, what: impl Into<String>) {
        self.note_time();
        self.doing = Some((what.into(), Instant::now()));
    }

    fn note_time(&mut self) {
        if let Some((what, since)) = self.doing.take() {
            let time = since.elapsed();
            if time > self.report.longest.0 {
                self.report.longest = (time, what);
            }
        }
    }

    fn attempt(&mut self) -> Result<(), Errno> {
        let Some(place) = self.place()? else {
            // No daemon at this moment.
            return Err(Errno::ENOTCONN);
        };
        self.serial += 1;
        match self.random.below(10) {
            0 => {
                let name = format!("d{}", self.random.index(DIRECTORY_COUNT));
                self.change_directory(&place, &name)
            }
            choice => {
                let name = format!("f{}", self.random.index(FILE_COUNT));
                self.change_file(&place, &name, choice)
            }
        }
    }

    /// The writer's directory, held open: whatever becomes of the mount meanwhile, nothing is done elsewhere.
    fn place(&mut self) -> Result<Option<Place>, Errno> {
        self.begin("opening the directory");
        let path = format!("{MOUNT}/{}", self.directory);
        let directory = match File::open(&path) {
            Ok(directory) => directory,
            // Before the first success it has to be made; later it lacks while there is no mount.
            Err(error) if errno_of(&error) == Errno::ENOENT && self.serial == 0 => {
                match fs::create_dir(&path) {
                    Ok(()) => File::open(&path).map_err(|error| errno_of(&error))?,
                    Err(error) if errno_of(&error) == Errno::EROFS => return Ok(None),
                    Err(error) => return Err(errno_of(&error)),
                }
            }
            Err(error) if errno_of(&error) == Errno::ENOENT => return Ok(None),
            Err(error) => return Err(errno_of(&error)),
        };
        let kind = fstatfs(&directory)?.filesystem_type();
        Ok((kind == FUSE_SUPER_MAGIC).then_some(Place(directory)))
    }

    fn change_directory(&mut self, place: &Place, name: &str) -> Result<(), Errno> {
        self.begin(format!("making or removing {name}"));
        let path = place.path(name);
        let expected = self.expected(name);
        let is_to_be_made = match expected.certain() {
            Some(found) => *found == Found::Absent,
            None => self.random.below(2) == 0,
        };
        let (result, after, contradiction) = if is_to_be_made {
            let result = fs::create_dir(&path);
            (result, Found::Directory, (Errno::EEXIST, Found::Directory))
        } else {
            let result = fs::remove_dir(&path);
            (result, Found::Absent, (Errno::ENOENT, Found::Absent))
        };
        let Err(error) = result else {
            self.names.insert(name.to_owned(), Expected::only(after));
            self.report.success_count += 1;
            return Ok(());
        };
        let errno = errno_of(&error);
        if errno == contradiction.0 {
            // The C daemon may carry out an operation twice and tell the second result.
            if !expected.allows(&contradiction.1) && !self.is_on_c {
                self.lie(format!("{name}: {errno:?}, expected {expected:?}"));
            }
            // What the tree of this moment shows does not tell what is on its way.
            self.expected_mut(name).or(contradiction.1);
            return Ok(());
        }
        self.not_sure(name, errno, after);
        Err(errno)
    }

    fn change_file(&mut self, place: &Place, name: &str, choice: u64) -> Result<(), Errno> {
        let certain = self.expected(name).certain().cloned();
        match (certain, choice) {
            (Some(Found::File(_)), 1) => self.remove(place, name),
            (Some(Found::File(old)), 2) => self.append(place, name, old),
            (Some(Found::File(old)), 3) => self.truncate(place, name, old),
            // Whatever an earlier error has left open is settled by a rename.
            (None, _) | (_, 4 | 5) => self.replace(place, name),
            _ => self.overwrite(place, name),
        }?;
        self.read_back(place, name)
    }

    fn overwrite(&mut self, place: &Place, name: &str) -> Result<(), Errno> {
        self.begin(format!("opening {name} to overwrite it"));
        let data = self.data();
        let opened = File::create(place.path(name)).map_err(|error| errno_of(&error));
        let mut file = match opened {
            Ok(file) => file,
            Err(errno) => {
                self.not_sure(name, errno, Found::File(Vec::new()));
                return Err(errno);
            }
        };
        self.is(name, Found::File(Vec::new()));
        self.fill(&mut file, name, data)
    }

    /// Writes into a new and empty file.
    fn fill(&mut self, file: &mut File, name: &str, data: Vec<u8>) -> Result<(), Errno> {
        self.begin(format!("writing {name}"));
        if let Err(error) = file.write_all(&data) {
            self.expected_mut(name).or_beginning_of(data);
            return Err(errno_of(&error));
        }
        self.is(name, Found::File(data));
        self.report.success_count += 1;
        Ok(())
    }

    /// As the tools do: a new file is written beside the old one, then renamed over it.
    fn replace(&mut self, place: &Place, name: &str) -> Result<(), Errno> {
        self.begin(format!("making a file to replace {name}"));
        let data = self.data();
        let beside = format!("{name}.tmp.{}", self.serial);
        self.names.insert(beside.clone(), Expected::nothing());
        let created = File::create_new(place.path(&beside)).map_err(|error| errno_of(&error));
        let mut file = match created {
            Ok(file) => file,
            Err(errno) => {
                self.not_sure(&beside, errno, Found::File(Vec::new()));
                return Err(errno);
            }
        };
        self.is(&beside, Found::File(Vec::new()));
        self.fill(&mut file, &beside, data.clone())?;
        self.begin(format!("renaming {beside}"));
        if let Err(error) = fs::rename(place.path(&beside), place.path(name)) {
            let errno = errno_of(&error);
            self.not_sure(&beside, errno, Found::Absent);
            self.not_sure(name, errno, Found::File(data));
            return Err(errno);
        }
        self.names.remove(&beside);
        self.is(name, Found::File(data));
        self.report.success_count += 1;
        self.remove_remains(place)
    }

    /// Removes what an earlier error has left. All that this writer has sent before its last success has come by now, or never
    /// will, so what is not there is gone.
    fn remove_remains(&mut self, place: &Place) -> Result<(), Errno> {
        let names = self.names.keys();
        let remains: Vec<String> = names
            .filter(|name| name.contains(".tmp."))
            .cloned()
            .collect();
        for name in remains {
            self.begin(format!("looking for {name}"));
            if Found::at(&place.path(&name)).map_err(|error| errno_of(&error))? != Found::Absent {
                self.remove(place, &name)?;
            }
            self.names.remove(&name);
        }
        Ok(())
    }

    fn remove(&mut self, place: &Place, name: &str) -> Result<(), Errno> {
        self.begin(format!("removing {name}"));
        if let Err(error) = fs::remove_file(place.path(name)) {
            let errno = errno_of(&error);
            self.not_sure(name, errno, Found::Absent);
            return Err(errno);
        }
        self.is(name, Found::Absent);
        self.report.success_count += 1;
        Ok(())
    }

    fn append(&mut self, place: &Place, name: &str, old: Vec<u8>) -> Result<(), Errno> {
        self.begin(format!("appending to {name}"));
        let mut data = old;
        data.extend_from_slice(format!("+{}", self.serial).as_bytes());
        let tail_start = data.iter().rposition(|byte| *byte == b'+').unwrap_or(0);
        let opened = OpenOptions::new().append(true).open(place.path(name));
        let mut file = opened.map_err(|error| errno_of(&error))?;
        self.change(
            name,
            Found::File(data.clone()),
            file.write_all(&data[tail_start..]),
        )
    }

    fn truncate(&mut self, place: &Place, name: &str, old: Vec<u8>) -> Result<(), Errno> {
        self.begin(format!("truncating {name}"));
        let mut data = old;
        data.truncate(data.len() / 2);
        let opened = OpenOptions::new().write(true).open(place.path(name));
        let file = opened.map_err(|error| errno_of(&error))?;
        let size = data.len() as u64;
        self.change(name, Found::File(data), file.set_len(size))
    }

    fn change(&mut self, name: &str, after: Found, result: io::Result<()>) -> Result<(), Errno> {
        if let Err(error) = result {
            let errno = errno_of(&error);
            self.not_sure(name, errno, after);
            return Err(errno);
        }
        self.is(name, after);
        self.report.success_count += 1;
        Ok(())
    }

    /// Who has been told that a change is made must see it.
    fn read_back(&mut self, place: &Place, name: &str) -> Result<(), Errno> {
        self.begin(format!("reading {name}"));
        let expected = self.expected(name);
        let found = Found::at(&place.path(name)).map_err(|error| errno_of(&error))?;
        if !expected.allows(&found) {
            self.lie(format!(
                "{name} is read as {found:?}, expected {expected:?}"
            ));
        }
        Ok(())
    }

    /// Mostly small, some larger than a page, a few larger than a request of the kernel or a message of corosync.
    fn data(&mut self) -> Vec<u8> {
        let size = match self.random.below(100) {
            // Some are appended to, and no file is larger than 1 MiB.
            0 => 1_000_000,
            1..4 => 200_000,
            4..20 => 6_000,
            _ => 60,
        };
        let mut data = format!("{} {} ", self.directory, self.serial).into_bytes();
        data.resize(size, b'.');
        data
    }

    fn is(&mut self, name: &str, found: Found) {
        self.names.insert(name.to_owned(), Expected::only(found));
    }

    /// After an error: what was there, or what should have come. A refusal for want of quorum is certain.
    fn not_sure(&mut self, name: &str, errno: Errno, after: Found) {
        if errno != Errno::EACCES {
            self.expected_mut(name).or(after);
        }
    }

    fn expected(&mut self, name: &str) -> Expected {
        self.expected_mut(name).clone()
    }

    fn expected_mut(&mut self, name: &str) -> &mut Expected {
        let names = self.names.entry(name.to_owned());
        names.or_insert_with(Expected::nothing)
    }

    fn lie(&mut self, text: String) {
        self.report.lies.push(format!("{}/{text}", self.directory));
    }
}

struct Place(File);

impl Place {
    fn path(&self, name: &str) -> String {
        format!("/proc/self/fd/{}/{name}", self.0.as_raw_fd())
    }
}

fn errno_of(error: &io::Error) -> Errno {
    crate::check::errno_of(error)
}
