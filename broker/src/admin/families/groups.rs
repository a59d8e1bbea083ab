//! Metrics of consumer groups.

use super::family_row;
use crate::admin::family::{Family, Kind, Samples, Shown, Unit};
use crate::admin::state::{CoreState, GroupPartitionState, GroupState};

/// The most groups that have series of their own.
const GROUPS_MAX: usize = 2_000;

/// The most pairs of a group and a topic that have series of their own.
const TOPICS_MAX: usize = 10_000;

/// What the members of a group may do.
const STATES: [&str; 3] = ["empty", "reconciling", "stable"];

pub(super) static GROUPS: &[Family] = &[
    family_row!(
        "corelane_core_groups",
        Gauge,
        None,
        ["core"],
        "Consumer groups that the core coordinates",
        |b, s| s.each_core(b, |c| c.groups.groups)
    ),
    family_row!(
        "corelane_core_group_members",
        Gauge,
        None,
        ["core"],
        "Members of these groups",
        |b, s| s.each_core(b, |c| c.groups.members)
    ),
    family_row!(
        "corelane_core_group_offsets",
        Gauge,
        None,
        ["core"],
        "Committed offsets that are kept of these groups",
        |b, s| s.each_core(b, |c| c.groups.offsets)
    ),
    family_row!(
        "corelane_core_group_shards",
        Gauge,
        None,
        ["core", "state"],
        "Partitions of __offsets that the core owns. serving: their groups are served; loading: their log is being read, or will be; failed: their log could not be read or written, it is tried again",
        |b, s| {
            for core in &b.state.cores {
                each_shard_state(core, s);
            }
        }
    ),
    family_row!(
        "corelane_group_generations",
        Counter,
        None,
        ["core"],
        "Changes of groups that raised their generation: who is a member, what members want or may hold has changed",
        |b, s| s.each_core(b, |c| c.groups.generations)
    ),
    family_row!(
        "corelane_group_members_expired",
        Counter,
        None,
        ["core"],
        "Members that were removed: they were silent for their session timeout, or did not let go of partitions within their rebalance timeout",
        |b, s| s.each_core(b, |c| c.groups.members_expired)
    ),
    family_row!(
        "corelane_group_commits",
        Counter,
        None,
        ["core"],
        "Committed offsets that were accepted and are durable",
        |b, s| s.each_core(b, |c| c.groups.commits)
    ),
    family_row!(
        "corelane_group_commits_refused",
        Counter,
        None,
        ["core"],
        "Committed offsets that the core that coordinates the group refused",
        |b, s| s.each_core(b, |c| c.groups.commits_refused)
    ),
    family_row!(
        "corelane_groups_without_series",
        Gauge,
        None,
        [],
        "Groups that have no metrics of their own, because there are more than 2,000",
        |b, s| s.put(&[], beyond(b.state.groups.iter(), GROUPS_MAX))
    ),
    family_row!(
        "corelane_group_topics_without_series",
        Gauge,
        None,
        [],
        "Pairs of a group and a topic that have no metrics of their own, because there are more than 10,000",
        |b, s| s.put(&[], beyond(topics(b), TOPICS_MAX))
    ),
    family_row!(
        "corelane_group_partitions_without_series",
        Gauge,
        None,
        [],
        "Committed offsets that have no metrics of their own, because there are more than admin.partition_series_max",
        |b, s| s.put(&[], beyond(partitions(b), b.partitions_max))
    ),
    family_row!(
        "corelane_group_state",
        Gauge,
        None,
        ["group", "state"],
        "1 for the state that the group is in, 0 for others. empty: it has no members; reconciling: members take or let go of partitions; stable: every member holds what it should",
        |b, s| {
            for group in b.state.groups.iter().take(GROUPS_MAX) {
                for state in STATES {
                    s.put_flag(&[&group.name, state], group.state == state);
                }
            }
        }
    ),
    family_row!(
        "corelane_group_generation",
        Gauge,
        None,
        ["group"],
        "The group's generation",
        |b, s| each_group(b, s, |g| u64::from(g.generation))
    ),
    family_row!(
        "corelane_group_members",
        Gauge,
        None,
        ["group"],
        "Members of the group",
        |b, s| each_group(b, s, |g| g.members)
    ),
    family_row!(
        "corelane_group_topic_lag",
        Gauge,
        None,
        ["group", "topic"],
        "Records that the group has not read of the topic: the sum of corelane_group_lag",
        |b, s| each_topic(b, s, |lags| lags.reduce(|sum, lag| sum + lag))
    ),
    family_row!(
        "corelane_group_topic_lag_max",
        Gauge,
        None,
        ["group", "topic"],
        "The same of the partition that the group is furthest behind in",
        |b, s| each_topic(b, s, |lags| lags.max())
    ),
    family_row!(
        "corelane_group_committed_offset",
        Gauge,
        None,
        ["group", "topic", "partition"],
        "The offset of the next record that the group wants",
        |b, s| each_partition(b, s, |p| Some(p.committed))
    ),
    family_row!(
        "corelane_group_lag",
        Gauge,
        None,
        ["group", "topic", "partition"],
        "The partition's high watermark less the group's committed offset, 0 at least",
        |b, s| each_partition(b, s, |p| p.lag)
    ),
];

