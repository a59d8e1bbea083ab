//! Numbers for people.

use std::time::Duration;

pub(crate) use corelane_perf::grouped as count;

/// Bytes in binary units, three digits at most before the unit changes.
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut size = number as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// A duration with about three digits.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        _ if seconds < 1e-3 => format!("{:.0} µs", seconds * 1e6),
        _ if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
        _ if seconds < 120.0 => format!("{seconds:.2} s"),
        _ => format!("{} min {:02} s", time.as_secs() / 60, time.as_secs() % 60),
    }
}

/// Partitions as a person would write them: `orders 0-3,7 audit 0`. Those of a topic follow each other,
/// in order.
pub(crate) fn partitions<'a>(partitions: impl IntoIterator<Item = (&'a str, u32)>) -> String {
    let partitions: Vec<_> = partitions.into_iter().collect();
    let topics = partitions.chunk_by(|(one, _), (next, _)| one == next);
    let topics = topics.map(|topic| {
        let runs = topic.chunk_by(|(_, one), (_, next)| one.checked_add(1) == Some(*next));
        let runs = runs.map(|run| match run {
            [(_, one), .., (_, last)] => format!("{one}-{last}"),
            _ => run[0].1.to_string(),
        });
        format!("{} {}", topic[0].0, runs.collect::<Vec<_>>().join(","))
    });
    topics.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.0 KiB");
        assert_eq!(bytes(1_047_552), "1.0 MiB");
        assert_eq!(bytes(5 << 30), "5.0 GiB");
        assert_eq!(duration(Duration::from_micros(12)), "12 µs");
        assert_eq!(duration(Duration::from_millis(12)), "12.0 ms");
        assert_eq!(duration(Duration::from_millis(1234)), "1.23 s");
        assert_eq!(duration(Duration::from_secs(121)), "2 min 01 s");
    }

    #[test]
    fn partitions_are_written_in_short() {
        assert_eq!(partitions([]), "");
        assert_eq!(partitions([("orders", 4)]), "orders 4");
        let orders = [0, 1, 2, 5, 7, 8].map(|index| ("orders", index));
        let audit = [("audit", 9), ("tax", 10)];
        let short = partitions(orders.into_iter().chain(audit));
        assert_eq!(short, "orders 0-2,5,7-8 audit 9 tax 10");
    }
}
