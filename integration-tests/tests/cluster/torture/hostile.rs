//! Clients of the daemon and users of the mount that mean no good.

use std::fs::{self, File, OpenOptions, ReadDir};
use std::io::{Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use integration_tests::IpcClient;
use integration_tests::cluster::{ClusterHost, Random};
use integration_tests::identity::Identity;

/// How many there are at once.
const CLIENT_COUNT: u64 = 64;

/// How many users of the mount there are at once.
const USER_COUNT: u64 = 16;

/// Directories that each of them keeps open.
const OPEN_COUNT: usize = 64;

/// The daemon's service.
const SERVICE: &str = "pve2";

/// Bytes of an abstract name as libqb spells it: padded with zeros, without the leading one.
const NAME_SIZE: usize = 107;

/// Bytes of a connection request: id, size, largest message.
const CONNECTION_REQUEST_SIZE: usize = 24;

/// Id of a connection request.
const AUTHENTICATE: i32 = -1;

/// How long one waits for what may never come.
const PATIENCE: Duration = Duration::from_millis(100);

/// Lets them at the daemon of a host for this time, as the web server's user. Nothing that they get matters.
pub(super) fn clients(host: &ClusterHost, time: Duration) {
    let end = Instant::now() + time;
    host.inside(|| {
        thread::scope(|scope| {
            for number in 0..CLIENT_COUNT {
                scope.spawn(move || {
                    Identity::www_data().run(|| {
                        let mut random = Random::new(number);
                        while Instant::now() < end {
                            misbehave(&mut random);
                        }
                    });
                });
            }
        });
    });
}

/// Lets users without any right at the mount of a host for this time: they keep open what they can, and try what they may not.
pub(super) fn mount_users(host: &ClusterHost, time: Duration) {
    let end = Instant::now() + time;
    host.inside(|| {
        thread::scope(|scope| {
            for number in 0..USER_COUNT {
                scope.spawn(move || {
                    Identity::NOBODY.run(|| {
                        let mut random = Random::new(number);
                        let mut open: Vec<ReadDir> = Vec::new();
                        while Instant::now() < end {
                            trespass(&mut random, &mut open);
                        }
                    });
                });
            }
        });
    });
}

fn trespass(random: &mut Random, open: &mut Vec<ReadDir>) {
    let names = [
        "",
        "nodes",
        "priv",
        "priv/lock",
        ".version",
        "missing",
        "local",
    ];
    let path = Path::new("/etc/pve").join(random.choose(&names));
    let new = path.join(format!("new{}", random.below(4)));
    match random.below(7) {
        0 => drop(File::open(&path).map(|mut file| file.read(&mut [0; 64]))),
        1 => drop(
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .open(&new),
        ),
        2 => drop(fs::create_dir(&new)),
        3 => drop(fs::rename(&path, &new)),
        4 => drop(fs::remove_file(&path).or_else(|_error| fs::remove_dir(&path))),
        5 => drop(fs::metadata(path.join("n".repeat(1 + random.index(2000))))),
        _ => {
            if let Ok(mut listing) = fs::read_dir(&path) {
                let _first = listing.next();
                open.push(listing);
            }
            if open.len() > OPEN_COUNT {
                open.swap_remove(random.index(OPEN_COUNT));
            }
        }
    }
}

fn misbehave(random: &mut Random) {
    match random.below(5) {
        0 => send_bytes(random),
        1 => ask_for_a_connection_and_vanish(random),
        2 => lie_about_sizes(random),
        3 => ask_for_much_and_vanish(random),
        _ => say_nothing(),
    }
}

fn connect() -> Option<UnixStream> {
    let mut name = [0; NAME_SIZE];
    name[..SERVICE.len()].copy_from_slice(SERVICE.as_bytes());
    let address = SocketAddr::from_abstract_name(name).expect("the name fits");
    let stream = UnixStream::connect_addr(&address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    Some(stream)
}

fn say_nothing() {
    let Some(mut stream) = connect() else { return };
    let _result = stream.read(&mut [0; 64]);
}

/// Any bytes where a connection request should be, also too few of them.
fn send_bytes(random: &mut Random) {
    let Some(mut stream) = connect() else { return };
    let size = random.index(2 * CONNECTION_REQUEST_SIZE);
    let bytes: Vec<u8> = (0..size)
        .map(|_| random.below(256).to_le_bytes()[0])
        .collect();
    let _result = stream.write_all(&bytes);
    let _result = stream.read(&mut [0; 64]);
}

/// A request that is well-formed but for the size of its messages; the answer is not read to its end.
fn ask_for_a_connection_and_vanish(random: &mut Random) {
    let Some(mut stream) = connect() else { return };
    let sizes = [0, 1, 8192, 1 << 20, 1 << 30, u32::MAX];
    let mut request = [0; CONNECTION_REQUEST_SIZE];
    request[..4].copy_from_slice(&AUTHENTICATE.to_le_bytes());
    request[8..12].copy_from_slice(&24u32.to_le_bytes());
    request[16..20].copy_from_slice(&random.choose(&sizes).to_le_bytes());
    let _result = stream.write_all(&request);
    let mut part = vec![0; random.index(200)];
    let _result = stream.read(&mut part);
}

fn lie_about_sizes(random: &mut Random) {
    let Ok(mut client) = IpcClient::connect(SERVICE) else {
        return;
    };
    let operation = i32::try_from(random.below(16)).expect("a small number");
    let claims = [i32::MIN, -1, 0, 15, 16, 17, 1 << 20, i32::MAX];
    let body = vec![0xff; random.index(600)];
    let _result = client.request_claiming(operation, random.choose(&claims), &body);
}

/// Everything that is large, and what the web server may not do.
fn ask_for_much_and_vanish(random: &mut Random) {
    let Ok(mut client) = IpcClient::connect(SERVICE) else {
        return;
    };
    for _ in 0..random.below(20) {
        let _result = client.guests();
        let _result = client.cluster_log(0, "");
        let _result = client.set_status("hostile", b"value\0");
        let _result = client.config("priv/authkey.key");
        let _result = client.guest_property(0, "lock");
    }
}
