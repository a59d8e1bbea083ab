//! One seed from beginning to end: its world is drawn, lived through, healed and judged.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use corelane_checker::Verdict;
use corelane_protocol::request::Acks;
use corelane_storage::testing::Random;

use crate::client::{
    Admin, Clerk, Consumer, Member, MemberParts, NewTopicParts, Nonsense, Producer, ProducerParts,
    Reporter,
};
use crate::counters::{Counters, Sometimes};
use crate::grouping::Timeouts;
use crate::panics;
use crate::profile::{CLEANUP_POLICY, Damage, Profile, compaction, expiry, guard, guard_changes};
use crate::trace::{Reader, Trace};
use crate::world::World;

/// The topic that is acknowledged from memory.
pub(crate) const WEAK_TOPIC: &str = "weak";

/// Virtual seconds with faults, unless said otherwise.
pub const SECONDS_DEFAULT: u64 = 60;

/// What a world may violate where devices lie about writes: an acknowledged tail may be gone, and its offsets be
/// given to others.
const VIOLATED_BY_LIES: [&str; 9] = [
    "lost",
    "changed",
    "two contents",
    "issued twice",
    "vanished",
    "came back",
    "not verified",
    "receipts out of order",
    "deleted",
];

/// What one seed came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Over every event.
    pub hash: u64,
    /// How many events there were.
    pub events: u64,
    /// What must not happen and did; empty if all is well.
    pub failures: Vec<String>,
    /// What was reached.
    pub counters: Counters,
    /// What the history contained.
    pub verdict: Verdict,
}

/// Lives through a seed.
pub fn run_seed(seed: u64, seconds: u64, reader: Option<Reader>) -> Outcome {
    let ended = catch_unwind(AssertUnwindSafe(|| live(seed, seconds, reader)));
    match ended {
        Ok(outcome) => outcome,
        Err(_) => Outcome {
            seed,
            hash: 0,
            events: 0,
            failures: vec![format!("panic: {}", panics::take())],
            counters: Counters::default(),
            verdict: Verdict::default(),
        },
    }
}

fn live(seed: u64, seconds: u64, reader: Option<Reader>) -> Outcome {
    let mut random = Random::new(seed);
    let profile = Profile::draw(&mut random);
    let damage = profile.damage;
    let mut trace = Trace::new(reader);
    trace.event(0, format_args!("seed {seed}: {profile:?}"));
    let (world, topics) = populate(profile, random, trace);
    let ended = world.run(seconds * 1_000_000, topics);
    let (hash, events) = (ended.trace.hash(), ended.trace.events());
    let (problems, mut counters, verdict) = ended.history.finish();
    counters.add(Sometimes::WeakRecordsLost, verdict.counts.cut_back);
    let mut failures: Vec<_> = problems
        .into_iter()
        .map(|problem| format!("client: {problem}"))
        .collect();
    if failures.is_empty() {
        failures.extend(violations(&verdict, damage));
    }
    Outcome {
        seed,
        hash,
        events,
        failures,
        counters,
        verdict,
    }
}

/// What the checker found that this world's faults do not excuse.
fn violations(verdict: &Verdict, damage: Damage) -> Vec<String> {
    let is_excused = |kind: &str| damage == Damage::Lies && VIOLATED_BY_LIES.contains(&kind);
    let mut by_kind: BTreeMap<&str, String> = BTreeMap::new();
    for violation in &verdict.violations {
        if !is_excused(violation.kind()) {
            by_kind
                .entry(violation.kind())
                .or_insert_with(|| format!("checker: {}: {violation}", violation.kind()));
        }
    }
    for kind in verdict.violations_by_kind.keys() {
        if !is_excused(kind) {
            by_kind
                .entry(kind)
                .or_insert_with(|| format!("checker: {kind}"));
        }
    }
    by_kind.into_values().collect()
}

