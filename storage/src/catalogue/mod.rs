//! The catalogue: a store's durable index of itself.
//!
//! Owns its records, the checkpoint beside them, and the image that replaying them gives. Records are the
//! only way to change the image, in a running store as in a replay. Never does I/O: a `BlockLog` keeps the
//! bytes. Pure; used on the core that runs the store.

mod checkpoint;
mod image;

use corelane_protocol::wire::{DecodeError, Reader, Writer};
use corelane_protocol::{LeaderEpoch, Offset, Timestamp, TopicPartition};

use crate::epochs::EpochStart;
use crate::layout::{BLOCK, block_ceiling};
use crate::position::{LogPoint, LogPosition};
use crate::producers::ProducerSnapshot;
use crate::segment::{compacted_path, segment_path};
use crate::store::{LogConfig, ReaderState, RetentionGuard};
use crate::times::SegmentTimes;

pub(crate) use checkpoint::CHECKPOINT_FILES_MAX;
pub use checkpoint::Checkpoint;
pub use image::{CatalogueImage, PartitionImage};
pub(crate) use image::{compaction_records, epoch_records, places_of, producer_records};

/// The version of records and checkpoint that this code writes and reads.
pub const CATALOGUE_VERSION: u8 = 1;

/// How far a partition's log is in its segment files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushState {
    /// The segment that is written to, and its file up to which it is flushed: a multiple of the block.
    pub flushed: LogPosition,
    /// The incarnation of that segment's file; 0 while there is none.
    pub incarnation: u64,
    /// The boundary after the last batch that is wholly below `flushed`.
    pub whole: LogPoint,
    /// The times of the segment's batches up to there.
    pub times: SegmentTimes,
    /// Whether the next batch begins below `flushed`, so that the rest of it must be in the journal.
    pub straddles: bool,
    /// The high watermark then; it may lag.
    pub high_watermark: Offset,
}

impl FlushState {
    /// The state of a log of which nothing is in a file.
    #[must_use]
    pub fn empty(base: Offset) -> Self {
        let start = LogPoint::start_of(base);
        Self {
            flushed: start.position,
            incarnation: 0,
            whole: start,
            times: SegmentTimes::NONE,
            straddles: false,
            high_watermark: base,
        }
    }

    /// Whether its fields agree, as those of every state that was ever recorded do.
    #[must_use]
    pub fn is_coherent(&self) -> bool {
        let Self { flushed, whole, .. } = self;
        let is_empty = whole.position == LogPosition::start_of(flushed.segment);
        let ends_there = if self.straddles {
            whole.position.at < flushed.at
        } else {
            block_ceiling(whole.position.at) == flushed.at
        };
        whole.position.segment == flushed.segment
            && flushed.at.is_multiple_of(BLOCK)
            && ends_there
            && whole.offset >= flushed.segment
            && (whole.offset == flushed.segment) == is_empty
            && (self.incarnation > 0 || *flushed == LogPosition::start_of(flushed.segment))
    }
}

/// A segment that takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedSegment {
    /// The offset of its first record.
    pub base: Offset,
    /// The incarnation of its file.
    pub incarnation: u64,
    /// Whether compaction wrote its file, which has another name then.
    pub is_compacted: bool,
    /// The offset after its last record.
    pub end_offset: Offset,
    /// Where its last batch ends.
    pub data_end: u64,
    /// Bytes of its file, a multiple of the block.
    pub file_bytes: u64,
    /// The largest timestamp of its records.
    pub max_timestamp: Timestamp,
    /// When the last of its batches was appended.
    pub last_append_time: Timestamp,
}

impl SealedSegment {
    /// The path of its file.
    #[must_use]
    pub fn path(&self, store_dir: &str, partition: TopicPartition) -> String {
        if self.is_compacted {
            compacted_path(store_dir, partition, self.base, self.incarnation)
        } else {
            segment_path(store_dir, partition, self.base)
        }
    }

    /// The record that gives a partition this segment.
    pub(crate) fn record(self, partition: TopicPartition) -> CatalogueRecord {
        let segment = self;
        if self.is_compacted {
            CatalogueRecord::SegmentsCompacted { partition, segment }
        } else {
            CatalogueRecord::SegmentSealed { partition, segment }
        }
    }
}

