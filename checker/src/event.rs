//! What an observer can write down about a run.

use corelane_protocol::ids::{LeaderEpoch, Offset, TopicPartition};

use crate::digest::Digest;

/// One record of the workload, numbered by the observer. A retry of the same record keeps its
/// number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordNumber(pub u64);

/// One sender whose records into a partition have an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerNumber(pub u32);

/// One pass of one consumer. A consumer that seeks back is a new reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReaderNumber(pub u32);

/// One broker, as an owner of partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerNumber(pub u32);

/// One thing that the observer saw. Events are given in the order in which the observer saw them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The producer was handed the record. Written down before the first byte leaves.
    Sent {
        /// The record.
        record: RecordNumber,
        /// Who sends it. Records of one producer are sent in the order of their `Sent` events.
        producer: ProducerNumber,
        /// Its key, if it has one.
        key: Option<Digest>,
        /// Key and value together.
        content: Digest,
    },
    /// Whatever this producer sends is in the log at most once, however often it is sent. Before its first record.
    Idempotent {
        /// The producer.
        producer: ProducerNumber,
    },
    /// The broker said that the record is in the log.
    Acknowledged {
        /// The record.
        record: RecordNumber,
        /// Where it is.
        partition: TopicPartition,
        /// Its offset there.
        offset: Offset,
        /// Whether the receipt promised that it survives a crash. A receipt from memory promises
        /// nothing that is checked here.
        durable: bool,
    },
    /// The record was refused: it is certainly not in the log, and never will be.
    Failed {
        /// The record.
        record: RecordNumber,
    },
    /// An attempt had no answer: the record may or may not be in the log. A timeout is this, not a
    /// failure. If the sender tries again, a receipt may follow; it may name a second copy, so that
    /// its order among other receipts says nothing.
    Unknown {
        /// The record.
        record: RecordNumber,
    },
    /// A reader begins at an offset. It is expected to see every offset from there on, but for what compaction leaves out.
    ReadStarted {
        /// The reader.
        reader: ReaderNumber,
        /// The partition it reads.
        partition: TopicPartition,
        /// The first offset it will accept.
        from: Offset,
    },
    /// A reader was answered: what it is handed next lies below this high watermark.
    Fetched {
        /// The reader.
        reader: ReaderNumber,
        /// The partition it reads.
        partition: TopicPartition,
        /// The first offset that was not served yet.
        high_watermark: Offset,
    },
    /// A reader was handed a record.
    Polled {
        /// The reader.
        reader: ReaderNumber,
        /// The partition it reads.
        partition: TopicPartition,
        /// The record's offset.
        offset: Offset,
        /// Key and value together.
        content: Digest,
    },
    /// The reader came to what the broker told it was the end of the log, at some moment after the
    /// read started.
    ReadEnded {
        /// The reader.
        reader: ReaderNumber,
        /// The partition it reads.
        partition: TopicPartition,
    },
    /// Somebody was seen to own a partition in a term of its leadership. Histories of one broker need none.
    Owned {
        /// The partition.
        partition: TopicPartition,
        /// The term.
        epoch: LeaderEpoch,
        /// Who owns it.
        owner: OwnerNumber,
    },
    /// Nothing more is promised of a partition: its deletion was asked for, or the broker has reported that it
    /// cannot serve it. What is read of it is still judged.
    Released {
        /// The partition.
        partition: TopicPartition,
    },
    /// A partition that its owner declared weaker than flushed has lost its end in a crash, and goes on from
    /// an earlier offset. Durable receipts are judged as ever.
    CutBack {
        /// The partition.
        partition: TopicPartition,
        /// The first offset that is issued anew.
        to: Offset,
    },
    /// The broker said where a partition's log begins, in an answer to something that was asked when `at_least` was
    /// the furthest log start that it had said.
    LogStart {
        /// The partition.
        partition: TopicPartition,
        /// The first offset that is left.
        log_start: Offset,
        /// What had been said before this was asked. 0 if nothing had.
        at_least: Offset,
    },
    /// From now on the broker may delete what is below an offset: somebody asked for it, or the settings permit it.
    Deletable {
        /// The partition.
        partition: TopicPartition,
        /// The first offset that has to stay.
        before: Offset,
    },
    /// What a reader was to be handed next is below a log start that the broker has said, and it goes on there.
    ReadMoved {
        /// The reader.
        reader: ReaderNumber,
        /// The partition it reads.
        partition: TopicPartition,
        /// The next offset that it will accept.
        to: Offset,
    },
    /// The record has no value: it deletes those of its key before it where the log is compacted, and may be gone itself
    /// after a while. Behind its `Sent`.
    Tombstone {
        /// The record.
        record: RecordNumber,
    },
    /// The time is over for which a record without a value has to be kept, as far as the observer can know.
    Expirable {
        /// The record.
        record: RecordNumber,
    },
    /// From now on the broker may leave out records of a partition that later ones of the same key replace: its readers
    /// may be led past offsets.
    Compactable {
        /// The partition.
        partition: TopicPartition,
    },
    /// A reader was served up to an offset, and where it was handed no record there is none.
    ReadThrough {
        /// The reader.
        reader: ReaderNumber,
        /// The partition it reads.
        partition: TopicPartition,
        /// The next offset that it will accept.
        to: Offset,
    },
    /// The time is over within which the broker makes durable what it acknowledges from memory: receipts from memory
    /// that the partition has until now count as durable ones.
    Settled {
        /// The partition.
        partition: TopicPartition,
    },
}
