//! Programs that use a mount while its daemon comes and goes.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use integration_tests::daemon::database_program;
use integration_tests::{Host, tell, wait};
use nix::mount::{MntFlags, umount2};
use nix::sys::statfs::statfs;

const PATIENCE: Duration = Duration::from_secs(20);

/// Kills, changes, readers and the like: more than by default if a variable says so.
pub(crate) fn number(variable: &str, default: usize) -> usize {
    let set = std::env::var(variable).ok();
    set.map_or(default, |number| number.parse().unwrap())
}

/// A host with as many files and guests as two variables say.
pub(crate) fn filled_host() -> Host {
    let host = Host::new();
    let (file_count, guest_count) = (number("PMXCFS_FILES", 0), number("PMXCFS_GUESTS", 0));
    if file_count + guest_count == 0 {
        return host;
    }
    let source = host.root().join("source");
    let guests = source.join("nodes/node1/qemu-server");
    fs::create_dir_all(&guests).unwrap();
    for id in 0..guest_count {
        fs::write(
            guests.join(format!("{}.conf", 100 + id)),
            "name: guest\n".repeat(40),
        )
        .unwrap();
    }
    for file in 0..file_count {
        let directory = source.join(format!("many/{}", file / 100));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("{file}")), "content").unwrap();
    }
    fs::create_dir_all(host.state_dir()).unwrap();
    let mut import = Command::new(database_program());
    import.args(["import", "--root-dir"]).arg(host.root());
    assert!(import.arg(&source).status().unwrap().success());
    host
}

/// Readers of all kinds, as many as a variable says. The kernel learns all names before.
pub(crate) fn readers(host: &Host, default: usize) -> Vec<(&'static str, Look<'_>)> {
    let mut list = Command::new("ls");
    list.arg("-lR").arg(host.mount_dir()).stdout(Stdio::null());
    assert!(list.status().unwrap().success());
    let count = number("PMXCFS_READERS", default);
    let sets = (0..count).step_by(5).flat_map(|_| looks(host));
    sets.take(count).collect()
}

pub(crate) fn report(longest: Duration) {
    tell(&format!("the longest operation took {longest:?}"));
}

/// The requests that one reader repeats.
pub(crate) type Look<'a> = Box<dyn FnMut() -> std::io::Result<()> + Send + 'a>;

/// Makes what readers look at, and one reader of each kind.
pub(crate) fn looks(host: &Host) -> Vec<(&'static str, Look<'_>)> {
    let directory = host.path("d");
    if !directory.exists() {
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("f"), "content").unwrap();
    }
    let kept = File::open(directory.join("f")).unwrap();
    let path = directory.join("f");
    let (read, listed, root) = (path.clone(), directory, host.mount_dir());
    let is_content = |found: &[u8]| match found {
        b"content" => Ok(()),
        other => Err(std::io::Error::other(format!("{other:?}"))),
    };
    vec![
        ("cat", Box::new(move || is_content(&fs::read(&read)?))),
        ("stat", Box::new(move || fs::metadata(&path).map(drop))),
        (
            "ls",
            Box::new(move || {
                let names = fs::read_dir(&listed)?;
                let names: Result<Vec<_>, _> = names.map(|entry| Ok(entry?.file_name())).collect();
                let names: Vec<_> = names.map_err(|error: std::io::Error| error)?;
                is_content(if names == ["f"] { b"content" } else { b"?" })
            }),
        ),
        (
            "pread",
            Box::new(move || {
                let mut content = [0; 7];
                kept.read_exact_at(&mut content, 0)?;
                is_content(&content)
            }),
        ),
        (
            "statfs",
            Box::new(move || statfs(&root).map(drop).map_err(Into::into)),
        ),
    ]
}

/// A shell that stands in the mount and uses it, until it is told to end.
pub(crate) struct Inhabitant(std::process::Child, PathBuf);

