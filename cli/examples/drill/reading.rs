//! The consumers of a drill: `corelane consume`, its records given to the history.

use std::io::{BufRead, BufReader, Read};
use std::ops::Range;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use corelane_checker::ReaderNumber;
use serde::Deserialize;

use super::Topic;
use super::broker_process::OwnedChild;
use super::history::{History, Place};

/// How often, and how many times, it is looked whether a live consumer has come to the end.
const CATCH_UP_POLL: Duration = Duration::from_millis(10);
const CATCH_UP_POLLS_MAX: u32 = 6000;

/// Reads some partitions from start to end.
///
/// # Errors
/// What `corelane consume` said when it did not come to the end. What it read until then is in the
/// history all the same.
pub(crate) fn read_to_end(
    topic: &Topic,
    partitions: Range<u32>,
    history: &History,
) -> Result<u64, String> {
    let reader = history.read_started(partitions.clone());
    let mut command = consume(topic);
    command.arg("--until-end");
    if partitions.len() == 1 {
        command.args(["--partition", &partitions.start.to_string()]);
    }
    let mut child = spawn(&mut command)?;
    let mut errors = child.stderr.take().expect("standard error is piped");
    let errors = thread::spawn(move || {
        let mut text = String::new();
        errors.read_to_string(&mut text).map(|_| text)
    });
    let output = child.stdout.take().expect("standard output is piped");
    let records = note_records(output, reader, history, &AtomicU64::new(0))?;
    let status = child.wait().map_err(|error| error.to_string())?;
    let errors = errors
        .join()
        .expect("reading does not panic")
        .map_err(|error| error.to_string())?;
    if !status.success() {
        return Err(errors);
    }
    history.read_ended(reader, partitions);
    Ok(records)
}

/// A consumer that follows the log through every fault. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Follower {
    child: OwnedChild,
    seen: Arc<AtomicU64>,
    records: JoinHandle<Result<u64, String>>,
}

impl Follower {
    pub(crate) fn start(
        topic: &Topic,
        partitions: Range<u32>,
        history: &History,
    ) -> Result<Self, String> {
        let reader = history.read_started(partitions);
        let mut child = OwnedChild(spawn(consume(topic).stderr(Stdio::inherit()))?);
        let output = child.0.stdout.take().expect("standard output is piped");
        let seen = Arc::new(AtomicU64::new(0));
        let records = {
            let (history, seen) = (history.clone(), Arc::clone(&seen));
            thread::spawn(move || note_records(output, reader, &history, &seen))
        };
        Ok(Self {
            child,
            seen,
            records,
        })
    }

    /// Waits until it has been handed so many records: everything there is.
    pub(crate) fn catch_up(&self, records: u64) -> Result<(), String> {
        for _ in 0..CATCH_UP_POLLS_MAX {
            if self.seen.load(Ordering::Relaxed) >= records {
                return Ok(());
            }
            thread::sleep(CATCH_UP_POLL);
        }
        let seen = self.seen.load(Ordering::Relaxed);
        Err(format!(
            "the live consumer came to a standstill at {seen} of {records} records"
        ))
    }

    /// Whether the consumer has ended, which it should not by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.0.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Ends it and gives the number of records it was handed.
    pub(crate) fn stop(mut self) -> Result<u64, String> {
        self.child.kill();
        self.records.join().expect("reading does not panic")
    }
}

fn consume(topic: &Topic) -> Command {
    let mut command = Command::new(&topic.corelane);
    command
        .args(["consume", &topic.name, "--broker", &topic.broker])
        .args(["--from", "start", "--print", "json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn spawn(command: &mut Command) -> Result<Child, String> {
    command
        .spawn()
        .map_err(|error| format!("cannot start corelane consume: {error}"))
}

#[derive(Debug, Deserialize)]
struct Record {
    partition: u32,
    offset: u64,
    key: Option<Bytes>,
    value: Option<Bytes>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Bytes {
    Text(String),
    Encoded { base64: String },
}

impl Bytes {
    fn decode(self) -> Result<Vec<u8>, String> {
        match self {
            Self::Text(text) => Ok(text.into_bytes()),
            Self::Encoded { base64 } => STANDARD
                .decode(base64)
                .map_err(|error| format!("not base64: {error}")),
        }
    }
}

fn note_records(
    output: ChildStdout,
    reader: ReaderNumber,
    history: &History,
    seen: &AtomicU64,
) -> Result<u64, String> {
    let mut output = BufReader::with_capacity(256 * 1024, output);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = output
            .read_until(b'\n', &mut line)
            .map_err(|error| error.to_string())?;
        // A consumer that is stopped may leave half a line.
        if read == 0 || line.last() != Some(&b'\n') {
            return Ok(seen.load(Ordering::Relaxed));
        }
        let record: Record = serde_json::from_slice(&line).map_err(|error| {
            format!(
                "corelane consume printed {:?}: {error}",
                String::from_utf8_lossy(&line)
            )
        })?;
        let key = record.key.map(Bytes::decode).transpose()?;
        let value = record.value.map(Bytes::decode).transpose()?;
        let place = Place {
            partition: record.partition,
            offset: record.offset,
        };
        history.polled(reader, place, key.as_deref(), value.as_deref());
        seen.fetch_add(1, Ordering::Relaxed);
    }
}
