//! Files written directly, with librrd.

use std::ffi::CString;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::backend::{Backend, CreateError, FileStore, Outcome, Refusal, Update};
use crate::library::Library;
use crate::local_time;
use crate::schema::{self, Schema};

const DIRECTORY_MODE: u32 = 0o750;
const FILE_MODE: u32 = 0o644;

/// A library that is not installed is not looked for again before this.
const LOAD_RETRY: Duration = Duration::from_secs(60);

/// Creates and updates files below one directory, on the thread that made it.
pub(crate) struct Librrd {
    directory: PathBuf,
    library: Option<Library>,
    next_load: Option<Instant>,
}

impl Librrd {
    /// `directory` is the top directory, which must exist before a file can be created.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            library: None,
            next_load: None,
        }
    }

    fn library(&mut self) -> io::Result<&Library> {
        if self.library.is_none() {
            if self.next_load.is_some_and(|at| Instant::now() < at) {
                return Err(io::Error::from(io::ErrorKind::NotFound));
            }
            self.next_load = Some(Instant::now() + LOAD_RETRY);
            let library = Library::load()
                .map_err(|error| io::Error::new(io::ErrorKind::NotFound, error.to_string()))?;
            self.library = Some(library);
        }
        Ok(self.library.as_ref().expect("loaded above"))
    }

    fn make_directories(&self, path: &Path) -> Result<(), CreateError> {
        let mut missing: Vec<&Path> = path
            .ancestors()
            .skip(1)
            .take_while(|ancestor| *ancestor != self.directory && ancestor.parent().is_some())
            .collect();
        missing.reverse();
        for directory in missing {
            make_directory(directory).map_err(|source| CreateError::Directory {
                path: directory.to_path_buf(),
                source,
            })?;
        }
        Ok(())
    }
}

impl Backend for Librrd {
    fn update(&mut self, updates: &[Update<'_>]) -> Outcome {
        match self.library() {
            Ok(library) => Outcome {
                answers: updates
                    .iter()
                    .map(|update| update_file(library, update))
                    .collect(),
                broken: None,
            },
            Err(error) => Outcome {
                answers: Vec::new(),
                broken: Some(error),
            },
        }
    }
}

impl FileStore for Librrd {
    fn exists(&mut self, path: &Path) -> bool {
        path.exists()
    }

    fn create(
        &mut self,
        path: &Path,
        schema: Schema,
        value_time: Option<i64>,
    ) -> Result<(), CreateError> {
        self.make_directories(path)?;
        let file = c_path(path).map_err(CreateError::Refused)?;
        let arguments: Vec<CString> = schema
            .create_arguments()
            .into_iter()
            .map(|text| CString::new(text).expect("create arguments hold no NUL"))
            .collect();
        let start = schema::start_time(today(), value_time);
        let library = self.library().map_err(CreateError::Library)?;
        match library.create(&file, schema::STEP_SECS, start, &arguments) {
            Ok(()) => {}
            Err(_) if path.is_file() => return Ok(()),
            Err(message) if message.is_empty() => {
                let message = "librrd gives no reason, as when the disk is full".into();
                return Err(CreateError::Refused(Refusal(message)));
            }
            Err(message) => return Err(CreateError::Refused(Refusal(message))),
        }
        fs::set_permissions(path, Permissions::from_mode(FILE_MODE)).map_err(CreateError::Mode)
    }
}

/// What librrd says when somebody else has locked the file. Readers do so, for moments; a value must not be lost by it.
const LOCKED: &str = "could not lock RRD";
const LOCK_RETRY_COUNT: u32 = 20;
const LOCK_RETRY_PAUSE: Duration = Duration::from_millis(5);

fn update_file(library: &Library, update: &Update<'_>) -> Result<(), Refusal> {
    let path = c_path(update.path)?;
    let text = CString::new(update.text).map_err(|_nul| Refusal("NUL in the update".into()))?;
    let mut result = library.update(&path, &text);
    for _ in 0..LOCK_RETRY_COUNT {
        match &result {
            Err(message) if message.contains(LOCKED) => std::thread::park_timeout(LOCK_RETRY_PAUSE),
            _ => break,
        }
        result = library.update(&path, &text);
    }
    result.map_err(Refusal)
}

fn c_path(path: &Path) -> Result<CString, Refusal> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_nul| Refusal("NUL in the path".into()))
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
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = since_epoch.map_or(0, |elapsed| i64::try_from(elapsed.as_secs()).unwrap_or(0));
    local_time::midnight(now).unwrap_or(now - now.rem_euclid(86_400))
}
