//! Many groups and much metadata: no event takes on all of it, and nothing is left out.

use std::cell::Cell;

use super::super::allowance::STEPS_OF_EVENT;
use super::*;

/// Topics that count how often they are looked at.
struct Counted<'a> {
    topics: &'a FakeTopics,
    looks: Cell<usize>,
}

impl Counted<'_> {
    fn count(&self) {
        self.looks.set(self.looks.get() + 1);
    }
}

impl Topics for Counted<'_> {
    fn by_name(&self, name: &str) -> Option<(TopicId, u32)> {
        self.count();
        self.topics.by_name(name)
    }

    fn name_of(&self, id: TopicId) -> Option<&str> {
        self.count();
        self.topics.name_of(id)
    }

    fn for_each_name(&self, see: &mut dyn FnMut(&str)) {
        self.topics.for_each_name(&mut |name| {
            self.count();
            see(name);
        });
    }

    fn core_of(&self, partition: TopicPartition) -> CoreId {
        self.topics.core_of(partition)
    }
}

fn in_group(group: &str, n: u128, wish: Subscription) -> Client {
    let mut client = Client::new(n, wish);
    client.group = group.to_owned();
    client
}

fn by_pattern(pattern: &str) -> Subscription {
    let mut wish = wants(&[]);
    wish.pattern = Some(pattern.to_owned());
    wish
}

impl Bench {
    /// Lets groups look with so many steps; says which of them got new targets.
    fn look(&mut self, steps: usize) -> Vec<String> {
        let mut allowance = Allowance::of_steps(steps);
        let records = self
            .coordinator
            .look(self.now, &self.topics, &mut allowance);
        self.check();
        let name = |record: &GroupRecord| match record {
            GroupRecord::Group { group, .. } => group.clone(),
            other => panic!("nothing but generations changes: {other:?}"),
        };
        let names = records.iter().map(name).collect();
        self.log.extend(records);
        names
    }

    /// A heartbeat without a look at everything that must be sound.
    fn quick_beat(&mut self, client: &mut Client) -> bool {
        let outcome = self
            .coordinator
            .heartbeat(self.now, &self.topics, "host", &client.request());
        let answer = outcome.result.expect("the heartbeat is fine");
        client.apply(&answer);
        answer.assignment.is_some() || !outcome.records.is_empty()
    }

    fn quick_settle(&mut self, clients: &mut [Client]) {
        for _ in 0..10 {
            let beats = clients.iter_mut().map(|client| self.quick_beat(client));
            if beats.filter(|changed| *changed).count() == 0 {
                return;
            }
        }
        panic!("the groups do not come to rest");
    }

    /// Ticks until nothing is due; says how many that took.
    fn do_what_is_due(&mut self) -> usize {
        let mut ticks = 0;
        while let Some(due) = self.coordinator.next_deadline()
            && due <= self.now.monotonic_us
        {
            let mut allowance = Allowance::of_event();
            let records = self
                .coordinator
                .tick(self.now, &self.topics, &mut allowance);
            self.log.extend(records);
            ticks += 1;
        }
        self.check();
        ticks
    }
}

/// Groups `a` to `e` with a member each that wants every topic, of which there is none.
fn five_groups() -> (Bench, Vec<Client>) {
    let mut bench = Bench::new();
    let mut clients: Vec<_> = ["a", "b", "c", "d", "e"]
        .into_iter()
        .zip(1..)
        .map(|(group, n)| in_group(group, n, by_pattern(".*")))
        .collect();
    for client in &mut clients {
        bench.beat(client);
    }
    (bench, clients)
}

#[test]
fn no_event_looks_at_everything() {
    let mut bench = Bench::new();
    for n in 0..300 {
        bench.topics.create(&format!("topic-{n}"), 1);
    }
    for n in 0..400 {
        let wish = by_pattern(&format!("topic-{n}|later"));
        bench.quick_beat(&mut in_group(&format!("g{n}"), n, wish));
    }
    bench.topics.create("later", 2);
    bench.coordinator.topics_changed();
    let (mut events, mut looks, mut followed) = (0, 0, BTreeSet::new());
    while bench.coordinator.next_deadline() == Some(0) {
        let counted = Counted {
            topics: &bench.topics,
            looks: Cell::new(0),
        };
        let mut allowance = Allowance::of_event();
        let records = bench.coordinator.look(bench.now, &counted, &mut allowance);
        for record in records {
            let GroupRecord::Group { group, .. } = record else {
                panic!("nothing but generations changes");
            };
            assert!(followed.insert(group), "a group follows once");
        }
        // The last group is begun within the allowance, and looks at each name once or twice.
        let most = STEPS_OF_EVENT + 700;
        assert!(counted.looks.get() <= most, "{} looks", counted.looks.get());
        looks += counted.looks.get();
        events += 1;
    }
    assert!(looks >= 400 * 301);
    assert_eq!((events, followed.len()), (7, 400));
    bench.check();
}

