//! The producer's header: 64 bytes after the stamp.

use super::compression::Compression;
use super::error::BatchError;
use super::layout::{
    ATTRIBUTES, BASE_SEQUENCE, BATCH_ALIGN, CRC, CRC_COVERS_FROM, ENCODING, ENCODING_COLUMNAR,
    FIRST_TIMESTAMP, LAST_OFFSET_DELTA, MAGIC, MAGIC_AT, MAX_TIMESTAMP, PAYLOAD_LENGTH, PREFIX_LEN,
    PRODUCER_EPOCH, PRODUCER_ID, RECORD_COUNT, RESERVED_A, RESERVED_B, TOTAL_LENGTH,
    UNCOMPRESSED_LENGTH, VERSION, VERSION_AT, field, put,
};
use crate::ids::{ProducerEpoch, ProducerId, Timestamp};

/// Which time a record's timestamp is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampType {
    /// The time that the producer gave it.
    #[default]
    Create,
    /// The time at which the broker appended its batch.
    LogAppend,
}

impl TimestampType {
    /// The number on the wire, and the bit in a batch's attributes.
    pub const fn as_u8(self) -> u8 {
        match self {
            Self::Create => 0,
            Self::LogAppend => 1,
        }
    }

    /// The type with this number.
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Create),
            1 => Some(Self::LogAppend),
            _ => None,
        }
    }

    /// Kafka's name, as `message.timestamp.type` has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CreateTime",
            Self::LogAppend => "LogAppendTime",
        }
    }
}

/// What a batch says of its records' times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchTimes {
    /// Which time they are.
    pub timestamp_type: TimestampType,
    /// The first record's timestamp.
    pub first: Timestamp,
    /// The latest of the records' timestamps.
    pub max: Timestamp,
}

impl BatchTimes {
    /// Reads them where they stand, without checking anything; `None` if the bytes are no header.
    pub fn peek(batch_prefix: &[u8]) -> Option<Self> {
        let bytes = batch_prefix.first_chunk::<PREFIX_LEN>()?;
        let attributes = u16::from_le_bytes(field(bytes, ATTRIBUTES));
        Some(Self {
            timestamp_type: timestamp_type(attributes),
            first: Timestamp::new(i64::from_le_bytes(field(bytes, FIRST_TIMESTAMP))),
            max: Timestamp::new(i64::from_le_bytes(field(bytes, MAX_TIMESTAMP))),
        })
    }
}

/// Makes a batch say that its records' times are of this type, and computes its CRC anew. Everything
/// else stays as it is. For producers: nobody may change a batch once it was sent.
///
/// # Panics
/// When `batch` is shorter than [`PREFIX_LEN`].
pub fn set_timestamp_type(batch: &mut [u8], timestamp_type: TimestampType) {
    assert!(batch.len() >= PREFIX_LEN, "a batch has a header");
    let mut attributes = u16::from_le_bytes(field(batch, ATTRIBUTES)) & !bits::LOG_APPEND;
    if timestamp_type == TimestampType::LogAppend {
        attributes |= bits::LOG_APPEND;
    }
    put(batch, ATTRIBUTES, attributes.to_le_bytes());
    let crc = crc32c::crc32c(&batch[CRC_COVERS_FROM..]);
    put(batch, CRC, crc.to_le_bytes());
}

/// Makes a batch say that it is of this idempotent producer, with this sequence number for its first record, and
/// computes its CRC anew. Everything else stays as it is. For producers, whose batches before this one did not come
/// to be in the log.
///
/// # Panics
/// When `batch` is shorter than [`PREFIX_LEN`].
pub fn set_producer(
    batch: &mut [u8],
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    base_sequence: u32,
) {
    assert!(batch.len() >= PREFIX_LEN, "a batch has a header");
    put(batch, PRODUCER_ID, producer_id.get().to_le_bytes());
    put(batch, PRODUCER_EPOCH, producer_epoch.get().to_le_bytes());
    put(batch, BASE_SEQUENCE, base_sequence.to_le_bytes());
    let crc = crc32c::crc32c(&batch[CRC_COVERS_FROM..]);
    put(batch, CRC, crc.to_le_bytes());
}

fn timestamp_type(attributes: u16) -> TimestampType {
    if attributes & bits::LOG_APPEND == 0 {
        TimestampType::Create
    } else {
        TimestampType::LogAppend
    }
}

