//! What all records of a catalogue together say.
//!
//! Owns the rules by which records follow each other. Pure; used on the core that runs the store.

use std::collections::BTreeMap;

use corelane_protocol::{Offset, TopicPartition};

use super::{CatalogueRecord, FlushState, SealedSegment};
use crate::compaction::CompactionHistory;
use crate::epochs::EpochHistory;
use crate::layout::block_ceiling;
use crate::position::is_data_position;
use crate::producers::Producers;
use crate::store::{LogConfig, ReaderState};

/// What the catalogue says of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionImage {
    /// Its configuration.
    pub config: LogConfig,
    /// How far it is flushed.
    pub flush: FlushState,
    /// The first offset that is kept.
    pub log_start: Offset,
    /// Its sealed segments that reach beyond the log start, oldest first.
    pub sealed: Vec<SealedSegment>,
    /// Those wholly below it whose files may be there still, oldest first.
    pub expired: Vec<SealedSegment>,
    /// Its named readers.
    pub readers: BTreeMap<String, ReaderState>,
    /// Its leader epochs.
    pub epochs: EpochHistory,
    /// Its idempotent producers; what they are said to have behind the flushed part does not count.
    pub(crate) producers: Producers,
    /// Up to where it is compacted, and since when.
    pub compaction: CompactionHistory,
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
                    log_start: Offset::ZERO,
                    sealed: Vec::new(),
                    expired: Vec::new(),
                    readers: BTreeMap::new(),
                    epochs: EpochHistory::default(),
                    producers: Producers::default(),
                    compaction: CompactionHistory::default(),
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
                if !is_data_position(state.flushed.at) || !is_data_position(state.whole.position.at)
                {
                    return Err("a partition is flushed to where no segment has data");
                }
                if !state.is_coherent() {
                    return Err("the batches of a partition do not end where it is flushed to");
                }
                let is_elsewhere = |last: &SealedSegment| {
                    // A segment is sealed before its partition is said to be flushed behind it.
                    ![last.base, last.end_offset].contains(&state.flushed.segment)
                };
                let last = image.sealed.last().or(image.expired.last());
                if last.is_some_and(is_elsewhere) {
                    return Err(
                        "a partition is flushed to a segment that does not follow the one before",
                    );
                }
                image.flush = state;
                Ok(())
            }
            CatalogueRecord::SegmentSealed { partition, segment } => {
                let image = self.existing(partition)?;
                let last = image.sealed.last().or(image.expired.last());
                let follows = match last {
                    Some(last) => segment.base == last.end_offset,
                    // Those before are gone, and nothing of them was kept.
                    None => segment.base <= image.log_start,
                };
                if !follows || segment.end_offset <= segment.base {
                    return Err("a sealed segment does not follow the one before");
                }
                check_ends(&segment)?;
                if segment.end_offset <= image.log_start {
                    image.expired.push(segment);
                } else {
                    image.sealed.push(segment);
                }
                Ok(())
            }
            CatalogueRecord::SegmentsCompacted { partition, segment } => {
                check_ends(&segment)?;
                self.existing(partition)?.replace(segment)
            }
            CatalogueRecord::CompactedUpto {
                partition,
                upto,
                at,
            } => self.existing(partition)?.compaction.note(upto, at),
            CatalogueRecord::LogStartMoved {
                partition,
                log_start,
            } => {
                let image = self.existing(partition)?;
                if log_start < image.log_start {
                    return Err("a log start goes back");
                }
                image.log_start = log_start;
                image.epochs.trim(log_start);
                let kept = image
                    .sealed
                    .partition_point(|segment| segment.end_offset <= log_start);
                image.expired.extend(image.sealed.drain(..kept));
                Ok(())
            }
            CatalogueRecord::SegmentsRemoved { partition, upto } => {
                let image = self.existing(partition)?;
                if upto > image.log_start {
                    return Err("segments are removed that are part of the log");
                }
                image.expired.retain(|segment| segment.end_offset > upto);
                Ok(())
            }
            CatalogueRecord::EpochStarted { partition, begun } => {
                let image = self.existing(partition)?;
                image.epochs.begin(begun)?;
                image.epochs.trim(image.log_start);
                Ok(())
            }
            CatalogueRecord::ReaderAt {
                partition,
                reader,
                state,
            } => {
                self.existing(partition)?.readers.insert(reader, state);
                Ok(())
            }
            CatalogueRecord::ProducersAt {
                partition,
                from,
                producers,
            } => self.existing(partition)?.producers.take_in(producers, from),
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
            let log_start = image.log_start;
            if log_start > Offset::ZERO {
                records.push(CatalogueRecord::LogStartMoved {
                    partition,
                    log_start,
                });
            }
            let segments = image.expired.iter().chain(&image.sealed);
            records.extend(segments.map(|&segment| segment.record(partition)));
            if image.flush != FlushState::empty(Offset::ZERO) {
                records.push(CatalogueRecord::PartitionFlushed {
                    partition,
                    state: image.flush,
                });
            }
            records.extend(epoch_records(partition, &image.epochs));
            let readers = image.readers.iter();
            records.extend(readers.map(|(reader, &state)| CatalogueRecord::ReaderAt {
                partition,
                reader: reader.clone(),
                state,
            }));
            records.extend(producer_records(
                partition,
                &image.producers,
                Offset::ZERO,
                Offset::MAX,
            ));
            records.extend(compaction_records(partition, &image.compaction));
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

