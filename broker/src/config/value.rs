//! Settings as text: byte sizes, durations, addresses and cores, parsed and shown.
//!
//! One textual form serves the file, the environment and the flags alike.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use corelane_protocol::batch::TimestampType;
use corelane_storage::store::GuardMode;

use super::CoreSelection;

const BYTE_UNITS: [(&str, u64); 7] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

const TIME_UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("min", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Reads a size in bytes: `1048576`, `1 MiB`, `64KiB`, `10 MB`.
///
/// # Errors
/// Says what a size looks like.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    parse_with_units(text, &BYTE_UNITS)
        .ok_or_else(|| format!("`{text}` is not a size; write for example 1048576 or \"1 MiB\""))
}

/// Reads a duration in milliseconds: `500`, `500 ms`, `2 s`, `10 min`, `1 h`, `7 d`.
///
/// # Errors
/// Says what a duration looks like.
pub fn parse_millis(text: &str) -> Result<u64, String> {
    parse_with_units(text, &TIME_UNITS).ok_or_else(|| {
        format!("`{text}` is not a duration; write for example 500 (milliseconds) or \"2 s\"")
    })
}

/// A bound that need not be: Kafka writes -1 where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(pub Option<u64>);

impl Limit {
    /// Reads `-1`, or what `parse` reads.
    ///
    /// # Errors
    /// Those of `parse`, and that -1 means no limit.
    pub fn parse(text: &str, parse: impl Fn(&str) -> Result<u64, String>) -> Result<Self, String> {
        if text.trim() == "-1" {
            return Ok(Self(None));
        }
        let value = parse(text).map_err(|problem| format!("{problem}; -1 is without limit"))?;
        Ok(Self(Some(value)))
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("-1"),
            Some(value) => value.fmt(f),
        }
    }
}

/// Reads what retention does about readers.
///
/// # Errors
/// Says what it may be.
pub fn parse_guard_mode(text: &str) -> Result<GuardMode, String> {
    let known = [GuardMode::Off, GuardMode::Warn, GuardMode::Wait];
    let found = known
        .into_iter()
        .find(|mode| guard_mode_name(*mode) == text.trim());
    found.ok_or_else(|| format!("`{text}` is unknown; choose off, warn or wait"))
}

/// The name that [`parse_guard_mode`] reads.
pub const fn guard_mode_name(mode: GuardMode) -> &'static str {
    match mode {
        GuardMode::Off => "off",
        GuardMode::Warn => "warn",
        GuardMode::Wait => "wait",
    }
}

/// Reads a kind of time by Kafka's name.
///
/// # Errors
/// Says which there are.
pub fn parse_timestamp_type(text: &str) -> Result<TimestampType, String> {
    let known = [TimestampType::Create, TimestampType::LogAppend];
    let found = known.into_iter().find(|kind| kind.as_str() == text.trim());
    found.ok_or_else(|| format!("`{text}` is neither CreateTime nor LogAppendTime"))
}

/// Shows a size with the largest binary unit that divides it.
pub fn format_bytes(bytes: u64) -> String {
    let unit = BYTE_UNITS[..4]
        .iter()
        .rev()
        .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    match unit {
        Some((name, factor)) if *factor > 1 => format!("{} {name}", bytes / factor),
        _ => bytes.to_string(),
    }
}

/// Shows a duration in milliseconds with the largest unit that divides it.
pub(super) fn format_millis(millis: u64) -> String {
    let unit = TIME_UNITS
        .iter()
        .rev()
        .find(|(_, factor)| millis >= *factor && millis.is_multiple_of(*factor));
    match unit {
        Some((name, factor)) => format!("{} {name}", millis / factor),
        None => millis.to_string(),
    }
}

pub(super) fn parse_count(text: &str) -> Result<u64, String> {
    text.trim()
        .replace('_', "")
        .parse()
        .map_err(|_| format!("`{text}` is not a whole number of at least 0"))
}