/// All pairs of a group and a topic that it has committed offsets of.
fn topics<'a>(
    shown: &Shown<'a>,
) -> impl Iterator<Item = (&'a GroupState, &'a [GroupPartitionState])> {
    let groups = shown.state.groups.iter();
    groups.flat_map(|group| group.topics().map(move |of| (group, of)))
}

/// All committed offsets.
fn partitions<'a>(
    shown: &Shown<'a>,
) -> impl Iterator<Item = (&'a GroupState, &'a GroupPartitionState)> {
    let groups = shown.state.groups.iter();
    groups.flat_map(|group| group.partitions.iter().map(move |it| (group, it)))
}

/// How many there are beyond so many.
fn beyond(all: impl Iterator, most: usize) -> u64 {
    all.skip(most).count() as u64
}

fn each_shard_state(core: &CoreState, samples: &mut Samples<'_>) {
    let number = core.core.to_string();
    let shards = [
        ("serving", core.groups.shards_serving),
        ("loading", core.groups.shards_loading),
        ("failed", core.groups.shards_failed),
    ];
    for (state, count) in shards {
        samples.put(&[&number, state], count);
    }
}

fn each_group(shown: &Shown<'_>, samples: &mut Samples<'_>, value: impl Fn(&GroupState) -> u64) {
    for group in shown.state.groups.iter().take(GROUPS_MAX) {
        samples.put(&[&group.name], value(group));
    }
}

/// A number of each group and topic, of what is known of how far the group is behind in its partitions.
fn each_topic(
    shown: &Shown<'_>,
    samples: &mut Samples<'_>,
    value: impl Fn(&mut dyn Iterator<Item = u64>) -> Option<u64>,
) {
    for (group, partitions) in topics(shown).take(TOPICS_MAX) {
        let mut lags = partitions.iter().filter_map(|it| it.lag);
        if let Some(value) = value(&mut lags) {
            samples.put(&[&group.name, &partitions[0].topic], value);
        }
    }
}

