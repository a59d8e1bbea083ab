//! The one error type of the library.
//!
//! Owns: the kinds of failure a user of the client can meet, and what each says to do.
//! Never: decides about retries by itself; the producer and consumer ask `is_retriable`.

use std::time::Duration;

use corelane_protocol::{ApiError, ErrorCode};

/// What went wrong, and what to do about it.
///
/// It is `Clone` because one failed batch fails every record in it. Match on [`Error::kind`] for a
/// stable classification, and on [`Error::is_outcome_unknown`] before sending a record again.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection could be made, or the broker did not greet us.
    #[error(
        "cannot connect to {address}: {reason}; check the address and that a broker is listening there"
    )]
    Connect {
        /// The address tried, as `host:port`.
        address: String,
        /// What the operating system or the broker said.
        reason: String,
    },

    /// A connection was lost while a request waited for its answer.
    #[error("lost the connection to {address}: {reason}; repeat the request if it is safe to")]
    ConnectionLost {
        /// The address of the connection, as `host:port`.
        address: String,
        /// Why it ended.
        reason: String,
    },

    /// The broker answered with an error code.
    #[error("{context}: {error}")]
    Refused {
        /// What was asked, for example `produce to orders-3`.
        context: String,
        /// The broker's code and message.
        error: ApiError,
    },

    /// A deadline passed, and it is certain that nothing was done.
    #[error("{what} was not done within {}; nothing was written, so it may be repeated{}", display_duration(.after), display_cause(.cause))]
    TimedOut {
        /// What was asked.
        what: String,
        /// The time allowed.
        after: Duration,
        /// The last error met while trying, if there was one.
        cause: Option<Box<Error>>,
    },

    /// A deadline passed, or the client was closed, after the request had been sent: it may have
    /// been done or not.
    #[error("no answer to {what} within {}: it may or may not have been written; sending it again may write it twice{}", display_duration(.after), display_cause(.cause))]
    OutcomeUnknown {
        /// What was asked.
        what: String,
        /// The time waited.
        after: Duration,
        /// The last error met while trying, if there was one.
        cause: Option<Box<Error>>,
    },

    /// The broker refused the request when it was sent again. The first attempt was not answered: it may have been
    /// done or not.
    #[error(
        "{what} was not answered, and was refused when it was sent again: it may or may not have been written; sending it again may write it twice (last error: {cause})"
    )]
    RefusedInDoubt {
        /// What was asked.
        what: String,
        /// The refusal.
        cause: Box<Error>,
    },

    /// The record is in the log, and durable. But the answer that said so was lost, and the broker does not remember
    /// any more at which offset it is.
    #[error(
        "{what} was written, but its answer was lost, and the broker does not know the offset any more; do not send it again"
    )]
    OffsetUnknown {
        /// What was asked.
        what: String,
    },

    /// An argument or setting that can never work.
    #[error("invalid argument: {0}")]
    InvalidArgument(String),

    /// The record cannot fit a batch that the topic takes; it was not sent.
    #[error(
        "the record takes {bytes} bytes as it is sent, and topic {topic} takes {bytes_max}; send a smaller record, or raise max.message.bytes of the topic or log.max_message_bytes of the broker"
    )]
    RecordTooLarge {
        /// The topic's name.
        topic: String,
        /// The size of the record with its overhead, compressed if it was, in bytes.
        bytes: u64,
        /// The greatest size that the topic takes, in bytes.
        bytes_max: u64,
    },

    /// The producer's buffer has no room (only from calls that do not wait).
    #[error("the producer's buffer is full; wait for deliveries, use send, or raise buffer_bytes")]
    BufferFull,

    /// The topic's partitions are not known yet (only from calls that do not wait).
    #[error(
        "the partitions of topic {topic} are not known yet; call partition_count once before try_send"
    )]
    TopicNotReady {
        /// The topic's name.
        topic: String,
    },

    /// The producer, consumer or client was closed.
    #[error("the {what} is closed")]
    Closed {
        /// What was closed.
        what: &'static str,
    },

    /// The broker sent something that this version of the client cannot understand.
    #[error(
        "{address} sent a malformed answer: {reason}; check that broker and client versions fit"
    )]
    Protocol {
        /// The address of the connection, as `host:port`.
        address: String,
        /// What was wrong with it.
        reason: String,
    },

    /// A fetched batch failed its checks; its records were not handed out.
    #[error(
        "the batch at offset {offset} of {topic}-{partition} is damaged: {reason}; seek past it, or restore the partition"
    )]
    CorruptBatch {
        /// The topic's name.
        topic: String,
        /// The partition's index.
        partition: u32,
        /// The offset at which reading stopped.
        offset: u64,
        /// Which check failed.
        reason: String,
    },

    /// Records that were handed out are gone: the broker was not stopped in order and lost them, which the
    /// topic's `flush.messages` or `flush.ms` permits. Other records may have their offsets now.
    #[error(
        "records {from} to {} of {topic}-{partition} were read and are gone: the broker was not stopped in order, and the topic lets records be acknowledged before they are flushed; undo what came of them, reading goes on at {from}", .to - 1
    )]
    LogTruncated {
        /// The topic's name.
        topic: String,
        /// The partition's index.
        partition: u32,
        /// The offset of the first record that is gone.
        from: u64,
        /// The offset after the last one that was handed out.
        to: u64,
    },

    /// The offset at which a member of a group was to read does not exist (any more, or yet). It goes on elsewhere, as
    /// [`GroupBuilder::offset_reset`](crate::GroupBuilder::offset_reset) says.
    #[error(
        "offset {from} of {topic}-{partition} does not exist; reading goes on at {to}, as offset_reset says: {}", display_reset(*.from, *.to)
    )]
    OffsetReset {
        /// The topic's name.
        topic: String,
        /// The partition's index.
        partition: u32,
        /// The offset of the record that was to be handed out next.
        from: u64,
        /// The offset of the record that is handed out next.
        to: u64,
    },

    /// The member has left its group, since no records were asked for in time. Its next call joins again.
    #[error(
        "the member left group {group}, since no records were asked for within {} (max_poll_interval): other members have its partitions; work on less at a time or raise max_poll_interval, the next call joins again", display_duration(.after)
    )]
    PollOverdue {
        /// The group's name.
        group: String,
        /// The longest time that was allowed.
        after: Duration,
    },

    /// Partitions were lost to other members before everything that was handed out of them was committed: those
    /// records are handed out again there.
    #[error(
        "group {group}: {} lost before all records that were handed out were committed; other members read them again", display_partitions(.partitions)
    )]
    PartitionsLost {
        /// The group's name.
        group: String,
        /// The partitions, as (topic, index).
        partitions: Vec<(String, u32)>,
    },

    /// A method of the program's [`RebalanceListener`](crate::RebalanceListener) panicked. The member goes on as if it
    /// had returned.
    #[error("the rebalance listener of group {group} panicked: {reason}; correct the listener")]
    ListenerPanicked {
        /// The group's name.
        group: String,
        /// What is known of the panic.
        reason: String,
    },
}

