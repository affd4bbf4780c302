//! Looking again and again.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc;

use integration_tests::Host;

use crate::{FAILED, HEALTHY, PATIENCE, command, run};

#[test]
fn each_look_is_a_page_with_rates() {
    let host = Host::new();
    let daemon = host.start();
    fs::write(host.path("f"), "x").unwrap();
    let answer = run(&mut command(&host, ["watch", "-n", "1", "--count", "3"]));
    let text = answer.expect(HEALTHY);
    let pages: Vec<&str> = text.split_terminator("\n\npmxcfs ").collect();
    assert_eq!(pages.len(), 3, "{text}");
    for page in &pages[1..] {
        assert!(page.contains("node1: healthy"), "{page}");
        assert!(page.contains("per second"), "{page}");
        let rates = page.lines().filter(|line| line.starts_with("  create "));
        assert_eq!(rates.count(), 1, "{page}");
        assert!(
            !page.contains("control socket"),
            "what never changes is left out"
        );
    }
    assert!(
        !text.contains('\x1b'),
        "no escapes where there is no terminal"
    );
    daemon.stop();
}

#[test]
fn it_outlives_the_daemon() {
    let host = Host::new();
    let mut watch = command(&host, ["watch", "-n", "1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let (seen, line) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        lines
            .map_while(Result::ok)
            .try_for_each(|text| seen.send(text))
    });
    let await_line = |part: &str| {
        while !line.recv_timeout(PATIENCE).unwrap().contains(part) {}
    };
    await_line("There is no control socket");
    let daemon = host.start();
    await_line("node1: healthy");
    daemon.kill();
    await_line("Nobody listens");
    let daemon = host.start();
    await_line("node1: healthy");
    daemon.stop();
    await_line("There is no control socket");
    watch.kill().unwrap();
    watch.wait().unwrap();
    reader.join().unwrap().unwrap();
}

#[test]
fn its_status_is_that_of_the_last_look() {
    let host = Host::new();
    let answer = run(&mut command(&host, ["watch", "--count", "1"]));
    assert_eq!(answer.status, FAILED);
    assert!(answer.out.contains("is pmxcfs running?"), "{answer:?}");
}

#[test]
fn who_has_seen_enough_may_leave() {
    let host = Host::new();
    let daemon = host.start();
    let mut watch = command(&host, ["watch", "-n", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(watch.stdout.take().unwrap())
        .read_line(&mut first)
        .unwrap();
    let output = watch.wait_with_output().unwrap();
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "",
        "no complaint"
    );
    assert!(first.contains("node1"), "{first}");
    daemon.stop();
}
