//! Every metric: its name, what it means, and where its values are.
//!
//! One table in parts, which the endpoint shows and `docs/metrics.md` explains; a test holds the page against it.

mod broker;
mod cores;
mod groups;
mod requests;
mod stores;
mod topics;

use super::family::Family;

/// A row of the table.
macro_rules! family_row {
    ($name:literal, $kind:ident, $unit:ident, [$($label:literal),*], $help:literal, $collect:expr) => {
        Family {
            name: $name,
            kind: Kind::$kind,
            unit: Unit::$unit,
            labels: &[$($label),*],
            help: $help,
            collect: $collect,
        }
    };
}
use family_row;

/// Every metric, in the order in which they are shown: in parts, each of which has a heading of its own in the page.
pub fn families() -> impl Iterator<Item = &'static Family> {
    let parts = [
        broker::BROKER,
        cores::CORES,
        requests::REQUESTS,
        stores::STORES,
        topics::TOPICS,
        topics::PARTITIONS,
        topics::READERS,
        groups::GROUPS,
    ];
    parts.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_follow_the_rules() {
        let mut names: Vec<_> = families().map(Family::name).collect();
        for name in &names {
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{name}"
            );
        }
        names.sort();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
