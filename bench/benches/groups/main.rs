//! Many groups, much metadata: how long events of a core take with them, and what memory groups, members and offsets
//! take.
//!
//! Not with Criterion: what counts is the longest single event, during which a core does nothing else. Events are
//! those of one coordinator, which has all groups here (a core has several coordinators, one for each partition of the
//! internal topic that it owns). What a core does with the records that come out is not in them. Each line is the
//! median of the rounds, and the greatest of them.

mod broker;
mod memory;

use std::time::Duration;

use broker::{Bench, Catalogue, Consumer, Times, by_name, by_pattern, group_name, topic_name};
use corelane_bench::clock::Clock;
use corelane_bench::machine::Machine;
use corelane_bench::table::{figure, grouped, table};

const ROUNDS: usize = 5;
const TOPICS: usize = 1_000;
const PARTITIONS_OF_TOPIC: u32 = 100;
const GROUPS: usize = 1_000;
const MEMBERS_OF_GROUP: usize = 4;
/// Of the one group that is large.
const MEMBERS: usize = 1_000;

/// What 1,000 groups subscribe to.
#[derive(Clone, Copy)]
enum Wish {
    /// A topic each.
    Name,
    /// A topic each, by a pattern that others match that are made later.
    Pattern,
}

fn catalogue() -> Catalogue {
    Catalogue::with(TOPICS, PARTITIONS_OF_TOPIC)
}

/// Groups with members that have all that they should.
fn many_groups(topics: &Catalogue, wish: Wish) -> (Bench, Vec<Consumer>, Times) {
    let mut bench = Bench::new();
    let mut consumers = Vec::new();
    for group in 0..GROUPS {
        let topic = topic_name(group % TOPICS);
        let wanted = match wish {
            Wish::Name => by_name(&topic),
            Wish::Pattern => by_pattern(&format!("{topic}|later-.*")),
        };
        for _ in 0..MEMBERS_OF_GROUP {
            let number = consumers.len();
            consumers.push(Consumer::new(number, &group_name(group), wanted.clone()));
        }
    }
    let times = bench.settle(topics, &mut consumers);
    let held: usize = consumers.iter().map(Consumer::held).sum();
    assert_eq!(held, GROUPS * PARTITIONS_OF_TOPIC as usize, "all is held");
    (bench, consumers, times)
}

fn apply_metadata() -> Times {
    let mut source = Catalogue::new();
    let records: Vec<_> = (0..TOPICS)
        .flat_map(|number| source.creation(&topic_name(number), PARTITIONS_OF_TOPIC).1)
        .collect();
    let mut catalogue = Catalogue::new();
    let mut times = Times::default();
    for record in &records {
        let applied = times.time(|| catalogue.image.apply(record));
        applied.expect("a new topic");
    }
    assert_eq!(
        catalogue.image.partition_count(),
        TOPICS * PARTITIONS_OF_TOPIC as usize
    );
    times
}

fn groups_join(wish: Wish) -> Times {
    many_groups(&catalogue(), wish).2
}

/// A topic is made. Where it is named `later-…`, every group that subscribes by pattern gets new targets.
fn topic_is_made(wish: Wish, name: &str) -> Times {
    let mut topics = catalogue();
    let (mut bench, _, _) = many_groups(&topics, wish);
    topics.create(name, PARTITIONS_OF_TOPIC);
    bench.topics_changed(&topics)
}

/// All sessions end in the same moment.
fn all_are_silent() -> Times {
    let topics = catalogue();
    let (mut bench, consumers, _) = many_groups(&topics, Wish::Name);
    // Half of each group is heard of once more, and so is left with everything.
    let mut times = Times::default();
    bench.now.monotonic_us += 5_000_000;
    for mut consumer in consumers.into_iter().step_by(2) {
        bench.beat(&topics, &mut consumer, &mut times);
    }
    bench.now.monotonic_us += 5_000_000;
    let mut times = Times::default();
    bench.tick(&topics, &mut times);
    assert_eq!(
        bench.coordinator.member_count(),
        GROUPS * MEMBERS_OF_GROUP / 2
    );
    times
}

