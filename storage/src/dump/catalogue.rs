//! The records and the checkpoint of a catalogue, in words.

use crate::catalogue::{CatalogueRecord, Checkpoint, SealedSegment};
use crate::times::SegmentTimes;

/// One line for a record.
pub(super) fn record_text(record: &CatalogueRecord) -> String {
    match record {
        CatalogueRecord::PartitionCreated { partition, config } => {
            let mut text = format!(
                "partition {partition} created: segment.bytes {}, max.message.bytes {}",
                config.segment_bytes, config.batch_bytes_max
            );
            for (name, value) in [
                ("flush.messages", config.flush_messages),
                ("flush.ms", config.flush_ms),
                ("segment.ms", config.segment_ms),
                ("retention.bytes", config.retention_bytes),
                ("retention.ms", config.retention_ms),
            ] {
                if let Some(value) = value {
                    text += &format!(", {name} {value}");
                }
            }
            text
        }
        CatalogueRecord::PartitionFlushed { partition, state } => format!(
            "partition {partition} flushed up to {}: incarnation {:#x}, whole batches up to byte {} and offset {}{}, \
             high watermark {}{}",
            state.flushed,
            state.incarnation,
            state.whole.position.at,
            state.whole.offset,
            if state.straddles {
                ", the next one is cut here"
            } else {
                ""
            },
            state.high_watermark,
            times_text(state.times)
        ),
        CatalogueRecord::SegmentSealed { partition, segment } => format!(
            "segment {} of partition {partition} sealed: {}",
            segment.base,
            segment_text(segment)
        ),
        CatalogueRecord::SegmentsCompacted { partition, segment } => format!(
            "segment {} of partition {partition} written by compaction in the place of all it covers: {}",
            segment.base,
            segment_text(segment)
        ),
        CatalogueRecord::CompactedUpto {
            partition,
            upto,
            at,
        } => format!("partition {partition} compacted up to offset {upto} at {at}"),
        CatalogueRecord::LogStartMoved {
            partition,
            log_start,
        } => format!("log start of partition {partition} moved to {log_start}"),
        CatalogueRecord::SegmentsRemoved { partition, upto } => {
            format!(
                "segments of partition {partition} up to offset {upto} removed: their files are gone"
            )
        }
        CatalogueRecord::EpochStarted { partition, begun } => format!(
            "leader epoch {} of partition {partition} begins at offset {}",
            begun.epoch, begun.start
        ),
        CatalogueRecord::ReaderAt {
            partition,
            reader,
            state,
        } => format!(
            "reader {reader} of partition {partition} is at offset {}, {} records expired unread",
            state.position, state.expired_unread
        ),
        CatalogueRecord::ProducersAt {
            partition,
            from,
            producers,
        } => {
            let mut text = format!("producers of partition {partition} from offset {from} on:");
            for (index, found) in producers.iter().enumerate() {
                let separator = if index == 0 { "" } else { "," };
                text += &format!(
                    "{separator} {} (epoch {}, last append at {}) has",
                    found.producer, found.epoch, found.last_append
                );
                for (index, run) in found.runs.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "," };
                    text += &format!(
                        "{separator} {} records from sequence {} at offset {}",
                        run.records, run.sequence, run.offset
                    );
                }
            }
            text
        }
        CatalogueRecord::PartitionDeleted { partition } => {
            format!("partition {partition} deleted: its files are still to be removed")
        }
        CatalogueRecord::PartitionRemoved { partition } => {
            format!("partition {partition} removed: its files are gone")
        }
        CatalogueRecord::PartitionFailed { partition, reason } => {
            format!("partition {partition} failed for good: {reason}")
        }
    }
}

/// A clause for the times of the segment that is written to, if there are any.
fn times_text(times: SegmentTimes) -> String {
    if times == SegmentTimes::NONE {
        return String::new();
    }
    format!(
        ", first append at {}, last at {}, largest timestamp {}",
        times.first_append, times.last_append, times.max_timestamp
    )
}

/// One line for a checkpoint.
pub(super) fn checkpoint_text(checkpoint: &Checkpoint) -> String {
    let Checkpoint {
        recovery_epoch,
        epoch_first_sequence,
        next_incarnation,
        durable_sequence,
        durable_checksum,
        journal,
    } = checkpoint;
    let mut text = format!(
        "recovery epoch {recovery_epoch} from group {epoch_first_sequence} on, durable up to group {durable_sequence} \
         (checksum {durable_checksum:08x}), replay from group {} at byte {} (after checksum {:08x}), ",
        journal.start.sequence, journal.start.position, journal.start.previous_checksum
    );
    for file in &journal.files {
        text += &format!(
            "journal file {} of incarnation {}, ",
            file.number, file.incarnation
        );
    }
    text + &format!("next incarnation {next_incarnation}")
}

fn segment_text(segment: &SealedSegment) -> String {
    format!(
        "end offset {}, data up to byte {} of {}, incarnation {:#x}, largest timestamp {}, last append at {}",
        segment.end_offset,
        segment.data_end,
        segment.file_bytes,
        segment.incarnation,
        segment.max_timestamp,
        segment.last_append_time
    )
}

#[cfg(test)]
mod tests {
    use corelane_protocol::{
        LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, Timestamp, TopicId,
        TopicPartition,
    };

