//! Compaction by key: what a topic may say of it, and what it may cost.

/// What happens to a topic's old records: Kafka's `cleanup.policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CleanupPolicy {
    /// They are deleted by `retention.ms` and `retention.bytes`.
    #[default]
    Delete,
    /// The last record of each key is kept for ever, those before it are left out.
    Compact,
    /// Both: what is deleted by age or size is gone, even if it is the last record of its key.
    CompactAndDelete,
}

impl CleanupPolicy {
    /// The name that [`parse_cleanup_policy`] reads.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Compact => "compact",
            Self::CompactAndDelete => "compact,delete",
        }
    }

    /// Whether only the last record of each key is kept.
    pub const fn compacts(self) -> bool {
        matches!(self, Self::Compact | Self::CompactAndDelete)
    }

    /// Whether records are deleted by age and size.
    pub const fn deletes(self) -> bool {
        matches!(self, Self::Delete | Self::CompactAndDelete)
    }
}

/// What compaction may take of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactionConfig {
    /// Memory of one store for the keys that it compacts by at the same time, in bytes.
    pub keys_bytes_max: u64,
    /// Bytes of segment files that each store reads in a second to compact them; 0 for no compaction.
    pub bytes_per_second: u64,
}

impl Default for CompactionConfig {
    fn default() -> Self {
        Self {
            keys_bytes_max: 16 * 1024 * 1024,
            bytes_per_second: 32 * 1024 * 1024,
        }
    }
}

/// Reads what happens to old records, by Kafka's names.
///
/// # Errors
/// Says what it may be.
pub fn parse_cleanup_policy(text: &str) -> Result<CleanupPolicy, String> {
    let names: Vec<_> = text.split(',').map(str::trim).collect();
    match names[..] {
        ["delete"] => Ok(CleanupPolicy::Delete),
        ["compact"] => Ok(CleanupPolicy::Compact),
        ["compact", "delete"] | ["delete", "compact"] => Ok(CleanupPolicy::CompactAndDelete),
        _ => Err(format!(
            "`{text}` is no policy; choose delete, compact, or compact,delete for both"
        )),
    }
}

/// Reads a share of a whole, from 0 to 1, into thousandths.
///
/// # Errors
/// Says what a share looks like.
pub fn parse_share(text: &str) -> Result<u16, String> {
    share(text.trim()).ok_or_else(|| {
        format!("`{text}` is no share; write a number from 0 to 1 with at most three decimals, for example 0.5")
    })
}

fn share(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let is_number =
        |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    if !is_number(whole) || !is_number(decimals) || decimals.len() > 3 {
        return None;
    }
    let whole: u16 = whole.parse().ok()?;
    let decimals: u16 = format!("{decimals:0<3}").parse().ok()?;
    let thousandths = whole.checked_mul(1000)?.checked_add(decimals)?;
    (thousandths <= 1000).then_some(thousandths)
}

/// Shows thousandths in the form that [`parse_share`] reads, without zeros that say nothing.
pub fn format_share(thousandths: u16) -> String {
    let (whole, decimals) = (thousandths / 1000, thousandths % 1000);
    if decimals == 0 {
        return whole.to_string();
    }
    let decimals = format!("{decimals:03}");
    format!("{whole}.{}", decimals.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_in_any_order_and_shown_in_one() {
        use CleanupPolicy::{Compact, CompactAndDelete, Delete};
        for (text, policy, compacts, deletes) in [
            ("delete", Delete, false, true),
            (" compact ", Compact, true, false),
            ("compact,delete", CompactAndDelete, true, true),
            ("delete, compact", CompactAndDelete, true, true),
        ] {
            assert_eq!(parse_cleanup_policy(text), Ok(policy), "{text}");
            assert_eq!(parse_cleanup_policy(policy.as_str()), Ok(policy), "{text}");
            assert_eq!((policy.compacts(), policy.deletes()), (compacts, deletes));
        }
        for text in [
            "",
            ",",
            "Compact",
            "compact,",
            "compact,compact",
            "delete,delete",
            "compact delete",
            "compact,delete,compact",
            "none",
        ] {
            let problem = parse_cleanup_policy(text).expect_err(text);
            assert!(problem.contains("choose delete, compact, or compact,delete"));
        }
    }

    #[test]
    fn shares_are_read_and_shown() {
        for (text, thousandths, shown) in [
            ("0", 0, "0"),
            ("0.0", 0, "0"),
            ("1", 1000, "1"),
            ("1.000", 1000, "1"),
            (" 0.5 ", 500, "0.5"),
            ("0.50", 500, "0.5"),
            ("0.05", 50, "0.05"),
            ("0.001", 1, "0.001"),
            ("0.999", 999, "0.999"),
        ] {
            assert_eq!(parse_share(text), Ok(thousandths), "{text}");
            assert_eq!(format_share(thousandths), shown, "{text}");
        }
        let wrong =
            " . .5 1. -0.5 +1 1.001 2 0.5000 50% 1e-1 0,5 NaN 66 70000 99999999999999999999.9";
        for text in wrong.split(' ') {
            let problem = parse_share(text).expect_err(text);
            assert!(problem.contains("from 0 to 1"), "{problem}");
        }
    }
}
