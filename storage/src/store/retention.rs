//! What expires, and when a segment has to end for its age.
//!
//! Owns the rules of `retention.bytes`, `retention.ms` and `segment.ms`. They go by the broker's clock at the
//! append, so that no producer's clock can keep records for ever or delete them early. Does no I/O: the log
//! start is moved in `log_start`.

use corelane_protocol::{Offset, Timestamp};

use super::partition::{Partition, PartitionHandle};
use super::state::State;
use crate::position::SEGMENT_DATA;
use crate::times::elapsed_ms;

/// Partitions that one tick looks at, so that many of them do not hold up a core.
const LOOKS_MAX: usize = 256;

impl State {
    /// Looks at the next partitions: ends segments that are too old, and deletes what has expired. Returns
    /// whether there is anything to do for the tasks.
    pub(super) fn look_for_expired(&mut self, now: Timestamp) -> bool {
        if self.fenced.is_some() || self.is_closing {
            return false;
        }
        for (handle, log_start) in self.expire(now) {
            self.want_log_start(handle, log_start);
        }
        !self.trims.moves.is_empty() || !self.spill_queue.is_empty()
    }

    /// Ends segments that are too old, and says which log starts are to be moved where.
    fn expire(&mut self, now: Timestamp) -> Vec<(PartitionHandle, Offset)> {
        let mut expired = Vec::new();
        // Nobody is waited for at the expense of what is to be appended.
        let may_wait = !self.reserve.is_touched && !self.is_disk_full();
        for _ in 0..LOOKS_MAX.min(self.partitions.len()) {
            let Some(handle) = self.partitions.next_in_turn() else {
                break;
            };
            let Some(partition) = self.partitions.get(handle) else {
                continue;
            };
            if partition.refusal().is_some() || partition.flags.is_deleting {
                continue;
            }
            if partition.producers.len() > 0 {
                self.expire_producers(handle, now);
            }
            self.look_for_compaction(handle, now);
            let Some(partition) = self.partitions.get(handle) else {
                continue;
            };
            let expiry = partition.expiry(now, may_wait);
            let is_roll_due = partition.is_roll_due(now);
            if let Some(log_start) = expiry.log_start {
                expired.push((handle, log_start));
            }
            if let Some(upto) = expiry.waits_upto {
                self.say_waiting(handle, upto, now);
            }
            if is_roll_due {
                self.roll_now(handle);
            } else {
                self.roll_deleted(handle);
            }
        }
        expired
    }
}

/// What a look at a partition found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Expiry {
    /// Where the log is to start, if that has changed.
    log_start: Option<Offset>,
    /// Records below this have expired, and wait for readers.
    waits_upto: Option<Offset>,
}

impl Partition {
    /// What has expired since it was last asked for; if the guard may wait, without what it waits for.
    fn expiry(&self, now: Timestamp, may_wait: bool) -> Expiry {
        let (bytes_max, ms_max) = (self.config.retention_bytes, self.config.retention_ms);
        let mut size = bytes_max.map_or(0, |_| self.size_bytes());
        let mut log_start = None;
        let mut waits_upto = None;
        for segment in &self.sealed {
            let bytes = segment.data_end - SEGMENT_DATA;
            let left = if crate::planted!(ExpiredTooMuch) {
                size
            } else {
                size.saturating_sub(bytes)
            };
            let is_too_much = bytes_max.is_some_and(|max| left >= max);
            let last = if crate::planted!(ExpiredByRecordTime) {
                segment.max_timestamp
            } else {
                segment.last_append_time
            };
            let age_ms = elapsed_ms(last, now);
            let is_too_old = ms_max.is_some_and(|max| age_ms > max);
            if !(is_too_much || is_too_old) {
                break;
            }
            let late_ms = ms_max.map_or(0, |max| age_ms.saturating_sub(max));
            let excess_bytes = bytes_max.map_or(0, |max| size.saturating_sub(max));
            if may_wait && self.is_guarded(segment.end_offset, late_ms, excess_bytes) {
                waits_upto = Some(segment.end_offset);
                break;
            }
            size = size.saturating_sub(bytes);
            log_start = Some(segment.end_offset);
        }
        Expiry {
            log_start: log_start.filter(|log_start| *log_start > self.wanted_log_start),
            waits_upto,
        }
    }

    /// Whether the segment that is appended to has to end: for its age, or because all of it has expired.
    fn is_roll_due(&self, now: Timestamp) -> bool {
        let Some(age_ms) = self.times.age_ms(now) else {
            return false;
        };
        let idle_ms = elapsed_ms(self.times.last_append, now);
        self.config.segment_ms.is_some_and(|max| age_ms >= max)
            || self.config.retention_ms.is_some_and(|max| idle_ms > max)
    }
}

#[cfg(test)]
mod tests {
    use corelane_protocol::{PartitionIndex, TopicId, TopicPartition};

    use super::*;
    use crate::catalogue::{FlushState, SealedSegment};
    use crate::store::{GuardMode, LogConfig, RetentionGuard};
    use crate::times::SegmentTimes;

