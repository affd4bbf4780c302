//! Asks a running daemon over its IPC socket and prints the answer.

use std::io::Write;
use std::process::ExitCode;

use integration_tests::IpcClient;
use integration_tests::ipc_client::IpcError;

const USAGE: &str = "usage: pmxcfs-ipc-query SERVICE version|members|guests|log
       pmxcfs-ipc-query SERVICE read PATH
       pmxcfs-ipc-query SERVICE property VMID NAME     (VMID 0: all guests)
       pmxcfs-ipc-query SERVICE set KEY VALUE          (a status value of this node)
       pmxcfs-ipc-query SERVICE hold                   (stay connected until standard input ends)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let Some((service, query)) = arguments.split_first() else {
        return usage();
    };
    let mut client = match IpcClient::connect(service) {
        Ok(client) => client,
        Err(error) => {
            eprintln!("cannot connect to the service {service}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let answer = match query {
        ["version"] => client.version(),
        ["members"] => client.members(),
        ["guests"] => client.guests(),
        ["log"] => client.cluster_log(0, ""),
        ["hold"] => hold(&mut client),
        ["read", path] => client.config(path),
        // Values are sent as C texts, with their end.
        ["set", key, value] => client
            .set_status(key, format!("{value}\0").as_bytes())
            .map(|()| Vec::new()),
        ["property", vmid, name] => match vmid.parse() {
            Ok(vmid) => client.guest_property(vmid, name),
            Err(_) => return usage(),
        },
        _ => return usage(),
    };
    match answer {
        Ok(body) => match std::io::stdout().write_all(&body) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(IpcError::Refused(errno)) => {
            eprintln!("refused: {}", errno.desc());
            ExitCode::FAILURE
        }
        Err(IpcError::Transport(errno)) => {
            eprintln!("no answer: {}", errno.desc());
            ExitCode::FAILURE
        }
    }
}

fn hold(client: &mut IpcClient) -> Result<Vec<u8>, IpcError> {
    let answer = client.version()?;
    match std::io::copy(&mut std::io::stdin(), &mut std::io::sink()) {
        Ok(_ignored) => Ok(answer),
        Err(_closed) => Ok(Vec::new()),
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}
