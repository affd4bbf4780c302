//! The command line.
//!
//! The C daemon's options and statuses, plus options for paths so that daemons can run beside each other.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Parser};
use pmxcfs_api_types::names::IPC_SERVICE;
use pmxcfs_config::{PathOptions, Paths};
use pmxcfs_ipc::Transport;

use crate::history::settings::Settings;

/// Status of a start that failed. Status 0 is not restarted by systemd, this is.
pub const EXIT_FAILURE: u8 = 255;

/// Serve the Proxmox VE cluster filesystem at /etc/pve
#[derive(Debug, Clone, Parser)]
#[command(name = "pmxcfs", disable_version_flag = true, version)]
pub struct Options {
    /// Turn on debug messages
    #[arg(short, long)]
    pub debug: bool,

    /// Do not daemonize server
    #[arg(short, long)]
    pub foreground: bool,

    /// Force local mode (ignore corosync.conf, force quorum)
    #[arg(short, long)]
    pub local: bool,

    /// Print help
    #[arg(long, action = ArgAction::Help, hide = true)]
    help_all: Option<bool>,

    /// Print version
    #[arg(long, action = ArgAction::Version)]
    version: Option<bool>,

    #[command(flatten)]
    paths: PathOptions,

    /// Name of the IPC service
    #[arg(long, value_name = "NAME", default_value = IPC_SERVICE)]
    pub ipc_name: String,

    /// Transport of the IPC service
    #[arg(long, value_enum, default_value_t)]
    pub ipc_transport: Transport,

    /// What is not an option; there must be nothing
    #[arg(hide = true)]
    arguments: Vec<OsString>,

    /// Name of this node [host name up to the first dot]
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,

    #[command(flatten)]
    pub(crate) history: Settings,
}

impl Options {
    /// The paths that result from the options.
    pub fn paths(&self) -> Paths {
        self.paths.paths()
    }
}

/// A command line that does not start the daemon.
#[derive(Debug)]
pub struct Ending {
    /// Help or version, or why the command line cannot be used.
    pub text: String,
    /// Exit status, as scripts know it from the C daemon: 0 if the text was asked for.
    pub status: u8,
}

/// Parses a command line, the program's name first.
///
/// # Errors
/// If it does not start the daemon.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Options, Ending> {
    let error = match Options::try_parse_from(arguments) {
        Ok(options) if options.arguments.is_empty() => return Ok(options),
        Ok(_) => {
            return Err(Ending {
                text: "too many arguments".to_owned(),
                status: EXIT_FAILURE,
            });
        }
        Err(error) => error,
    };
    let text = error.render().to_string();
    let reason = match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::DisplayHelp | ErrorKind::DisplayVersion, _) => {
            return Err(Ending { text, status: 0 });
        }
        (ErrorKind::UnknownArgument, Some(ContextValue::String(option))) => {
            format!("Unknown option {option}")
        }
        _ => {
            let first_line = text.lines().next().unwrap_or_default();
            first_line.trim_start_matches("error: ").to_owned()
        }
    };
    Err(Ending {
        text: format!("option parsing failed: {reason}"),
        status: 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Options, Ending> {
        parse(
            std::iter::once("pmxcfs")
                .chain(line.split_whitespace())
                .map(OsString::from),
        )
    }

    #[test]
    fn statuses_are_the_c_daemons() {
        for (line, code, text) in [
            ("--foo", 1, "option parsing failed: Unknown option --foo"),
            ("-X", 1, "option parsing failed: Unknown option -X"),
            ("-lX", 1, "option parsing failed: Unknown option -X"),
            ("--foo=1", 1, "option parsing failed: Unknown option --foo"),
            ("-V", 1, "option parsing failed: Unknown option -V"),
            ("argument", 255, "too many arguments"),
            ("-f argument", 255, "too many arguments"),
            ("-- -f", 255, "too many arguments"),
        ] {
            let error = parse_line(line).expect_err(line);
            assert_eq!((error.status, &*error.text), (code, text), "{line}");
        }
        let error = parse_line("--mount-dir").expect_err("lacks its value");
        assert_eq!(error.status, 1);
    }

    #[test]
    fn short_options_combine() {
        let options = parse_line("-lf --debug").expect("accepted by the C daemon");
        assert!(options.local && options.foreground && options.debug);
        assert_eq!(options.ipc_name, "pve2");
    }

    #[test]
    fn help_and_version_go_to_stdout() {
        for line in ["-h", "--help", "--help-all", "--version"] {
            let ending = parse_line(line).expect_err(line);
            assert!(ending.status == 0 && !ending.text.is_empty(), "{line}");
        }
    }
}
