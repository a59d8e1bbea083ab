//! One line as `kafka-producer-perf-test` prints it, which scripts read.

use crate::result::{Percentiles, PerfResult};

/// The line. Latencies are those of the result, in milliseconds; where there are none, it ends with the throughput.
#[must_use]
pub fn line(result: &PerfResult) -> String {
    const BYTES_PER_MB: f64 = 1024.0 * 1024.0;
    let verb = match result.kind {
        crate::Kind::Consume => "read",
        _ => "sent",
    };
    let throughput = format!(
        "{} records {verb}, {:.1} records/sec ({:.2} MB/sec)",
        result.records,
        result.records_per_s,
        // As that program counts them.
        result.value_bytes as f64 / BYTES_PER_MB / result.seconds
    );
    result.latency_us.as_ref().map_or_else(
        || format!("{throughput}."),
        |latency| format!("{throughput}, {}.", latencies(latency)),
    )
}

fn latencies(latency: &Percentiles) -> String {
    let ms = |us: u64| us as f64 / 1e3;
    format!(
        "{:.2} ms avg latency, {:.2} ms max latency, {:.2} ms 50th, {:.2} ms 95th, {:.2} ms 99th, {:.2} ms 99.9th",
        latency.mean / 1e3,
        ms(latency.max),
        ms(latency.p50),
        ms(latency.p95),
        ms(latency.p99),
        ms(latency.p999)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::example;

    #[test]
    fn the_line_has_the_form_that_scripts_know() {
        let result = example();
        assert_eq!(
            line(&result),
            "2000 records sent, 1000.0 records/sec (0.95 MB/sec), 1.25 ms avg latency, 9.00 ms max latency, \
             1.00 ms 50th, 3.00 ms 95th, 5.00 ms 99th, 7.00 ms 99.9th."
        );
        let without = PerfResult {
            latency_us: None,
            kind: crate::Kind::Consume,
            ..result
        };
        assert_eq!(
            line(&without),
            "2000 records read, 1000.0 records/sec (0.95 MB/sec)."
        );
    }
}
