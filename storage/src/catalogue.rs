//! The catalogue: a store's durable index of itself.
//!
//! Owns its records, the checkpoint beside them, and the image that replaying them gives. Records are the
//! only way to change the image, in a running store as in a replay. Never does I/O: a `BlockLog` keeps the
//! bytes. Pure; used on the core that runs the store.

use std::collections::BTreeMap;

use corelane_protocol::wire::{DecodeError, Reader, Writer};
use corelane_protocol::{Offset, TopicPartition};

use crate::journal::{ChainPoint, JournalCheckpoint, JournalFile};
use crate::position::{LogPoint, LogPosition, SEGMENT_DATA};
use crate::store::LogConfig;

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
            straddles: false,
            high_watermark: base,
        }
    }
}

/// A segment that takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedSegment {
    /// The offset of its first record.
    pub base: Offset,
    /// The incarnation of its file.
    pub incarnation: u64,
    /// The offset after its last record.
    pub end_offset: Offset,
    /// Where its last batch ends.
    pub data_end: u64,
    /// Bytes of its file, a multiple of the block.
    pub file_bytes: u64,
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
    // 4 is kept for the removal of segments by retention.
    pub(super) const PARTITION_DELETED: u8 = 5;
    pub(super) const PARTITION_REMOVED: u8 = 6;
    pub(super) const PARTITION_FAILED: u8 = 7;
}

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
            }
            Self::SegmentSealed { partition, segment } => {
                out.u8(kind::SEGMENT_SEALED);
                out.topic_partition(*partition);
                out.offset(segment.base);
                out.u64(segment.incarnation);
                out.offset(segment.end_offset);
                out.u64(segment.data_end);
                out.u64(segment.file_bytes);
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
                segment: SealedSegment {
                    base: input.offset()?,
                    incarnation: input.u64()?,
                    end_offset: input.offset()?,
                    data_end: input.u64()?,
                    file_bytes: input.u64()?,
                },
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

fn encode_config(out: &mut Writer<'_>, config: &LogConfig) {
    out.u64(config.segment_bytes);
    out.u32(config.batch_bytes_max);
    for option in [config.flush_messages, config.flush_ms] {
        out.bool(option.is_some());
        out.u64(option.unwrap_or(0));
    }
}

fn decode_config(input: &mut Reader<'_>) -> Result<LogConfig, DecodeError> {
    let (segment_bytes, batch_bytes_max) = (input.u64()?, input.u32()?);
    let mut option = || -> Result<Option<u64>, DecodeError> {
        let is_some = input.bool()?;
        let value = input.u64()?;
        Ok(is_some.then_some(value))
    };
    Ok(LogConfig {
        segment_bytes,
        batch_bytes_max,
        flush_messages: option()?,
        flush_ms: option()?,
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
    Ok(FlushState {
        flushed,
        incarnation,
        whole: LogPoint {
            position: whole,
            offset: input.offset()?,
        },
        straddles: input.bool()?,
        high_watermark: input.offset()?,
    })
}

/// What the catalogue says of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionImage {
    /// Its configuration.
    pub config: LogConfig,
    /// How far it is flushed.
    pub flush: FlushState,
    /// Its sealed segments, oldest first.
    pub sealed: Vec<SealedSegment>,
    /// Why it is given up, if it is.
    pub failed: Option<String>,
}

/// What all records together say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CatalogueImage {
    /// The partitions that exist.
    pub partitions: BTreeMap<TopicPartition, PartitionImage>,
    /// The deleted ones whose files may still be there.
    pub deleted: Vec<TopicPartition>,
}

impl CatalogueImage {
    /// Applies a record. Returns what contradicts it in the image, if anything does: then the catalogue is
    /// damaged in a way that its checksums could not show.
    pub fn apply(&mut self, record: CatalogueRecord) -> Result<(), &'static str> {
        match record {
            CatalogueRecord::PartitionCreated { partition, config } => {
                let flush = FlushState::empty(Offset::ZERO);
                let image = PartitionImage {
                    config,
                    flush,
                    sealed: Vec::new(),
                    failed: None,
                };
                match self.partitions.insert(partition, image) {
                    None => Ok(()),
                    Some(_) => Err("a partition is created twice"),
                }
            }
            CatalogueRecord::PartitionFlushed { partition, state } => {
                let image = self.existing(partition)?;
                if state.flushed < image.flush.flushed
                    || state.whole.offset < image.flush.whole.offset
                {
                    return Err("a partition's flushed end goes back");
                }
                image.flush = state;
                Ok(())
            }
            CatalogueRecord::SegmentSealed { partition, segment } => {
                let image = self.existing(partition)?;
                let expected = image
                    .sealed
                    .last()
                    .map_or(Offset::ZERO, |last| last.end_offset);
                if segment.base != expected || segment.end_offset <= segment.base {
                    return Err("a sealed segment does not follow the one before");
                }
                image.sealed.push(segment);
                Ok(())
            }
            CatalogueRecord::PartitionDeleted { partition } => {
                self.partitions
                    .remove(&partition)
                    .ok_or("an unknown partition is deleted")?;
                self.deleted.push(partition);
                Ok(())
            }
            CatalogueRecord::PartitionRemoved { partition } => {
                self.deleted.retain(|deleted| *deleted != partition);
                Ok(())
            }
            CatalogueRecord::PartitionFailed { partition, reason } => {
                self.existing(partition)?.failed = Some(reason);
                Ok(())
            }
        }
    }

    /// The fewest records that give this image.
    #[must_use]
    pub fn records(&self) -> Vec<CatalogueRecord> {
        let mut records = Vec::new();
        for (&partition, image) in &self.partitions {
            records.push(CatalogueRecord::PartitionCreated {
                partition,
                config: image.config.clone(),
            });
            let sealed = image.sealed.iter();
            records.extend(
                sealed.map(|&segment| CatalogueRecord::SegmentSealed { partition, segment }),
            );
            if image.flush != FlushState::empty(Offset::ZERO) {
                records.push(CatalogueRecord::PartitionFlushed {
                    partition,
                    state: image.flush,
                });
            }
            if let Some(reason) = &image.failed {
                records.push(CatalogueRecord::PartitionFailed {
                    partition,
                    reason: reason.clone(),
                });
            }
        }
        for &partition in &self.deleted {
            // A deletion follows a creation, whatever the configuration was.
            let config = LogConfig::default();
            records.push(CatalogueRecord::PartitionCreated { partition, config });
            records.push(CatalogueRecord::PartitionDeleted { partition });
        }
        records
    }

    fn existing(&mut self, partition: TopicPartition) -> Result<&mut PartitionImage, &'static str> {
        self.partitions
            .get_mut(&partition)
            .ok_or("a record names an unknown partition")
    }
}

