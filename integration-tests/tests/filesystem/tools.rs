//! Common tools on the mount.

use std::fs;
use std::process::{Command, Stdio};

use integration_tests::{Check, Host};

#[test]
fn common_tools_end_as_they_did() {
    let host = Host::new();
    let daemon = host.start();
    let source = host.root().join("source");
    fs::write(&source, "one two\n").unwrap();
    let (source, mount) = (source.to_str().unwrap(), host.mount_dir());
    let mount = mount.to_str().unwrap();
    let script = |text: &str| {
        let script = text.replace("SRC", source).replace("MNT", mount);
        Command::new("bash")
            .args(["-c", &script])
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .code()
    };
    let mut check = Check::new();
    for (text, status) in [
        ("cp SRC MNT/cp", 0),
        ("cp -p SRC MNT/cp-p", 1),
        ("cp -a SRC MNT/cp-a", 1),
        ("install -m 600 SRC MNT/install", 1),
        ("cp SRC SRC.2 && mv SRC.2 MNT/mv", 0),
        ("sed -i s/one/ONE/ MNT/cp", 0),
        ("touch MNT/touched && touch MNT/touched", 0),
        (
            "tar -C MNT -cf SRC.tar cp mv && rm MNT/cp MNT/mv && tar -C MNT --no-same-owner --no-same-permissions -xf SRC.tar",
            0,
        ),
        ("cd MNT && mkdir d && cp -r cp mv d && rm -r d", 0),
        ("dd if=SRC of=MNT/dd bs=3 status=none conv=fsync", 0),
        ("exec 9>MNT/flocked && flock -n 9", 0),
    ] {
        check.equal(text, script(text), Some(status));
    }
    for name in ["cp-p", "cp-a", "install", "mv", "dd"] {
        check.equal(
            name,
            fs::read(host.path(name)).ok(),
            Some(b"one two\n".to_vec()),
        );
    }
    check.equal(
        "sed",
        fs::read(host.path("cp")).ok(),
        Some(b"ONE two\n".to_vec()),
    );
    drop(check);
    daemon.stop();
}