impl PartitionImage {
    /// Puts a segment in the place of those whose offsets it has; behind the last one where the catalogue was written
    /// anew since.
    fn replace(&mut self, segment: SealedSegment) -> Result<(), &'static str> {
        let last = self.sealed.last().or(self.expired.last());
        let follows = match last {
            Some(last) => segment.base == last.end_offset,
            None => segment.base <= self.log_start,
        };
        if segment.end_offset <= segment.base {
            return Err("a compacted segment has no offsets");
        }
        if follows && segment.end_offset <= self.log_start {
            self.expired.push(segment);
            return Ok(());
        }
        if follows {
            self.sealed.push(segment);
            return Ok(());
        }
        let replaced = places_of(&self.sealed, &segment)
            .ok_or("a compacted segment is not in the place of others")?;
        self.sealed.splice(replaced, [segment]);
        Ok(())
    }
}

/// Which segments have exactly the offsets of another one.
pub(crate) fn places_of(
    sealed: &[SealedSegment],
    segment: &SealedSegment,
) -> Option<std::ops::Range<usize>> {
    let first = sealed.iter().position(|found| found.base == segment.base)?;
    let rest = &sealed[first..];
    let count = rest
        .iter()
        .position(|found| found.end_offset == segment.end_offset)?;
    Some(first..first + count + 1)
}

fn check_ends(segment: &SealedSegment) -> Result<(), &'static str> {
    if !is_data_position(segment.data_end) {
        return Err("a sealed segment ends where no segment has data");
    }
    if segment.file_bytes != block_ceiling(segment.data_end) {
        return Err("a sealed segment's file does not end with its data");
    }
    Ok(())
}

/// The records that say up to where a log is compacted.
pub(crate) fn compaction_records(
    partition: TopicPartition,
    compaction: &CompactionHistory,
) -> impl Iterator<Item = CatalogueRecord> {
    let entries = compaction.entries().iter();
    entries.map(move |&(upto, at)| CatalogueRecord::CompactedUpto {
        partition,
        upto,
        at,
    })
}

/// The records that give a log its epochs.
pub(crate) fn epoch_records(
    partition: TopicPartition,
    epochs: &EpochHistory,
) -> impl Iterator<Item = CatalogueRecord> {
    let begun = epochs.starts().iter();
    // Every log begins with epoch 0.
    begun
        .filter(|begun| begun.epoch.get() > 0)
        .map(move |&begun| CatalogueRecord::EpochStarted { partition, begun })
}

/// The records that say what producers have appended between two offsets of a log.
pub(crate) fn producer_records(
    partition: TopicPartition,
    producers: &Producers,
    from: Offset,
    upto: Offset,
) -> impl Iterator<Item = CatalogueRecord> + use<> {
    let records = producers.between(from, upto).into_iter();
    records.map(move |producers| CatalogueRecord::ProducersAt {
        partition,
        from,
        producers,
    })
}

#[cfg(test)]
mod tests {
    use corelane_protocol::{LeaderEpoch, PartitionIndex, Timestamp, TopicId};