/// A batch's header, whose fields fit together. The content is only known to be
/// whole once its CRC was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// CRC32C of everything after the CRC itself.
    pub crc: u32,
    /// What the payload is; always [`ENCODING_COLUMNAR`].
    pub encoding: u8,
    /// Bytes of the whole batch: stamp, header, payload, padding.
    pub total_length: u32,
    /// How the payload is compressed.
    pub compression: Compression,
    /// Which time the records' timestamps are.
    pub timestamp_type: TimestampType,
    /// Whether it belongs to a transaction.
    pub transactional: bool,
    /// Whether it is a marker of the broker's, and no data.
    pub control: bool,
    /// Records: at least 1 in what a producer sends, none in what compaction leaves where all are gone.
    pub record_count: u32,
    /// The last offset that the batch covers less its base offset, at least the count less 1.
    pub last_offset_delta: u32,
    /// The first record's timestamp.
    pub first_timestamp: Timestamp,
    /// The latest of the records' timestamps.
    pub max_timestamp: Timestamp,
    /// The idempotent producer, or [`ProducerId::NONE`].
    pub producer_id: ProducerId,
    /// Its incarnation, or [`ProducerEpoch::NONE`].
    pub producer_epoch: ProducerEpoch,
    /// The first record's sequence number, or `u32::MAX` without a producer id.
    pub base_sequence: u32,
    /// Bytes of the payload as it is sent, without padding.
    pub payload_length: u32,
    /// Bytes of the payload once it is unpacked.
    pub uncompressed_length: u32,
}

/// The fewest bytes of one record in a payload: the end of its value.
const RECORD_BYTES_MIN: u32 = 2;

/// The latest time that a record may have, ms: far beyond any clock, and far
/// enough from the end of `i64` that sums of times never overflow.
pub(super) const TIMESTAMP_MAX: i64 = i64::MAX / 2;

mod bits {
    pub(super) const COMPRESSION: u16 = 0b111;
    pub(super) const LOG_APPEND: u16 = 1 << 3;
    pub(super) const TRANSACTIONAL: u16 = 1 << 4;
    pub(super) const CONTROL: u16 = 1 << 5;
    pub(super) const KNOWN: u16 = COMPRESSION | LOG_APPEND | TRANSACTIONAL | CONTROL;
}

impl BatchHeader {
    /// Reads the header of the batch that begins `batch_prefix`, which needs
    /// [`PREFIX_LEN`] bytes and no alignment. Checks the fields against each
    /// other; neither the CRC nor the payload.
    ///
    /// # Errors
    /// The first rule that a field breaks.
    pub fn parse(batch_prefix: &[u8]) -> Result<Self, BatchError> {
        let Some(bytes) = batch_prefix.first_chunk::<PREFIX_LEN>() else {
            return Err(BatchError::Truncated {
                needed: PREFIX_LEN,
                length: batch_prefix.len(),
            });
        };
        let magic = u16::from_le_bytes(field(bytes, MAGIC_AT));
        if magic != MAGIC {
            return Err(BatchError::Magic { found: magic });
        }
        if bytes[VERSION_AT] != VERSION {
            return Err(BatchError::Version {
                found: bytes[VERSION_AT],
            });
        }
        if bytes[ENCODING] != ENCODING_COLUMNAR {
            return Err(BatchError::Encoding {
                found: bytes[ENCODING],
            });
        }
        let attributes = u16::from_le_bytes(field(bytes, ATTRIBUTES));
        let compression = Compression::from_bits(attributes & bits::COMPRESSION);
        let (Some(compression), 0) = (compression, attributes & !bits::KNOWN) else {
            return Err(BatchError::Attributes { bits: attributes });
        };
        if field::<2>(bytes, RESERVED_A) != [0; 2] || field::<2>(bytes, RESERVED_B) != [0; 2] {
            return Err(BatchError::NotZero);
        }
        let header = Self {
            crc: u32::from_le_bytes(field(bytes, CRC)),
            encoding: bytes[ENCODING],
            total_length: u32::from_le_bytes(field(bytes, TOTAL_LENGTH)),
            compression,
            timestamp_type: timestamp_type(attributes),
            transactional: attributes & bits::TRANSACTIONAL != 0,
            control: attributes & bits::CONTROL != 0,
            record_count: u32::from_le_bytes(field(bytes, RECORD_COUNT)),
            last_offset_delta: u32::from_le_bytes(field(bytes, LAST_OFFSET_DELTA)),
            first_timestamp: Timestamp::new(i64::from_le_bytes(field(bytes, FIRST_TIMESTAMP))),
            max_timestamp: Timestamp::new(i64::from_le_bytes(field(bytes, MAX_TIMESTAMP))),
            producer_id: ProducerId::new(u64::from_le_bytes(field(bytes, PRODUCER_ID))),
            producer_epoch: ProducerEpoch::new(u16::from_le_bytes(field(bytes, PRODUCER_EPOCH))),
            base_sequence: u32::from_le_bytes(field(bytes, BASE_SEQUENCE)),
            payload_length: u32::from_le_bytes(field(bytes, PAYLOAD_LENGTH)),
            uncompressed_length: u32::from_le_bytes(field(bytes, UNCOMPRESSED_LENGTH)),
        };
        header.check()?;
        Ok(header)
    }