/// A change of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogueRecord {
    /// A partition exists from now on.
    PartitionCreated {
        /// Which.
        partition: TopicPartition,
        /// Its configuration.
        config: LogConfig,
    },
    /// A partition's log was flushed.
    PartitionFlushed {
        /// Which.
        partition: TopicPartition,
        /// How far.
        state: FlushState,
    },
    /// A segment takes no more, and all of it is flushed.
    SegmentSealed {
        /// Which partition's.
        partition: TopicPartition,
        /// Which.
        segment: SealedSegment,
    },
    /// Records below an offset are deleted. Sealed segments wholly below are no part of the log any more, but
    /// their files may be there still.
    LogStartMoved {
        /// Which partition's.
        partition: TopicPartition,
        /// The first offset that is kept.
        log_start: Offset,
    },
    /// The files of segments below the log start are gone.
    SegmentsRemoved {
        /// Which partition's.
        partition: TopicPartition,
        /// Of all segments that end at or below this offset.
        upto: Offset,
    },
    /// A partition does not exist any more; its files are still to be removed.
    PartitionDeleted {
        /// Which.
        partition: TopicPartition,
    },
    /// A deleted partition's files are gone.
    PartitionRemoved {
        /// Which.
        partition: TopicPartition,
    },
    /// A partition has a new leader epoch: what is appended from now on belongs to it.
    EpochStarted {
        /// Which partition's.
        partition: TopicPartition,
        /// The epoch, and where the log ends now.
        begun: EpochStart,
    },
    /// A named reader of a partition has come so far.
    ReaderAt {
        /// Which partition's.
        partition: TopicPartition,
        /// Its name.
        reader: String,
        /// How far, and what it has missed.
        state: ReaderState,
    },
    /// What idempotent producers have appended to a part of a partition's log. It comes before the record that says
    /// how far the log is flushed, and counts up to there.
    ProducersAt {
        /// Which partition's.
        partition: TopicPartition,
        /// Where the part begins.
        from: Offset,
        /// Those who appended to it, and what.
        producers: Vec<ProducerSnapshot>,
    },
    /// Compaction has written a segment in the place of all those from its base to its end offset, whose files are no
    /// part of the log any more.
    SegmentsCompacted {
        /// Which partition's.
        partition: TopicPartition,
        /// The new one.
        segment: SealedSegment,
    },
    /// A partition's log is compacted up to an offset: of the records of a key below it only the last one is left.
    CompactedUpto {
        /// Which.
        partition: TopicPartition,
        /// Up to where.
        upto: Offset,
        /// When that was done, by the broker's clock.
        at: Timestamp,
    },
    /// A partition's log is damaged and part of its journal was given up, so it never serves again.
    PartitionFailed {
        /// Which.
        partition: TopicPartition,
        /// What is damaged, and where.
        reason: String,
    },
}

mod kind {
    pub(super) const PARTITION_CREATED: u8 = 1;
    pub(super) const PARTITION_FLUSHED: u8 = 2;
    pub(super) const SEGMENT_SEALED: u8 = 3;
    pub(super) const LOG_START_MOVED: u8 = 4;
    pub(super) const PARTITION_DELETED: u8 = 5;
    pub(super) const PARTITION_REMOVED: u8 = 6;
    pub(super) const PARTITION_FAILED: u8 = 7;
    pub(super) const SEGMENTS_REMOVED: u8 = 8;
    pub(super) const EPOCH_STARTED: u8 = 9;
    pub(super) const READER_AT: u8 = 10;
    pub(super) const PRODUCERS_AT: u8 = 11;
    pub(super) const SEGMENTS_COMPACTED: u8 = 12;
    pub(super) const COMPACTED_UPTO: u8 = 13;
}

/// The kinds of records are the numbers from 1 up to this one.
pub const LAST_KIND: u8 = kind::COMPACTED_UPTO;

const REASON_BYTES_MAX: usize = 1024;

