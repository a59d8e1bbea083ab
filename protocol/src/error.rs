//! Error codes: what a broker tells a client when it refuses.
//!
//! Owns the numbers, which of them are worth a retry, and the advice for each.
//! Never carries operating errors or bugs: those stay in the process.

use std::fmt;

/// Defines the codes in one table: number, retriable, summary, advice.
macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $retriable:literal, $summary:literal, $advice:literal;)+) => {
        /// A refusal's kind. The numbers are part of the wire format.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum ErrorCode {
            $($(#[$doc])* $name = $number,)+
        }

        impl ErrorCode {
            /// Every code, in the order of the numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The code with this number; `None` for 0 and for unknown numbers.
            pub const fn from_u16(number: u16) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)+
                    _ => None,
                }
            }

            /// Whether the same request may succeed when it is sent again.
            pub const fn retriable(self) -> bool {
                match self {
                    $(Self::$name => $retriable,)+
                }
            }

            /// Whether a broker that has refused a batch with it refuses what follows for that
            /// partition until a batch resumes: the records of the refused one may come again, as
            /// they are or in smaller batches, and must not be overtaken.
            pub const fn needs_resume(self) -> bool {
                self.retriable()
                    || matches!(
                        self,
                        Self::BatchTooLarge | Self::OutOfOrderSequence | Self::UnknownProducer
                    )
            }

            /// What happened, in a few words.
            pub const fn summary(self) -> &'static str {
                match self {
                    $(Self::$name => $summary,)+
                }
            }

            /// What to do about it, in one sentence.
            pub const fn advice(self) -> &'static str {
                match self {
                    $(Self::$name => $advice,)+
                }
            }
        }
    };
}

error_codes! {
    /// The broker failed in a way that the client cannot have caused.
    Internal = 1, false, "internal error",
        "Look into the broker's log, and report it.";
    /// The request's API key is unknown.
    UnsupportedApi = 2, false, "unsupported request",
        "Ask the broker for its requests with ApiVersions; a newer broker may know this one.";
    /// The API is known, this version of it is not.
    UnsupportedVersion = 3, false, "unsupported version",
        "Use a version that the broker lists in its ApiVersions response.";
    /// The body does not follow its layout.
    MalformedRequest = 4, false, "malformed request",
        "Check the client library; its bytes do not follow docs/wire.md.";
    /// The frame is longer than the broker takes.
    FrameTooLarge = 5, false, "frame too large",
        "Send smaller requests, or raise limits.frame_bytes_max on the broker.";
    /// The batch is longer than the topic takes.
    BatchTooLarge = 6, false, "batch too large",
        "Send smaller batches, or raise max.message.bytes of the topic or log.max_message_bytes of the broker.";
    /// The batch's checksum or structure is wrong.
    CorruptBatch = 7, false, "corrupt batch",
        "The bytes changed on their way, or the client built them wrongly; check network, memory and client library.";
    /// The batch is of a version, encoding or kind that the broker does not take.
    UnsupportedBatch = 8, false, "unsupported batch",
        "Use a client library of the broker's version.";
    /// No such topic.
    UnknownTopic = 9, false, "unknown topic",
        "Create the topic first, or refresh the metadata if it was made again.";
    /// The topic has no such partition.
    UnknownPartition = 10, false, "unknown partition",
        "Refresh the metadata and choose one of the topic's partitions.";
    /// A topic of this name exists.
    TopicExists = 11, false, "topic exists",
        "Use the existing topic, or delete it first.";
    /// The name breaks the rules for topic names.
    InvalidTopicName = 12, false, "invalid topic name",
        "Use 1 to 249 letters, digits, '.', '_' and '-'.";
    /// The number of partitions is not possible.
    InvalidPartitions = 13, false, "invalid number of partitions",
        "Ask for at least one partition and at most the broker's limit.";
    /// A setting is unknown or its value impossible.
    InvalidConfig = 14, false, "invalid configuration",
        "Correct the setting that the message names.";
    /// Another core or broker owns the partition.
    NotOwner = 15, true, "not the owner",
        "Send it to the address in the response, or refresh the metadata.";
    /// The offset is outside of the log.
    OffsetOutOfRange = 16, false, "offset out of range",
        "Ask ListOffsets for the earliest and the latest offset, and start from one of them.";
    /// A queue or the memory is full.
    Overloaded = 17, true, "overloaded",
        "Send it again after a pause; if it persists, send less at a time or add cores, memory or disks.";
    /// The broker is about to stop.
    ShuttingDown = 18, true, "shutting down",
        "Send it again once the broker is back.";
    /// The disk refused a write or a flush; the log takes no more until restart.
    StorageFailed = 19, false, "storage failed",
        "Check the disk and the broker's log, then restart the broker.";
    /// Stored data does not match its checksums.
    CorruptData = 20, false, "corrupt data",
        "The message names file and position; restore them from a copy, or delete the topic.";
    /// An earlier produce to this partition was refused on this connection.
    ProduceOrder = 21, true, "out of order after a refused produce",
        "Wait for all answers of this partition, then send again in order, the first with RESUME.";
    /// The broker serves as many connections as it may.
    TooManyConnections = 22, true, "too many connections",
        "Close unused connections, or raise limits.connections_max on the broker.";
    /// The request is well-formed but asks for something impossible.
    InvalidRequest = 23, false, "invalid request",
        "Correct what the message names.";
    /// It was not done in time; it may still happen.
    TimedOut = 24, true, "timed out",
        "Send it again with a longer timeout; a produce that timed out may have been stored.";
    /// The disk has no room above its reserve.
    DiskFull = 25, true, "disk full",
        "Free space on the broker's disk, or shorten retention; it recovers by itself.";
    /// The broker keeps as many topics or partitions as it may.
    TopicLimit = 26, false, "too many topics or partitions",
        "Delete topics, or raise the broker's limits on topics and partitions.";
    /// The batch says that its records have another kind of time than the topic's.
    TimestampTypeMismatch = 27, true, "the topic takes another timestamp type",
        "Refresh the metadata, set the batch's timestamp type to the topic's, and send it again.";
    /// A record's time is too far from the broker's.
    InvalidTimestamp = 28, false, "invalid timestamp",
        "Correct the producer's clock or the times that it gives to records, or change message.timestamp.before.max.ms or message.timestamp.after.max.ms of the topic.";
    /// The reader knows an older leader epoch of the partition than there is.
    FencedLeaderEpoch = 29, true, "the leader epoch is out of date",
        "Refresh the metadata, and send it again with the partition's leader epoch of now.";
    /// The reader knows a newer leader epoch of the partition than there is here.
    UnknownLeaderEpoch = 30, true, "the leader epoch is not known here",
        "Refresh the metadata and send it again; if it persists, the broker's data directory is an older copy.";
    /// The group has no such member, or has no more.
    UnknownMember = 31, false, "unknown member of the group",
        "Let go of all partitions and join again with generation 0.";
    /// The member's generation is not the one that the group knows of it.
    StaleGeneration = 32, false, "the member's generation is out of date",
        "Send a heartbeat, take up the generation that it answers, and send it again.";
    /// The partition is not the member's.
    NotAssigned = 33, false, "the partition is not the member's",
        "Let go of the partition: another member may have it.";
    /// What the group's log holds is still being read.
    GroupLoading = 34, true, "the group is being loaded",
        "Send it again after a pause.";
    /// No such group.
    UnknownGroup = 35, false, "unknown group",
        "List the groups; one appears with its first member or commit, and goes with its last offset.";
    /// The group has members.
    GroupNotEmpty = 36, false, "the group has members",
        "Stop the members first, or wait until their sessions are over.";
    /// Another member has this instance name.
    InstanceInUse = 37, false, "the instance name is in use",
        "Give each member an instance name of its own, or wait until the session of the other one is over.";
    /// The broker keeps as many groups, members or offsets as it may.
    GroupLimit = 38, false, "too many groups, members or offsets",
        "Delete groups, or raise the broker's limits on groups.";
    /// Batches of the producer that come before this one are not in the log.
    OutOfOrderSequence = 39, false, "out of sequence",
        "Begin a new producer epoch in this partition with sequence 0; the batch is not in the log.";
    /// The partition knows nothing of the producer.
    UnknownProducer = 40, false, "unknown producer",
        "Begin a new producer epoch in this partition with sequence 0; whether the batch was written before is not known.";
    /// The partition knows a later epoch of the producer.
    ProducerFenced = 41, false, "fenced producer",
        "Stop this producer: one with the same id and a later epoch has taken its place.";
    /// The batch is in the log, too far back to say where.
    DuplicateSequence = 42, false, "written before",
        "Do not send it again: its records are in the log, and their offsets are not remembered any more.";
    /// The broker remembers as many producers as it may.
    ProducerLimit = 43, false, "too many producers",
        "Use fewer producers for longer, or raise producers.bytes_max or lower producers.expiration_ms on the broker.";
}

