//! The descriptors that outlive the process, and how they come from one process to the next.
//!
//! They come in one way, whoever passes them: the service manager, which keeps them in its store while the daemon is dead, or a
//! former image of this process, which has executed the program that is installed now. It is the protocol of sd_listen_fds(3).
#![expect(
    unsafe_code,
    reason = "a number from the environment becomes a descriptor, and this process becomes another program"
)]

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use nix::fcntl::{FcntlArg, fcntl};

use super::environment::{
    LISTEN_FDNAMES, LISTEN_FDS, LISTEN_PID, ManagerVariables, WATCHDOG, WATCHDOG_PID,
};

/// Name of the connection to the kernel.
pub(super) const CONNECTION: &str = "pmxcfs-connection";

/// Name of the tables of names and handles.
pub(super) const TABLES: &str = "pmxcfs-tables";

/// The first descriptor that is passed.
const FIRST: RawFd = 3;

/// Most descriptors that are looked at.
const LIMIT: u64 = 64;

/// Descriptors below this one are needed for passing.
const ABOVE: RawFd = 16;

/// The option of a process that is the daemon itself.
const FOREGROUND: [&str; 2] = ["-f", "--foreground"];

/// The descriptors that were passed to this process.
#[derive(Debug, Default)]
pub struct Inherited {
    pub(super) connection: Option<OwnedFd>,
    pub(super) tables: Option<OwnedFd>,
    /// What came under other names, and was closed.
    pub(super) strangers: Vec<String>,
}

impl Inherited {
    /// Takes charge of the descriptors that the variables name. Call it once, first of all.
    #[must_use]
    pub fn take(variables: &ManagerVariables) -> Self {
        let mut inherited = Self::default();
        if variables.number(LISTEN_PID) != Some(std::process::id().into()) {
            return inherited;
        }
        let count = variables.number(LISTEN_FDS).unwrap_or_default().min(LIMIT);
        let names = variables.get(LISTEN_FDNAMES).unwrap_or_default();
        let mut names = names.as_bytes().split(|byte| *byte == b':');
        for number in (FIRST..).take(usize::try_from(count).unwrap_or_default()) {
            let name = names.next().unwrap_or_default();
            let Some(descriptor) = take_descriptor(number) else {
                continue;
            };
            let place = match std::str::from_utf8(name) {
                Ok(CONNECTION) => &mut inherited.connection,
                Ok(TABLES) => &mut inherited.tables,
                _ => {
                    inherited.strangers.push(name.escape_ascii().to_string());
                    continue;
                }
            };
            *place = Some(descriptor);
        }
        inherited
    }
}

/// The open descriptor of this number, closed on exec from now on and out of the way of those that are passed on.
fn take_descriptor(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: only borrowed for a system call that fails if it is not open.
    let passed = unsafe { BorrowedFd::borrow_raw(number) };
    let moved = fcntl(passed, FcntlArg::F_DUPFD_CLOEXEC(ABOVE)).ok()?;
    // SAFETY: the manager has passed this number to this process, which has opened nothing under it.
    drop(unsafe { OwnedFd::from_raw_fd(number) });
    // SAFETY: the kernel has just made it for this caller.
    Some(unsafe { OwnedFd::from_raw_fd(moved) })
}

/// What the program needs to start itself anew in this process.
#[derive(Debug)]
pub struct Successor {
    /// Where this program was when it started; another version may be there by now.
    program: PathBuf,
    arguments: Vec<OsString>,
    /// Paths among the arguments may begin here.
    working_dir: PathBuf,
    variables: ManagerVariables,
}

impl Successor {
    /// Of this process.
    #[must_use]
    pub fn of_this_process(variables: ManagerVariables) -> Self {
        Self {
            program: std::env::current_exe().unwrap_or_default(),
            arguments: std::env::args_os().collect(),
            working_dir: std::env::current_dir().unwrap_or_else(|_gone| "/".into()),
            variables,
        }
    }