impl CatalogueRecord {
    /// The record's bytes: version, kind, fields.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(96);
        let mut out = Writer::new(&mut bytes);
        out.u8(CATALOGUE_VERSION);
        match self {
            Self::PartitionCreated { partition, config } => {
                out.u8(kind::PARTITION_CREATED);
                out.topic_partition(*partition);
                encode_config(&mut out, config);
            }
            Self::PartitionFlushed { partition, state } => {
                out.u8(kind::PARTITION_FLUSHED);
                out.topic_partition(*partition);
                out.offset(state.flushed.segment);
                out.u64(state.flushed.at);
                out.u64(state.incarnation);
                out.u64(state.whole.position.at);
                out.offset(state.whole.offset);
                out.bool(state.straddles);
                out.offset(state.high_watermark);
                out.timestamp(state.times.first_append);
                out.timestamp(state.times.last_append);
                out.timestamp(state.times.max_timestamp);
            }
            Self::SegmentSealed { partition, segment } => {
                out.u8(kind::SEGMENT_SEALED);
                out.topic_partition(*partition);
                encode_segment(&mut out, segment);
            }
            Self::SegmentsCompacted { partition, segment } => {
                out.u8(kind::SEGMENTS_COMPACTED);
                out.topic_partition(*partition);
                encode_segment(&mut out, segment);
            }
            Self::CompactedUpto {
                partition,
                upto,
                at,
            } => {
                out.u8(kind::COMPACTED_UPTO);
                out.topic_partition(*partition);
                out.offset(*upto);
                out.timestamp(*at);
            }
            Self::LogStartMoved {
                partition,
                log_start,
            } => {
                out.u8(kind::LOG_START_MOVED);
                out.topic_partition(*partition);
                out.offset(*log_start);
            }
            Self::SegmentsRemoved { partition, upto } => {
                out.u8(kind::SEGMENTS_REMOVED);
                out.topic_partition(*partition);
                out.offset(*upto);
            }
            Self::EpochStarted { partition, begun } => {
                out.u8(kind::EPOCH_STARTED);
                out.topic_partition(*partition);
                out.u32(begun.epoch.get());
                out.offset(begun.start);
            }
            Self::ReaderAt {
                partition,
                reader,
                state,
            } => {
                out.u8(kind::READER_AT);
                out.topic_partition(*partition);
                out.offset(state.position);
                out.u64(state.expired_unread);
                out.text(reader);
            }
            Self::ProducersAt {
                partition,
                from,
                producers,
            } => {
                out.u8(kind::PRODUCERS_AT);
                out.topic_partition(*partition);
                out.offset(*from);
                out.list(producers, |out, producer| producer.encode(out));
            }
            Self::PartitionDeleted { partition } => {
                out.u8(kind::PARTITION_DELETED);
                out.topic_partition(*partition);
            }
            Self::PartitionRemoved { partition } => {
                out.u8(kind::PARTITION_REMOVED);
                out.topic_partition(*partition);
            }
            Self::PartitionFailed { partition, reason } => {
                out.u8(kind::PARTITION_FAILED);
                out.topic_partition(*partition);
                let mut end = reason.len().min(REASON_BYTES_MAX);
                while !reason.is_char_boundary(end) {
                    end -= 1;
                }
                out.u16(end as u16);
                out.bytes(&reason.as_bytes()[..end]);
            }
        }
        out.finish().expect("no field is too long");
        bytes
    }

    /// Reads a record.
    ///
    /// # Errors
    /// The bytes are no record of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes);
        if input.u8()? != CATALOGUE_VERSION {
            return Err(input.invalid("version of a catalogue record"));
        }
        let kind = input.u8()?;
        let partition = input.topic_partition()?;
        let record = match kind {
            kind::PARTITION_CREATED => Self::PartitionCreated {
                partition,
                config: decode_config(&mut input)?,
            },
            kind::PARTITION_FLUSHED => Self::PartitionFlushed {
                partition,
                state: decode_state(&mut input)?,
            },
            kind::SEGMENT_SEALED => Self::SegmentSealed {
                partition,
                segment: decode_segment(&mut input, false)?,
            },
            kind::SEGMENTS_COMPACTED => Self::SegmentsCompacted {
                partition,
                segment: decode_segment(&mut input, true)?,
            },
            kind::COMPACTED_UPTO => Self::CompactedUpto {
                partition,
                upto: input.offset()?,
                at: input.timestamp()?,
            },
            kind::LOG_START_MOVED => Self::LogStartMoved {
                partition,
                log_start: input.offset()?,
            },
            kind::SEGMENTS_REMOVED => Self::SegmentsRemoved {
                partition,
                upto: input.offset()?,
            },
            kind::EPOCH_STARTED => Self::EpochStarted {
                partition,
                begun: EpochStart {
                    epoch: LeaderEpoch::new(input.u32()?),
                    start: input.offset()?,
                },
            },
            kind::READER_AT => Self::ReaderAt {
                partition,
                state: ReaderState {
                    position: input.offset()?,
                    expired_unread: input.u64()?,
                },
                reader: input.string()?,
            },
            kind::PRODUCERS_AT => Self::ProducersAt {
                partition,
                from: input.offset()?,
                producers: ProducerSnapshot::decode_all(&mut input)?,
            },
            kind::PARTITION_DELETED => Self::PartitionDeleted { partition },
            kind::PARTITION_REMOVED => Self::PartitionRemoved { partition },
            kind::PARTITION_FAILED => Self::PartitionFailed {
                partition,
                reason: input.string()?,
            },
            _ => return Err(input.invalid("kind of a catalogue record")),
        };
        input.finish()?;
        Ok(record)
    }
}