#[test]
fn groups_look_in_turn_and_a_change_in_between_goes_on_from_there() {
    let (mut bench, _) = five_groups();
    bench.topics.create("t1", 1);
    bench.coordinator.topics_changed();
    assert_eq!(bench.coordinator.next_deadline(), Some(0));
    assert_eq!(bench.look(0), [""; 0]);
    assert_eq!(bench.look(1), ["a"]);
    assert_eq!(bench.look(1), ["b"]);
    bench.topics.create("t2", 1);
    bench.coordinator.topics_changed();
    let mut order = Vec::new();
    while bench.coordinator.next_deadline() == Some(0) {
        order.extend(bench.look(1));
    }
    assert_eq!(order, ["c", "d", "e", "a", "b"]);
    // With nothing left from before, it begins with the first.
    bench.topics.create("t3", 1);
    bench.coordinator.topics_changed();
    assert_eq!(bench.look(usize::MAX), ["a", "b", "c", "d", "e"]);
    assert_ne!(bench.coordinator.next_deadline(), Some(0));
}

#[test]
fn no_group_is_passed_over_while_others_come_and_go() {
    for first in 0..=5 {
        let (mut bench, clients) = five_groups();
        bench.topics.create("t1", 1);
        bench.coordinator.topics_changed();
        let mut followed: Vec<String> = (0..first).flat_map(|_| bench.look(1)).collect();
        assert_eq!(followed.len(), first);
        // Those that are made know of the topic already.
        for (group, n) in [("aa", 11), ("bb", 12), ("dd", 13), ("f", 14)] {
            let mut client = in_group(group, n, by_pattern(".*"));
            bench.beat(&mut client);
            assert_eq!(client.owned.len(), 1, "{group}");
        }
        bench.leave(&clients[1], false).expect("it is a member");
        bench.leave(&clients[4], false).expect("it is a member");
        assert_eq!(bench.coordinator.group_count(), 7);
        let mut events = 0;
        while bench.coordinator.next_deadline() == Some(0) {
            followed.extend(bench.look(1));
            events += 1;
        }
        assert!(events <= 9, "{events} events");
        for group in ["a", "c", "d"] {
            assert!(followed.iter().any(|one| one == group), "{first} {group}");
        }
        followed.sort();
        followed.dedup();
        assert!(followed.len() <= 5, "{followed:?}");
    }
}

#[test]
fn a_member_is_told_of_topics_as_they_are_before_its_group_is_due() {
    let (mut bench, mut clients) = five_groups();
    bench.topics.create("t1", 3);
    bench.coordinator.topics_changed();
    bench.beat(&mut clients[4]);
    assert_eq!(clients[4].owned.len(), 3);
    assert_eq!(bench.look(usize::MAX), ["a", "b", "c", "d"]);
    // What it must not be told of any more is never given to it.
    bench.topics.delete("t1");
    bench.coordinator.topics_changed();
    bench.beat(&mut clients[3]);
    assert!(clients[3].owned.is_empty());
    // A heartbeat that is refused lets the group look as well, and that is logged.
    let logged = bench.log.len();
    let mut stale = clients[4].request();
    stale.member.generation = Generation::new(1_000);
    assert_eq!(code(bench.send(&stale)), ErrorCode::StaleGeneration);
    assert_eq!(bench.log.len(), logged + 1);
    assert_eq!(bench.look(usize::MAX), ["a", "b", "c"]);
}

#[test]
fn members_that_are_given_up_at_once_go_some_at_a_time() {
    let mut bench = Bench::new();
    for n in 0..200 {
        bench.topics.create(&format!("topic-{n}"), 100);
        for member in 0..2 {
            let wish = wants(&[&format!("topic-{n}")]);
            bench.quick_beat(&mut in_group(&format!("g{n}"), 2 * n + member, wish));
        }
    }
    let waiting = bench.coordinator.member_count();
    bench.pass_ms(9_000);
    let mut allowance = Allowance::of_event();
    let records = bench
        .coordinator
        .tick(bench.now, &bench.topics, &mut allowance);
    let left = bench.coordinator.member_count();
    assert!(left > waiting / 4, "{left} of {waiting} are left");
    assert!(left < waiting && !records.is_empty());
    assert!(bench.coordinator.next_deadline() <= Some(bench.now.monotonic_us));
    assert!(bench.do_what_is_due() > 0);
    assert_eq!(bench.coordinator.group_count(), 0);
    assert_eq!(bench.coordinator.next_deadline(), None);
}

