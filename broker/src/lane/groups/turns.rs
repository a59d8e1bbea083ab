//! What shards do without being asked: topics have changed, or time has passed.
//!
//! Owns whose turn it is. One event of the core has an allowance of work for all shards together; what exceeds it stays
//! due and is done by later events, before which others are served.

use corelane_protocol::{PartitionIndex, TopicPartition};
use corelane_storage::disk::Disk;
use corelane_storage::planted;

use super::Groups;
use super::shard::{Shard, ShardState};
use crate::groups::Allowance;
use crate::lane::partitions::Place;
use crate::lane::{Lane, Now};
use crate::metadata::OFFSETS_TOPIC;

impl Groups {
    /// The order in which shards do what they have to do; given are their numbers, the least first.
    fn in_turn(&mut self, mut shards: Vec<PartitionIndex>) -> Vec<PartitionIndex> {
        let first = std::mem::take(&mut self.first_in_turn);
        let before = shards.partition_point(|index| *index < first);
        shards.rotate_left(before);
        shards
    }

    /// A shard has done what was allowed. The one with which the allowance ends is the last in the next event.
    fn had_turn(&mut self, index: PartitionIndex, allowance: &Allowance) {
        if allowance.is_spent() && self.first_in_turn == PartitionIndex::default() {
            self.first_in_turn = PartitionIndex::new(index.get() + 1);
        }
    }
}

impl<D: Disk> Lane<D> {
    /// At the end of an event: what topics have changed to is followed.
    pub(in crate::lane) fn follow_topics(&mut self, now: Now) {
        if !std::mem::take(&mut self.groups.topics_changed) {
            return;
        }
        let Some(topic) = self.image.topic_named(OFFSETS_TOPIC) else {
            return;
        };
        let id = topic.id;
        let places = self.partitions.places(id).iter();
        let mine = (0..).zip(places).filter_map(|(index, place)| match place {
            Place::Local(key) => Some((PartitionIndex::new(index), *key)),
            Place::Remote(_) => None,
        });
        let mine: Vec<_> = mine.collect();
        let least = self.config.groups.snapshot_records_min as usize;
        for (index, key) in mine {
            let partition = TopicPartition::new(id, index);
            let shard = self.groups.shards.entry(index);
            shard.or_insert_with(|| Shard::new(partition, key, least));
        }
        let shards = self.groups.shards.keys().copied().collect();
        let mut allowance = Allowance::of_event();
        for index in self.groups.in_turn(shards) {
            self.advance_shard(now, index, &mut allowance);
            self.tell_topics_changed(now, index, &mut allowance);
            self.groups.had_turn(index, &allowance);
        }
    }

    /// Tells a coordinator that topics have changed, and lets it look at them as far as is allowed.
    fn tell_topics_changed(&mut self, now: Now, index: PartitionIndex, allowance: &mut Allowance) {
        let (shard, topics) = self.shard_and_topics(index);
        if shard.state.is_read()
            && let ShardState::Loading { coordinator, .. } = &mut shard.state
        {
            // Some of its groups may be made already.
            coordinator.topics_changed();
        }
        if let Some(coordinator) = shard.serving_mut() {
            if planted!(GrowthNotFollowed) {
                return;
            }
            coordinator.topics_changed();
            let records = coordinator.look(now.into(), &topics, allowance);
            self.count_generations(&records);
            self.log_group_records(now, index, &records);
        }
    }

    /// When groups are to be looked at, monotonic µs.
    pub(in crate::lane) fn groups_deadline(&self) -> Option<u64> {
        if self.groups.topics_changed {
            return Some(0);
        }
        let shards = self.groups.shards.values();
        shards.filter_map(Shard::next_deadline).min()
    }

    /// Time has passed: sessions end, logs are tried again, and what an event before had no time for is done.
    pub(in crate::lane) fn tick_groups(&mut self, now: Now) {
        let due = self.groups.shards.iter().filter(|(_, shard)| {
            let deadline = shard.next_deadline();
            deadline.is_some_and(|deadline| deadline <= now.monotonic_us)
        });
        let due = due.map(|(index, _)| *index).collect();
        let mut allowance = Allowance::of_event();
        for index in self.groups.in_turn(due) {
            self.advance_shard(now, index, &mut allowance);
            let (shard, topics) = self.shard_and_topics(index);
            if let Some(coordinator) = shard.serving_mut() {
                let records = coordinator.tick(now.into(), &topics, &mut allowance);
                self.count_generations(&records);
                self.count_expired(&records);
                self.log_group_records(now, index, &records);
                self.maybe_snapshot(now, index);
            }
            self.groups.had_turn(index, &allowance);
        }
    }
}