fn encode_segment(out: &mut Writer<'_>, segment: &SealedSegment) {
    out.offset(segment.base);
    out.u64(segment.incarnation);
    out.offset(segment.end_offset);
    out.u64(segment.data_end);
    out.u64(segment.file_bytes);
    out.timestamp(segment.max_timestamp);
    out.timestamp(segment.last_append_time);
}

fn decode_segment(
    input: &mut Reader<'_>,
    is_compacted: bool,
) -> Result<SealedSegment, DecodeError> {
    Ok(SealedSegment {
        base: input.offset()?,
        incarnation: input.u64()?,
        is_compacted,
        end_offset: input.offset()?,
        data_end: input.u64()?,
        file_bytes: input.u64()?,
        max_timestamp: input.timestamp()?,
        last_append_time: input.timestamp()?,
    })
}

fn encode_config(out: &mut Writer<'_>, config: &LogConfig) {
    out.u64(config.segment_bytes);
    out.u32(config.batch_bytes_max);
    for option in [
        config.flush_messages,
        config.flush_ms,
        config.segment_ms,
        config.retention_bytes,
        config.retention_ms,
    ] {
        out.bool(option.is_some());
        out.u64(option.unwrap_or(0));
    }
}

fn decode_config(input: &mut Reader<'_>) -> Result<LogConfig, DecodeError> {
    let (segment_bytes, batch_bytes_max) = (input.u64()?, input.u32()?);
    let mut option = || -> Result<Option<u64>, DecodeError> {
        match (input.bool()?, input.u64()?) {
            (true, value) => Ok(Some(value)),
            (false, 0) => Ok(None),
            (false, _) => Err(input.invalid("value of a setting that is not set")),
        }
    };
    Ok(LogConfig {
        segment_bytes,
        batch_bytes_max,
        flush_messages: option()?,
        flush_ms: option()?,
        segment_ms: option()?,
        retention_bytes: option()?,
        retention_ms: option()?,
        guard: RetentionGuard::default(),
        compaction: None,
    })
}

fn decode_state(input: &mut Reader<'_>) -> Result<FlushState, DecodeError> {
    let segment = input.offset()?;
    let flushed = LogPosition {
        segment,
        at: input.u64()?,
    };
    let incarnation = input.u64()?;
    let whole = LogPosition {
        segment,
        at: input.u64()?,
    };
    let whole_offset = input.offset()?;
    let (straddles, high_watermark) = (input.bool()?, input.offset()?);
    Ok(FlushState {
        flushed,
        incarnation,
        whole: LogPoint {
            position: whole,
            offset: whole_offset,
        },
        straddles,
        high_watermark,
        times: SegmentTimes {
            first_append: input.timestamp()?,
            last_append: input.timestamp()?,
            max_timestamp: input.timestamp()?,
        },
    })
}

#[cfg(test)]
mod tests {
    use corelane_protocol::{PartitionIndex, TopicId};

    use super::*;

