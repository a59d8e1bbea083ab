//! Why a store, or one of its partitions, does not do what it was asked.
//!
//! None of these is a bug. Whoever speaks to clients turns them into error codes.

use std::io;
use std::rc::Rc;

use corelane_protocol::batch::BatchError;
use corelane_protocol::{Offset, TopicPartition};

use crate::memory::LedgerFull;
use crate::producers::SequenceError;

/// Something on disk is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file} is damaged at byte {position}: {reason}")]
pub struct Corruption {
    /// The file's path in the data directory.
    pub file: String,
    /// Where in the file, in bytes.
    pub position: u64,
    /// What is wrong there.
    pub reason: String,
}

/// Why a store could not be made, opened or changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk refused an operation.
    #[error("{operation} {file}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file or directory.
        file: String,
        /// The disk's answer.
        source: Rc<io::Error>,
    },
    /// The catalogue is damaged.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// A file was written by another version.
    #[error("{file} has a format that this program does not know: {reason}")]
    Unsupported {
        /// The file's path in the data directory.
        file: String,
        /// What is unknown.
        reason: String,
    },
    /// The configuration cannot be.
    #[error("the store cannot be configured like this: {0}")]
    Config(String),
    /// A write or flush failed before, so nothing is written any more until the store is opened again.
    #[error("the store is fenced: {0}")]
    Fenced(Rc<str>),
    /// The store is closing or closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether the disk was full: nothing has changed then, and it may be tried again.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }

    pub(crate) fn io(operation: &'static str, file: impl Into<String>, source: io::Error) -> Self {
        Self::Io {
            operation,
            file: file.into(),
            source: Rc::new(source),
        }
    }
}

/// Why a partition cannot be asked for anything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartitionError {
    /// The store has no such partition.
    #[error("the store has no partition {0}")]
    Unknown(TopicPartition),
}

/// Why records were not deleted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DeleteRecordsError {
    /// The store has no such partition.
    #[error("the store has no partition {0}")]
    UnknownPartition(TopicPartition),
    /// What is not readable yet cannot be deleted.
    #[error("offset {before} is not within {log_start} to {high_watermark}")]
    OutOfRange {
        /// The offset asked for.
        before: Offset,
        /// The first that is there.
        log_start: Offset,
        /// The end of what can be deleted.
        high_watermark: Offset,
    },
    /// The partition's log is damaged in a way that does not let it serve.
    #[error("the partition is out of service: {0}")]
    PartitionFailed(Rc<str>),
    /// The new log start could not be made durable.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a reader's position was not noted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// The store has no such partition.
    #[error("the store has no partition {0}")]
    UnknownPartition(TopicPartition),
    /// The partition does not know the reader by name.
    #[error("the topic does not name a reader {0:?}; add it to retention.guard.readers")]
    UnknownReader(String),
    /// Nobody can have read so far.
    #[error("position {position} is beyond the high watermark {high_watermark}")]
    OutOfRange {
        /// The position reported.
        position: Offset,
        /// The end of what can be read.
        high_watermark: Offset,
    },
    /// The partition's log is damaged in a way that does not let it serve.
    #[error("the partition is out of service: {0}")]
    PartitionFailed(Rc<str>),
}

/// Why a batch was not appended. Nothing of it is in the log then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The store has no such partition.
    #[error("the store has no partition {0}")]
    UnknownPartition(TopicPartition),
    /// The partition that the handle named is deleted.
    #[error("the partition was deleted")]
    PartitionGone,
    /// The batch is not sound, or not allowed.
    #[error("the batch is refused: {0}")]
    Batch(#[from] BatchError),
    /// The batch does not come next in the sequence of its producer.
    #[error(transparent)]
    Sequence(SequenceError),
    /// The store knows as many producers as it may, and this is a new one.
    #[error("the partitions of this store know {bytes} bytes of producers, and take no new one")]
    ProducersFull {
        /// What they take in memory.
        bytes: usize,
    },
    /// The core's memory is full; it empties as segments are written. Retriable.
    #[error(transparent)]
    MemoryFull(#[from] LedgerFull),
    /// The journal is full; it empties as segments are written. Retriable.
    #[error("the journal is full until segments are written")]
    JournalFull,
    /// The device is full, or so full that its reserve is touched. Retriable.
    #[error(
        "the disk is full: free space on it, delete topics or records, or shorten their retention"
    )]
    DiskFull,
    /// The partition takes nothing until the store is opened again, or ever.
    #[error("the partition is out of service: {0}")]
    PartitionFailed(Rc<str>),
    /// The whole store takes nothing until it is opened again.
    #[error("the store is out of service: {0}")]
    StorageFailed(Rc<str>),
    /// The store is closing. Retriable.
    #[error("the store is closing")]
    Closing,
}

/// Why nothing could be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The store has no such partition.
    #[error("the store has no partition {0}")]
    UnknownPartition(TopicPartition),
    /// The partition that the handle named is deleted.
    #[error("the partition was deleted")]
    PartitionGone,
    /// The offset is outside of what can be read.
    #[error("offset {offset} is not within {log_start} to {high_watermark}")]
    OutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// The first that is there.
        log_start: Offset,
        /// The end of what can be read.
        high_watermark: Offset,
    },
    /// The data is damaged on disk. Other data of the partition can be read.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// The partition's log is damaged in a way that does not let it serve.
    #[error("the partition is out of service: {0}")]
    PartitionFailed(Rc<str>),
    /// The disk refused to read.
    #[error("reading {file}: {source}")]
    Io {
        /// The file's path in the data directory.
        file: String,
        /// The disk's answer.
        source: Rc<io::Error>,
    },
    /// The core's memory is full. Retriable.
    #[error(transparent)]
    MemoryFull(#[from] LedgerFull),
}
