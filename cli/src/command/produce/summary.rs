//! What became of all lines.

use std::time::{Duration, Instant};

use corelane_client::Durability;
use serde::Serialize;

use crate::command::Format;
use crate::failure::Failure;
use crate::output::say;
use crate::output::units;

/// Counts of one run.
#[derive(Debug)]
pub(super) struct Summary {
    records: u64,
    /// Bytes of the acknowledged lines, without their newlines.
    pub(super) bytes: u64,
    durability: Option<Durability>,
    failed: u64,
    unknown: u64,
    /// The signal that ended the run.
    signal: Option<i32>,
    started: Instant,
}

impl Summary {
    #[expect(
        clippy::disallowed_methods,
        reason = "the summary says how long a person waited"
    )]
    pub(super) fn start() -> Self {
        let started = Instant::now();
        Self {
            records: 0,
            bytes: 0,
            durability: None,
            failed: 0,
            unknown: 0,
            signal: None,
            started,
        }
    }

    pub(super) fn acknowledged(&mut self, bytes: u64, durability: Durability) {
        self.records += 1;
        self.bytes += bytes;
        let weakest = self
            .durability
            .map_or(durability, |weakest| weakest.min(durability));
        self.durability = Some(weakest);
    }

    /// Counts a record that was refused, or whose fate is unknown. Returns how many there are.
    pub(super) fn not_acknowledged(&mut self, unknown: bool) -> u64 {
        if unknown {
            self.unknown += 1;
        } else {
            self.failed += 1;
        }
        self.failed + self.unknown
    }

    /// Takes in that a signal ended the run while nothing was known of these lines.
    pub(super) fn interrupted(&mut self, signal: i32, under_way: u64) {
        self.signal = Some(signal);
        self.unknown += under_way;
    }

    /// Prints it on standard error, since standard output belongs to receipts.
    pub(super) fn print(&self, format: Format) {
        let elapsed = self.started.elapsed();
        match format {
            Format::Table => say(format_args!("{}", self.sentence(elapsed))),
            Format::Json => {
                let line = SummaryLine {
                    records: self.records,
                    bytes: self.bytes,
                    durability: self.durability.map(Durability::as_str),
                    failed: self.failed,
                    unknown: self.unknown,
                    interrupted: self.signal.is_some(),
                    seconds: elapsed.as_secs_f64(),
                };
                let line = serde_json::to_string(&line).expect("plain fields are valid JSON");
                say(format_args!("{line}"));
            }
        }
    }

    /// The exit code's reason: nothing but acknowledgements is success.
    pub(super) fn outcome(&self) -> Result<(), Failure> {
        match self.signal {
            Some(signal) => Err(Failure::Interrupted(signal)),
            None if self.failed + self.unknown == 0 => Ok(()),
            None => Err(Failure::Reported),
        }
    }

    fn sentence(&self, elapsed: Duration) -> String {
        let noun = if self.records == 1 {
            "record"
        } else {
            "records"
        };
        let mut text = format!(
            "{} {noun}, {}",
            units::count(self.records),
            units::bytes(self.bytes)
        );
        if let Some(durability) = self.durability {
            text.push_str(&format!(", {durability}, in {}", units::duration(elapsed)));
        }
        if self.signal.is_some() {
            text = format!(
                "interrupted: {} acknowledged, {} of unknown fate (they may be in the topic); {text}",
                units::count(self.records),
                units::count(self.unknown),
            );
            return text;
        }
        let lost = self.failed + self.unknown;
        if lost > 0 {
            text.push_str(&format!(
                "\n{} of {} not acknowledged: {} refused, {} of unknown fate (they may be in the topic)",
                units::count(lost),
                units::count(lost + self.records),
                units::count(self.failed),
                units::count(self.unknown),
            ));
        }
        text
    }
}

#[derive(Serialize)]
struct SummaryLine {
    records: u64,
    bytes: u64,
    /// The weakest of all receipts; null if there was none.
    durability: Option<&'static str>,
    failed: u64,
    unknown: u64,
    interrupted: bool,
    seconds: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_says_what_counts() {
        let mut summary = Summary::start();
        let second = Duration::from_secs(1);
        assert_eq!(summary.sentence(second), "0 records, 0 B");
        summary.acknowledged(1000, Durability::Durable);
        assert_eq!(
            summary.sentence(second),
            "1 record, 1000 B, durable, in 1.00 s"
        );
        summary.acknowledged(1000, Durability::Memory);
        assert!(
            summary
                .sentence(second)
                .contains("2 records, 2.0 KiB, memory")
        );
        assert!(summary.outcome().is_ok());
        summary.not_acknowledged(true);
        assert_eq!(summary.not_acknowledged(false), 2);
        let sentence = summary.sentence(second);
        assert!(
            sentence.contains("2 of 4 not acknowledged: 1 refused, 1 of unknown"),
            "{sentence}"
        );
        assert!(summary.outcome().is_err());
    }
}
