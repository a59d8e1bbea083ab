//! The interval log of HdrHistogram: what its plotters read.

use std::io::{self, Write};
use std::time::Duration;

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;

use crate::result::PerfResult;

/// Writes the latencies of each interval, in microseconds; the column of maxima is in milliseconds. Intervals without a
/// latency are left out, since they say nothing.
pub(super) fn write(file: &mut impl Write, result: &PerfResult) -> io::Result<()> {
    const US_PER_MS: f64 = 1e3;
    let mut serializer = V2DeflateSerializer::new();
    let mut builder = IntervalLogWriterBuilder::new();
    builder
        .add_comment("[Logged by corelane perf]")
        .add_comment(
            "[Values are microseconds, maxima milliseconds; times are since counting began]",
        )
        .with_max_value_divisor(US_PER_MS);
    let mut log = builder.begin_log_with(file, &mut serializer)?;
    for (interval, histogram) in result.series.iter().zip(&result.histograms) {
        if histogram.is_empty() {
            continue;
        }
        let start = Duration::from_secs_f64(interval.start_s);
        let length = Duration::from_secs_f64(interval.seconds);
        let written = log.write_histogram(histogram, start, length, None);
        written.map_err(|error| io::Error::other(format!("{error:?}")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;
    use crate::result::tests::example;

    #[test]
    fn a_log_that_was_written_can_be_read_and_merged() {
        let result = example();
        let mut log = Vec::new();
        write(&mut log, &result).unwrap();
        let mut merged = Histogram::<u64>::new(3).unwrap();
        let mut starts = Vec::new();
        for entry in IntervalLogIterator::new(&log) {
            let LogEntry::Interval(interval) = entry.unwrap() else {
                continue;
            };
            starts.push(interval.start_timestamp());
            let bytes = STANDARD.decode(interval.encoded_histogram()).unwrap();
            let histogram: Histogram<u64> =
                Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
            merged.add(&histogram).unwrap();
        }
        assert_eq!(starts, [Duration::ZERO, Duration::from_secs(1)]);
        assert_eq!((merged.len(), merged.value_at_percentile(50.0)), (3, 1_000));
    }
}
