//! Clients that lie. What they send must harm nobody else.

use std::fs;

use integration_tests::identity::Identity;
use integration_tests::{Host, IpcClient, proc};

use crate::requests::{ask, field, property, set};

/// What requests are made of: small numbers and parts of a private file's path.
const ALPHABET: &[u8] = b"\0\0\x01\x02/privnodesecret.~\xff";

const OPERATIONS: [i32; 13] = [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 99];

#[test]
fn sizes_in_headers_are_not_believed() {
    let host = Host::new();
    let daemon = host.start();
    let mut other = host.ipc();
    other.set_status("key", b"value\0").unwrap();
    for size in [i32::MIN, -1, 0, 17, 2_000_000_000] {
        for operation in OPERATIONS {
            for body in [&b"ab\0"[..], &set(b"sneaked", b"v\0")] {
                let mut client = host.ipc();
                // Refused, answered or disconnected: the next lines say what matters.
                let _any = client.request_claiming(operation, size, body);
            }
        }
        assert_eq!(other.status("key", ""), Ok(b"value\0".to_vec()), "{size}");
        if let Ok(value) = other.status("sneaked", "") {
            assert_eq!(value, b"v\0", "only what was sent is stored");
        }
    }
    daemon.stop();
}

#[test]
fn random_requests_of_the_web_server_change_nothing() {
    let host = Host::new();
    let daemon = host.start();
    fs::create_dir_all(host.path("priv")).unwrap();
    fs::write(host.path("priv/secret"), "SECRET").unwrap();
    fs::write(host.path("priv/token.cfg"), "SECRET\n").unwrap();
    let mut root = host.ipc();
    root.set_status("key", b"value\0").unwrap();
    let before = (root.version(), root.cluster_log(0, ""));
    Identity::www_data().run(|| {
        let mut client = host.ipc();
        let mut state = 88_172_645_463_325_252_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..5000 {
            let operation = i32::try_from(random() % 15).unwrap();
            let length = usize::try_from(random() % 600).unwrap();
            let body: Vec<u8> = (0..length)
                .map(|_| ALPHABET[usize::try_from(random()).unwrap() % ALPHABET.len()])
                .collect();
            if let Ok(answer) = client.request(operation, &body) {
                assert!(!answer.windows(6).any(|part| part == b"SECRET"));
            }
        }
        assert!(
            client.is_connected(),
            "a refusal is no reason to disconnect"
        );
    });
    assert_eq!((root.version(), root.cluster_log(0, "")), before);
    daemon.stop();
}

/// The C daemon grew by 88 MB on these token requests.
#[test]
fn refused_requests_do_not_cost_memory() {
    const ALLOWED_GROWTH: u64 = 8 << 20;
    let host = Host::new();
    let daemon = host.start();
    fs::create_dir_all(host.path("priv")).unwrap();
    fs::create_dir_all(host.path("nodes/node1/lxc")).unwrap();
    fs::write(host.path("priv/token.cfg"), "x".repeat(3000)).unwrap();
    fs::write(host.path("nodes/node1/lxc/100.conf"), "arch: amd64\n").unwrap();
    let round = |client: &mut IpcClient, number: u32| {
        let token = [vec![b'y'; 3500], vec![0]].concat();
        let missing = [field(number.to_string().as_bytes()), field(b"")].concat();
        let name = format!("p{number}");
        drop(ask(client, 12, &token));
        drop(ask(client, 5, &missing));
        drop(ask(
            client,
            11,
            &property(100 + number % 900, name.as_bytes()),
        ));
        drop(ask(client, 11, &property(0, name.as_bytes())));
        drop(ask(client, 4, &set(b"removed", b"")));
    };
    let mut client = host.ipc();
    for number in 0..2000 {
        round(&mut client, number);
    }
    let before = proc::resident_bytes(daemon.pid());
    for number in 2000..12_000 {
        round(&mut client, number);
    }
    let growth = proc::resident_bytes(daemon.pid()).saturating_sub(before);
    assert!(growth < ALLOWED_GROWTH, "grown by {growth} bytes");
    daemon.stop();
}

#[test]
fn tables_that_are_full_refuse_and_the_rest_works() {
    let host = Host::new();
    let daemon = host.start();
    let mut client = host.ipc();
    let large = vec![b'v'; 32_768];
    let accepted = (0..100_000)
        .take_while(|number| client.set_status(&format!("key{number}"), &large).is_ok())
        .count();
    assert!(
        (100..100_000).contains(&accepted),
        "{accepted} values of 32 KiB"
    );
    assert!(proc::resident_bytes(daemon.pid()) < 512 << 20);
    client.set_status("key0", b"").unwrap();
    client.set_status("another", b"v\0").unwrap();
    assert_eq!(client.status("another", ""), Ok(b"v\0".to_vec()));
    client.version().unwrap();
    daemon.stop();
}
