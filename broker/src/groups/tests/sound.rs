//! What holds of every coordinator at any time.

use std::collections::BTreeMap;

use super::super::Coordinator;
use super::super::group::Tally;

/// Recounts everything that a coordinator keeps twice.
pub(super) fn assert_sound(coordinator: &Coordinator) {
    let mut total = Tally::default();
    for (name, group) in &coordinator.groups {
        let mut owners = BTreeMap::new();
        let mut instances = BTreeMap::new();
        let mut patterns: BTreeMap<&str, usize> = BTreeMap::new();
        for (id, member) in &group.members {
            for partition in member.assigned.iter().chain(member.revoking.iter()) {
                let other = owners.insert(partition, *id);
                assert_eq!(other, None, "{partition} of {name} has two owners");
            }
            if let Some(instance) = &member.subscription.instance {
                assert_eq!(instances.insert(instance.clone(), *id), None);
            }
            if let Some(text) = &member.subscription.pattern {
                *patterns.entry(text).or_default() += 1;
            }
            assert!(member.generation <= group.generation);
            assert!(member.previous <= member.generation);
            assert_eq!(
                member.rebalance_deadline_us.is_some(),
                !member.revoking.is_empty()
            );
            assert!(member.alarm_us.expect("each has an alarm") <= member.deadline_us());
        }
        assert_eq!(group.owners, owners);
        assert_eq!(group.instances, instances);
        let kept = group.patterns.iter();
        let kept: BTreeMap<&str, usize> = kept.map(|(text, p)| (&**text, p.members)).collect();
        assert_eq!(kept, patterns);
        assert!(group.target_generation <= group.generation);
        assert_eq!(group.empty_since.is_some(), group.members.is_empty());
        assert_eq!(group.expiry_us.is_some(), group.members.is_empty());
        assert!(!group.members.is_empty() || !group.offsets.is_empty());
        assert!(!group.changes.group && group.changes.members.is_empty());
        assert_eq!(group.counted, group.tally());
        total = total.with(Tally::default(), group.counted);
    }
    assert_eq!(coordinator.total, total);
    let groups = coordinator.groups.values();
    let records = groups.map(|group| 1 + group.members.len() + group.offsets.len());
    assert_eq!(coordinator.live_records(), records.sum::<usize>());
}