    /// Three sealed segments of 1,000 bytes, last appended to at 100, 200 and 300, and an empty one.
    fn partition(config: LogConfig) -> Partition {
        let id = TopicPartition::new(TopicId::from_bytes([1; 16]), PartitionIndex::new(0));
        let sealed = [0, 10, 20].map(|base| SealedSegment {
            base: Offset::new(base),
            incarnation: 1,
            is_compacted: false,
            end_offset: Offset::new(base + 10),
            data_end: SEGMENT_DATA + 1000,
            file_bytes: SEGMENT_DATA + 4096,
            // A producer's clock that is far ahead.
            max_timestamp: Timestamp::new(i64::MAX / 2),
            last_append_time: Timestamp::new(base as i64 * 10 + 100),
        });
        let flush = FlushState::empty(Offset::new(30));
        Partition::new(id, config, flush, sealed.to_vec())
    }

    fn expired(config: LogConfig, now: i64) -> Option<u64> {
        let expiry = partition(config).expiry(Timestamp::new(now), true);
        expiry.log_start.map(Offset::get)
    }

    #[test]
    fn segments_go_while_enough_is_left_without_them() {
        let keep = |bytes| LogConfig {
            retention_bytes: Some(bytes),
            ..LogConfig::default()
        };
        assert_eq!(expired(keep(2001), 0), None);
        assert_eq!(expired(keep(2000), 0), Some(10));
        assert_eq!(expired(keep(1001), 0), Some(10));
        assert_eq!(expired(keep(1000), 0), Some(20));
        assert_eq!(expired(keep(0), 0), Some(30));
    }

    #[test]
    fn segments_go_by_the_age_of_their_last_append() {
        let keep = |ms| LogConfig {
            retention_ms: Some(ms),
            ..LogConfig::default()
        };
        assert_eq!(expired(keep(50), 150), None);
        assert_eq!(expired(keep(50), 151), Some(10));
        assert_eq!(expired(keep(50), 351), Some(30));
        // A clock that went back deletes nothing.
        assert_eq!(expired(keep(0), 99), None);
        assert_eq!(expired(LogConfig::default(), i64::MAX), None);
    }

    #[test]
    fn what_was_asked_for_is_not_asked_for_again() {
        let mut partition = partition(LogConfig {
            retention_bytes: Some(0),
            ..LogConfig::default()
        });
        partition.wanted_log_start = Offset::new(30);
        let expiry = partition.expiry(Timestamp::new(0), true);
        assert_eq!(expiry.log_start, None);
    }

    /// What expires, and up to where it is waited, with two readers of which one has come to these offsets.
    fn guarded(config: LogConfig, position: u64, now: i64, may_wait: bool) -> [Option<u64>; 2] {
        let guard = RetentionGuard {
            mode: GuardMode::Wait,
            readers: ["fast".to_owned(), "slow".to_owned()].into(),
            ms_max: 100,
            bytes_max: 1_500,
        };
        let mut partition = partition(LogConfig { guard, ..config });
        for (reader, position) in [("fast", 30), ("slow", position)] {
            let state = partition.readers.states.get_mut(reader);
            state.expect("it is named").position = Offset::new(position);
        }
        let expiry = partition.expiry(Timestamp::new(now), may_wait);
        [expiry.log_start, expiry.waits_upto].map(|offset| offset.map(Offset::get))
    }

    #[test]
    fn expiry_waits_for_the_slowest_reader_up_to_a_cap() {
        let ms = || LogConfig {
            retention_ms: Some(50),
            ..LogConfig::default()
        };
        // The first segment is 51 ms old, then 150 and 151.
        assert_eq!(guarded(ms(), 0, 151, true), [None, Some(10)]);
        assert_eq!(guarded(ms(), 9, 151, true), [None, Some(10)]);
        assert_eq!(guarded(ms(), 10, 151, true), [Some(10), None]);
        assert_eq!(guarded(ms(), 0, 250, true), [None, Some(10)]);
        assert_eq!(guarded(ms(), 0, 251, true), [Some(10), Some(20)]);
        assert_eq!(guarded(ms(), 15, 350, true), [Some(10), Some(20)]);
        assert_eq!(guarded(ms(), 0, 151, false), [Some(10), None]);
        let bytes = |max| LogConfig {
            retention_bytes: Some(max),
            ..LogConfig::default()
        };
        // There are 3,000 bytes.
        assert_eq!(guarded(bytes(2500), 0, 0, true), [None, None]);
        assert_eq!(guarded(bytes(2000), 0, 0, true), [None, Some(10)]);
        assert_eq!(guarded(bytes(1000), 0, 0, true), [Some(10), Some(20)]);
        assert_eq!(guarded(bytes(1000), 20, 0, true), [Some(20), None]);
    }

    #[test]
    fn a_segment_ends_by_its_first_append_and_when_its_last_has_expired() {
        let mut partition = partition(LogConfig {
            segment_ms: Some(100),
            retention_ms: Some(30),
            ..LogConfig::default()
        });
        let is_due = |partition: &Partition, now| partition.is_roll_due(Timestamp::new(now));
        assert!(!is_due(&partition, 10_000), "there is nothing to end");
        partition.times = SegmentTimes {
            first_append: Timestamp::new(1000),
            last_append: Timestamp::new(1080),
            max_timestamp: Timestamp::new(0),
        };
        assert!(!is_due(&partition, 1099));
        assert!(is_due(&partition, 1100));
        partition.config.segment_ms = None;
        assert!(!is_due(&partition, 1110));
        assert!(is_due(&partition, 1111));
        partition.config.retention_ms = None;
        assert!(!is_due(&partition, i64::MAX));
    }
}