    #[test]
    fn the_bytes_of_records_are_those_of_the_document() {
        let partition = TopicPartition::new(TopicId::from_bytes([7; 16]), PartitionIndex::new(3));
        let prefix = |kind: u8| [&[1, kind][..], &[7; 16], &[3, 0, 0, 0]].concat();
        let number = |value: u64| value.to_le_bytes();
        let set = |value: u64| [&[1][..], &number(value)].concat();
        let unset = [0; 9];
        let created = CatalogueRecord::PartitionCreated {
            partition,
            config: LogConfig {
                segment_bytes: 100,
                batch_bytes_max: 20,
                flush_messages: None,
                flush_ms: Some(1),
                segment_ms: Some(2),
                retention_bytes: None,
                retention_ms: Some(4),
                guard: RetentionGuard::default(),
                compaction: None,
            },
        };
        let bytes = [
            &prefix(1)[..],
            &number(100),
            &[20, 0, 0, 0],
            &unset,
            &set(1),
            &set(2),
            &unset,
            &set(4),
        ];
        assert_eq!(created.encode(), bytes.concat());
        let flushed = CatalogueRecord::PartitionFlushed {
            partition,
            state: FlushState {
                straddles: true,
                incarnation: 6,
                times: SegmentTimes {
                    first_append: Timestamp::new(10),
                    last_append: Timestamp::new(11),
                    max_timestamp: Timestamp::new(-1),
                },
                ..FlushState::empty(Offset::new(9))
            },
        };
        let bytes = [
            &prefix(2)[..],
            &number(9),
            &number(4096),
            &number(6),
            &number(4096),
            &number(9),
            &[1],
            &number(9),
            &number(10),
            &number(11),
            &[255; 8],
        ];
        assert_eq!(flushed.encode(), bytes.concat());
        let segment = SealedSegment {
            base: Offset::new(1),
            incarnation: 2,
            is_compacted: false,
            end_offset: Offset::new(3),
            data_end: 4,
            file_bytes: 5,
            max_timestamp: Timestamp::new(6),
            last_append_time: Timestamp::new(7),
        };
        let sealed = CatalogueRecord::SegmentSealed { partition, segment };
        let numbers: Vec<u8> = (1..=7).flat_map(number).collect();
        assert_eq!(sealed.encode(), [&prefix(3)[..], &numbers].concat());
        let compacted = CatalogueRecord::SegmentsCompacted {
            partition,
            segment: SealedSegment {
                is_compacted: true,
                ..segment
            },
        };
        assert_eq!(compacted.encode(), [prefix(12), numbers].concat());
        let upto = CatalogueRecord::CompactedUpto {
            partition,
            upto: Offset::new(8),
            at: Timestamp::new(9),
        };
        assert_eq!(
            upto.encode(),
            [&prefix(13)[..], &number(8), &number(9)].concat()
        );
        let moved = CatalogueRecord::LogStartMoved {
            partition,
            log_start: Offset::new(8),
        };
        assert_eq!(moved.encode(), [&prefix(4)[..], &number(8)].concat());
        let removed = CatalogueRecord::SegmentsRemoved {
            partition,
            upto: Offset::new(8),
        };
        assert_eq!(removed.encode(), [&prefix(8)[..], &number(8)].concat());
        let begun = EpochStart {
            epoch: LeaderEpoch::new(5),
            start: Offset::new(8),
        };
        let started = CatalogueRecord::EpochStarted { partition, begun };
        let bytes = [&prefix(9)[..], &[5, 0, 0, 0], &number(8)];
        assert_eq!(started.encode(), bytes.concat());
        let reader = CatalogueRecord::ReaderAt {
            partition,
            reader: "bill".to_owned(),
            state: ReaderState {
                position: Offset::new(3),
                expired_unread: 4,
            },
        };
        let bytes = [&prefix(10)[..], &number(3), &number(4), &[4, 0], b"bill"];
        assert_eq!(reader.encode(), bytes.concat());
        for record in [created, flushed, sealed, moved, removed, started, reader] {
            let bytes = record.encode();
            assert_eq!(CatalogueRecord::decode(&bytes), Ok(record));
            assert!(CatalogueRecord::decode(&bytes[..bytes.len() - 1]).is_err());
            assert!(CatalogueRecord::decode(&[&bytes[..], &[0]].concat()).is_err());
        }
    }
}