/// A coarse, stable classification of [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Connecting failed, or a connection was lost.
    Connection,
    /// The broker refused; see [`Error::code`].
    Refused,
    /// Nothing was done in the time allowed.
    TimedOut,
    /// It is not known whether the request was done.
    OutcomeUnknown,
    /// The request was done, and only the offset is not known.
    OffsetUnknown,
    /// The call itself was wrong.
    InvalidArgument,
    /// A buffer of the client is full, or something is not loaded yet: wait, then repeat.
    NotReady,
    /// The object was closed.
    Closed,
    /// Bytes received were malformed or damaged.
    Corrupt,
    /// Records that were read are gone.
    Truncated,
    /// A position moved, since what was there does not exist.
    OffsetReset,
    /// A member of a group was out of it, or does not have a partition any more.
    MembershipLost,
}

impl Error {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::InvalidArgument(message.into())
    }

    pub(crate) fn refused(context: impl Into<String>, error: ApiError) -> Self {
        Self::Refused {
            context: context.into(),
            error,
        }
    }

    /// The class of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Connect { .. } | Self::ConnectionLost { .. } => ErrorKind::Connection,
            Self::Refused { .. } => ErrorKind::Refused,
            Self::TimedOut { .. } => ErrorKind::TimedOut,
            Self::OutcomeUnknown { .. } | Self::RefusedInDoubt { .. } => ErrorKind::OutcomeUnknown,
            Self::OffsetUnknown { .. } => ErrorKind::OffsetUnknown,
            Self::InvalidArgument(_)
            | Self::RecordTooLarge { .. }
            | Self::ListenerPanicked { .. } => ErrorKind::InvalidArgument,
            Self::BufferFull | Self::TopicNotReady { .. } => ErrorKind::NotReady,
            Self::Closed { .. } => ErrorKind::Closed,
            Self::Protocol { .. } | Self::CorruptBatch { .. } => ErrorKind::Corrupt,
            Self::LogTruncated { .. } => ErrorKind::Truncated,
            Self::OffsetReset { .. } => ErrorKind::OffsetReset,
            Self::PollOverdue { .. } | Self::PartitionsLost { .. } => ErrorKind::MembershipLost,
        }
    }

    /// The broker's error code, if the broker refused (also when that refusal is the last thing
    /// seen before a deadline passed).
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { error, .. } => Some(error.code),
            Self::TimedOut { cause, .. } | Self::OutcomeUnknown { cause, .. } => {
                cause.as_deref().and_then(Self::code)
            }
            Self::RefusedInDoubt { cause, .. } => cause.code(),
            Self::OffsetUnknown { .. } => Some(ErrorCode::DuplicateSequence),
            _ => None,
        }
    }

    /// Whether the same call may succeed later without a change. It says nothing about whether
    /// repeating it is *safe*: see [`Error::is_outcome_unknown`].
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Refused { error, .. } => error.code.retriable(),
            Self::Connect { .. }
            | Self::ConnectionLost { .. }
            | Self::TimedOut { .. }
            | Self::OutcomeUnknown { .. }
            | Self::RefusedInDoubt { .. }
            | Self::BufferFull
            | Self::TopicNotReady { .. } => true,
            _ => false,
        }
    }

    /// Whether the request may have been done although it is reported as failed. A record with such
    /// an outcome may be in the log once; sending it again may put it there twice.
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            Self::OutcomeUnknown { .. }
            | Self::RefusedInDoubt { .. }
            | Self::ConnectionLost { .. } => true,
            Self::Refused { error, .. } => {
                matches!(
                    error.code,
                    ErrorCode::StorageFailed | ErrorCode::TimedOut | ErrorCode::Internal
                )
            }
            _ => false,
        }
    }
}

fn display_duration(duration: &Duration) -> String {
    format!("{duration:?}")
}

fn display_reset(from: u64, to: u64) -> String {
    if to > from {
        format!("{} offsets were left out", to - from)
    } else {
        format!("records from {to} on are read, which may have been read before")
    }
}

fn display_partitions(partitions: &[(String, u32)]) -> String {
    let names: Vec<String> = partitions
        .iter()
        .map(|(topic, partition)| format!("{topic}-{partition}"))
        .collect();
    match &names[..] {
        [one] => format!("partition {one} was"),
        _ => format!("partitions {} were", names.join(", ")),
    }
}

fn display_cause(cause: &Option<Box<Error>>) -> String {
    match cause {
        Some(cause) => format!(" (last error: {cause})"),
        None => String::new(),
    }
}

/// The result of every fallible call of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;
