//! The producer of a drill: one `corelane produce --receipts` for the whole stream, fed in steps so
//! that the faults fall into the middle of it.

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Topic;
use super::broker_process::OwnedChild;
use super::history::{History, Place};
use super::input::{KEY_SEPARATOR, Line};

/// A running producer. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Stream {
    child: OwnedChild,
    /// How many lines may have been fed in all; closed when there are no more.
    allowed: Sender<usize>,
    acknowledged: Arc<AtomicU64>,
    feeder: JoinHandle<Result<(), String>>,
    receipts: JoinHandle<Result<Vec<(u64, Place)>, String>>,
}

impl Stream {
    /// Starts the producer. Nothing is fed until it is allowed.
    pub(crate) fn start(
        topic: &Topic,
        lines: Arc<Vec<Line>>,
        history: &History,
    ) -> Result<Self, String> {
        let mut child = Command::new(&topic.corelane)
            .args([
                "produce",
                &topic.name,
                "--broker",
                &topic.broker,
                "--receipts",
            ])
            .args(["--key-separator", &KEY_SEPARATOR.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start corelane produce: {error}"))?;
        let (allowed, limits) = channel();
        let input = child.stdin.take().expect("standard input is piped");
        let output = child.stdout.take().expect("standard output is piped");
        let acknowledged = Arc::new(AtomicU64::new(0));
        let feeder = {
            let history = history.clone();
            thread::spawn(move || feed(input, &lines, &limits, &history))
        };
        let receipts = {
            let (history, acknowledged) = (history.clone(), Arc::clone(&acknowledged));
            thread::spawn(move || note_receipts(output, &history, &acknowledged))
        };
        Ok(Self {
            child: OwnedChild(child),
            allowed,
            acknowledged,
            feeder,
            receipts,
        })
    }

    /// Lets the producer have the lines below this number.
    pub(crate) fn allow(&self, lines: usize) {
        // A feeder that has failed says so at the end.
        let _ = self.allowed.send(lines);
    }

    /// Lines acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until so many lines are acknowledged, or the time is over.
    pub(crate) fn wait_for(&self, acknowledged: u64, time_max: Duration) {
        #[expect(clippy::disallowed_methods, reason = "a drill runs in real time")]
        let started = Instant::now();
        while self.acknowledged() < acknowledged && started.elapsed() < time_max {
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// Whether the producer has ended, which it should not before its input does.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.0.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Ends the input and waits until the producer says that everything is acknowledged. Gives
    /// each acknowledged line's number, from 0, and its place.
    ///
    /// # Errors
    /// A producer that ended with an error, unless it `may_fail_lines`.
    pub(crate) fn finish(mut self, may_fail_lines: bool) -> Result<Vec<(u64, Place)>, String> {
        drop(self.allowed);
        self.feeder.join().expect("the feeder does not panic")?;
        let receipts = self
            .receipts
            .join()
            .expect("the receipt reader does not panic")?;
        let status = self.child.0.wait().map_err(|error| error.to_string())?;
        if status.success() || (may_fail_lines && status.code() == Some(1)) {
            return Ok(receipts);
        }
        Err(format!(
            "corelane produce ended with {status}: not every line was acknowledged"
        ))
    }
}

fn feed(
    input: ChildStdin,
    lines: &[Line],
    limits: &Receiver<usize>,
    history: &History,
) -> Result<(), String> {
    let mut input = BufWriter::with_capacity(64 * 1024, input);
    let mut fed = 0;
    while let Ok(limit) = limits.recv() {
        for line in &lines[fed..limit] {
            history.sent(fed as u64, 0, line);
            writeln!(input, "{}{KEY_SEPARATOR}{}", line.key, line.value)
                .map_err(|error| format!("corelane produce takes no more input: {error}"))?;
            fed += 1;
        }
        input
            .flush()
            .map_err(|error| format!("corelane produce takes no more input: {error}"))?;
    }
    Ok(())
}

fn note_receipts(
    output: ChildStdout,
    history: &History,
    acknowledged: &AtomicU64,
) -> Result<Vec<(u64, Place)>, String> {
    let mut receipts = Vec::new();
    for receipt in BufReader::new(output).lines() {
        let receipt = receipt.map_err(|error| format!("cannot read receipts: {error}"))?;
        let (number, place, durability) = parse_receipt(&receipt)
            .ok_or_else(|| format!("corelane produce printed no receipt: {receipt:?}"))?;
        if durability != "durable" {
            return Err(format!("a receipt promises too little: {receipt:?}"));
        }
        history.acknowledged(number - 1, place, true);
        receipts.push((number - 1, place));
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
    Ok(receipts)
}

/// `LINE_NUMBER PARTITION OFFSET DURABILITY`; lines are numbered from 1.
fn parse_receipt(text: &str) -> Option<(u64, Place, &str)> {
    let mut fields = text.split(' ');
    let number = fields.next()?.parse().ok().filter(|number| *number > 0)?;
    let place = Place {
        partition: fields.next()?.parse().ok()?,
        offset: fields.next()?.parse().ok()?,
    };
    let durability = fields.next()?;
    fields
        .next()
        .is_none()
        .then_some((number, place, durability))
}
