//! What cores say to each other.
//!
//! Everything here is plain data that may move between threads; a test of the compiler holds that.
//! The shell carries mail in order from each core to each other core and loses none. How much can
//! be on its way is bounded here, not there: a core has at most `limits.mailbox_requests_max`
//! requests and `limits.mailbox_bytes_max` bytes of them outstanding at another, there is at most
//! one reply for each, and beside those only a constant number of the controller's messages.

use std::sync::Arc;

use corelane_protocol::request::{
    Acks, DeleteRecordsEntry, FetchEntry, ListOffsetsEntry, PositionEntry,
};
use corelane_protocol::response::{
    DescribedPartition, FetchedHead, ListedGroup, ListedOffset, Receipt,
};
use corelane_protocol::{ApiError, Offset, TopicId, TopicPartition};

use super::ConnectionId;
use super::forward::FORWARDED_ENTRY_BYTES;
use super::groups::{GroupAnswered, GroupQuestion};
use crate::controller::{Command, CommandReply};
use crate::metadata::MetadataRecord;

/// One message from one core to another.
#[derive(Debug)]
pub enum Mail {
    /// A client's request, or the part of it that the receiver owns.
    Forward {
        /// Names the request at the sender; the reply repeats it.
        token: u64,
        /// The client's connection at the sender.
        source: ConnectionId,
        /// What is asked.
        request: ForwardedRequest,
    },
    /// The answer to a [`Mail::Forward`].
    ForwardReply {
        /// The token of the request.
        token: u64,
        /// The answer.
        reply: ForwardedReply,
    },
    /// A connection whose requests were forwarded is closed: forget its refused partitions and
    /// answer what still waits for it.
    SourceClosed {
        /// The connection at the sender.
        source: ConnectionId,
    },
    /// A command for the controller.
    Command {
        /// Names the request at the sender; the reply repeats it.
        token: u64,
        /// What is asked.
        command: Command,
    },
    /// The answer to a [`Mail::Command`].
    CommandDone {
        /// The token of the command.
        token: u64,
        /// The answer for each topic, or why the whole command was refused.
        reply: Result<CommandReply, ApiError>,
    },
    /// From the controller: the next records of the metadata log, which are durable.
    MetadataRecords {
        /// Position of the log after them.
        position: u64,
        /// The records.
        records: Arc<[MetadataRecord]>,
    },
    /// To the controller: the records up to here are applied and this core's stores follow them.
    MetadataApplied {
        /// Position of the log.
        position: u64,
        /// What the sender's stores could not do.
        failure: Option<String>,
    },
    /// From the controller: every core has applied the records up to here; clients may be told.
    MetadataVisible {
        /// Position of the log.
        position: u64,
    },
    /// To the controller: clients of this core are told.
    MetadataShown {
        /// Position of the log.
        position: u64,
    },
}

/// A request on its way to the core that owns its partitions.
#[derive(Debug)]
pub enum ForwardedRequest {
    /// Batches to append.
    Produce {
        /// When it counts as done.
        acks: Acks,
        /// Milliseconds that it may take.
        timeout_ms: u32,
        /// The batches, in the order of the client's request.
        batches: Vec<ForwardedBatch>,
    },
    /// A fetch whose first partition the receiver owns; only entries that it owns.
    Fetch {
        /// Milliseconds that it may wait.
        max_wait_ms: u32,
        /// Bytes that are worth an answer before that.
        min_bytes: u32,
        /// Bytes of the answer.
        max_bytes: u32,
        /// The partitions.
        entries: Vec<FetchEntry>,
    },
    /// Offsets to look up.
    ListOffsets {
        /// The partitions.
        entries: Vec<ListOffsetsEntry>,
    },
    /// Records to delete.
    DeleteRecords {
        /// The partitions, and up to where.
        entries: Vec<DeleteRecordsEntry>,
    },
    /// How far a named reader has come.
    ReportPositions {
        /// Its name.
        reader: String,
        /// The partitions, and how far.
        entries: Vec<PositionEntry>,
    },
    /// The receiver's consumer groups.
    ListGroups,
    /// A question about a consumer group that the receiver coordinates.
    Group {
        /// Where the client connects from.
        host: String,
        /// What is asked.
        question: Box<GroupQuestion>,
    },
    /// Partitions to describe: all that the receiver owns of these topics.
    Describe {
        /// The topics.
        topics: Vec<TopicId>,
    },
}

/// One batch of a forwarded produce.
#[derive(Debug)]
pub struct ForwardedBatch {
    /// The partition.
    pub partition: TopicPartition,
    /// The client resumes after a refusal.
    pub resume: bool,
    /// The batch, not yet checked.
    pub batch: Vec<u8>,
}

/// The answer to a [`ForwardedRequest`], its entries in the order of the request's.
#[derive(Debug)]
pub enum ForwardedReply {
    /// One result for each batch.
    Produce(Vec<Result<Receipt, ApiError>>),
    /// One head for each partition, and the bytes of all of them in order.
    Fetch {
        /// The heads.
        heads: Vec<Result<FetchedHead, ApiError>>,
        /// The batches.
        bytes: Vec<u8>,
    },
    /// One offset for each entry.
    ListOffsets(Vec<Result<ListedOffset, ApiError>>),
    /// Where the log of each entry begins now.
    LogStarts(Vec<Result<Offset, ApiError>>),
    /// The sender's consumer groups, or why some are not known.
    Groups(Result<Vec<ListedGroup>, ApiError>),
    /// What the coordinator says about a group.
    Group(Box<Result<GroupAnswered, ApiError>>),
    /// The partitions that the sender owns.
    Describe(Vec<(TopicId, DescribedPartition)>),
}

impl ForwardedRequest {
    /// What the request counts for in the mailbox: the bytes of its batches or of its answer.
    pub(super) fn mailbox_bytes(&self) -> u64 {
        const ENTRY: usize = FORWARDED_ENTRY_BYTES as usize;
        let bytes = match self {
            Self::Produce { batches, .. } => {
                batches.iter().map(|batch| batch.batch.len() + ENTRY).sum()
            }
            Self::Fetch {
                max_bytes, entries, ..
            } => *max_bytes as usize + entries.len() * ENTRY,
            Self::ListOffsets { entries } => entries.len() * ENTRY,
            Self::DeleteRecords { entries } => entries.len() * ENTRY,
            Self::ReportPositions { reader, entries } => reader.len() + entries.len() * ENTRY,
            Self::ListGroups => ENTRY,
            Self::Group { host, question } => host.len() + question.mailbox_bytes(),
            Self::Describe { topics } => topics.len() * ENTRY,
        };
        bytes as u64
    }
}

const _: fn() = || {
    fn moves_between_threads<T: Send + 'static>() {}
    moves_between_threads::<Mail>();
};
