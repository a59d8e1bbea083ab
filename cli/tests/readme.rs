//! What the README tells a newcomer to type works as it is written.

mod support;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use support::{CORELANE, SMALL_JOURNAL};

const README: &str = include_str!("../../README.md");

/// The commands of all `sh` blocks, in order.
fn commands() -> Vec<&'static str> {
    let mut commands = Vec::new();
    let mut in_block = false;
    for line in README.lines() {
        match line.trim_start().strip_prefix("```") {
            Some(language) => in_block = !in_block && language == "sh",
            None if in_block => commands.push(line),
            None => {}
        }
    }
    assert!(!in_block, "the README's last block is not closed");
    commands
}

#[test]
fn the_two_commands_of_a_fresh_machine_are_named() {
    let commands = commands();
    for command in ["cargo run --release -- perf", "cargo test --workspace"] {
        assert!(
            commands.iter().any(|line| line.starts_with(command)),
            "`{command}` is in no sh block of README.md"
        );
    }
}

/// Commands of cargo build or test this very workspace and are run by `.ci/run`; the others run
/// here, one after the other in one shell, in an empty directory. The port is chosen here, since the
/// default one may be taken.
#[test]
fn the_first_use_works() {
    let script: Vec<_> = commands()
        .into_iter()
        .filter(|line| !line.trim_start().starts_with("cargo "))
        .collect();
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    // Held together, so that they differ.
    let ports = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let [address, admin] = ports.map(|port| port.local_addr().unwrap().to_string());
    let path = std::env::var("PATH").unwrap();
    let binaries = Path::new(CORELANE).parent().unwrap().display();
    let output = Command::new("timeout")
        .args(["--kill-after=10", "120", "bash", "-euo", "pipefail", "-c"])
        .arg(format!(
            "trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n{}",
            script.join("\n")
        ))
        .current_dir(directory.path())
        .env("PATH", format!("{binaries}:{path}"))
        .env("CORELANE_LISTEN", &address)
        .env("CORELANE_BROKER", &address)
        .env("CORELANE_ADMIN_LISTEN", &admin)
        .env("CORELANE_ADMIN", &admin)
        .envs(SMALL_JOURNAL)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}\n--- ended with {}\n{}{}",
        script.join("\n"),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}
