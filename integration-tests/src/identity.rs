//! Acting as another user.
//!
//! On Linux credentials belong to a thread; only the C library's wrappers spread a change over the whole process. The
//! plain system calls change one thread, which ends afterwards.
#![expect(unsafe_code, reason = "the plain set*id system calls have no wrapper")]

use std::io;
use std::thread;

/// A user as the kernel knows it, without supplementary groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Identity {
    /// A user in no group that the daemon knows.
    pub const NOBODY: Self = Self {
        uid: 65534,
        gid: 65534,
    };

    /// The web server's user, whose group may read what is not private.
    ///
    /// # Panics
    /// If the system has no such user.
    #[must_use]
    pub fn www_data() -> Self {
        let user = nix::unistd::User::from_name("www-data")
            .expect("the user database can be read")
            .expect("the user www-data exists on every Debian system");
        Self {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
        }
    }

    /// Runs `action` as this user.
    ///
    /// # Panics
    /// If the process may not change its user, or if `action` panics.
    pub fn run<T: Send>(self, action: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.assume().expect("root can become any user");
                action()
            });
            match thread.join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    fn assume(self) -> io::Result<()> {
        let (uid, gid) = (libc::c_ulong::from(self.uid), libc::c_ulong::from(self.gid));
        // SAFETY: setgroups with no groups reads no memory.
        check(unsafe { libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()) })?;
        // SAFETY: setresgid takes numbers only.
        check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
        // SAFETY: setresuid takes numbers only.
        check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })
    }
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
