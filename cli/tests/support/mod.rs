//! A broker process and the `corelane` command, as a user runs them.

// Each test file uses its own part of this.
#![allow(dead_code)]

pub(crate) mod broker_process;
pub(crate) mod perf;
pub(crate) mod running;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use broker_process::{BrokerProcess, Launcher};
use tempfile::TempDir;

/// The binary under test.
pub(crate) const CORELANE: &str = env!("CARGO_BIN_EXE_corelane");

/// Journals are written in full before they are used, which is slow to repeat in every test.
/// A small journal takes small batches only.
pub(crate) const SMALL_JOURNAL: [(&str, &str); 3] = [
    ("CORELANE_JOURNAL_FILE_BYTES", "8 MiB"),
    ("CORELANE_LIMITS_FRAME_BYTES_MAX", "1152 KiB"),
    ("CORELANE_LOG_MAX_MESSAGE_BYTES", "1 MiB"),
];

/// A broker in a directory of its own, with small journals so that a start writes little.
pub(crate) struct TestBroker {
    pub(crate) launcher: Launcher,
    process: Option<BrokerProcess>,
    directory: TempDir,
}

impl TestBroker {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts with further settings, given as environment variables.
    pub(crate) fn start_with(settings: &[(&str, &str)]) -> Self {
        // Where /tmp is memory, direct writes are not possible; /var/tmp is on a disk.
        let directory = tempfile::tempdir_in("/var/tmp").expect("a directory can be made");
        let settings = SMALL_JOURNAL.iter().chain(settings);
        let mut launcher = Launcher {
            corelane: PathBuf::from(CORELANE),
            data_dir: directory.path().join("data"),
            listen: "127.0.0.1:0".to_owned(),
            log: directory.path().join("log"),
            settings: settings
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
        };
        let process = launcher.start().unwrap_or_else(|error| panic!("{error}"));
        launcher.listen = process.address().to_owned();
        Self {
            launcher,
            process: Some(process),
            directory,
        }
    }

    pub(crate) fn address(&self) -> &str {
        self.process.as_ref().expect("the broker runs").address()
    }

    pub(crate) fn process(&self) -> &BrokerProcess {
        self.process.as_ref().expect("the broker runs")
    }

    /// A directory for the test's own files.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What the broker has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.launcher.log).expect("the log can be read")
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.process.take().expect("the broker runs").kill();
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn stop(&mut self) {
        self.process
            .take()
            .expect("the broker runs")
            .stop()
            .unwrap_or_else(|error| panic!("{error}"));
    }

    /// Starts it again, on the same port and data.
    pub(crate) fn restart(&mut self) {
        self.process = Some(
            self.launcher
                .start()
                .unwrap_or_else(|error| panic!("{error}")),
        );
    }

    /// A client command against this broker.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(CORELANE);
        command
            .args(arguments)
            .env("CORELANE_BROKER", self.address())
            .stdin(Stdio::null());
        command
    }

    /// Runs a client command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(self.command(arguments).output().expect("corelane runs"))
    }

    /// Runs a client command that must succeed, and gives its standard output.
    #[track_caller]
    pub(crate) fn succeed(&self, arguments: &[&str]) -> String {
        let outcome = self.run(arguments);
        outcome.assert_code(0);
        outcome.stdout
    }

    /// Runs a client command with this standard input.
    pub(crate) fn feed(&self, arguments: &[&str], input: impl AsRef<[u8]>) -> Outcome {
        feed(&mut self.command(arguments), input.as_ref())
    }

    /// Makes a topic.
    #[track_caller]
    pub(crate) fn create(&self, topic: &str, partitions: u32) {
        self.succeed(&[
            "topic",
            "create",
            topic,
            "--partitions",
            &partitions.to_string(),
        ]);
    }
}

/// Runs a command with this standard input.
pub(crate) fn feed(command: &mut Command, input: &[u8]) -> Outcome {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("corelane runs");
    let mut stdin = child.stdin.take().expect("standard input is piped");
    let input = input.to_vec();
    // A command may end without reading everything; it then says why itself.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("corelane ends");
    writer.join().expect("writing does not panic");
    Outcome::of(output)
}

/// Runs a command that needs no broker.
pub(crate) fn corelane(arguments: &[&str]) -> Outcome {
    let mut command = Command::new(CORELANE);
    command.args(arguments).stdin(Stdio::null());
    Outcome::of(command.output().expect("corelane runs"))
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    pub(crate) fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(
            self.code,
            Some(code),
            "stdout: {}\nstderr: {}",
            self.stdout,
            self.stderr
        );
        self
    }

    #[track_caller]
    pub(crate) fn assert_error_says(&self, parts: &[&str]) -> &Self {
        for part in parts {
            assert!(
                self.stderr.contains(part),
                "{part:?} is not in {}",
                self.stderr
            );
        }
        self
    }
}
