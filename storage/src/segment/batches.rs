//! Batches as they lie in segments and journal parts, one after the other, with padding to blocks.
//!
//! Owns the rule of padding and the checks of a batch that comes from disk. Pure; used on the core that
//! runs the store.

use corelane_protocol::batch::{
    BATCH_ALIGN, BatchHeader, PREFIX_LEN, Stamp, TimestampType, is_padding, verify_crc,
};
use corelane_protocol::{Offset, ProducerEpoch, ProducerId, Timestamp, TopicPartition};

use crate::layout::{BLOCK, block_ceiling, get_u16, get_u32, get_u64};
use crate::producers::Sequenced;

// Where the fields are that a walk needs. `protocol` owns the layout; a test holds these to it.
const BASE_OFFSET_AT: usize = 32;
const TOTAL_LENGTH_AT: usize = 56;
const LAST_OFFSET_DELTA_AT: usize = 68;
const APPEND_TIME_AT: usize = 40;
const ATTRIBUTES_AT: usize = 60;
const RECORD_COUNT_AT: usize = 64;
const MAX_TIMESTAMP_AT: usize = 80;
const PRODUCER_ID_AT: usize = 88;
const PRODUCER_EPOCH_AT: usize = 96;
const BASE_SEQUENCE_AT: usize = 100;
const LOG_APPEND_BIT: u16 = 1 << 3;

/// What a walk over verified batches needs of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchPeek {
    /// Bytes of the batch.
    pub(crate) length: u32,
    /// The offset of its first record.
    pub(crate) base_offset: Offset,
    /// The offset after its last record.
    pub(crate) end_offset: Offset,
}

/// Reads a batch that was verified when it came into memory.
pub(crate) fn peek(batch: &[u8]) -> BatchPeek {
    let base_offset = Offset::new(get_u64(batch, BASE_OFFSET_AT));
    BatchPeek {
        length: get_u32(batch, TOTAL_LENGTH_AT),
        base_offset,
        end_offset: base_offset.advance(u64::from(get_u32(batch, LAST_OFFSET_DELTA_AT)) + 1),
    }
}

/// The times of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchTimes {
    /// When it was appended, by the broker's clock.
    pub(crate) append_time: Timestamp,
    /// The largest timestamp of its records, whose times may be that of the append.
    pub(crate) max_timestamp: Timestamp,
}

impl BatchTimes {
    pub(crate) fn new(header: &BatchHeader, append_time: Timestamp) -> Self {
        let max_timestamp = match header.timestamp_type {
            TimestampType::Create => header.max_timestamp,
            TimestampType::LogAppend => append_time,
        };
        Self {
            append_time,
            max_timestamp,
        }
    }
}

/// Reads the times of a batch that was verified when it came into memory.
pub(crate) fn peek_times(batch: &[u8]) -> BatchTimes {
    let time = |at| Timestamp::new(get_u64(batch, at) as i64);
    let append_time = time(APPEND_TIME_AT);
    let is_log_append = get_u16(batch, ATTRIBUTES_AT) & LOG_APPEND_BIT != 0;
    BatchTimes {
        append_time,
        max_timestamp: if is_log_append {
            append_time
        } else {
            time(MAX_TIMESTAMP_AT)
        },
    }
}

/// Reads the place of a batch, that was verified when it came into memory, in its producer's sequence.
pub(crate) fn peek_sequence(batch: &[u8]) -> Option<Sequenced> {
    let producer = ProducerId::new(get_u64(batch, PRODUCER_ID_AT));
    (producer != ProducerId::NONE).then(|| Sequenced {
        producer,
        epoch: ProducerEpoch::new(get_u16(batch, PRODUCER_EPOCH_AT)),
        sequence: get_u32(batch, BASE_SEQUENCE_AT),
        records: get_u32(batch, RECORD_COUNT_AT),
    })
}

/// What the bytes at a place of a segment are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A batch whose stamp and header are sound; its content is checked if that was asked for.
    Batch(BatchPeek),
    /// Zeros up to the next block, which begins at this position.
    Padding(u64),
    /// More bytes are needed to say: at least so many from the place on.
    Incomplete(usize),
    /// Neither: the reason.
    Damaged(String),
}

/// How much of a batch is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// Its stamp and header: enough to step over it.
    Stamp,
    /// Its content too: needed before it is served.
    Whole,
}

