//! Changes while the daemon is killed again and again: each is done once, and each program gets the right answer.
//!
//! Every writer works on names of its own, so what it finds must be exactly what it was told.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use integration_tests::Supervisor;

use crate::takeover::WAIT_BAR;
use crate::users::{Look, await_more, filled_host, number, readers, report, while_read};

fn wrong<T>(what: impl std::fmt::Debug) -> io::Result<T> {
    Err(io::Error::other(format!("found {what:?}")))
}

fn check(path: &Path, expected: &str) -> io::Result<()> {
    match fs::read_to_string(path)? {
        found if found == expected => Ok(()),
        found => wrong((path, found.len(), expected.len())),
    }
}

fn check_is_gone(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => wrong((path, other)),
    }
}

/// A lock: whoever makes the directory has it, and nobody else does.
fn lock(path: PathBuf) -> Look<'static> {
    Box::new(move || {
        fs::create_dir(&path)?;
        match fs::create_dir(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            other => return wrong(other),
        }
        fs::remove_dir(&path)?;
        check_is_gone(&path)
    })
}

fn create_and_remove(path: PathBuf) -> Look<'static> {
    let mut number = 0;
    Box::new(move || {
        number += 1;
        let text = format!("text {number}");
        File::create_new(&path)?.write_all(text.as_bytes())?;
        check(&path, &text)?;
        fs::remove_file(&path)?;
        check_is_gone(&path)
    })
}

fn replace(path: PathBuf) -> Look<'static> {
    let mut number = 0;
    let new = path.with_extension("new");
    Box::new(move || {
        number += 1;
        let text = format!("version {number}");
        fs::write(&new, &text)?;
        fs::rename(&new, &path)?;
        check_is_gone(&new)?;
        check(&path, &text)
    })
}

/// Writes through a descriptor that stays open, and now and then begins anew by cutting the file with another one.
fn append(path: PathBuf) -> Look<'static> {
    let mut file = OpenOptions::new();
    let mut file = file.append(true).create(true).open(&path).unwrap();
    let mut text = String::new();
    Box::new(move || {
        if text.len() > 2_000 {
            drop(File::create(&path)?);
            text.clear();
        }
        let line = format!("line {}\n", text.len());
        file.write_all(line.as_bytes())?;
        text.push_str(&line);
        check(&path, &text)
    })
}

#[test]
fn writers_are_told_the_truth_through_every_kill() {
    let host = filled_host();
    let mut supervisor = Supervisor::new(&host, ["-f", "-l"]);
    supervisor.start();
    let directory = host.path("w");
    fs::create_dir(&directory).unwrap();
    let mut writers = readers(&host, 0);
    for number in 0..number("PMXCFS_WRITERS", 8) {
        let path = |name: &str| directory.join(format!("{name}-{number}"));
        writers.push(match number % 4 {
            0 => ("lock", lock(path("lock"))),
            1 => ("create", create_and_remove(path("create"))),
            2 => ("replace", replace(path("replace"))),
            _ => ("append", append(path("append"))),
        });
    }
    let longest = while_read(&host, writers, |counts| {
        for round in 0..number("PMXCFS_KILLS", 10) {
            // Another moment each time.
            await_more(counts, 20 + round as u64 % 7);
            supervisor.kill();
            supervisor.start();
        }
        await_more(counts, 20);
    });
    let mut left: Vec<_> = fs::read_dir(&directory).unwrap().collect();
    left.retain(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        !name.to_string_lossy().starts_with("append")
            && !name.to_string_lossy().starts_with("replace-")
    });
    assert!(left.is_empty(), "{left:?}");
    report(longest);
    assert!(longest < WAIT_BAR, "{longest:?}");
    supervisor.stop();
}
