//! What a core says about its groups to whoever watches it: counts, and the groups in pieces of bounded size.
//!
//! Decides nothing and changes nothing. Groups are told as they are in memory; what they come to may not be durable
//! for a moment.

use corelane_protocol::response::GroupState;
use corelane_protocol::{
    ApiError, ErrorCode, Generation, Offset, PartitionIndex, TopicId, TopicPartition,
};
use corelane_storage::disk::Disk;

use super::GroupAnswered;
use super::shard::{Shard, ShardState};
use crate::groups::{GroupRecord, GroupView};
use crate::lane::Lane;
use crate::lane::meters::GroupMeters;

/// Groups that one piece holds.
const PIECE_GROUPS: usize = 256;

/// Committed offsets that one piece holds.
const PIECE_OFFSETS: usize = 2048;

/// Members, and partitions that they hold, that are looked at for one piece; as many more as one group has.
const PIECE_LOOKS: usize = 16_384;

/// Where the offsets of a group begin.
const FIRST: TopicPartition = TopicPartition::new(TopicId::NIL, PartitionIndex::new(0));

/// The groups of a core, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GroupsMetrics {
    /// Groups.
    pub groups: usize,
    /// Members of all groups.
    pub members: usize,
    /// Committed offsets that are kept.
    pub offsets: usize,
    /// Partitions of the internal topic whose groups are served.
    pub shards_serving: usize,
    /// Those whose log is being read, or will be.
    pub shards_loading: usize,
    /// Those whose log could not be read or written; it is tried again.
    pub shards_failed: usize,
    /// What has happened to groups since the start.
    pub since_start: GroupMeters,
}

/// Some of a core's groups, in the order of shards and names.
#[derive(Debug, Clone, Default)]
pub struct GroupsPiece {
    /// The groups. One that has many offsets may come in several pieces, with others of its offsets in each.
    pub groups: Vec<GroupPiece>,
    /// What to ask for next; nothing after the last piece.
    pub next: Option<GroupPlace>,
}

/// A group, and some of its offsets.
#[derive(Debug, Clone)]
pub struct GroupPiece {
    /// Its name.
    pub name: String,
    /// What its members do.
    pub state: GroupState,
    /// Its generation.
    pub generation: Generation,
    /// How many members it has.
    pub members: usize,
    /// How far it has come, by topic.
    pub topics: Vec<GroupTopicPiece>,
}

/// How far a group has come in some partitions of a topic.
#[derive(Debug, Clone)]
pub struct GroupTopicPiece {
    /// The topic.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// Committed offsets, by partition.
    pub offsets: Vec<(PartitionIndex, Offset)>,
}

/// Where a piece begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupPlace {
    /// The partition of the internal topic.
    pub shard: PartitionIndex,
    /// The group, or what comes after its name.
    pub group: String,
    /// The first partition of this group's offsets.
    pub partition: TopicPartition,
}

impl GroupPlace {
    /// Where the first piece begins.
    pub const BEGINNING: Self = Self {
        shard: PartitionIndex::new(0),
        group: String::new(),
        partition: FIRST,
    };
}

/// What one piece still has room for.
struct Room {
    groups: usize,
    offsets: usize,
    looks: usize,
}

impl Room {
    fn is_used_up(&self) -> bool {
        self.groups == 0 || self.offsets == 0 || self.looks == 0
    }
}

impl<D: Disk> Lane<D> {
    /// The core's groups in numbers.
    pub(in crate::lane) fn groups_metrics(&self) -> GroupsMetrics {
        let mut metrics = GroupsMetrics {
            since_start: self.meters.groups,
            ..GroupsMetrics::default()
        };
        for shard in self.groups.shards.values() {
            match &shard.state {
                ShardState::Serving(coordinator) => {
                    metrics.shards_serving += 1;
                    metrics.groups += coordinator.group_count();
                    metrics.members += coordinator.member_count();
                    metrics.offsets += coordinator.offset_count();
                }
                ShardState::Waiting { reason, .. }
                    if shard.is_refusing || reason.code != ErrorCode::GroupLoading =>
                {
                    metrics.shards_failed += 1;
                }
                ShardState::Waiting { .. } | ShardState::Loading { .. } => {
                    metrics.shards_loading += 1;
                }
            }
        }
        metrics
    }