impl ErrorCode {
    /// The number on the wire, never 0.
    pub const fn as_u16(self) -> u16 {
        self as u16
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.summary())
    }
}

/// A refusal as it travels: the code, and a message for the person who reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// What kind of refusal.
    pub code: ErrorCode,
    /// What exactly was wrong; may be empty. At most 65,535 bytes travel.
    pub message: String,
}

impl ApiError {
    /// A refusal with a message.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// Whether the same request may succeed when it is sent again.
    pub const fn retriable(&self) -> bool {
        self.code.retriable()
    }

    /// See [`ErrorCode::needs_resume`].
    pub const fn needs_resume(&self) -> bool {
        self.code.needs_resume()
    }
}

impl From<ErrorCode> for ApiError {
    fn from(code: ErrorCode) -> Self {
        Self {
            code,
            message: String::new(),
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() {
            write!(f, "{}. {}", self.code.summary(), self.code.advice())
        } else {
            write!(
                f,
                "{}: {}. {}",
                self.code.summary(),
                self.message,
                self.code.advice()
            )
        }
    }
}

impl std::error::Error for ApiError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_read_back() {
        for (index, code) in ErrorCode::ALL.iter().enumerate() {
            assert_eq!(usize::from(code.as_u16()), index + 1);
            assert_eq!(ErrorCode::from_u16(code.as_u16()), Some(*code));
            assert!(code.advice().ends_with('.'), "{code:?}");
        }
        assert_eq!(ErrorCode::from_u16(0), None);
        assert_eq!(ErrorCode::from_u16(44), None);
    }

    #[test]
    fn retriable_codes_are_the_documented_ones() {
        let retriable: Vec<u16> = ErrorCode::ALL
            .iter()
            .filter(|c| c.retriable())
            .map(|c| c.as_u16())
            .collect();
        assert_eq!(retriable, [15, 17, 18, 21, 22, 24, 25, 27, 29, 30, 34]);
    }
}
