//! What the checker found.

use std::collections::BTreeMap;
use std::fmt;

use crate::violation::Violation;

/// How many violations are kept in full. All are counted.
const VIOLATIONS_KEPT_MAX: usize = 100;

/// What the history contained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records handed to producers.
    pub sent: u64,
    /// Records whose receipt said durable.
    pub acknowledged_durable: u64,
    /// Records whose receipt said memory.
    pub acknowledged_memory: u64,
    /// Records refused.
    pub failed: u64,
    /// Records of which an attempt had no answer.
    pub unknown: u64,
    /// Records handed to readers, counted once per reader.
    pub polled: u64,
    /// Offsets seen by any reader.
    pub offsets_read: u64,
    /// Offsets that hold a record which is in the log before them too: a retry whose first attempt
    /// had arrived.
    pub duplicates: u64,
    /// Complete reads of one partition.
    pub reads: u64,
    /// Offsets without their record, which a later one of the same key replaces.
    pub compacted: u64,
    /// Offsets without their record, which had no value and was kept for its time.
    pub tombstones_gone: u64,
    /// Offsets that had been read of weak partitions and were lost in a crash.
    pub cut_back: u64,
}

/// The outcome of a check.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// What the history contained.
    pub counts: Counts,
    /// The first violations, in the order in which they were found.
    pub violations: Vec<Violation>,
    /// How many violations of each kind there are, those not kept included.
    pub violations_by_kind: BTreeMap<&'static str, u64>,
}

impl Verdict {
    /// Whether every promise was kept and shown to be kept.
    pub fn holds(&self) -> bool {
        self.violations_by_kind.is_empty()
    }

    pub(crate) fn add(&mut self, violation: Violation) {
        *self.violations_by_kind.entry(violation.kind()).or_default() += 1;
        if self.violations.len() < VIOLATIONS_KEPT_MAX {
            self.violations.push(violation);
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        writeln!(
            f,
            "{} records sent: {} acknowledged durable, {} from memory, {} refused, {} unknown",
            counts.sent,
            counts.acknowledged_durable,
            counts.acknowledged_memory,
            counts.failed,
            counts.unknown
        )?;
        write!(
            f,
            "{} offsets read in {} complete reads, {} of them second copies of a retried record",
            counts.offsets_read, counts.reads, counts.duplicates
        )?;
        if self.holds() {
            return write!(
                f,
                "\nevery acknowledged record is there, in order, byte for byte"
            );
        }
        for (kind, count) in &self.violations_by_kind {
            write!(f, "\nVIOLATED {kind}: {count}")?;
        }
        for violation in self.violations.iter().take(10) {
            write!(f, "\n  {violation}")?;
        }
        Ok(())
    }
}
