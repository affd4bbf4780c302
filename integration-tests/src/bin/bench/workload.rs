//! What the worker processes do.
//!
//! A worker is a process of its own, as the daemon's users are. It prepares, says `ready` on standard output, waits for a
//! line on standard input, works for the given time, and prints operations and seconds.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use integration_tests::IpcClient;

use crate::ipc;

/// Names in the directory that is listed and looked up in.
pub(crate) const NAME_COUNT: usize = 2_000;

const KIB: usize = 1024;
const PAGE: usize = 4 * KIB;
const LARGE_FILE_SIZE: usize = 256 * PAGE;
const BATCH: usize = 100;

/// Numbers of processes that each work is measured with.
pub(crate) const PROCESS_COUNTS: [u32; 2] = [1, 4];

/// One kind of work, and the least share of the floor's rate that the daemon has to reach, in percent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workload {
    /// Name on the command line and in the table.
    pub(crate) name: &'static str,
    /// What one operation is.
    pub(crate) operation: &'static str,
    /// Least share of the floor, in percent.
    pub(crate) bar_percent: u32,
    work: fn(&mut Worker) -> io::Result<()>,
}

/// Share for operations that change something, in percent: they are also recorded.
const WRITE_BAR: u32 = 50;
/// Share for operations that only look, in percent.
const READ_BAR: u32 = 90;

/// All kinds of work, in the order of the table.
pub(crate) static WORKLOADS: [Workload; 10] = [
    Workload {
        name: "create",
        operation: "create + write 1 KiB + close",
        bar_percent: WRITE_BAR,
        work: create,
    },
    Workload {
        name: "overwrite",
        operation: "write 4 KiB over a 4 KiB file",
        bar_percent: WRITE_BAR,
        work: overwrite,
    },
    Workload {
        name: "random",
        operation: "write 4 KiB somewhere in 1 MiB",
        bar_percent: WRITE_BAR,
        work: random,
    },
    Workload {
        name: "replace",
        operation: "rename over an existing file",
        bar_percent: WRITE_BAR,
        work: replace,
    },
    Workload {
        name: "remove",
        operation: "remove a file",
        bar_percent: WRITE_BAR,
        work: remove,
    },
    Workload {
        name: "stat",
        operation: "stat, one of 2000 names",
        bar_percent: READ_BAR,
        work: stat,
    },
    Workload {
        name: "missing",
        operation: "stat of a missing name",
        bar_percent: READ_BAR,
        work: missing,
    },
    Workload {
        name: "read",
        operation: "open + read 1 KiB + close",
        bar_percent: READ_BAR,
        work: read,
    },
    Workload {
        name: "read-large",
        operation: "open + read 1 MiB + close",
        bar_percent: READ_BAR,
        work: read_large,
    },
    Workload {
        name: "list",
        operation: "list 2000 names",
        bar_percent: READ_BAR,
        work: list,
    },
];

/// The work of this name.
pub(crate) fn find(name: &str) -> Option<&'static Workload> {
    WORKLOADS.iter().find(|workload| workload.name == name)
}

/// Makes what the workers read: once per mounted filesystem.
pub(crate) fn prepare(mount_dir: &Path) -> io::Result<()> {
    let names = mount_dir.join("names");
    fs::create_dir(&names)?;
    for number in 0..NAME_COUNT {
        File::create(names.join(number.to_string()))?;
    }
    fs::write(mount_dir.join("small"), vec![b's'; KIB])?;
    fs::write(mount_dir.join("large"), vec![b'l'; LARGE_FILE_SIZE])
}

struct Worker {
    mount_dir: PathBuf,
    own_dir: PathBuf,
    duration: Duration,
    operations: u64,
    worked: Duration,
}

impl Worker {
    fn new(mount_dir: &Path, own_dir: &Path, duration: Duration) -> Self {
        Self {
            mount_dir: mount_dir.to_owned(),
            own_dir: own_dir.to_owned(),
            duration,
            operations: 0,
            worked: Duration::ZERO,
        }
    }

    fn report(&self) -> io::Result<()> {
        let seconds = self.worked.as_secs_f64();
        writeln!(io::stdout(), "{} {seconds}", self.operations)
    }

    /// Repeats `operation` for the whole time.
    fn repeat(&mut self, mut operation: impl FnMut(u64) -> io::Result<()>) -> io::Result<()> {
        self.await_start()?;
        let start = Instant::now();
        while start.elapsed() < self.duration {
            operation(self.operations)?;
            self.operations += 1;
        }
        self.worked = start.elapsed();
        Ok(())
    }

    fn await_start(&self) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(b"ready\n")?;
        stdout.flush()?;
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        Ok(())
    }
}