/// What the superblock of the catalogue says of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Raised by every opening of the store.
    pub recovery_epoch: u64,
    /// The first group of this epoch; earlier ones belong to earlier epochs.
    pub epoch_first_sequence: u64,
    /// The incarnation that no journal file has had yet.
    pub next_incarnation: u64,
    /// The newest group known to be durable; 0 if none.
    pub durable_sequence: u64,
    /// Its checksum.
    pub durable_checksum: u32,
    /// The journal's files, and where a replay begins.
    pub journal: JournalCheckpoint,
}

impl Checkpoint {
    /// The checkpoint's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        let mut out = Writer::new(&mut bytes);
        out.u8(CATALOGUE_VERSION);
        out.u64(self.recovery_epoch);
        out.u64(self.epoch_first_sequence);
        out.u64(self.next_incarnation);
        out.u64(self.durable_sequence);
        out.u32(self.durable_checksum);
        out.u64(self.journal.start.position);
        out.u64(self.journal.start.sequence);
        out.u32(self.journal.start.previous_checksum);
        out.u32(self.journal.files.len() as u32);
        for file in &self.journal.files {
            out.u32(file.number);
            out.u64(file.incarnation);
        }
        out.finish().expect("no field is too long");
        bytes
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    /// The bytes are no checkpoint of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes);
        if input.u8()? != CATALOGUE_VERSION {
            return Err(input.invalid("version of a checkpoint"));
        }
        let checkpoint = Self {
            recovery_epoch: input.u64()?,
            epoch_first_sequence: input.u64()?,
            next_incarnation: input.u64()?,
            durable_sequence: input.u64()?,
            durable_checksum: input.u32()?,
            journal: JournalCheckpoint {
                start: ChainPoint {
                    position: input.u64()?,
                    sequence: input.u64()?,
                    previous_checksum: input.u32()?,
                },
                files: input.list(12, |input| {
                    Ok(JournalFile {
                        number: input.u32()?,
                        incarnation: input.u64()?,
                    })
                })?,
            },
        };
        input.finish()?;
        Ok(checkpoint)
    }
}

/// The most files a checkpoint has room for.
pub(crate) const CHECKPOINT_FILES_MAX: usize = 128;

const _: () = assert!(2 + 8 * 4 + 4 + 8 * 2 + 4 + 4 + CHECKPOINT_FILES_MAX * 12 <= 2048);
const _: () = assert!(SEGMENT_DATA > 0);
