//! Awaits what the broker says of each line, prints receipts, and counts.

use std::io::{self, Write};
use std::time::Duration;

use corelane_client::{BatchOutcome, Error, Receipt};
use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::send::Sent;
use super::summary::Summary;
use crate::command::Format;
use crate::failure::Failure;
use crate::input::lines::Piece;
use crate::interrupt::{self, Interrupted};
use crate::output::{say, units};

/// Errors of single lines that are printed; all are counted.
const ERRORS_PRINTED_MAX: u64 = 10;

/// Settles everything that was sent. Lines are settled in the order in which the broker answers,
/// so that one slow partition does not hold back the receipts of the others.
pub(super) async fn settle(
    mut sent: mpsc::Receiver<Sent>,
    receipts: Option<Format>,
    progress: ProgressBar,
    mut interrupted: Interrupted,
) -> Result<Summary, Failure> {
    let mut settler = Settler {
        summary: Summary::start(),
        receipts: receipts.map(Receipts::new),
        progress,
        under_way: 0,
    };
    let mut waiting = FuturesUnordered::new();
    let mut open = true;
    let mut stall = Stall::new(Instant::now());
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    while open || !waiting.is_empty() {
        tokio::select! {
            next = sent.recv(), if open => match next {
                Some(sent) => {
                    settler.under_way += sent.lines();
                    waiting.push(outcome(sent));
                }
                None => open = false,
            },
            Some(settled) = waiting.next() => {
                settler.take(settled);
                while let Some(Some(settled)) = waiting.next().now_or_never() {
                    settler.take(settled);
                }
                settler.print_receipts()?;
                stall.ended(Instant::now());
            }
            now = ticks.tick() => {
                if settler.under_way == 0 {
                    stall.ended(now);
                } else if let Some(time) = stall.is_worth_a_word(now) {
                    settler.report_stall(time);
                }
            }
            _ = interrupt::interrupted(&mut interrupted) => break,
        }
    }
    // Sending ends with the same signal, and may be seen to end first: that is not the end of the input.
    if let Some(signal) = *interrupted.borrow() {
        settler.summary.interrupted(signal, settler.under_way);
    }
    Ok(settler.summary)
}

enum Settled {
    Piece(Piece, BatchOutcome),
    Line {
        number: u64,
        bytes: u64,
        outcome: Result<Receipt, Error>,
    },
}

async fn outcome(sent: Sent) -> Settled {
    match sent {
        Sent::Piece { piece, delivery } => Settled::Piece(piece, delivery.await),
        Sent::Line {
            number,
            bytes,
            delivery,
        } => Settled::Line {
            number,
            bytes,
            outcome: delivery.await,
        },
        Sent::Refused { number, error } => Settled::Line {
            number,
            bytes: 0,
            outcome: Err(error),
        },
    }
}

struct Settler {
    summary: Summary,
    /// Receipts not printed yet, if they are wanted.
    receipts: Option<Receipts>,
    progress: ProgressBar,
    /// Lines that nothing is known of yet.
    under_way: u64,
}

impl Settler {
    fn take(&mut self, settled: Settled) {
        match settled {
            Settled::Line {
                number,
                bytes,
                outcome,
            } => self.line(number, bytes, outcome),
            Settled::Piece(piece, outcome) => {
                let lines = (piece.first_number()..).zip(piece.lines());
                for ((number, line), outcome) in lines.zip(outcome.iter()) {
                    self.line(number, line.len() as u64, outcome);
                }
            }
        }
        self.progress.set_position(self.summary.bytes);
    }

    fn line(&mut self, number: u64, bytes: u64, outcome: Result<Receipt, Error>) {
        self.under_way -= 1;
        match outcome {
            Ok(receipt) => {
                self.summary.acknowledged(bytes, receipt.durability);
                if let Some(receipts) = &mut self.receipts {
                    receipts.add(number, &receipt);
                }
            }
            Err(error) => {
                let errors = self.summary.not_acknowledged(error.is_outcome_unknown());
                if errors <= ERRORS_PRINTED_MAX {
                    self.progress
                        .suspend(|| say(format_args!("line {number}: {error}")));
                }
                if errors == ERRORS_PRINTED_MAX {
                    self.progress
                        .suspend(|| say(format_args!("further lines like this are only counted")));
                }
            }
        }
    }

