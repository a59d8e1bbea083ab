//! What an opening found, for whoever operates the store.

use std::fmt;

use corelane_protocol::{Offset, TopicPartition};

use crate::epochs::EpochStart;

/// What an opening found. Displayed, it is one line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Whether the store had never been opened before.
    pub is_new: bool,
    /// Whether the store had been closed, or is new.
    pub was_clean: bool,
    /// The partitions that it has.
    pub partitions: usize,
    /// Groups that were read from the journal.
    pub groups_replayed: u64,
    /// Bytes that were read from the journal.
    pub bytes_replayed: u64,
    /// Bytes of batches that went from the journal into tails, or from segments, because only the journal tells of them
    /// there.
    pub bytes_recovered: u64,
    /// Parts that were read from segments.
    pub extents_replayed: u64,
    /// The group that ended the log, if something was discarded: never acknowledged, torn by a crash.
    pub discarded_from: Option<u64>,
    /// The partitions that are out of service, and why.
    pub failed: Vec<(TopicPartition, String)>,
    /// Why the whole store takes no appends, if it does not.
    pub fenced: Option<String>,
    /// Weak partitions that may have lost records which were acknowledged before the disk had them: each with the
    /// offset from which on, where the log goes on.
    ///
    /// A partition is weak here if it was so when the store last wrote its settings down: whoever knows of others
    /// finds where they end in `raised`.
    pub weak_losses: Vec<(TopicPartition, Offset)>,
    /// The leader epochs that this opening has begun, each where the partition's log ends: of every partition,
    /// unless the store was closed before.
    pub raised: Vec<(TopicPartition, EpochStart)>,
    /// Damage that was found and costs nothing.
    pub warnings: Vec<String>,
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.is_new, self.was_clean) {
            (true, _) => "new",
            (false, true) => "closed in order before",
            (false, false) => "not closed before",
        })?;
        write!(f, ", partitions: {}", self.partitions)?;
        if self.groups_replayed > 0 {
            let (groups, bytes) = (self.groups_replayed, self.bytes_replayed);
            let recovered = self.bytes_recovered;
            write!(
                f,
                ", read from the journal: {groups} groups of {bytes} bytes, {recovered} bytes of batches recovered"
            )?;
        }
        if let Some(group) = self.discarded_from {
            write!(
                f,
                ", discarded as never acknowledged: from group {group} on"
            )?;
        }
        if !self.weak_losses.is_empty() {
            let weak = self.weak_losses.len();
            write!(
                f,
                ", weak partitions that may have lost acknowledged records: {weak}"
            )?;
        }
        if !self.warnings.is_empty() {
            write!(f, ", damage that costs nothing: {}", self.warnings.len())?;
        }
        if !self.failed.is_empty() {
            write!(f, ", partitions out of service: {}", self.failed.len())?;
        }
        if let Some(reason) = &self.fenced {
            write!(f, ", takes no appends: {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_one_line_of_what_there_is_to_say() {
        let new = RecoveryReport {
            is_new: true,
            was_clean: true,
            ..RecoveryReport::default()
        };
        assert_eq!(new.to_string(), "new, partitions: 0");
        let crashed = RecoveryReport {
            partitions: 3,
            groups_replayed: 2,
            bytes_replayed: 8192,
            bytes_recovered: 700,
            discarded_from: Some(9),
            fenced: Some("the disk is full".to_owned()),
            ..RecoveryReport::default()
        };
        assert_eq!(
            crashed.to_string(),
            "not closed before, partitions: 3, read from the journal: 2 groups of 8192 bytes, 700 bytes of \
             batches recovered, discarded as never acknowledged: from group 9 on, takes no appends: the disk is full"
        );
    }
}
