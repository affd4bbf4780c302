//! What may be found under a name, as far as the answers tell.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};

/// What is found under a name.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing.
    Absent,
    /// A directory.
    Directory,
    /// A file with this content.
    File(Vec<u8>),
}

impl Found {
    /// What is found under a path.
    ///
    /// # Errors
    /// If that cannot be told.
    pub(super) fn at(path: &str) -> io::Result<Self> {
        match File::open(path) {
            Ok(mut file) => {
                if file.metadata()?.is_dir() {
                    return Ok(Self::Directory);
                }
                let mut data = Vec::new();
                file.read_to_end(&mut data)?;
                Ok(Self::File(data))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::Absent),
            Err(error) => Err(error),
        }
    }
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("nothing"),
            Self::Directory => f.write_str("a directory"),
            Self::File(data) => {
                let shown = &data[..data.len().min(24)];
                write!(
                    f,
                    "{} bytes {:?}",
                    data.len(),
                    String::from_utf8_lossy(shown)
                )
            }
        }
    }
}

/// One thing that may be found.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Candidate {
    Exactly(Found),
    /// A file that holds the beginning of this: a large write is several messages.
    BeginningOf(Vec<u8>),
}

/// All that may be found under one name.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    candidates: Vec<Candidate>,
}

impl Expected {
    /// Nothing was made under this name yet.
    pub(super) fn nothing() -> Self {
        Self::only(Found::Absent)
    }

    pub(super) fn only(found: Found) -> Self {
        Self {
            candidates: vec![Candidate::Exactly(found)],
        }
    }

    /// The one thing that may be found, if there is just one.
    pub(super) fn certain(&self) -> Option<&Found> {
        match self.candidates.as_slice() {
            [Candidate::Exactly(found)] => Some(found),
            _ => None,
        }
    }

    /// Whether this may be found.
    pub(super) fn allows(&self, found: &Found) -> bool {
        self.candidates
            .iter()
            .any(|candidate| match (candidate, found) {
                (Candidate::Exactly(expected), found) => expected == found,
                (Candidate::BeginningOf(data), Found::File(found)) => data.starts_with(found),
                (Candidate::BeginningOf(_), _) => false,
            })
    }

    /// This may be found too: nobody knows whether an operation was carried out.
    pub(super) fn or(&mut self, found: Found) {
        self.add(Candidate::Exactly(found));
    }

    /// The beginning of this may be found too.
    pub(super) fn or_beginning_of(&mut self, data: Vec<u8>) {
        self.add(Candidate::BeginningOf(data));
    }

    fn add(&mut self, candidate: Candidate) {
        if !self.candidates.contains(&candidate) {
            self.candidates.push(candidate);
        }
    }
}
