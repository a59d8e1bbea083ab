//! What holds of the world at any time, and when it has come to rest.

use super::actor::Actor;
use super::world::{GROUPS, World};
use super::*;

impl World {
    /// Who holds what in a group, by those that are members as they know it.
    pub(super) fn holders(&self, group: &str) -> BTreeMap<TopicPartition, MemberId> {
        let mut holders = BTreeMap::new();
        for actor in self.actors.iter().filter(|actor| actor.group == group) {
            if !self.is_member(actor) {
                continue;
            }
            for partition in &actor.owned {
                let other = holders.insert(*partition, actor.me.id);
                assert_eq!(
                    other,
                    None,
                    "{partition} is {}'s too: {}",
                    actor.me.id,
                    self.told()
                );
            }
        }
        holders
    }

    /// Whether it is a member as it sees itself, neither fenced nor replaced.
    fn is_member(&self, actor: &Actor) -> bool {
        let group = self.bench.coordinator.groups.get(actor.group.as_str());
        let member = group.and_then(|group| group.members.get(&actor.me.id));
        let said = actor.me.generation;
        member.is_some_and(|known| {
            !known.away && (known.generation == said || known.previous == said)
        })
    }

    pub(super) fn check(&self) {
        for group in GROUPS {
            self.holders(group);
        }
        if self.seed.is_multiple_of(4) {
            let snapshot: Vec<_> = self.bench.coordinator.snapshot().collect();
            let mut other = Coordinator::new(Settings::default());
            snapshot
                .iter()
                .for_each(|record| other.replay(record.clone()));
            assert!(other.snapshot().eq(snapshot), "{}", self.told());
        }
    }

    pub(super) fn told(&self) -> String {
        format!("seed {}", self.seed)
    }

    /// Everybody who is left does what it should, and in the end everything has one owner.
    pub(super) fn come_to_rest(&mut self) {
        self.late.clear();
        for _ in 0..80 {
            self.bench.wait_ms(200);
            self.end_batch();
            for actor in 0..self.actors.len() {
                if self.actors[actor].gone {
                    continue;
                }
                for partition in self.actors[actor].must_go.clone() {
                    self.actors[actor].let_go(partition);
                }
                self.numbers += 1;
                let request = self.actors[actor].beat(self.numbers);
                let answer = self.bench.send(&request);
                self.actors[actor].told(self.numbers, &answer);
                self.actors[actor].take_up();
                self.check();
            }
        }
        let logged = self.bench.log.len();
        for group in GROUPS {
            self.check_rest(group);
        }
        self.bench.restart();
        assert_eq!(self.bench.log.len(), logged, "{}", self.told());
        self.check_commits();
    }

    fn check_rest(&self, name: &str) {
        let Some(group) = self.bench.coordinator.groups.get(name) else {
            return;
        };
        let target = group.target_generation;
        assert!(
            group.members.values().all(|member| member.settled(target)),
            "{}",
            self.told()
        );
        let holders = self.holders(name);
        assert_eq!(holders, group.owners, "{}", self.told());
        let mut wanted = BTreeSet::new();
        let mut wishes = BTreeSet::new();
        for member in group.members.values() {
            let wish = &member.subscription;
            wishes.insert((wish.topics.clone(), wish.pattern.clone()));
            for (topic, (id, count)) in &self.bench.topics.by_name {
                let matches = wish.pattern.is_some() && topic.as_str() >= "b";
                if wish.topics.contains(topic) || matches {
                    wanted.extend((0..*count).map(|one| at(*id, one)));
                }
            }
        }
        let held: BTreeSet<_> = holders.keys().copied().collect();
        assert_eq!(held, wanted, "{}", self.told());
        let even = group.assignor.name() != "range" && wishes.len() == 1;
        let loads = group
            .members
            .values()
            .map(|member| member.assigned.iter().count());
        if let (true, Some(most), Some(least)) = (even, loads.clone().max(), loads.min()) {
            assert!(most - least <= 1, "{}", self.told());
        }
    }

    /// What was taken is there, and nothing else.
    fn check_commits(&self) {
        let mut expected: BTreeMap<(&str, TopicPartition), u64> = BTreeMap::new();
        for (_, group, partition, offset) in &self.commits {
            match offset {
                Some(offset) => expected.insert((group, *partition), *offset),
                None => expected.remove(&(group, *partition)),
            };
        }
        let kept = self.bench.coordinator.committed_offsets();
        let kept = kept.map(|(group, partition, offset)| ((group, partition), offset.get()));
        assert_eq!(
            kept.collect::<BTreeMap<_, _>>(),
            expected,
            "{}",
            self.told()
        );
    }
}
