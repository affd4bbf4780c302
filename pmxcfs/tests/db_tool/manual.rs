//! The manual pages and completions belong to the command line as it is.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory};

use crate::place::tool;

/// A manual page as plain text: without escapes.
fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../man")
        .join(name);
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.replace("\\-", "-")
        .replace("\\fB", "")
        .replace("\\fI", "")
        .replace("\\fR", "")
}

/// All long options of a command and of its subcommands that `--help` shows.
fn options(command: &Command) -> BTreeSet<String> {
    let shown = command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set());
    let mut options: BTreeSet<String> = shown
        .filter_map(|argument| argument.get_long().map(|long| format!("--{long}")))
        .collect();
    for subcommand in command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
    {
        options.extend(self::options(subcommand));
    }
    options.insert("--help".to_owned());
    options
}

/// All words of a text that look like long options.
fn named_options(text: &str) -> BTreeSet<String> {
    text.split(|character: char| !character.is_ascii_alphanumeric() && character != '-')
        .filter(|word| word.starts_with("--") && word.len() > 2)
        .map(str::to_owned)
        .collect()
}

#[test]
fn manual_pages_name_every_option_and_no_other() {
    let pages = [
        ("pmxcfs.8", pmxcfs::cli::Options::command()),
        ("pmxcfs-db.8", pmxcfs::tools::db::Cli::command()),
        ("pmxcfs-ctl.8", pmxcfs::tools::ctl::Cli::command()),
    ];
    for (name, mut command) in pages {
        command.build();
        let named = named_options(&page(name));
        let mut expected = options(&command);
        expected.insert("--version".to_owned());
        assert_eq!(named, expected, "{name}");
    }
}

#[test]
fn the_pages_of_the_tools_have_every_command_argument_and_status() {
    assert_complete("pmxcfs-db.8", &pmxcfs::tools::db::Cli::command());
    assert_complete("pmxcfs-ctl.8", &pmxcfs::tools::ctl::Cli::command());
}

fn assert_complete(name: &str, command: &Command) {
    let text = page(name);
    for subcommand in command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
    {
        let heading = format!("\n.SS {}", subcommand.get_name());
        assert!(
            text.contains(&heading),
            "{name}: no section for {}",
            subcommand.get_name()
        );
        let arguments = subcommand.get_arguments();
        for argument in arguments.filter(|argument| argument.get_action().takes_values()) {
            for value in argument.get_value_names().unwrap_or_default() {
                assert!(text.contains(value.as_str()), "{name}: no {value}");
            }
        }
    }
    let help = command.get_after_help().expect("statuses").to_string();
    for line in help.lines().skip(1) {
        let status = line.split_whitespace().next().unwrap();
        assert!(
            text.contains(&format!("\n.B {status}\n")),
            "{name}: no status {status}"
        );
    }
}

#[test]
fn completions_know_every_option() {
    for (program, command) in [
        ("pmxcfs", pmxcfs::cli::Options::command()),
        ("pmxcfs-db", pmxcfs::tools::db::Cli::command()),
        ("pmxcfs-ctl", pmxcfs::tools::ctl::Cli::command()),
    ] {
        for shell in ["bash", "zsh", "fish"] {
            let script = tool(["completions", "--program", program, shell])
                .expect(0)
                .out;
            for option in options(&command) {
                let word = if shell == "fish" {
                    format!("-l {}", option.trim_start_matches('-'))
                } else {
                    option.clone()
                };
                assert!(script.contains(&word), "{program} {shell}: {option}");
            }
        }
    }
}
