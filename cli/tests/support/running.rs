//! A client command that goes on while the test does other things.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use super::TestBroker;
use super::broker_process::OwnedChild;

/// The lines of a stream as they come.
pub(crate) fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let line = line.expect("text");
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Waits for a line that begins so.
#[track_caller]
pub(crate) fn await_line(lines: &Receiver<String>, start: &str) -> String {
    let patience = Duration::from_secs(60);
    loop {
        let line = lines.recv_timeout(patience).expect("the line comes");
        if line.starts_with(start) {
            return line;
        }
    }
}

/// Starts a client command with all its streams piped.
pub(crate) fn spawn(broker: &TestBroker, arguments: &[&str]) -> OwnedChild {
    let mut command = broker.command(arguments);
    let child: Child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("corelane runs");
    OwnedChild(child)
}

/// Sends a signal by name to a child of ours, for example `INT`.
pub(crate) fn signal(child: &OwnedChild, name: &str) {
    let id = child.0.id().to_string();
    let sent = Command::new("sh")
        .args(["-c", "kill -\"$0\" \"$1\"", name, &id])
        .status();
    assert!(sent.expect("sh runs").success());
}