/// Looks at the place `at` of a segment's file, where `bytes` are the bytes from there on.
pub(crate) fn find(partition: TopicPartition, at: u64, bytes: &[u8], check: Check) -> Found {
    let Some(start) = bytes.get(..BATCH_ALIGN) else {
        return Found::Incomplete(BATCH_ALIGN);
    };
    // A stamped batch never begins with 8 zero bytes, and that many are left in any block.
    if is_padding(start) {
        let to_block = (block_ceiling(at + 1) - at) as usize;
        return match bytes.get(..to_block) {
            None => Found::Incomplete(to_block),
            Some(rest) if rest.iter().all(|byte| *byte == 0) => {
                Found::Padding(at + to_block as u64)
            }
            Some(_) => Found::Damaged("neither a batch nor padding begins here".into()),
        };
    }
    if bytes.len() < PREFIX_LEN {
        return Found::Incomplete(PREFIX_LEN);
    }
    find_batch(partition, bytes, check).unwrap_or_else(Found::Damaged)
}

fn find_batch(partition: TopicPartition, bytes: &[u8], check: Check) -> Result<Found, String> {
    let header = BatchHeader::parse(bytes).map_err(|error| error.to_string())?;
    let check = if crate::planted!(ReadsNotVerified) {
        Check::Stamp
    } else {
        check
    };
    let stamp = Stamp::read(bytes).map_err(|error| error.to_string())?;
    if stamp.topic_partition() != partition {
        return Err(format!("the batch belongs to {}", stamp.topic_partition()));
    }
    if check == Check::Whole {
        let length = header.total_length as usize;
        let Some(batch) = bytes.get(..length) else {
            return Ok(Found::Incomplete(length));
        };
        verify_crc(batch).map_err(|error| error.to_string())?;
    }
    Ok(Found::Batch(BatchPeek {
        length: header.total_length,
        base_offset: stamp.base_offset,
        end_offset: stamp.base_offset.advance(header.offsets_taken()),
    }))
}

const _: () = assert!(BLOCK.is_multiple_of(BATCH_ALIGN as u64));

#[cfg(test)]
mod tests {
    use corelane_protocol::batch::{BatchBuilder, BatchBuilderConfig, RecordRef, set_producer};
    use corelane_protocol::{LeaderEpoch, PartitionIndex, TopicId};

    use super::*;

    /// A stamped batch of three records.
    fn stamped() -> Vec<u8> {
        let mut builder = BatchBuilder::new(BatchBuilderConfig::default()).expect("no codec");
        for time in [5, 900, 7] {
            let record = RecordRef {
                key: None,
                value: Some(b"value"),
                headers: &[],
                timestamp: Timestamp::new(time),
            };
            builder.try_push(record).expect("room");
        }
        let mut batch = builder.finish().expect("records").to_vec();
        let stamp = Stamp {
            topic: TopicId::from_bytes([3; 16]),
            partition: PartitionIndex::new(4),
            leader_epoch: LeaderEpoch::new(5),
            base_offset: Offset::new(70),
            append_time: Timestamp::new(6000),
        };
        stamp.write(&mut batch);
        batch
    }

    #[test]
    fn a_peek_sees_what_the_protocol_wrote() {
        let mut batch = stamped();
        let header = BatchHeader::parse(&batch).expect("a batch");
        let expected = BatchPeek {
            length: header.total_length,
            base_offset: Offset::new(70),
            end_offset: Offset::new(73),
        };
        assert_eq!(peek(&batch), expected);
        let append_time = Timestamp::new(6000);
        let times = peek_times(&batch);
        assert_eq!(times, BatchTimes::new(&header, append_time));
        assert_eq!(times.max_timestamp, Timestamp::new(900));
        assert_eq!(peek_sequence(&batch), None);
        let (id, epoch) = (ProducerId::new(1 << 40), ProducerEpoch::new(9));
        set_producer(&mut batch, id, epoch, 77);
        let sequenced = Sequenced::of(&BatchHeader::parse(&batch).expect("a batch"));
        assert_eq!(peek_sequence(&batch), sequenced);
        let sequenced = sequenced.expect("it has a producer");
        let expected = Sequenced {
            producer: id,
            epoch,
            sequence: 77,
            records: 3,
        };
        assert_eq!(sequenced, expected);
        // In a topic of log append times the records have that of the append.
        batch[ATTRIBUTES_AT] |= LOG_APPEND_BIT as u8;
        let header = BatchHeader::parse(&batch).expect("a batch");
        assert_eq!(header.timestamp_type, TimestampType::LogAppend);
        assert_eq!(peek_times(&batch), BatchTimes::new(&header, append_time));
        assert_eq!(peek_times(&batch).max_timestamp, append_time);
    }
}