    /// Whether there is a program that can be executed.
    ///
    /// # Errors
    /// The reason why not.
    pub(super) fn check(&self) -> io::Result<()> {
        let executable = nix::unistd::AccessFlags::X_OK;
        nix::unistd::access(&self.program, executable)
            .map_err(|errno| io::Error::other(format!("{}: {errno}", self.program.display())))
    }

    /// Executes the program that is installed now in place of this one, in the foreground, with these descriptors. The signals that are
    /// blocked stay so, and wait for it.
    ///
    /// Descriptors 3 and 4 are those afterwards, whatever they were; so a process that this fails in must end at once.
    pub(super) fn execute(
        &self,
        descriptors: &[(&str, BorrowedFd<'_>)],
    ) -> io::Result<std::convert::Infallible> {
        let pid = std::process::id().to_string();
        let names: Vec<&str> = descriptors.iter().map(|(name, _)| *name).collect();
        let mut variables = self.variables.clone();
        if variables.get(WATCHDOG).is_some() {
            variables = variables.with(WATCHDOG_PID, &pid);
        }
        let variables = variables
            .with(LISTEN_PID, &pid)
            .with(LISTEN_FDS, names.len().to_string())
            .with(LISTEN_FDNAMES, names.join(":"));
        let own = std::env::vars_os();
        let own = own.map(|(name, value)| assignment(&name, &value));
        let passed = variables.iter();
        let passed = passed.map(|(name, value)| assignment(OsStr::new(name), value));
        let environment: Vec<CString> = own.chain(passed).collect::<Result<_, _>>()?;
        let mut arguments = self.arguments.clone();
        if !arguments.iter().any(is_foreground) {
            arguments.push(FOREGROUND[1].into());
        }
        let arguments = arguments
            .into_iter()
            .map(|text| CString::new(text.into_vec()));
        let arguments: Vec<CString> = arguments.collect::<Result<_, _>>()?;
        std::env::set_current_dir(&self.working_dir)?;
        let program = CString::new(self.program.as_os_str().as_bytes())?;

        // Out of the way first: one of them may lie in the place of another.
        let moved = descriptors.iter();
        let moved =
            moved.map(|(_, descriptor)| fcntl(descriptor, FcntlArg::F_DUPFD_CLOEXEC(ABOVE)));
        let moved: Vec<RawFd> = moved.collect::<Result<_, _>>()?;
        close_all_on_exec()?;
        for (place, descriptor) in (FIRST..).zip(moved) {
            put(descriptor, place)?;
        }
        // Not execvp(3), which std has: it gives a program that the kernel refuses to a shell.
        Ok(nix::unistd::execve(&program, &arguments, &environment)?)
    }
}

/// Whether an argument is the option, alone or among other short ones.
fn is_foreground(argument: &OsString) -> bool {
    let bytes = argument.as_bytes();
    let is_short = bytes.len() > 1 && bytes[0] == b'-' && bytes[1] != b'-';
    FOREGROUND.iter().any(|option| argument == option) || (is_short && bytes.contains(&b'f'))
}

fn assignment(name: &OsStr, value: &OsStr) -> io::Result<CString> {
    Ok(CString::new(
        [name.as_bytes(), b"=", value.as_bytes()].concat(),
    )?)
}

/// Also those that a C library has opened.
fn close_all_on_exec() -> io::Result<()> {
    // SAFETY: three numbers; no descriptor is closed now.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            FIRST,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    nix::errno::Errno::result(done)?;
    Ok(())
}

/// Makes `place` the same as `descriptor`, and stay open in the next program.
fn put(descriptor: RawFd, place: RawFd) -> io::Result<()> {
    // SAFETY: two numbers. Whatever `place` was, this process does not use it any more: it becomes another program, or ends.
    let put = unsafe { libc::dup2(descriptor, place) };
    nix::errno::Errno::result(put)?;
    Ok(())
}
