//! Which segments a pass reads for their keys, and which of them are written as one.
//!
//! Owns `min.compaction.lag.ms`, the least share of new bytes, and how segments are put together. Pure.

use corelane_protocol::{Offset, Timestamp};

use super::history::CompactionHistory;
use crate::catalogue::SealedSegment;
use crate::position::SEGMENT_DATA;
use crate::store::CompactionConfig;
use crate::times::elapsed_ms;

/// What a pass over a log is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The keys of the records from here on are read.
    pub(crate) from: Offset,
    /// Up to here: the end of a segment.
    pub(crate) upto: Offset,
}

/// The pass that is due over a log with these complete segments, if one is.
pub(crate) fn plan(
    sealed: &[SealedSegment],
    history: &CompactionHistory,
    config: &CompactionConfig,
    now: Timestamp,
) -> Option<Plan> {
    let is_old =
        |segment: &&SealedSegment| elapsed_ms(segment.last_append_time, now) >= config.min_lag_ms;
    let old = sealed.iter().take_while(is_old);
    let (mut clean, mut dirty, mut upto) = (0, 0, Offset::ZERO);
    for segment in old {
        let bytes = segment.data_end - SEGMENT_DATA;
        if segment.end_offset <= history.upto() {
            clean += bytes;
        } else {
            dirty += bytes;
            upto = segment.end_offset;
        }
    }
    let is_enough = dirty * 1000 >= (clean + dirty) * u64::from(config.dirty_ratio_min);
    (dirty > 0 && is_enough).then(|| Plan {
        from: history.upto().max(sealed[0].base),
        upto,
    })
}

/// The most segments that are written as one, so that what is gone makes room soon.
pub(crate) const SOURCES_MAX: usize = 16;

/// Whether a segment can be written behind others into a file that is `written` bytes long and begins with offset
/// `base`, whatever is left of it.
pub(crate) fn fits_behind(
    next: &SealedSegment,
    base: Offset,
    written: u64,
    segment_bytes: u64,
) -> bool {
    written + (next.data_end - SEGMENT_DATA) <= segment_bytes
        && next.end_offset.distance_from(base) <= u64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments of 10 records each, of so many bytes, last appended to at 100, 200, …
    fn sealed(bytes: &[u64]) -> Vec<SealedSegment> {
        let segments = bytes.iter().zip(0_u64..);
        segments
            .map(|(bytes, number)| SealedSegment {
                base: Offset::new(number * 10),
                incarnation: 1,
                is_compacted: false,
                end_offset: Offset::new(number * 10 + 10),
                data_end: SEGMENT_DATA + bytes,
                file_bytes: SEGMENT_DATA + 8192,
                max_timestamp: Timestamp::new(0),
                last_append_time: Timestamp::new(number as i64 * 100 + 100),
            })
            .collect()
    }

    fn planned(
        bytes: &[u64],
        clean_upto: u64,
        config: CompactionConfig,
        now: i64,
    ) -> Option<(u64, u64)> {
        let mut history = CompactionHistory::default();
        if clean_upto > 0 {
            let noted = history.note(Offset::new(clean_upto), Timestamp::new(1));
            noted.expect("it is the first");
        }
        let plan = plan(&sealed(bytes), &history, &config, Timestamp::new(now))?;
        Some((plan.from.get(), plan.upto.get()))
    }

    #[test]
    fn a_pass_is_due_when_enough_is_new() {
        let half = CompactionConfig::default();
        assert_eq!(planned(&[], 0, half, 1000), None);
        assert_eq!(planned(&[500], 0, half, 1000), Some((0, 10)));
        assert_eq!(planned(&[500], 10, half, 1000), None);
        assert_eq!(planned(&[500, 499], 10, half, 1000), None);
        assert_eq!(planned(&[500, 500], 10, half, 1000), Some((10, 20)));
        // A pass that ended within a segment for want of memory.
        assert_eq!(planned(&[500, 500], 14, half, 1000), Some((14, 20)));
        let any = CompactionConfig {
            dirty_ratio_min: 0,
            ..half
        };
        assert_eq!(planned(&[500, 1], 10, any, 1000), Some((10, 20)));
        assert_eq!(planned(&[500, 1], 20, any, 1000), None);
        let all = CompactionConfig {
            dirty_ratio_min: 1000,
            ..half
        };
        assert_eq!(planned(&[1, 500], 10, all, 1000), None);
    }

    #[test]
    fn young_segments_wait() {
        let config = CompactionConfig {
            min_lag_ms: 50,
            ..CompactionConfig::default()
        };
        let three = [100, 100, 100];
        assert_eq!(planned(&three, 0, config, 149), None);
        assert_eq!(planned(&three, 0, config, 150), Some((0, 10)));
        assert_eq!(planned(&three, 0, config, 250), Some((0, 20)));
        assert_eq!(planned(&three, 0, config, 99), None, "the clock went back");
    }

    #[test]
    fn a_segment_follows_others_while_all_of_it_would_fit() {
        let sealed = sealed(&[100, 1000]);
        let fits = |number: usize, written| {
            fits_behind(
                &sealed[number],
                Offset::ZERO,
                SEGMENT_DATA + written,
                SEGMENT_DATA + 1000,
            )
        };
        assert!(fits(0, 900) && !fits(0, 901) && fits(1, 0) && !fits(1, 1));
        let far = SealedSegment {
            end_offset: Offset::new(1 << 32),
            ..sealed[0]
        };
        assert!(!fits_behind(&far, Offset::ZERO, 0, 1 << 30));
        assert!(fits_behind(&far, Offset::new(1), 0, 1 << 30));
    }
}