/// Runs one IPC worker in this process.
pub(crate) fn run_ipc(operation: &str, service: &str, duration: Duration) -> io::Result<()> {
    let mut client = IpcClient::connect(service)?;
    let mut worker = Worker::new(Path::new(""), Path::new(""), duration);
    worker.repeat(|_number| ipc::request(&mut client, operation))?;
    worker.report()
}

/// Runs one worker in this process.
pub(crate) fn run(
    name: &str,
    mount_dir: &Path,
    number: &str,
    duration: Duration,
) -> io::Result<()> {
    let workload = find(name).ok_or(io::ErrorKind::InvalidInput)?;
    let own_dir = mount_dir.join(format!("worker-{number}"));
    fs::create_dir(&own_dir)?;
    let mut worker = Worker::new(mount_dir, &own_dir, duration);
    (workload.work)(&mut worker)?;
    fs::remove_dir_all(&own_dir)?;
    worker.report()
}

fn create(worker: &mut Worker) -> io::Result<()> {
    let own_dir = worker.own_dir.clone();
    let data = [b'c'; KIB];
    worker.repeat(|number| File::create_new(own_dir.join(number.to_string()))?.write_all(&data))
}

fn overwrite(worker: &mut Worker) -> io::Result<()> {
    let file = File::create_new(worker.own_dir.join("file"))?;
    let mut data = [b'o'; PAGE];
    file.write_all_at(&data, 0)?;
    worker.repeat(|number| {
        data[..8].copy_from_slice(&number.to_le_bytes());
        file.write_all_at(&data, 0)
    })
}

fn random(worker: &mut Worker) -> io::Result<()> {
    let path = worker.own_dir.join("file");
    fs::write(&path, vec![b'r'; LARGE_FILE_SIZE])?;
    let file = OpenOptions::new().write(true).open(path)?;
    let mut data = [b'R'; PAGE];
    worker.repeat(|number| {
        data[..8].copy_from_slice(&number.to_le_bytes());
        // Knuth's multiplicative hash: far apart, no two runs differ.
        let page =
            (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % (LARGE_FILE_SIZE / PAGE) as u64;
        file.write_all_at(&data, page * PAGE as u64)
    })
}

fn replace(worker: &mut Worker) -> io::Result<()> {
    let target = worker.own_dir.join("target");
    fs::write(&target, [b't'; KIB])?;
    use_up(worker, |source| fs::rename(source, &target))
}

fn remove(worker: &mut Worker) -> io::Result<()> {
    use_up(worker, |source| fs::remove_file(source))
}

/// Repeats an operation that takes a file away. Making the files is not counted.
fn use_up(worker: &mut Worker, operation: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    let sources: Vec<PathBuf> = (0..BATCH)
        .map(|number| worker.own_dir.join(number.to_string()))
        .collect();
    worker.await_start()?;
    let start = Instant::now();
    while start.elapsed() < worker.duration {
        for source in &sources {
            fs::write(source, [b's'; KIB])?;
        }
        let batch = Instant::now();
        for source in &sources {
            operation(source)?;
        }
        worker.worked += batch.elapsed();
        worker.operations += BATCH as u64;
    }
    Ok(())
}

fn stat(worker: &mut Worker) -> io::Result<()> {
    let names = worker.mount_dir.join("names");
    let paths: Vec<PathBuf> = (0..NAME_COUNT)
        .map(|number| names.join(number.to_string()))
        .collect();
    let mut next = paths.iter().cycle();
    worker.repeat(|_number| match next.next() {
        Some(path) => fs::metadata(path).map(|_metadata| ()),
        None => Ok(()),
    })
}

fn missing(worker: &mut Worker) -> io::Result<()> {
    let path = worker.mount_dir.join("names/missing");
    worker.repeat(|_number| match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(_metadata) => Err(io::ErrorKind::AlreadyExists.into()),
    })
}

fn read(worker: &mut Worker) -> io::Result<()> {
    read_whole(worker, "small", KIB)
}

fn read_large(worker: &mut Worker) -> io::Result<()> {
    read_whole(worker, "large", LARGE_FILE_SIZE)
}

fn read_whole(worker: &mut Worker, name: &str, size: usize) -> io::Result<()> {
    let path = worker.mount_dir.join(name);
    let mut buffer = vec![0; size];
    worker.repeat(|_number| File::open(&path)?.read_exact(&mut buffer))
}

fn list(worker: &mut Worker) -> io::Result<()> {
    let names = worker.mount_dir.join("names");
    worker.repeat(|_number| match fs::read_dir(&names)?.count() {
        NAME_COUNT => Ok(()),
        _other => Err(io::ErrorKind::InvalidData.into()),
    })
}
