//! A broker goes on, and stops when it is told to, although its log cannot be written.

mod support;

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use support::broker_process::OwnedChild;
use support::{CORELANE, SMALL_JOURNAL};
use tempfile::TempDir;

/// How long a start may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(60);

struct Broker {
    child: OwnedChild,
    address: String,
    _directory: TempDir,
}

/// Starts a broker with this standard error.
fn start(stderr: Stdio) -> Broker {
    let directory = tempfile::tempdir_in("/var/tmp").expect("the system works");
    let child: Child = Command::new(CORELANE)
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir", "data"])
        .args(["--admin-listen", "off"])
        .current_dir(directory.path())
        .envs(SMALL_JOURNAL)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .expect("the system works");
    let (child, address) = wait_until_ready(OwnedChild(child));
    Broker {
        address,
        child,
        _directory: directory,
    }
}

/// The broker and its address, once it has said that it is ready.
fn wait_until_ready(mut child: OwnedChild) -> (OwnedChild, String) {
    let stdout = child.0.stdout.take().expect("the system works");
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        // Nobody listens any more once the wait was given up.
        let _ = sender.send(read.map(|_| line));
    });
    let line = receiver
        .recv_timeout(PATIENCE)
        .expect("it says something in time");
    let line = line.expect("the system works");
    let address = line.strip_prefix("ready ").expect("it gets ready");
    (child, address.trim_end().to_owned())
}

impl Broker {
    fn create_topic(&self) {
        let arguments = [
            "topic",
            "create",
            "t",
            "--partitions",
            "1",
            "--broker",
            &self.address,
        ];
        let status = Command::new(CORELANE)
            .args(arguments)
            .status()
            .expect("the system works");
        assert!(status.success());
    }

    /// SIGTERM once, and waits for the end.
    fn stop(&mut self) -> ExitStatus {
        let id = self.child.0.id().to_string();
        let status = Command::new("sh")
            .args(["-c", "kill -TERM \"$0\"", &id])
            .status()
            .expect("the system works");
        assert!(status.success());
        for _ in 0..3000 {
            if let Some(status) = self.child.0.try_wait().expect("the system works") {
                return status;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("the broker ignored SIGTERM");
    }
}

#[test]
fn a_full_disk_behind_the_log_does_not_matter() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut broker = start(full.into());
    broker.create_topic();
    assert!(broker.stop().success());
}

#[test]
fn a_log_reader_that_is_gone_does_not_matter() {
    let mut broker = start(Stdio::piped());
    drop(broker.child.0.stderr.take());
    broker.create_topic();
    assert!(broker.stop().success());
}

#[test]
fn commands_do_not_panic_where_nobody_hears_them() {
    for arguments in [
        &["topic", "list", "--broker", "127.0.0.1:1"][..],
        &["produce", "t", "--file", "/nowhere"],
    ] {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let status = Command::new(CORELANE)
            .args(arguments)
            .stderr(full)
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(1), "{arguments:?}");
    }
}
