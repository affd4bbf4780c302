//! Files written directly, with librrd.

use std::ffi::CString;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pmxcfs_api_types::time::wall_clock_secs;

use crate::backend::{Answer, Backend, FileStore, Update};
use crate::library::Library;
use crate::local_time;
use crate::schema::{self, Schema};

const DIRECTORY_MODE: u32 = 0o750;
const FILE_MODE: u32 = 0o644;

/// What librrd says when somebody else has locked the file. Readers do so, for moments; a value must not be lost by it.
const LOCKED: &str = "could not lock RRD";
const LOCK_RETRY_COUNT: u32 = 20;
const LOCK_RETRY_PAUSE: Duration = Duration::from_millis(5);

/// Creates and updates files below one directory, on the thread that made it.
pub(crate) struct Librrd {
    directory: PathBuf,
    library: Option<Library>,
}

impl Librrd {
    /// `directory` is the top directory, which must exist before a file can be created.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            library: None,
        }
    }

    /// The library, loaded when it is first needed and as long as it is not installed.
    fn library(&mut self) -> io::Result<&Library> {
        Ok(match &mut self.library {
            Some(library) => library,
            missing => missing.insert(Library::load().map_err(io::Error::other)?),
        })
    }

    fn make_directories(&self, path: &Path) -> Result<(), String> {
        let parents = path.ancestors().skip(1);
        let mut missing: Vec<&Path> = parents
            .take_while(|parent| *parent != self.directory && parent.parent().is_some())
            .collect();
        missing.reverse();
        for directory in missing {
            make_directory(directory).map_err(|error| {
                format!("cannot make directory {}: {error}", directory.display())
            })?;
        }
        Ok(())
    }
}

impl Backend for Librrd {
    fn update(&mut self, updates: &[Update], answers: &mut Vec<Answer>) -> io::Result<()> {
        let library = self.library()?;
        answers.extend(updates.iter().map(|update| update_file(library, update)));
        Ok(())
    }
}

impl FileStore for Librrd {
    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn create(
        &mut self,
        path: &Path,
        schema: &Schema,
        value_time: Option<i64>,
    ) -> Result<(), String> {
        self.make_directories(path)?;
        let file = c_string(path.as_os_str().as_bytes())?;
        let arguments = schema.create_arguments();
        let arguments: Result<Vec<CString>, String> = arguments
            .iter()
            .map(|argument| c_string(argument.as_bytes()))
            .collect();
        let start = schema::start_time(today(), value_time);
        let library = self.library().map_err(|error| error.to_string())?;
        match library.create(&file, schema::STEP_SECS, start, &arguments?) {
            Ok(()) => {}
            Err(_) if path.is_file() => return Ok(()),
            Err(message) if message.is_empty() => {
                return Err("librrd gives no reason, as when the disk is full".into());
            }
            Err(message) => return Err(message),
        }
        fs::set_permissions(path, Permissions::from_mode(FILE_MODE))
            .map_err(|error| format!("cannot set its mode: {error}"))
    }
}

fn update_file(library: &Library, update: &Update) -> Result<(), String> {
    let path = c_string(update.path.as_os_str().as_bytes())?;
    let text = c_string(update.text.as_bytes())?;
    let mut result = library.update(&path, &text);
    for _ in 0..LOCK_RETRY_COUNT {
        match &result {
            Err(message) if message.contains(LOCKED) => std::thread::park_timeout(LOCK_RETRY_PAUSE),
            _ => break,
        }
        result = library.update(&path, &text);
    }
    result
}

fn c_string(text: &[u8]) -> Result<CString, String> {
    CString::new(text).map_err(|error| error.to_string())
}

/// Makes one directory. Its mode is set apart, so that it does not depend on the umask.
fn make_directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn today() -> i64 {
    let now = i64::from(wall_clock_secs());
    local_time::midnight(now).unwrap_or(now - now.rem_euclid(86_400))
}