pub(super) fn parse_bool(text: &str) -> Result<bool, String> {
    match text.trim() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("`{text}` is neither true nor false")),
    }
}

pub(super) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim();
    if let Some(port) = text.strip_prefix("localhost:")
        && let Ok(port) = port.parse()
    {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    text.parse().map_err(|_| {
        format!("`{text}` is not an IP address with a port; write for example 127.0.0.1:9500, localhost:9500 or [::1]:9500")
    })
}

pub(super) fn parse_cores(text: &str) -> Result<CoreSelection, String> {
    let advice = || {
        format!(
            "`{text}` names no cores; write \"all\", a number of cores such as 4, or a list of CPU numbers such as \"0,2,3\" (\"2,\" for CPU 2 alone)"
        )
    };
    let text = text.trim();
    if text == "all" {
        return Ok(CoreSelection::All);
    }
    if !text.contains(',') {
        return match text.parse() {
            Ok(count) if count > 0 => Ok(CoreSelection::Count(count)),
            _ => Err(advice()),
        };
    }
    let mut list = Vec::new();
    for item in text.trim_end_matches(',').split(',') {
        list.push(item.trim().parse::<u16>().map_err(|_| advice())?);
    }
    list.sort_unstable();
    if list.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(format!("`{text}` names a CPU twice"));
    }
    Ok(CoreSelection::List(list))
}

pub(super) fn format_cores(cores: &CoreSelection) -> String {
    match cores {
        CoreSelection::All => "all".to_owned(),
        CoreSelection::Count(count) => count.to_string(),
        CoreSelection::List(list) => {
            let mut text = list
                .iter()
                .map(u16::to_string)
                .collect::<Vec<_>>()
                .join(",");
            if list.len() == 1 {
                text.push(',');
            }
            text
        }
    }
}

fn parse_with_units(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits_end = text
        .find(|c: char| !c.is_ascii_digit() && c != '_')
        .unwrap_or(text.len());
    let number: u64 = text[..digits_end].replace('_', "").parse().ok()?;
    let unit = text[digits_end..].trim();
    if unit.is_empty() {
        return Some(number);
    }
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("4_096", 4096),
            ("4 KiB", 4096),
            ("64MiB", 64 << 20),
            (" 1 GiB ", 1 << 30),
            ("10 MB", 10_000_000),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
            assert_eq!(parse_bytes(&format_bytes(bytes)), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "MiB",
            "-1",
            "1.5 MiB",
            "1 mib",
            "99999999999999999999",
            "99999999999 GiB",
        ] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_read_and_shown() {
        for (text, millis) in [
            ("500", 500),
            ("500 ms", 500),
            ("2 s", 2000),
            ("7 d", 604_800_000),
        ] {
            assert_eq!(parse_millis(text), Ok(millis), "{text}");
            assert_eq!(parse_millis(&format_millis(millis)), Ok(millis), "{text}");
        }
        assert!(parse_millis("2 weeks").is_err());
    }

    #[test]
    fn cores_are_read_and_shown() {
        for (text, cores) in [
            ("all", CoreSelection::All),
            ("4", CoreSelection::Count(4)),
            ("3,0,2", CoreSelection::List(vec![0, 2, 3])),
            ("2,", CoreSelection::List(vec![2])),
        ] {
            assert_eq!(parse_cores(text), Ok(cores.clone()), "{text}");
            assert_eq!(parse_cores(&format_cores(&cores)), Ok(cores), "{text}");
        }
        for text in ["", "0", "-1", "1,1", "a", ",", "1,,2", "70000"] {
            assert!(parse_cores(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_are_read() {
        assert_eq!(
            parse_address("localhost:1"),
            Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)))
        );
        assert!(parse_address("[::1]:9500").is_ok());
        assert!(parse_address("example.org:9500").is_err());
        assert!(parse_address("127.0.0.1").is_err());
    }
}