    use super::*;
    use crate::catalogue::FlushState;
    use crate::epochs::EpochStart;
    use crate::journal::{ChainPoint, JournalCheckpoint, JournalFile};
    use crate::producers::{ProducerSnapshot, SequenceRun};
    use crate::store::{LogConfig, ReaderState};

    fn snapshot(producer: u64, runs: &[(u32, u64, u32)]) -> ProducerSnapshot {
        let runs = runs.iter().map(|&(sequence, offset, records)| SequenceRun {
            sequence,
            offset: Offset::new(offset),
            records,
        });
        ProducerSnapshot {
            producer: ProducerId::new(producer),
            epoch: ProducerEpoch::new(1),
            last_append: Timestamp::new(90),
            runs: runs.collect(),
        }
    }

    #[test]
    fn every_record_is_a_sentence() {
        let partition = TopicPartition::new(TopicId::from_bytes([7; 16]), PartitionIndex::new(3));
        let name = partition.to_string();
        let texts: Vec<_> = [
            CatalogueRecord::PartitionCreated {
                partition,
                config: LogConfig {
                    flush_ms: Some(50),
                    retention_bytes: Some(9),
                    ..LogConfig::default()
                },
            },
            CatalogueRecord::PartitionFlushed {
                partition,
                state: FlushState {
                    straddles: true,
                    incarnation: 0x1_0000_0002,
                    times: SegmentTimes {
                        first_append: Timestamp::new(5),
                        last_append: Timestamp::new(8),
                        max_timestamp: Timestamp::new(7),
                    },
                    ..FlushState::empty(Offset::new(9))
                },
            },
            CatalogueRecord::SegmentSealed {
                partition,
                segment: SealedSegment {
                    base: Offset::new(0),
                    incarnation: 1,
                    is_compacted: false,
                    end_offset: Offset::new(9),
                    data_end: 5000,
                    file_bytes: 8192,
                    max_timestamp: Timestamp::new(70),
                    last_append_time: Timestamp::new(80),
                },
            },
            CatalogueRecord::LogStartMoved {
                partition,
                log_start: Offset::new(6),
            },
            CatalogueRecord::SegmentsRemoved {
                partition,
                upto: Offset::new(5),
            },
            CatalogueRecord::EpochStarted {
                partition,
                begun: EpochStart {
                    epoch: LeaderEpoch::new(2),
                    start: Offset::new(6),
                },
            },
            CatalogueRecord::ReaderAt {
                partition,
                reader: "billing".to_owned(),
                state: ReaderState {
                    position: Offset::new(4),
                    expired_unread: 2,
                },
            },
            CatalogueRecord::ProducersAt {
                partition,
                from: Offset::new(20),
                producers: vec![
                    snapshot(5, &[(0, 20, 10), (10, 40, 2)]),
                    snapshot(6, &[(7, 30, 10)]),
                ],
            },
            CatalogueRecord::PartitionDeleted { partition },
            CatalogueRecord::PartitionRemoved { partition },
            CatalogueRecord::PartitionFailed {
                partition,
                reason: "a reason".to_owned(),
            },
        ]
        .iter()
        .map(|record| record_text(record).replace(&name, "P"))
        .collect();
        assert_eq!(
            texts,
            [
                "partition P created: segment.bytes 1073741824, max.message.bytes 1048588, flush.ms 50, retention.bytes 9",
                "partition P flushed up to byte 4096 of segment 9: incarnation 0x100000002, whole batches up to byte \
                 4096 and offset 9, the next one is cut here, high watermark 9, first append at 5, last at 8, largest \
                 timestamp 7",
                "segment 0 of partition P sealed: end offset 9, data up to byte 5000 of 8192, incarnation 0x1, largest \
                 timestamp 70, last append at 80",
                "log start of partition P moved to 6",
                "segments of partition P up to offset 5 removed: their files are gone",
                "leader epoch 2 of partition P begins at offset 6",
                "reader billing of partition P is at offset 4, 2 records expired unread",
                "producers of partition P from offset 20 on: 5 (epoch 1, last append at 90) has 10 records from sequence 0 \
                 at offset 20, 2 records from sequence 10 at offset 40, 6 (epoch 1, last append at 90) has 10 records \
                 from sequence 7 at offset 30",
                "partition P deleted: its files are still to be removed",
                "partition P removed: its files are gone",
                "partition P failed for good: a reason",
            ]
        );
    }

    #[test]
    fn a_checkpoint_is_a_sentence() {
        let checkpoint = Checkpoint {
            recovery_epoch: 2,
            epoch_first_sequence: 10,
            next_incarnation: 7,
            durable_sequence: 12,
            durable_checksum: 0xab,
            journal: JournalCheckpoint {
                start: ChainPoint {
                    position: 8192,
                    sequence: 11,
                    previous_checksum: 0xcd,
                },
                files: vec![JournalFile {
                    number: 1,
                    incarnation: 6,
                }],
            },
        };
        assert_eq!(
            checkpoint_text(&checkpoint),
            "recovery epoch 2 from group 10 on, durable up to group 12 (checksum 000000ab), replay from group 11 at \
             byte 8192 (after checksum 000000cd), journal file 1 of incarnation 6, next incarnation 7"
        );
    }
}
