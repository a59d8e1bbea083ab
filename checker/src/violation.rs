//! Everything that may not happen, each with what is needed to find it in the history.

use corelane_protocol::ids::{LeaderEpoch, Offset, TopicPartition};

use crate::event::{OwnerNumber, ReaderNumber, RecordNumber};

/// One broken promise, or a history that contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A record acknowledged as durable before a read began was not in it.
    #[error("lost: record {} was acknowledged at {} offset {} and reader {} did not find it", record.0, partition, offset.get(), reader.0)]
    LostAcknowledged {
        /// The record.
        record: RecordNumber,
        /// Where it was acknowledged.
        partition: TopicPartition,
        /// Its offset there.
        offset: Offset,
        /// The reader that missed it.
        reader: ReaderNumber,
    },
    /// An acknowledged offset holds something else than the record acknowledged there.
    #[error("changed: {} offset {} was acknowledged for record {} and holds other bytes", partition, offset.get(), record.0)]
    AcknowledgedContentDiffers {
        /// The record acknowledged there.
        record: RecordNumber,
        /// The partition.
        partition: TopicPartition,
        /// The offset.
        offset: Offset,
    },
    /// Two reads of one offset gave different bytes.
    #[error("two contents: {} offset {} gave reader {} other bytes than reader {}", partition, offset.get(), second.0, first.0)]
    TwoContents {
        /// The partition.
        partition: TopicPartition,
        /// The offset.
        offset: Offset,
        /// Who read it first.
        first: ReaderNumber,
        /// Who read something else.
        second: ReaderNumber,
    },
    /// One offset was acknowledged to two records.
    #[error("issued twice: {} offset {} was acknowledged for record {} and for record {}", partition, offset.get(), first.0, second.0)]
    OffsetIssuedTwice {
        /// The partition.
        partition: TopicPartition,
        /// The offset.
        offset: Offset,
        /// The record acknowledged first.
        first: RecordNumber,
        /// The record acknowledged later.
        second: RecordNumber,
    },
    /// One record was acknowledged in two places.
    #[error("two receipts: record {} was acknowledged at {} offset {} and at {} offset {}", record.0, first.0, first.1.get(), second.0, second.1.get())]
    AcknowledgedTwice {
        /// The record.
        record: RecordNumber,
        /// The first place.
        first: (TopicPartition, Offset),
        /// The second place.
        second: (TopicPartition, Offset),
    },
    /// A reader was handed an offset at or below one it had already passed.
    #[error("backwards: reader {} was at {} offset {} and was handed offset {}", reader.0, partition, expected.get(), offset.get())]
    NonMonotonicPoll {
        /// The reader.
        reader: ReaderNumber,
        /// The partition.
        partition: TopicPartition,
        /// The offset it should have been handed next.
        expected: Offset,
        /// The offset it was handed.
        offset: Offset,
    },
    /// A reader was handed an offset beyond the next one.
    #[error("skip: reader {} was at {} offset {} and was handed offset {}", reader.0, partition, expected.get(), offset.get())]
    Skipped {
        /// The reader.
        reader: ReaderNumber,
        /// The partition.
        partition: TopicPartition,
        /// The offset it should have been handed next.
        expected: Offset,
        /// The offset it was handed.
        offset: Offset,
    },
    /// A reader was handed an offset that was not served yet, as the same answer says.
    #[error("above the high watermark: reader {} was handed {} offset {}, and the high watermark was {}", reader.0, partition, offset.get(), high_watermark.get())]
    AboveHighWatermark {
        /// The reader.
        reader: ReaderNumber,
        /// The partition.
        partition: TopicPartition,
        /// The high watermark of the answer.
        high_watermark: Offset,
        /// The offset it was handed.
        offset: Offset,
    },
    /// Two brokers owned a partition in one term.
    #[error("two owners: {} was owned by broker {} and by broker {} in term {}", partition, first.0, second.0, epoch.get())]
    TwoOwners {
        /// The partition.
        partition: TopicPartition,
        /// The term.
        epoch: LeaderEpoch,
        /// Who was seen first.
        first: OwnerNumber,
        /// Who was seen later.
        second: OwnerNumber,
    },
    /// A record that one reader had seen was not there for a later one.
    #[error("vanished: {} offset {} was read by reader {} and was gone for reader {}", partition, offset.get(), first.0, second.0)]
    Vanished {
        /// The partition.
        partition: TopicPartition,
        /// The offset.
        offset: Offset,
        /// Who saw it.
        first: ReaderNumber,
        /// Who did not.
        second: ReaderNumber,
    },
    /// A record was read again that had been compacted away, or that one without a value had deleted which is gone.
    #[error("came back: {} offset {} was read by reader {} though offset {} was gone before it began", partition, offset.get(), reader.0, gone.get())]
    CameBack {
        /// The partition.
        partition: TopicPartition,
        /// The offset that was read.
        offset: Offset,
        /// Who read it.
        reader: ReaderNumber,
        /// The offset that was known to be gone: its own, or that of the record without a value that deleted it.
        gone: Offset,
    },
    /// A record was read that no producer had sent.
    #[error("nobody sent it: {} offset {} holds bytes that no producer sent", partition, offset.get())]
    NobodySent {
        /// The partition.
        partition: TopicPartition,
        /// The offset.
        offset: Offset,
    },
    /// A record was read although the broker had refused it.
    #[error("refused and read: {} offset {} holds record {}, which was refused", partition, offset.get(), record.0)]
    FailedButRead {
        /// The record.
        record: RecordNumber,
        /// The partition.
        partition: TopicPartition,
        /// The offset.
        offset: Offset,
    },
    /// The first copies of two records of one producer are in the wrong order.
    #[error("out of order: {} offset {} holds record {}, sent before record {}, which comes first", partition, offset.get(), record.0, overtaken_by.0)]
    ReadOutOfOrder {
        /// The partition.
        partition: TopicPartition,
        /// Where the earlier record was found.
        offset: Offset,
        /// The record sent earlier.
        record: RecordNumber,
        /// The record sent later, at a smaller offset.
        overtaken_by: RecordNumber,
    },
    /// The receipts of two records of one producer are in the wrong order.
    #[error("receipts out of order: record {} was acknowledged at {} offset {}, behind record {}, which was sent later", record.0, partition, offset.get(), overtaken_by.0)]
    AcknowledgedOutOfOrder {
        /// The partition.
        partition: TopicPartition,
        /// The offset of the record sent earlier.
        offset: Offset,
        /// The record sent earlier.
        record: RecordNumber,
        /// The record sent later, at a smaller offset.
        overtaken_by: RecordNumber,
    },
    /// Records of one key are in two partitions of a topic.
    #[error("key split: record {} is in {}, and records of the same key are in {}", record.0, second, first)]
    KeyInTwoPartitions {
        /// A record found in the second partition.
        record: RecordNumber,
        /// Where the key was found first.
        first: TopicPartition,
        /// Where it was found as well.
        second: TopicPartition,
    },
    /// A record is in the log twice although its producer is idempotent.
    #[error("duplicate: record {} is at {} offset {} and again at offset {}", record.0, partition, first.get(), second.get())]
    Duplicate {
        /// The record.
        record: RecordNumber,
        /// The partition.
        partition: TopicPartition,
        /// The offset found first.
        first: Offset,
        /// The offset found again.
        second: Offset,
    },
    /// A record was acknowledged as durable and no complete read has since looked for it, so the
    /// history does not show whether it was kept.
    #[error("not verified: record {} was acknowledged at {} offset {} and no complete read looked for it", record.0, partition, offset.get())]
    NeverReadBack {
        /// The record.
        record: RecordNumber,
        /// The partition.
        partition: TopicPartition,
        /// Its offset there.
        offset: Offset,
    },
    /// A log began further back than the broker had said before.
    #[error("log start back: {} begins at offset {}, and had begun at offset {}", partition, log_start.get(), at_least.get())]
    LogStartBack {
        /// The partition.
        partition: TopicPartition,
        /// Where its log begins.
        log_start: Offset,
        /// Where it had begun before.
        at_least: Offset,
    },
    /// A record acknowledged as durable was deleted although nobody had asked for it and no setting permitted it.
    #[error("deleted: record {} was acknowledged at {} offset {}, the log begins at {}, and nothing permits that", record.0, partition, offset.get(), log_start.get())]
    DeletedTooMuch {
        /// The record.
        record: RecordNumber,
        /// The partition.
        partition: TopicPartition,
        /// Its offset there.
        offset: Offset,
        /// Where the log begins.
        log_start: Offset,
    },
    /// The history itself cannot be: the observer has a fault.
    #[error("the history contradicts itself: {0}")]
    BadHistory(String),
}

