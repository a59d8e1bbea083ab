//! Why bytes are not a batch.

use super::compression::Compression;
use crate::error::{ApiError, ErrorCode};
use crate::ids::Offset;

/// Why bytes are not a batch, or not one that is taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// There are fewer bytes than the batch has.
    #[error("the batch needs {needed} bytes, {length} are there")]
    Truncated {
        /// Bytes of the batch, or of its header where that is cut.
        needed: usize,
        /// Bytes that are there.
        length: usize,
    },
    /// There are more bytes than the batch has.
    #[error("{length} bytes are there, the batch has {total_length}")]
    Trailing {
        /// Bytes of the batch.
        total_length: u32,
        /// Bytes that are there.
        length: usize,
    },
    /// The batch does not begin at a multiple of 8 in memory.
    #[error("the batch does not begin at a multiple of 8")]
    Misaligned,
    /// The batch is larger than it may be.
    #[error("the batch has {total_length} bytes, at most {bytes_max} are taken")]
    TooLarge {
        /// Bytes of the batch.
        total_length: u32,
        /// The limit.
        bytes_max: u32,
    },
    /// The payload would be larger than it may be once it is decompressed.
    #[error("the payload unpacks to {uncompressed_length} bytes, at most {bytes_max} are taken")]
    UnpacksTooLarge {
        /// Bytes of the payload once it is decompressed.
        uncompressed_length: u32,
        /// The limit, by size or by ratio.
        bytes_max: u32,
    },
    /// The magic is not there: this is no batch.
    #[error("no batch begins here: the magic reads {found:#06x}")]
    Magic {
        /// What is there.
        found: u16,
    },
    /// The header is of another version.
    #[error("batch version {found} is not known here")]
    Version {
        /// What is there.
        found: u8,
    },
    /// The payload is of another kind.
    #[error("payload encoding {found} is not known here")]
    Encoding {
        /// What is there.
        found: u8,
    },
    /// Attribute bits are set that have no meaning here.
    #[error("the attributes {bits:#06x} are not known here")]
    Attributes {
        /// The field.
        bits: u16,
    },
    /// A producer may not send this kind of batch.
    #[error("{kind} batches are not taken from producers")]
    NotFromProducers {
        /// Which kind.
        kind: &'static str,
    },
    /// A record has no key, and the log is compacted by key.
    #[error(
        "record {record} of the batch, counted from 0, has no key, and the topic is compacted by key \
         (cleanup.policy); nothing of the batch was written"
    )]
    NoKey {
        /// Which.
        record: u32,
    },
    /// The lengths in the header contradict each other.
    #[error("the lengths in the header do not fit together")]
    Lengths,
    /// The record count, the last offset delta and the lengths contradict each other.
    #[error("{record_count} records cannot be there")]
    RecordCount {
        /// The count.
        record_count: u32,
    },
    /// Producer id, epoch and sequence do not go together.
    #[error("producer id, epoch and base sequence do not go together")]
    Producer,
    /// The timestamps are negative, out of order or too far apart.
    #[error("the timestamps in the header are not possible")]
    Timestamps,
    /// Bytes that must be 0 are not.
    #[error("reserved bytes or padding are not 0")]
    NotZero,
    /// The content does not match its checksum.
    #[error("the checksum is {stored:#010x} and should be {computed:#010x}")]
    Crc {
        /// In the header.
        stored: u32,
        /// Of the content.
        computed: u32,
    },
    /// The payload does not decompress to what the header says.
    #[error("the payload does not unpack as {compression}")]
    Decompress {
        /// How it is compressed.
        compression: Compression,
    },
    /// The payload's columns contradict each other or the header.
    #[error("the payload is inconsistent: {what}")]
    Structure {
        /// What is wrong.
        what: &'static str,
    },
    /// The stamp does not match its checksum, or was never written.
    #[error("the stamp's checksum is {stored:#010x} and should be {computed:#010x}")]
    StampChecksum {
        /// In the stamp.
        stored: u32,
        /// Of the stamp.
        computed: u32,
    },
    /// The stamp belongs to another batch.
    #[error(
        "the stamp belongs to a batch with checksum {stamped:#010x}, this one has {header:#010x}"
    )]
    StampOfAnother {
        /// The CRC in the stamp.
        stamped: u32,
        /// The CRC in the header.
        header: u32,
    },
    /// The stamp holds an offset or a time that cannot be.
    #[error("the stamp's offset or time is not possible")]
    StampValue,
}

impl BatchError {
    /// The code with which a broker refuses such a batch.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::TooLarge { .. } | Self::UnpacksTooLarge { .. } => ErrorCode::BatchTooLarge,
            Self::Version { .. }
            | Self::Encoding { .. }
            | Self::Attributes { .. }
            | Self::NotFromProducers { .. } => ErrorCode::UnsupportedBatch,
            Self::NoKey { .. } => ErrorCode::InvalidRequest,
            _ => ErrorCode::CorruptBatch,
        }
    }
}

impl From<BatchError> for ApiError {
    fn from(error: BatchError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// Why a batch cannot be read, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordBatchError {
    /// The batch's base offset, where its stamp could be read.
    pub base_offset: Option<Offset>,
    /// What is wrong.
    pub error: BatchError,
}

impl std::fmt::Display for RecordBatchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.base_offset {
            Some(offset) => write!(f, "batch at offset {offset}: {}", self.error),
            None => write!(f, "batch at an unknown offset: {}", self.error),
        }
    }
}

impl std::error::Error for RecordBatchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}