#[test]
fn groups_are_made_of_a_log_some_at_a_time_and_topics_may_change_meanwhile() {
    let (mut bench, mut clients) = five_groups();
    bench.topics.create("t1", 2);
    bench.topics_changed();
    clients.iter_mut().for_each(|client| {
        bench.beat(client);
    });
    let mut read = Coordinator::new(bench.coordinator.settings);
    bench.log.iter().for_each(|one| read.replay(one.clone()));
    bench.coordinator = read;
    for event in 0..5 {
        if event == 3 {
            bench.topics.create("t2", 1);
            bench.coordinator.topics_changed();
        }
        bench.pass_ms(8_000);
        let mut allowance = Allowance::of_steps(1);
        let loaded = bench
            .coordinator
            .loaded(bench.now, &bench.topics, &mut allowance);
        // Those that were made after the change know of the topic.
        let raised = loaded.map(|records| records.len());
        assert_eq!(raised, (event == 4).then_some(2), "event {event}");
    }
    bench.check();
    assert_eq!(bench.look(usize::MAX), ["a", "b", "c"]);
    // Sessions begin when all is done, however long that took.
    assert_eq!(bench.wait_ms(8_999), 0);
    for client in &mut clients {
        bench.beat(client);
        assert_eq!(client.owned.len(), 3);
    }
}

/// What the members of each group hold, which they must share evenly.
fn holdings(clients: &[Client]) -> BTreeMap<&str, BTreeSet<TopicPartition>> {
    let mut held: BTreeMap<&str, BTreeSet<TopicPartition>> = BTreeMap::new();
    for members in clients.chunk_by(|a, b| a.group == b.group) {
        let counts = members.iter().map(|client| client.owned.len());
        let (least, most) = (counts.clone().min(), counts.max());
        assert!(most <= least.map(|least| least + 1), "{}", members[0].group);
        for client in members {
            let of_group = held.entry(&client.group).or_default();
            for partition in &client.owned {
                assert!(of_group.insert(*partition), "{partition} has two owners");
            }
        }
    }
    held
}

#[test]
fn a_thousand_groups_over_a_hundred_thousand_partitions_hold_what_they_should() {
    const MANY: usize = 1_000;
    let name = |n: usize| format!("topic-{n:03}");
    let mut bench = Bench::new();
    for n in 0..MANY {
        bench.topics.create(&name(n), 100);
    }
    let mut clients = Vec::new();
    for n in 0..MANY {
        let wish = match n % 2 {
            0 => wants(&[&name(n)]),
            _ => by_pattern(&format!("{}|later", name(n))),
        };
        for member in 0..2 {
            let id = (2 * n + member) as u128;
            clients.push(in_group(&format!("group-{n:03}"), id, wish.clone()));
        }
    }
    bench.quick_settle(&mut clients);
    bench.check();
    // Two changes, the second one in the middle of what follows of the first.
    bench.topics.create("later", 3);
    bench.topics.extend(&name(0), 101);
    bench.coordinator.topics_changed();
    let mut allowance = Allowance::of_event();
    bench
        .coordinator
        .look(bench.now, &bench.topics, &mut allowance);
    assert!(allowance.is_spent());
    bench.topics.delete(&name(1));
    bench.topics.delete(&name(998));
    bench.coordinator.topics_changed();
    assert!(bench.do_what_is_due() > 5);
    bench.quick_settle(&mut clients);
    let held = holdings(&clients);
    assert_eq!(held.len(), MANY);
    for n in 0..MANY {
        let mut expected = BTreeSet::new();
        let later = (n % 2 == 1).then(|| "later".to_owned());
        for topic in [name(n)].into_iter().chain(later) {
            if let Some((id, partitions)) = bench.topics.by_name(&topic) {
                expected.extend((0..partitions).map(|index| at(id, index)));
            }
        }
        let of_group = &held[format!("group-{n:03}").as_str()];
        assert_eq!(*of_group, expected, "group {n}");
    }
}