impl Violation {
    /// Every kind.
    pub const KINDS: [&str; 21] = [
        "lost",
        "changed",
        "two contents",
        "issued twice",
        "two receipts",
        "backwards",
        "skip",
        "above the high watermark",
        "two owners",
        "vanished",
        "came back",
        "nobody sent it",
        "refused and read",
        "out of order",
        "receipts out of order",
        "key split",
        "duplicate",
        "not verified",
        "log start back",
        "deleted",
        "bad history",
    ];

    /// The kind as one word or two, for counting.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::LostAcknowledged { .. } => "lost",
            Self::AcknowledgedContentDiffers { .. } => "changed",
            Self::TwoContents { .. } => "two contents",
            Self::OffsetIssuedTwice { .. } => "issued twice",
            Self::AcknowledgedTwice { .. } => "two receipts",
            Self::NonMonotonicPoll { .. } => "backwards",
            Self::Skipped { .. } => "skip",
            Self::AboveHighWatermark { .. } => "above the high watermark",
            Self::TwoOwners { .. } => "two owners",
            Self::Vanished { .. } => "vanished",
            Self::CameBack { .. } => "came back",
            Self::NobodySent { .. } => "nobody sent it",
            Self::FailedButRead { .. } => "refused and read",
            Self::ReadOutOfOrder { .. } => "out of order",
            Self::AcknowledgedOutOfOrder { .. } => "receipts out of order",
            Self::KeyInTwoPartitions { .. } => "key split",
            Self::Duplicate { .. } => "duplicate",
            Self::NeverReadBack { .. } => "not verified",
            Self::LogStartBack { .. } => "log start back",
            Self::DeletedTooMuch { .. } => "deleted",
            Self::BadHistory(_) => "bad history",
        }
    }
}