    fn report_stall(&self, time: Duration) {
        let (count, noun) = (
            units::count(self.under_way),
            if self.under_way == 1 { "line" } else { "lines" },
        );
        self.progress.suspend(|| {
            say(format_args!(
                "waiting: {count} {noun} not acknowledged for {} s",
                time.as_secs()
            ));
        });
    }

    fn print_receipts(&mut self) -> Result<(), Failure> {
        let Some(receipts) = self
            .receipts
            .as_mut()
            .map(|receipts| &mut receipts.text)
            .filter(|text| !text.is_empty())
        else {
            return Ok(());
        };
        let mut output = io::stdout().lock();
        let written = output.write_all(receipts).and_then(|()| output.flush());
        receipts.clear();
        // Exit code 0 would say that the reader knows every line as acknowledged.
        written.map_err(|error| Failure::new(format_args!("cannot print receipts: {error}")))
    }
}

/// When it is worth a word that nothing is acknowledged: after 5 s, and then after twice as long each time.
struct Stall {
    since: Instant,
    next_word: Duration,
}

impl Stall {
    const FIRST_WORD: Duration = Duration::from_secs(5);

    fn new(now: Instant) -> Self {
        Self {
            since: now,
            next_word: Self::FIRST_WORD,
        }
    }

    fn ended(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// For how long it has lasted, if that is to be said now.
    fn is_worth_a_word(&mut self, now: Instant) -> Option<Duration> {
        let time = now.saturating_duration_since(self.since);
        let is_due = time >= self.next_word;
        if is_due {
            self.next_word *= 2;
        }
        is_due.then_some(time)
    }
}

/// Receipts that are not printed yet, in their form.
struct Receipts {
    format: Format,
    text: Vec<u8>,
}

#[derive(Serialize)]
struct ReceiptLine {
    line_number: u64,
    partition: u32,
    offset: u64,
    durability: &'static str,
}

impl Receipts {
    fn new(format: Format) -> Self {
        Self {
            format,
            text: Vec::new(),
        }
    }

    fn add(&mut self, line_number: u64, receipt: &Receipt) {
        let Receipt {
            partition,
            offset,
            durability,
            ..
        } = *receipt;
        match self.format {
            Format::Table => writeln!(self.text, "{line_number} {partition} {offset} {durability}")
                .expect("writing to memory does not fail"),
            Format::Json => {
                let line = ReceiptLine {
                    line_number,
                    partition,
                    offset,
                    durability: durability.as_str(),
                };
                serde_json::to_writer(&mut self.text, &line).expect("plain fields are valid JSON");
                self.text.push(b'\n');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of the two is seen first is a matter of chance.
    #[tokio::test]
    async fn a_signal_is_told_also_if_sending_ended_by_it_first() {
        for _ in 0..64 {
            let (sender, sent) = mpsc::channel(1);
            let (_signals, interrupted) = tokio::sync::watch::channel(Some(2));
            drop(sender);
            let settled = settle(sent, None, ProgressBar::hidden(), interrupted).await;
            let summary = settled.unwrap_or_else(|_| panic!("nothing is printed"));
            assert!(matches!(summary.outcome(), Err(Failure::Interrupted(2))));
        }
    }

    #[test]
    fn a_stall_is_told_less_and_less_often() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut stall = Stall::new(at(0));
        let told = |stall: &mut Stall, seconds: std::ops::Range<u64>| -> Vec<u64> {
            seconds
                .filter_map(|second| stall.is_worth_a_word(at(second)))
                .map(|time| time.as_secs())
                .collect()
        };
        assert_eq!(told(&mut stall, 0..50), [5, 10, 20, 40]);
        stall.ended(at(50));
        assert_eq!(told(&mut stall, 50..58), [5]);
    }
}
