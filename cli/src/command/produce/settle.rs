//! Awaits what the broker says of each line, prints receipts, and counts.

use std::io::{self, Write};

use corelane_client::{BatchOutcome, Error, Receipt};
use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::sync::mpsc;

use super::send::Sent;
use super::summary::Summary;
use crate::command::Format;
use crate::failure::Failure;
use crate::input::lines::Piece;
use crate::output::say;

/// Errors of single lines that are printed; all are counted.
const ERRORS_PRINTED_MAX: u64 = 10;

/// Settles everything that was sent. Lines are settled in the order in which the broker answers,
/// so that one slow partition does not hold back the receipts of the others.
pub(super) async fn settle(
    mut sent: mpsc::Receiver<Sent>,
    receipts: Option<Format>,
    progress: ProgressBar,
) -> Result<Summary, Failure> {
    let mut settler = Settler {
        summary: Summary::start(),
        receipts: receipts.map(Receipts::new),
        progress,
    };
    let mut waiting = FuturesUnordered::new();
    let mut open = true;
    while open || !waiting.is_empty() {
        tokio::select! {
            next = sent.recv(), if open => match next {
                Some(sent) => waiting.push(outcome(sent)),
                None => open = false,
            },
            Some(settled) = waiting.next() => {
                settler.take(settled);
                while let Some(Some(settled)) = waiting.next().now_or_never() {
                    settler.take(settled);
                }
                settler.print_receipts()?;
            }
        }
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
