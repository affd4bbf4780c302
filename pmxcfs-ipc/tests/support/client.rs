//! A well-behaved client in a process of its own.

use std::io;
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};

use super::qb::Client;
use super::service::{PATTERN, WHO, WORK, pattern};
use super::target::become_user;

/// A client with given ids that connects, says what came of it, and obeys.
pub fn run_client(arguments: &[String]) {
    let [service, uid, gid] = arguments else {
        panic!("service, uid, gid");
    };
    become_user(uid.parse().unwrap(), gid.parse().unwrap());
    let mut client = match Client::connect(service) {
        Ok(client) => client,
        Err(error) => {
            println!("refused {}", error.raw_os_error().unwrap());
            return;
        }
    };
    println!("connected");
    for line in io::stdin().lines() {
        match line.unwrap().as_str() {
            "who" => println!("{:?}", client.call(WHO, &[]).unwrap().body),
            "big" => {
                let size = 1_048_576 - 24;
                let reply = client.call(PATTERN, &number(size)).unwrap();
                println!("{}", reply.body == pattern(size as usize));
            }
            "work" => {
                let result = client.call(WORK, &number(300_000));
                println!("{:?}", result.map_err(|error| error.raw_os_error()).is_ok());
            }
            // Sends and does not wait for the answer.
            "send" => {
                client.send(WORK, &number(300_000)).unwrap();
                println!("sent");
            }
            // Leaves the connection to a child and dies.
            "bequeath" => {
                fcntl(client.stream(), FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
                let mut heir = Command::new("cat").stdout(Stdio::null()).spawn().unwrap();
                kill(nix::unistd::getpid(), Signal::SIGKILL).unwrap();
                heir.wait().unwrap();
            }
            other => panic!("command {other}"),
        }
    }
}

/// The body of requests that take a number.
pub fn number(value: u32) -> [u8; 4] {
    value.to_le_bytes()
}

/// Why something failed that should fail.
pub fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}