fn each_partition(
    shown: &Shown<'_>,
    samples: &mut Samples<'_>,
    value: impl Fn(&GroupPartitionState) -> Option<u64>,
) {
    for (group, partition) in partitions(shown).take(shown.partitions_max) {
        if let Some(value) = value(partition) {
            let number = partition.partition.to_string();
            samples.put(&[&group.name, &partition.topic, &number], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::admin::exposition::prometheus;
    use crate::admin::state::BrokerState;

    /// The values of a text exposition by name and labels.
    fn value(text: &str, series: &str) -> Option<u64> {
        let mut lines = text.lines().filter_map(|line| line.rsplit_once(' '));
        let (_, value) = lines.find(|(name, _)| *name == series)?;
        Some(value.parse::<f64>().expect("a number") as u64)
    }

    fn count(text: &str, family: &str) -> usize {
        let of_family = text.lines().filter(|line| {
            let rest = line.strip_prefix(family);
            rest.is_some_and(|rest| rest.starts_with('{'))
        });
        of_family.count()
    }

    fn group(name: &str, partitions: &[(&str, u32, u64, Option<u64>)]) -> GroupState {
        let partitions = partitions.iter();
        GroupState {
            name: name.to_owned(),
            core: 0,
            state: "reconciling".to_owned(),
            generation: 7,
            members: 3,
            partitions: partitions
                .map(|(topic, partition, committed, lag)| GroupPartitionState {
                    topic: (*topic).to_owned(),
                    partition: *partition,
                    committed: *committed,
                    lag: *lag,
                })
                .collect(),
        }
    }

    fn shown(groups: Vec<GroupState>, partitions_max: usize) -> String {
        let state = BrokerState {
            groups,
            ..BrokerState::default()
        };
        prometheus(Arc::new(state), partitions_max)
    }

    #[test]
    fn lag_is_shown_by_partition_and_summed_up_by_topic() {
        let partitions = [
            ("audit", 0, 9, None),
            ("orders", 0, 1, Some(4)),
            ("orders", 1, 2, None),
            ("orders", 2, 3, Some(6)),
        ];
        let text = shown(vec![group("a \"b\"", &partitions)], 100);
        let of = |family: &str, labels: &str| {
            let labels = format!("group=\"a \\\"b\\\"\"{labels}");
            value(&text, &format!("{family}{{{labels}}}"))
        };
        let place =
            |topic: &str, partition: u32| format!(",topic=\"{topic}\",partition=\"{partition}\"");
        assert_eq!(of("corelane_group_lag", &place("orders", 2)), Some(6));
        assert_eq!(of("corelane_group_lag", &place("orders", 1)), None);
        let committed = of("corelane_group_committed_offset", &place("orders", 1));
        assert_eq!(committed, Some(2));
        let orders = ",topic=\"orders\"";
        assert_eq!(of("corelane_group_topic_lag", orders), Some(10));
        assert_eq!(of("corelane_group_topic_lag_max", orders), Some(6));
        // Nothing is known of how far behind it is there: that is not 0.
        assert_eq!(of("corelane_group_topic_lag", ",topic=\"audit\""), None);
        let state = |state: &str| {
            let label = format!(",state=\"{state}\"");
            of("corelane_group_state", &label)
        };
        assert_eq!(STATES.map(state), [Some(0), Some(1), Some(0)]);
        assert_eq!(of("corelane_group_generation", ""), Some(7));
        assert_eq!(of("corelane_group_members", ""), Some(3));
    }

    #[test]
    fn series_are_bounded_and_the_rest_is_counted() {
        // Six topics each, so that there are too many groups, and too many pairs with topics.
        let topics = ["a", "b", "c", "d", "e", "f"].map(|topic| (topic, 0, 1, Some(1)));
        let groups = (0..GROUPS_MAX + 5).map(|number| group(&format!("g{number:06}"), &topics));
        let all = 6 * (GROUPS_MAX + 5);
        let text = shown(groups.collect(), 700);
        assert_eq!(count(&text, "corelane_group_members"), GROUPS_MAX);
        assert_eq!(count(&text, "corelane_group_state"), 3 * GROUPS_MAX);
        assert_eq!(count(&text, "corelane_group_topic_lag"), TOPICS_MAX);
        assert_eq!(count(&text, "corelane_group_topic_lag_max"), TOPICS_MAX);
        assert_eq!(count(&text, "corelane_group_lag"), 700);
        assert_eq!(count(&text, "corelane_group_committed_offset"), 700);
        let left_out = |name: &str| value(&text, name).map(|count| count as usize);
        assert_eq!(left_out("corelane_groups_without_series"), Some(5));
        let topics = left_out("corelane_group_topics_without_series");
        assert_eq!(topics, Some(all - TOPICS_MAX));
        let partitions = left_out("corelane_group_partitions_without_series");
        assert_eq!(partitions, Some(all - 700));
        // The bounds are said in words as well.
        for (most, family) in [
            ("2,000", "corelane_groups_without_series"),
            ("10,000", "corelane_group_topics_without_series"),
        ] {
            let help = text
                .lines()
                .find(|line| line.starts_with(&format!("# HELP {family}")));
            assert!(help.is_some_and(|help| help.contains(most)), "{help:?}");
        }
        assert_eq!((GROUPS_MAX, TOPICS_MAX), (2_000, 10_000));
    }
}
