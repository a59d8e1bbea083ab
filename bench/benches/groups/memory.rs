//! Memory by counting allocations: what stays of those that a change makes, divided by how many it has added.

use corelane_bench::table::{figure, grouped, table};
use corelane_protocol::{PartitionIndex, TopicPartition};

use crate::broker::{
    Bench, Catalogue, Consumer, Times, by_name, by_pattern, group_name, topic_name,
};

/// Bytes that stay allocated by a change.
fn kept(change: impl FnOnce()) -> f64 {
    allocation_counter::measure(change).bytes_current as f64
}

/// What was measured, and what the coordinator itself counts against its limit.
pub(crate) fn measured() -> String {
    let mut lines = table(&[
        "memory, bytes",
        "of so many",
        "allocated for each",
        "counted for each",
    ]);
    let mut line = |name: &str, count: usize, allocated: f64, estimated: Option<usize>| {
        let each = |bytes: f64| figure((bytes / count as f64).round());
        lines.add_row([
            name.to_owned(),
            grouped(count as u64),
            each(allocated),
            estimated.map_or_else(String::new, |bytes| each(bytes as f64)),
        ]);
    };

    let mut topics = Catalogue::new();
    let image = kept(|| topics = Catalogue::with(1_000, 100));
    line("a partition of the metadata", 100_000, image, None);

    let topic = topics
        .image
        .topic_named(&topic_name(0))
        .expect("it was made")
        .id;
    let at = |index| TopicPartition::new(topic, PartitionIndex::new(index));

    // Each step adds to the groups of the one before.
    let mut bench = Bench::new();
    let mut before = 0;
    let bytes = kept(|| {
        for number in 0..1_000 {
            bench.commit(&topics, &group_name(number), &[at(0)]);
        }
    });
    let counted = bench.coordinator.memory_bytes();
    line(
        "a group with one offset",
        1_000,
        bytes,
        Some(counted - before),
    );

    before = counted;
    let bytes = kept(|| {
        let rest: Vec<_> = (1..100).map(at).collect();
        for number in 0..1_000 {
            bench.commit(&topics, &group_name(number), &rest);
        }
    });
    let counted = bench.coordinator.memory_bytes();
    line("a committed offset", 99_000, bytes, Some(counted - before));

    before = counted;
    let bytes = kept(|| join(&mut bench, &topics, 4, |_| by_name("nothing")));
    let counted = bench.coordinator.memory_bytes();
    line(
        "a member with nothing",
        4_000,
        bytes,
        Some(counted - before),
    );

    let mut bench = Bench::new();
    let bytes = kept(|| {
        join(&mut bench, &topics, 1, |number| {
            by_name(&topic_name(number))
        })
    });
    let counted = bench.coordinator.memory_bytes();
    line(
        "a group, its member, 100 partitions",
        1_000,
        bytes,
        Some(counted),
    );

    let mut bench = Bench::new();
    let bytes = kept(|| {
        join(&mut bench, &topics, 1, |number| {
            by_pattern(&topic_name(number))
        });
    });
    let counted = bench.coordinator.memory_bytes();
    line("the same by a pattern", 1_000, bytes, Some(counted));
    lines.to_string()
}

/// So many members join each of 1,000 groups.
fn join(
    bench: &mut Bench,
    topics: &Catalogue,
    members: usize,
    wanted: impl Fn(usize) -> corelane_protocol::request::Subscription,
) {
    for group in 0..1_000 {
        for member in 0..members {
            let number = group * members + member;
            let mut consumer = Consumer::new(number, &group_name(group), wanted(group));
            bench.beat(topics, &mut consumer, &mut Times::default());
        }
    }
}