fn start(wish: Wish) -> Times {
    let topics = catalogue();
    let (bench, _, _) = many_groups(&topics, wish);
    bench.reloaded(&topics)
}

/// Members of one group with one topic of as many partitions.
fn large_group() -> (Catalogue, Bench, Vec<Consumer>, Times) {
    let topics = Catalogue::with(1, MEMBERS as u32);
    let mut bench = Bench::new();
    let mut times = Times::default();
    let mut consumers: Vec<_> = (0..MEMBERS)
        .map(|number| Consumer::new(number, "large", by_name(&topic_name(0))))
        .collect();
    for consumer in &mut consumers {
        bench.beat(&topics, consumer, &mut times);
    }
    (topics, bench, consumers, times)
}

fn large_group_joins() -> Times {
    large_group().3
}

fn large_group_settles() -> Times {
    let (topics, mut bench, mut consumers, _) = large_group();
    let times = bench.settle(&topics, &mut consumers);
    assert!(consumers.iter().all(|consumer| consumer.held() == 1));
    times
}

/// One group that subscribes to everything: its targets are made in one piece.
fn wide_group() -> Times {
    let topics = catalogue();
    let mut bench = Bench::new();
    let mut consumers: Vec<_> = (0..MEMBERS_OF_GROUP)
        .map(|number| Consumer::new(number, "wide", by_pattern(".*")))
        .collect();
    bench.settle(&topics, &mut consumers)
}

fn milliseconds(duration: Duration) -> String {
    figure(duration.as_secs_f64() * 1e3)
}

fn main() {
    println!("{}", Machine::look(&std::env::temp_dir()).line());
    let lines: [(&str, &dyn Fn() -> Times); 11] = [
        ("100,000 partitions are applied", &apply_metadata),
        ("4,000 members of 1,000 groups join, by name", &|| {
            groups_join(Wish::Name)
        }),
        ("the same by pattern", &|| groups_join(Wish::Pattern)),
        ("a topic is made, 1,000 groups by name", &|| {
            topic_is_made(Wish::Name, "other")
        }),
        ("a topic is made, 1,000 groups by pattern", &|| {
            topic_is_made(Wish::Pattern, "other")
        }),
        ("a topic is made that all of these match", &|| {
            topic_is_made(Wish::Pattern, "later-1")
        }),
        ("half of the members are given up at once", &all_are_silent),
        ("1,000 groups by pattern are read at start", &|| {
            start(Wish::Pattern)
        }),
        (
            "1,000 members join one group, 1,000 partitions",
            &large_group_joins,
        ),
        ("the same until each has its own", &large_group_settles),
        ("4 members of a group with 100,000 partitions", &wide_group),
    ];
    let mut times = table(&[
        "time of events, ms",
        "events",
        "all",
        "all, greatest",
        "longest event, CPU",
        "longest, greatest",
    ]);
    let clock = Clock::start();
    for (name, measure) in lines {
        let mut rounds: Vec<_> = (0..ROUNDS).map(|_| measure()).collect();
        let middle = ROUNDS / 2;
        rounds.sort_by_key(|round| round.total);
        let (events, all) = (rounds[middle].events, rounds[middle].total);
        let all_greatest = rounds[ROUNDS - 1].total;
        rounds.sort_by_key(|round| round.longest);
        times.add_row([
            name.to_owned(),
            grouped(events as u64),
            milliseconds(all),
            milliseconds(all_greatest),
            milliseconds(rounds[middle].longest),
            milliseconds(rounds[ROUNDS - 1].longest),
        ]);
    }
    println!("\n{times}\n\n{}", memory::measured());
    println!("\nmeasured in {:.0} s", clock.elapsed().as_secs_f64());
}