    /// Some of the core's groups, from this place on. Those of shards that do not serve are left out; they are
    /// counted in [`GroupsMetrics`].
    pub fn group_metrics(&self, from: &GroupPlace) -> GroupsPiece {
        let mut piece = GroupsPiece::default();
        let mut room = Room {
            groups: PIECE_GROUPS,
            offsets: PIECE_OFFSETS,
            looks: PIECE_LOOKS,
        };
        for (index, shard) in self.groups.shards.range(from.shard..) {
            let name = if *index == from.shard {
                from.group.as_str()
            } else {
                ""
            };
            for group in groups_of(shard, name) {
                let first = if group.name() == name {
                    from.partition
                } else {
                    FIRST
                };
                let next = if room.is_used_up() {
                    Some(first)
                } else {
                    let (found, next) = self.group_piece(group, first, &mut room);
                    piece.groups.push(found);
                    next
                };
                if let Some(partition) = next {
                    piece.next = Some(GroupPlace {
                        shard: *index,
                        group: group.name().to_owned(),
                        partition,
                    });
                    return piece;
                }
            }
        }
        piece
    }

    /// A group and its offsets from this partition on, as far as there is room; the partition to go on with, if
    /// there are more.
    fn group_piece(
        &self,
        group: GroupView<'_>,
        first: TopicPartition,
        room: &mut Room,
    ) -> (GroupPiece, Option<TopicPartition>) {
        let looks = group.member_count() + group.held_count();
        room.looks = room.looks.saturating_sub(looks);
        room.groups -= 1;
        let mut found = GroupPiece {
            name: group.name().to_owned(),
            state: group.state(),
            generation: group.generation(),
            members: group.member_count(),
            topics: Vec::new(),
        };
        for (partition, offset) in group.offsets_from(first) {
            if room.offsets == 0 {
                return (found, Some(partition));
            }
            room.offsets -= 1;
            if found
                .topics
                .last()
                .is_none_or(|it| it.id != partition.topic)
            {
                // Offsets of a topic go with it, within one event.
                let topic = self.image.topic(partition.topic);
                let topic = topic.map_or_else(String::new, |topic| topic.name.to_string());
                found.topics.push(GroupTopicPiece {
                    id: partition.topic,
                    name: topic,
                    offsets: Vec::new(),
                });
            }
            let topic = found.topics.last_mut().expect("just looked at");
            topic.offsets.push((partition.partition, offset));
        }
        (found, None)
    }

    /// Counts what a coordinator has changed. Each group whose generation has risen is among the records, and
    /// nothing else makes a record of one that has had members.
    pub(super) fn count_generations(&mut self, records: &[GroupRecord]) {
        let raised = records.iter().filter(|record| match record {
            GroupRecord::Group { value, .. } => value
                .as_ref()
                .is_some_and(|value| value.generation != Generation::NONE),
            GroupRecord::Member { .. } | GroupRecord::Offset { .. } => false,
        });
        self.meters.groups.generations += raised.count() as u64;
    }

    /// Counts what is told of commits, once it is durable.
    pub(super) fn count_commits(&mut self, answer: &Result<GroupAnswered, ApiError>) {
        if let Ok(GroupAnswered::Committed(entries)) = answer {
            let refused = entries.iter().filter(|entry| entry.result.is_err()).count();
            self.meters.groups.commits += (entries.len() - refused) as u64;
            self.count_refused_commits(refused);
        }
    }

    /// Counts offsets that are not committed.
    pub(super) fn count_refused_commits(&mut self, offsets: usize) {
        self.meters.groups.commits_refused += offsets as u64;
    }

    /// Counts the members that were removed because their time was over.
    pub(super) fn count_expired(&mut self, records: &[GroupRecord]) {
        let removed = records
            .iter()
            .filter(|record| matches!(record, GroupRecord::Member { value: None, .. }));
        self.meters.groups.members_expired += removed.count() as u64;
    }
}

fn groups_of<'a>(shard: &'a Shard, name: &'a str) -> impl Iterator<Item = GroupView<'a>> {
    let coordinator = match &shard.state {
        ShardState::Serving(coordinator) => Some(coordinator),
        ShardState::Waiting { .. } | ShardState::Loading { .. } => None,
    };
    coordinator
        .into_iter()
        .flat_map(move |it| it.groups_from(name))
}

const _: fn() = || {
    fn moves_between_threads<T: Send + 'static>() {}
    moves_between_threads::<GroupsPiece>();
    moves_between_threads::<GroupPlace>();
};
