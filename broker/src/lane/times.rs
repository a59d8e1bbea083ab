//! Whether a batch's times are what its topic takes.

use corelane_protocol::batch::{BatchTimes, TimestampType};
use corelane_protocol::{ApiError, ErrorCode, Timestamp};

use crate::metadata::{
    EffectiveSettings, MESSAGE_TIMESTAMP_AFTER_MAX_MS, MESSAGE_TIMESTAMP_BEFORE_MAX_MS,
};

/// Looks at the times in a batch's header. Bytes that are no header are the store's to refuse.
pub(super) fn check_times(
    batch: &[u8],
    settings: &EffectiveSettings,
    now: Timestamp,
) -> Result<(), ApiError> {
    let Some(times) = BatchTimes::peek(batch) else {
        return Ok(());
    };
    let wanted = settings.timestamp_type;
    if times.timestamp_type != wanted {
        let message = format!(
            "the batch has {}, the topic {}",
            times.timestamp_type.as_str(),
            wanted.as_str()
        );
        return Err(ApiError::new(ErrorCode::TimestampTypeMismatch, message));
    }
    if wanted == TimestampType::LogAppend {
        return Ok(());
    }
    let ahead = times.max.get().saturating_sub(now.get());
    let behind = now.get().saturating_sub(times.first.get());
    let bounds = [
        (
            ahead,
            settings.timestamp_after_max_ms,
            times.max,
            "ahead of",
            MESSAGE_TIMESTAMP_AFTER_MAX_MS,
        ),
        (
            behind,
            settings.timestamp_before_max_ms,
            times.first,
            "behind",
            MESSAGE_TIMESTAMP_BEFORE_MAX_MS,
        ),
    ];
    for (distance, most, time, side, setting) in bounds {
        if u64::try_from(distance).is_ok_and(|distance| distance > most) {
            let message = format!(
                "time {time} is {distance} ms {side} the broker's clock; the topic takes {most} ms ({setting})"
            );
            return Err(ApiError::new(ErrorCode::InvalidTimestamp, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BrokerConfig;
    use crate::metadata::TopicSettings;
    use corelane_protocol::batch::{
        BatchBuilder, BatchBuilderConfig, RecordRef, set_timestamp_type,
    };

    fn batch(times: &[i64]) -> Vec<u8> {
        let mut builder =
            BatchBuilder::new(BatchBuilderConfig::default()).expect("no codec to set up");
        for time in times {
            let record = RecordRef {
                timestamp: Timestamp::new(*time),
                ..RecordRef::default()
            };
            builder.try_push(record).expect("room");
        }
        builder.finish().expect("records").to_vec()
    }

    fn check(batch: &[u8], settings: &[(&str, &str)]) -> Result<(), ErrorCode> {
        let settings = TopicSettings::parse(settings.iter().copied()).expect("valid settings");
        let effective = settings.effective(&BrokerConfig::default());
        check_times(batch, &effective, Timestamp::new(1_000_000_000)).map_err(|error| error.code)
    }

    #[test]
    fn a_clock_that_is_ahead_or_behind_is_refused_beyond_the_bounds() {
        let bounds = [
            ("message.timestamp.before.max.ms", "1000"),
            ("message.timestamp.after.max.ms", "500"),
        ];
        let now = 1_000_000_000;
        for (times, bound, taken) in [
            (&[now][..], &bounds[..], true),
            (&[now - 1000, now + 500], &bounds, true),
            (&[now - 1001], &bounds, false),
            (&[now, now + 501], &bounds, false),
            (&[0], &[], true),
            (&[now + 3_600_000], &[], true),
            (&[now + 3_600_001], &[], false),
        ] {
            let expected = if taken {
                Ok(())
            } else {
                Err(ErrorCode::InvalidTimestamp)
            };
            assert_eq!(check(&batch(times), bound), expected, "{times:?}");
        }
    }

    #[test]
    fn a_batch_has_the_topics_kind_of_time() {
        let log_append = [("message.timestamp.type", "LogAppendTime")];
        let mut batch = batch(&[0]);
        let mismatch = Err(ErrorCode::TimestampTypeMismatch);
        assert_eq!(check(&batch, &log_append), mismatch);
        set_timestamp_type(&mut batch, TimestampType::LogAppend);
        assert_eq!(check(&batch, &[]), mismatch);
        let never = ("message.timestamp.before.max.ms", "0");
        assert_eq!(check(&batch, &[log_append[0], never]), Ok(()));
    }

    #[test]
    fn what_is_no_header_is_left_to_the_store() {
        assert_eq!(check(&[0; 64], &[]), Ok(()));
        let mut absurd = batch(&[5]);
        absurd[72..88].fill(0x80);
        assert!(check(&absurd, &[]).is_ok());
        absurd[80..88].copy_from_slice(&i64::MAX.to_le_bytes());
        assert_eq!(check(&absurd, &[]), Err(ErrorCode::InvalidTimestamp));
    }
}
