//! Worker processes, started together.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

struct Worker {
    process: Child,
    output: BufReader<ChildStdout>,
}

/// Runs `arguments` (and each worker's number) in `count` processes of this program at once and returns the sum of their
/// rates, in operations per second.
pub(crate) fn rate(count: u32, arguments: &[&str]) -> io::Result<f64> {
    let mut workers = (0..count)
        .map(|number| spawn(number, arguments))
        .collect::<io::Result<Vec<_>>>()?;
    for worker in &mut workers {
        let line = read_line(worker)?;
        if line != "ready" {
            return Err(io::Error::other(format!("a worker says {line:?}")));
        }
    }
    for worker in &mut workers {
        let mut input = worker
            .process
            .stdin
            .take()
            .ok_or(io::ErrorKind::BrokenPipe)?;
        input.write_all(b"go\n")?;
    }
    let mut sum = 0.0;
    for worker in &mut workers {
        let line = read_line(worker)?;
        sum +=
            parse_rate(&line).ok_or_else(|| io::Error::other(format!("a worker says {line:?}")))?;
        worker.process.wait()?;
    }
    Ok(sum)
}

fn spawn(number: u32, arguments: &[&str]) -> io::Result<Worker> {
    let mut process = Command::new(Path::new("/proc/self/exe"))
        .args(arguments)
        .arg(number.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = process.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    Ok(Worker {
        process,
        output: BufReader::new(output),
    })
}

fn read_line(worker: &mut Worker) -> io::Result<String> {
    let mut line = String::new();
    worker.output.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

fn parse_rate(line: &str) -> Option<f64> {
    let (operations, seconds) = line.split_once(' ')?;
    let (operations, seconds): (f64, f64) = (operations.parse().ok()?, seconds.parse().ok()?);
    Some(operations / seconds)
}