/// The world with its clients, and the topics that are there in the end.
fn populate(profile: Profile, mut random: Random, trace: Trace) -> (World, Vec<String>) {
    let mut world = World::new(profile.clone(), random.fork(), trace);
    let broker = profile.config.log.clone();
    let mut admin = Admin::new(0, 400_000, profile.damage != Damage::None, broker);
    let mut lasting: Vec<(String, bool)> = Vec::new();
    // Drawn beside the rest of the sequence, which stays what it is.
    let mut beside = random.clone().fork();
    let mut keyed = BTreeSet::new();
    for number in 0..profile.topics {
        let name = format!("t{number}");
        let mut parts = topic(&profile, &mut random, &name);
        if compact(&mut world, &profile, &mut beside, &mut parts) {
            keyed.insert(name.clone());
        }
        admin.add(parts);
        lasting.push((name, false));
    }
    if let Some((key, value)) = profile.weak_topic {
        let mut parts = topic(&profile, &mut random, WEAK_TOPIC);
        parts.configs.push((key.to_owned(), value.to_owned()));
        admin.add(parts);
        lasting.push((WEAK_TOPIC.to_owned(), true));
    }
    let mut all = lasting.clone();
    for number in 0..profile.passing_topics {
        let name = format!("p{number}");
        let mut parts = NewTopicParts {
            is_passing: true,
            ..topic(&profile, &mut random, &name)
        };
        if compact(&mut world, &profile, &mut beside, &mut parts) {
            keyed.insert(name.clone());
        }
        admin.add(parts);
        all.push((name, false));
    }
    world.add(Box::new(admin));
    let frame = u64::from(profile.config.limits.frame_bytes_max);
    for number in 0..profile.producers {
        let (topic, is_weak) = all[number % all.len()].clone();
        let keys = profile.compaction.map(|compaction| compaction.keys);
        let is_keyed = keyed.contains(&topic);
        world.add(Box::new(Producer::new(ProducerParts {
            number: number as u32,
            topic,
            is_weak,
            acks: [Acks::All, Acks::All, Acks::Leader, Acks::None][random.index(4)],
            window: 1 << random.below(5),
            pause_us: profile.pause_us,
            value_bytes_max: profile.value_bytes_max,
            batch_bytes_max: (frame - 64 * 1024) / 2,
            no_forward: random.chance(1, 4),
            is_idempotent: random.chance(2, 3),
            keys: keys.filter(|_| is_keyed),
        })));
    }
    for number in 0..profile.consumers {
        let (topic, is_weak) = all[(number + 1) % all.len()].clone();
        world.add(Box::new(Consumer::new(number, topic, is_weak)));
    }
    for number in 0..profile.clerks {
        let (topic, is_weak) = all[random.index(all.len())].clone();
        let deletes = profile.deletes;
        let clerk = Clerk::new(number, topic, is_weak, deletes, 100_000);
        world.add(Box::new(clerk));
    }
    if profile.nonsense {
        world.add(Box::new(Nonsense::new()));
    }
    for (topic, is_weak) in all.iter().filter(|_| profile.guards) {
        world.add(Box::new(Reporter::new(topic.clone(), *is_weak, 200_000)));
    }
    let topics: Vec<_> = all.into_iter().map(|(name, _)| name).collect();
    for group in ["g0", "g1"].into_iter().take(profile.groups) {
        add_group(&mut world, &profile, &mut random, group, &topics);
    }
    (world, topics)
}

/// Has some topics compacted, in some worlds. Returns whether this is one of them.
fn compact(
    world: &mut World,
    profile: &Profile,
    random: &mut Random,
    parts: &mut NewTopicParts,
) -> bool {
    let Some(shared) = profile.compaction.filter(|_| random.coin()) else {
        return false;
    };
    let (settings, changes) = compaction(random, shared);
    let is_other = |key: &str| settings.iter().all(|(own, _)| own != key);
    parts.configs.retain(|(key, _)| is_other(key));
    parts.configs.extend(settings);
    parts.changes.extend(changes);
    let policy = parts.configs.iter().find(|(key, _)| key == CLEANUP_POLICY);
    if policy.is_some() {
        world.history.compacting.permit(&parts.name);
    }
    world.history.compacting.delete_retention_ms = shared.delete_retention_ms;
    true
}

/// A consumer group: all of its members want the same.
fn add_group(
    world: &mut World,
    profile: &Profile,
    random: &mut Random,
    group: &'static str,
    topics: &[String],
) {
    let first = random.index(topics.len());
    let count = 1 + random.index(topics.len().min(2));
    let mut wanted: Vec<_> = topics
        .iter()
        .cycle()
        .skip(first)
        .take(count)
        .cloned()
        .collect();
    let pattern = random.coin().then(|| wanted.join("|"));
    wanted.sort_unstable();
    world.history.grouping.subscribes(group, wanted.clone());
    let timeouts = Timeouts {
        session_us: [1_000_000, 2_000_000, 6_000_000][random.index(3)],
        rebalance_us: [1_000_000, 3_000_000, 10_000_000][random.index(3)],
    };
    let assignor = [None, Some("sticky"), Some("round-robin")][random.index(3)];
    for number in 0..profile.members {
        world.add(Box::new(Member::new(MemberParts {
            group,
            number,
            topics: if pattern.is_some() {
                Vec::new()
            } else {
                wanted.clone()
            },
            pattern: pattern.clone(),
            assignor: assignor.map(str::to_owned),
            is_static: random.chance(1, 3),
            no_forward: random.chance(1, 4),
            timeouts,
        })));
    }
}

/// How a topic is made, and what its settings change to.
fn topic(profile: &Profile, random: &mut Random, name: &str) -> NewTopicParts {
    let (mut configs, mut changes) = (Vec::new(), Vec::new());
    if profile.expires {
        configs = expiry(random);
        for _ in 0..3 {
            changes.extend(expiry(random));
        }
        let unset = ["retention.ms", "retention.bytes", "segment.ms"].map(str::to_owned);
        changes.extend(unset.map(|key| (key, String::new())));
    }
    if profile.guards {
        configs = guard(random);
        changes.extend(guard_changes(random));
    }
    NewTopicParts {
        name: name.to_owned(),
        partitions: profile.partitions,
        partitions_max: profile.partitions_max,
        configs,
        changes,
        is_passing: false,
    }
}