    use super::*;
    use crate::epochs::EpochStart;

    fn partition() -> TopicPartition {
        TopicPartition::new(TopicId::from_bytes([7; 16]), PartitionIndex::new(1))
    }

    fn sealed(base: u64, end: u64) -> CatalogueRecord {
        let segment = SealedSegment {
            base: Offset::new(base),
            incarnation: base + 1,
            is_compacted: false,
            end_offset: Offset::new(end),
            data_end: 5000,
            file_bytes: 8192,
            max_timestamp: Timestamp::new(end as i64),
            last_append_time: Timestamp::new(end as i64 + 1),
        };
        CatalogueRecord::SegmentSealed {
            partition: partition(),
            segment,
        }
    }

    fn compacted(base: u64, end: u64) -> CatalogueRecord {
        let CatalogueRecord::SegmentSealed { partition, segment } = sealed(base, end) else {
            unreachable!("it is one")
        };
        let segment = SealedSegment {
            incarnation: 77,
            is_compacted: true,
            ..segment
        };
        CatalogueRecord::SegmentsCompacted { partition, segment }
    }

    fn compacted_upto(upto: u64, at: i64) -> CatalogueRecord {
        CatalogueRecord::CompactedUpto {
            partition: partition(),
            upto: Offset::new(upto),
            at: Timestamp::new(at),
        }
    }

    fn moved(log_start: u64) -> CatalogueRecord {
        CatalogueRecord::LogStartMoved {
            partition: partition(),
            log_start: Offset::new(log_start),
        }
    }

    fn removed(upto: u64) -> CatalogueRecord {
        CatalogueRecord::SegmentsRemoved {
            partition: partition(),
            upto: Offset::new(upto),
        }
    }

    fn started(epoch: u32, start: u64) -> CatalogueRecord {
        CatalogueRecord::EpochStarted {
            partition: partition(),
            begun: EpochStart {
                epoch: LeaderEpoch::new(epoch),
                start: Offset::new(start),
            },
        }
    }

    fn read(position: u64, expired_unread: u64) -> CatalogueRecord {
        CatalogueRecord::ReaderAt {
            partition: partition(),
            reader: "billing".to_owned(),
            state: ReaderState {
                position: Offset::new(position),
                expired_unread,
            },
        }
    }

    fn flushed(segment: u64) -> CatalogueRecord {
        CatalogueRecord::PartitionFlushed {
            partition: partition(),
            state: FlushState::empty(Offset::new(segment)),
        }
    }

    /// One block of a segment is flushed, with three records in it; but for what is changed.
    fn flushed_as(change: impl FnOnce(&mut FlushState)) -> CatalogueRecord {
        let mut state = FlushState::empty(Offset::ZERO);
        state.incarnation = 1;
        state.flushed.at += 4096;
        state.whole.position.at += 4000;
        state.whole.offset = Offset::new(3);
        change(&mut state);
        CatalogueRecord::PartitionFlushed {
            partition: partition(),
            state,
        }
    }

