//! The programs under test.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The daemon's binary: `PMXCFS_BIN`, or the one of this build, brought up to date once per process.
///
/// # Panics
/// If it cannot be built.
#[must_use]
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("PMXCFS_BIN") {
        Some(path) => path.into(),
        None => build("pmxcfs"),
    })
}

/// The binary of `pmxcfs-ctl`: beside `PMXCFS_BIN`, or the one of this build, brought up to date once per process.
///
/// # Panics
/// If it cannot be built.
#[must_use]
pub fn control_program() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("PMXCFS_BIN") {
        Some(path) => Path::new(&path).with_file_name("pmxcfs-ctl"),
        None => build("pmxcfs-ctl"),
    })
}

/// The binary of `pmxcfs-db`: beside `PMXCFS_BIN`, or the one of this build, brought up to date once per process.
///
/// # Panics
/// If it cannot be built.
#[must_use]
pub fn database_program() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("PMXCFS_BIN") {
        Some(path) => Path::new(&path).with_file_name("pmxcfs-db"),
        None => build("pmxcfs-db"),
    })
}

/// Builds a program in the profile of this one.
fn build(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("the path of this program");
    // Tests run from PROFILE/deps, programs from PROFILE.
    let profile_dir = this
        .ancestors()
        .skip(1)
        .find(|directory| directory.file_name() != Some(OsStr::new("deps")))
        .expect("a program lies in a directory");
    let target_dir = profile_dir
        .parent()
        .expect("profiles lie in the target directory");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .args(["build", "--quiet", "--package", "pmxcfs", "--bin", name])
        .arg("--target-dir")
        .arg(target_dir);
    if profile_dir.file_name() == Some(OsStr::new("release")) {
        command.arg("--release");
    }
    let status = command.status().expect("cargo can be run");
    assert!(
        status.success(),
        "cargo builds {name}; its messages stand above"
    );
    profile_dir.join(name)
}
