//! Figures for people.

pub(super) use corelane_bench::table::grouped as count;

const US_PER_MS: f64 = 1e3;
const US_PER_S: f64 = 1e6;

/// A fraction with three digits behind the point at most, one beyond a thousand, and none that say nothing.
pub(super) fn fraction(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        let sign = if number < 0.0 { "-" } else { "" };
        return format!("{sign}{}", count(number.abs() as u64));
    }
    if (1e3..1e15).contains(&number) {
        let tenths = (number * 10.0).round() as u64;
        return format!("{}.{}", count(tenths / 10), tenths % 10);
    }
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// About three digits, as many as a headline takes.
pub(super) fn rough(number: f64) -> String {
    match number.abs() {
        size if size >= 100.0 => count(number.round() as u64),
        size if size >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// Microseconds as about three digits and their unit.
pub(super) fn latency(us: u64) -> (String, &'static str) {
    let us = us as f64;
    match us {
        _ if us < US_PER_MS => (format!("{us:.0}"), "µs"),
        _ if us < US_PER_S => (rough(us / US_PER_MS), "ms"),
        _ => (rough(us / US_PER_S), "s"),
    }
}

/// Microseconds at a tick of an axis, where they are round.
pub(super) fn tick_latency(us: f64) -> String {
    match us {
        _ if us < US_PER_MS => format!("{us:.0} µs"),
        _ if us < US_PER_S => format!("{:.0} ms", us / US_PER_MS),
        _ => format!("{:.0} s", us / US_PER_S),
    }
}

/// A round count at a tick of an axis.
pub(super) fn tick_count(number: f64) -> String {
    match number {
        _ if number < 1e3 => fraction(number),
        _ if number < 1e6 => format!("{}k", fraction(number / 1e3)),
        _ => format!("{}M", fraction(number / 1e6)),
    }
}

/// Bytes in binary units.
pub(super) fn bytes(number: u64) -> String {
    const KIB: u64 = 1024;
    match number {
        _ if number < KIB => format!("{number} B"),
        _ if number < KIB * KIB => format!("{} KiB", fraction(number as f64 / KIB as f64)),
        _ => format!("{} MiB", fraction(number as f64 / (KIB * KIB) as f64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(fraction(1234.56), "1,234.6");
        assert_eq!(fraction(999.25), "999.25");
        assert_eq!(fraction(-2000.0), "-2,000");
        assert_eq!(fraction(0.1 + 0.2), "0.3");
        assert_eq!(rough(1234.5), "1,235");
        assert_eq!(rough(0.987), "0.99");
        assert_eq!(latency(999), ("999".to_owned(), "µs"));
        assert_eq!(latency(1_234), ("1.23".to_owned(), "ms"));
        assert_eq!(latency(12_345_678), ("12.3".to_owned(), "s"));
        assert_eq!(tick_latency(500_000.0), "500 ms");
        assert_eq!(tick_count(20_000.0), "20k");
        assert_eq!(bytes(65_536), "64 KiB");
    }
}