    /// The image after these records, if they follow each other.
    fn image(records: &[CatalogueRecord]) -> Result<CatalogueImage, &'static str> {
        let created = CatalogueRecord::PartitionCreated {
            partition: partition(),
            config: LogConfig::default(),
        };
        let mut image = CatalogueImage::default();
        for record in std::iter::once(&created).chain(records) {
            image.apply(record.clone())?;
        }
        Ok(image)
    }

    fn bases(segments: &[SealedSegment]) -> Vec<u64> {
        segments.iter().map(|found| found.base.get()).collect()
    }

    #[test]
    fn segments_below_the_log_start_expire_and_are_forgotten_once_removed() {
        let mut records = vec![sealed(0, 10), sealed(10, 20), sealed(20, 30), flushed(30)];
        // 20 is where the third begins; within the second, that one is kept.
        records.push(moved(19));
        let found = image(&records).expect("they follow");
        let found = &found.partitions[&partition()];
        assert_eq!(
            (bases(&found.expired), bases(&found.sealed)),
            (vec![0], vec![10, 20])
        );
        records.push(moved(30));
        records.push(removed(20));
        let found = image(&records).expect("they follow");
        let found = &found.partitions[&partition()];
        assert_eq!(
            (bases(&found.expired), bases(&found.sealed)),
            (vec![20], vec![])
        );
        assert_eq!(found.log_start, Offset::new(30));
    }

    #[test]
    fn a_compacted_segment_is_in_the_place_of_those_that_it_covers() {
        let mut records = vec![sealed(0, 10), sealed(10, 20), sealed(20, 30), flushed(30)];
        records.push(compacted(0, 20));
        let found = image(&records).expect("they follow");
        let found = &found.partitions[&partition()];
        assert_eq!(bases(&found.sealed), [0, 20]);
        let kinds: Vec<_> = found
            .sealed
            .iter()
            .map(|found| found.is_compacted)
            .collect();
        assert_eq!(kinds, [true, false]);
        assert!(found.expired.is_empty(), "the old files are nobody's");
    }

    #[test]
    fn a_segment_that_is_sealed_below_the_log_start_expires_at_once() {
        let records = [moved(15), sealed(0, 10), sealed(10, 20), flushed(20)];
        let found = image(&records).expect("they follow");
        let found = &found.partitions[&partition()];
        assert_eq!(
            (bases(&found.expired), bases(&found.sealed)),
            (vec![0], vec![10])
        );
    }

    #[test]
    fn the_fewest_records_give_the_same_image() {
        let steps = [
            started(1, 0),
            sealed(0, 10),
            started(2, 4),
            moved(4),
            started(3, 12),
            sealed(10, 20),
            started(5, 20),
            moved(10),
            flushed(20),
            removed(10),
            moved(25),
            sealed(20, 30),
            flushed(30),
            moved(30),
            removed(30),
            started(6, 35),
            sealed(30, 40),
            flushed(40),
            started(7, 40),
            read(5, 0),
            read(7, 2),
            sealed(40, 50),
            flushed(50),
            compacted(30, 50),
            compacted_upto(50, 100),
            sealed(50, 60),
            flushed(60),
            sealed(60, 70),
            flushed(70),
            compacted(60, 70),
            compacted(30, 60),
            compacted_upto(65, 90),
            moved(60),
            moved(75),
            sealed(70, 80),
            flushed(80),
            removed(70),
            compacted(70, 80),
        ];
        for count in 0..=steps.len() {
            let expected = image(&steps[..count]).expect("they follow");
            let mut again = CatalogueImage::default();
            for record in expected.records() {
                let decoded = CatalogueRecord::decode(&record.encode()).expect("a record");
                assert_eq!(decoded, record);
                again.apply(decoded).expect("they follow");
            }
            assert_eq!(again, expected, "after {count} records");
        }
    }

    #[test]
    fn what_contradicts_the_image_is_damage() {
        let refused = [
            vec![sealed(5, 10)],
            vec![sealed(0, 10), sealed(11, 20)],
            vec![moved(10), sealed(11, 20)],
            vec![moved(10), moved(9)],
            vec![sealed(0, 10), moved(9), removed(10)],
            vec![sealed(0, 10), sealed(10, 20), compacted(0, 15)],
            vec![sealed(0, 10), sealed(10, 20), compacted(5, 20)],
            vec![sealed(0, 10), compacted(11, 20)],
            vec![sealed(0, 10), compacted(10, 10)],
            vec![sealed(0, 10), compacted_upto(5, 1), compacted_upto(5, 2)],
            vec![started(0, 0)],
            vec![started(2, 5), started(2, 6)],
            vec![started(2, 5), started(3, 4)],
            vec![sealed(0, 10), flushed(20)],
            vec![sealed(0, 10), sealed(10, 20), flushed(0)],
            vec![flushed_as(|state| state.flushed.at += 1)],
            vec![flushed_as(|state| state.whole.position.at += 200)],
            vec![flushed_as(|state| state.whole.offset = Offset::ZERO)],
            vec![flushed_as(|state| state.incarnation = 0)],
            vec![flushed_as(|state| {
                state.straddles = true;
                state.whole.position.at = state.flushed.at;
            })],
        ];
        assert!(image(&[flushed_as(|_| {})]).is_ok());
        for records in refused {
            assert!(image(&records).is_err(), "{records:?}");
        }
    }
}
