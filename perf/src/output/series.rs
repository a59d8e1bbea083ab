//! The time series as CSV: a line for each interval.

use std::io::{self, Write};

use crate::result::PerfResult;

/// Writes it. Fields without a value are empty.
pub(super) fn write(file: &mut impl Write, result: &PerfResult) -> io::Result<()> {
    writeln!(
        file,
        "start_s,seconds,records,value_bytes,latencies,p50_us,p99_us,max_us,errors"
    )?;
    let field = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
    for interval in &result.series {
        writeln!(
            file,
            "{:.3},{:.3},{},{},{},{},{},{},{}",
            interval.start_s,
            interval.seconds,
            interval.records,
            interval.value_bytes,
            interval.latencies,
            field(interval.p50_us),
            field(interval.p99_us),
            field(interval.max_us),
            interval.errors
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::example;

    #[test]
    fn every_interval_is_a_line() {
        let mut csv = Vec::new();
        write(&mut csv, &example()).unwrap();
        let csv = String::from_utf8(csv).unwrap();
        let lines: Vec<_> = csv.lines().collect();
        assert_eq!(
            lines,
            [
                "start_s,seconds,records,value_bytes,latencies,p50_us,p99_us,max_us,errors",
                "0.000,1.000,1500,1500000,2,1000,9000,9000,0",
                "1.000,1.000,500,500000,1,1000,1000,1000,3",
            ]
        );
    }
}