    /// Records that the batch takes in its partition: the next batch's base
    /// offset is this much after its own.
    pub const fn offsets_taken(&self) -> u64 {
        self.last_offset_delta as u64 + 1
    }

    /// Where the payload ends and the padding begins, bytes from the batch's first.
    pub const fn payload_end(&self) -> usize {
        PREFIX_LEN + self.payload_length as usize
    }

    fn check(&self) -> Result<(), BatchError> {
        let padded = (PREFIX_LEN as u64 + u64::from(self.payload_length))
            .next_multiple_of(BATCH_ALIGN as u64);
        if u64::from(self.total_length) != padded {
            return Err(BatchError::Lengths);
        }
        let plain = self.compression == Compression::None;
        if plain && self.uncompressed_length != self.payload_length {
            return Err(BatchError::Lengths);
        }
        let record_count = self.record_count;
        if u64::from(self.last_offset_delta) + 1 < u64::from(record_count)
            || record_count > self.uncompressed_length / RECORD_BYTES_MIN
        {
            return Err(BatchError::RecordCount { record_count });
        }
        let (first, max) = (self.first_timestamp.get(), self.max_timestamp.get());
        if first < 0 || max > TIMESTAMP_MAX || max < first || max - first > i64::from(i32::MAX) {
            return Err(BatchError::Timestamps);
        }
        Ok(())
    }

    /// Writes the header into `batch`, which holds the payload and its padding
    /// already, and computes the CRC. The stamp becomes zeros.
    pub(super) fn write(&self, batch: &mut [u8]) {
        debug_assert_eq!(batch.len(), self.total_length as usize);
        let mut attributes = u16::from(self.compression as u8);
        for (set, bit) in [
            (
                self.timestamp_type == TimestampType::LogAppend,
                bits::LOG_APPEND,
            ),
            (self.transactional, bits::TRANSACTIONAL),
            (self.control, bits::CONTROL),
        ] {
            attributes |= if set { bit } else { 0 };
        }
        batch[..PREFIX_LEN].fill(0);
        put(batch, MAGIC_AT, MAGIC.to_le_bytes());
        batch[VERSION_AT] = VERSION;
        batch[ENCODING] = self.encoding;
        put(batch, TOTAL_LENGTH, self.total_length.to_le_bytes());
        put(batch, ATTRIBUTES, attributes.to_le_bytes());
        put(batch, RECORD_COUNT, self.record_count.to_le_bytes());
        put(
            batch,
            LAST_OFFSET_DELTA,
            self.last_offset_delta.to_le_bytes(),
        );
        put(
            batch,
            FIRST_TIMESTAMP,
            self.first_timestamp.get().to_le_bytes(),
        );
        put(batch, MAX_TIMESTAMP, self.max_timestamp.get().to_le_bytes());
        put(batch, PRODUCER_ID, self.producer_id.get().to_le_bytes());
        put(
            batch,
            PRODUCER_EPOCH,
            self.producer_epoch.get().to_le_bytes(),
        );
        put(batch, BASE_SEQUENCE, self.base_sequence.to_le_bytes());
        put(batch, PAYLOAD_LENGTH, self.payload_length.to_le_bytes());
        put(
            batch,
            UNCOMPRESSED_LENGTH,
            self.uncompressed_length.to_le_bytes(),
        );
        let crc = crc32c::crc32c(&batch[CRC_COVERS_FROM..]);
        put(batch, CRC, crc.to_le_bytes());
    }
}
