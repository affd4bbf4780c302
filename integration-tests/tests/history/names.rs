//! Names of files: any bytes, and as shells complete them.

use std::os::unix::ffi::OsStrExt;

use super::*;

#[test]
fn names_that_are_no_text_are_told_apart_and_found() {
    let host = Host::new();
    let daemon = host.start();
    let names = [&b"a\xff.cfg"[..], b"a\xfe.cfg"].map(OsStr::from_bytes);
    let arguments = [OsStr::new("follow"), OsStr::new("--json"), names[0]];
    let mut follower = command(&host, arguments)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(follower.stdout.take().unwrap());
    let told = thread::spawn(move || {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        line
    });
    wait::until("the follower to hear of one", PATIENCE, || {
        for name in names {
            fs::write(host.path(name), "").unwrap();
        }
        told.is_finished().then_some(())
    });
    let told: Value = serde_json::from_str(&told.join().unwrap()).unwrap();
    assert_eq!(text(&told, "path"), "a\\xff.cfg");
    follower.kill().unwrap();
    follower.wait().unwrap();

    fs::write(host.path(names[0]), "two").unwrap();
    fs::write(host.path(names[1]), "three").unwrap();
    let arguments = [OsStr::new("history"), names[0], OsStr::new("--json")];
    let lines = ask(&host, arguments);
    assert!(
        lines.contains("a\\\\xff.cfg") && !lines.contains("xfe"),
        "{lines}"
    );
    let newest: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(newest["size"], 3);
    fs::rename(host.path(names[0]), host.path("b.cfg")).unwrap();
    let renamed = records(&host, "b.cfg").pop().unwrap();
    assert_eq!(text(&renamed, "from"), "a\\xff.cfg");
    let at = format!("@{}", newest["version"]);
    let then = OsStr::from_bytes(&[names[0].as_bytes(), at.as_bytes()].concat()).to_owned();
    assert_eq!(ask(&host, [OsStr::new("show"), &then]), "two");
    ask(&host, [OsStr::new("restore"), &then]);
    assert_eq!(fs::read(host.path(names[0])).unwrap(), b"two");
    assert_eq!(fs::read(host.path(names[1])).unwrap(), b"three");
    daemon.stop();
}

#[test]
fn shells_complete_paths_of_the_commands_of_the_history() {
    let script = |shell| {
        let output = Command::new(daemon::database_program())
            .args(["completions", "--program", "pmxcfs-ctl", shell])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    // bash completes files where the script has nothing.
    let bash = script("bash");
    let last = bash
        .lines()
        .rfind(|line| line.contains("complete -F"))
        .unwrap();
    assert!(last.contains("-o default"), "{last}");
    let host = Host::new();
    fs::write(host.root().join("storage.cfg"), "").unwrap();
    let zsh = script("zsh");
    let fish = script("fish");
    for command in ["history", "show", "diff", "restore", "follow"] {
        let (_, rest) = zsh.split_once(&format!("({command})")).unwrap();
        let (part, _) = rest.split_once(";;").unwrap();
        assert!(part.contains(":_files'"), "{command}: {part}");
        let words = format!(
            "cd {}; COMP_WORDS=(pmxcfs-ctl {command} stor); COMP_CWORD=2; ",
            host.root().display()
        );
        let call = "_pmxcfs-ctl pmxcfs-ctl stor; echo \"${COMPREPLY[@]}\"";
        let output = Command::new("bash")
            .args(["-c", &format!("{bash}\n{words}{call}")])
            .output()
            .unwrap();
        // The default completion of files follows an empty answer.
        assert_eq!(
            String::from_utf8(output.stdout).unwrap().trim(),
            "",
            "{command}"
        );
    }
    // fish completes files unless a line forbids it.
    for line in fish
        .lines()
        .filter(|line| line.contains("__fish_seen_subcommand_from history"))
    {
        assert!(!line.contains(" -f") || line.contains(" -a "), "{line}");
    }
}