impl Inhabitant {
    pub(crate) fn start(host: &Host) -> Self {
        let end = host.root().join("end");
        let script = "while [ ! -e \"$0\" ]; do ls . | grep -qx f && [ \"$(cat f)\" = content ] && cd ../d || exit 1; done";
        let mut shell = Command::new("bash");
        shell.args(["-c", script]).arg(&end);
        shell.current_dir(host.path("d"));
        Self(shell.spawn().unwrap(), end)
    }

    pub(crate) fn end(mut self) {
        fs::write(&self.1, "").unwrap();
        assert!(self.0.wait().unwrap().success(), "the shell saw an error");
        fs::remove_file(&self.1).unwrap();
    }
}

/// How often each reader has looked.
pub(crate) struct Counts(Vec<AtomicU64>);

impl Counts {
    fn now(&self) -> Vec<u64> {
        let counts = self.0.iter();
        counts.map(|count| count.load(Ordering::Relaxed)).collect()
    }
}

/// Has readers read while something happens. Returns the longest time that one look took.
pub(crate) fn while_read(
    host: &Host,
    looks: Vec<(&'static str, Look<'_>)>,
    happens: impl FnOnce(&Counts),
) -> Duration {
    let is_over = AtomicBool::new(false);
    let counts = Counts(looks.iter().map(|_look| AtomicU64::new(0)).collect());
    std::thread::scope(|scope| {
        let readers: Vec<_> = looks
            .into_iter()
            .zip(&counts.0)
            .map(|((name, mut look), count)| {
                let is_over = &is_over;
                scope.spawn(move || {
                    let mut longest = Duration::ZERO;
                    while !is_over.load(Ordering::Relaxed) {
                        let begin = Instant::now();
                        look().map_err(|error| format!("{name}: {error}"))?;
                        longest = longest.max(begin.elapsed());
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok::<_, String>(longest)
                })
            })
            .collect();
        let happened = std::panic::catch_unwind(AssertUnwindSafe(|| happens(&counts)));
        is_over.store(true, Ordering::Relaxed);
        if let Err(panic) = happened {
            // Readers that wait for a daemon that does not come get an error.
            let _aborted = umount2(&host.mount_dir(), MntFlags::MNT_FORCE);
            std::panic::resume_unwind(panic);
        }
        let longest = readers.into_iter().map(|reader| reader.join().unwrap());
        longest.map(|longest| longest.unwrap()).max().unwrap()
    })
}

/// Waits until the readers together have looked so often again, and each of them once: no reader waits through several kills.
pub(crate) fn await_more(counts: &Counts, more: u64) {
    let before = counts.now();
    wait::until("readers to read", PATIENCE, || {
        let grown = counts.now().into_iter().zip(&before);
        let grown: Vec<u64> = grown.map(|(now, before)| now - before).collect();
        (grown.iter().sum::<u64>() >= more && !grown.contains(&0)).then_some(())
    });
}

/// Changes names of its own, so each change has one right answer: a change that was done twice fails the second time.
pub(crate) fn writer(host: &Host, number: usize) -> Look<'static> {
    let lock = host.path(format!("lock{number}"));
    let file = host.path(format!("file{number}"));
    let (new, log) = (
        file.with_extension("new"),
        host.path(format!("log{number}")),
    );
    let mut appended = 0;
    Box::new(move || {
        fs::create_dir(&lock)?;
        let mut made = File::create_new(&new)?;
        made.write_all(b"content")?;
        drop(made);
        fs::rename(&new, &file)?;
        File::options()
            .create(true)
            .append(true)
            .open(&log)?
            .write_all(b"x")?;
        appended += 1;
        let found = fs::read(&log)?.len();
        if found != appended {
            let text = format!("{found} bytes after {appended} appends");
            return Err(std::io::Error::other(text));
        }
        fs::remove_file(&file)?;
        fs::remove_dir(&lock)
    })
}
