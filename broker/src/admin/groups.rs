//! What the cores say of consumer groups, put together with what they say of partitions.
//!
//! A group's offsets are at the core that coordinates it, the ends of partitions at the cores that own these. No
//! core knows both: how far a group is behind is computed here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use corelane_protocol::{TopicId, TopicPartition};
use tokio::time::timeout;

use super::ask::{Ask, AskLine};
use super::state::{GroupPartitionState, GroupState};
use crate::lane::{GroupPiece, GroupPlace, GroupsPiece, PartitionsPiece};

/// All groups of one core, piece by piece; nothing if it leaves a question unanswered for so long.
pub(super) async fn ask_groups(line: &mut AskLine, patience: Duration) -> Option<Vec<GroupsPiece>> {
    let mut pieces = Vec::new();
    let mut next = Some(GroupPlace::BEGINNING);
    while let Some(from) = next {
        let asked = line.ask(|answer| Ask::Groups { from, answer });
        let mut piece: GroupsPiece = timeout(patience, asked).await.ok()?.ok()?;
        next = piece.next.take();
        pieces.push(piece);
    }
    Some(pieces)
}

/// The ends of the partitions in which groups have committed offsets.
#[derive(Debug, Default)]
pub(super) struct Ends {
    wanted: BTreeSet<TopicId>,
    known: BTreeMap<TopicPartition, u64>,
}

impl Ends {
    /// Those of the topics in these groups.
    pub(super) fn wanted_by<'a>(pieces: impl Iterator<Item = &'a GroupsPiece>) -> Self {
        let groups = pieces.flat_map(|piece| &piece.groups);
        let topics = groups.flat_map(|group| &group.topics);
        Self {
            wanted: topics.map(|topic| topic.id).collect(),
            known: BTreeMap::new(),
        }
    }

    /// Notes the ends of some partitions.
    pub(super) fn note(&mut self, piece: &PartitionsPiece) {
        let topics = piece.topics.iter();
        for topic in topics.filter(|topic| self.wanted.contains(&topic.id)) {
            let ends = topic.partitions.iter().filter_map(|partition| {
                let log = partition.log.as_ref()?;
                let place = TopicPartition::new(topic.id, partition.index);
                Some((place, log.offsets.high_watermark.get()))
            });
            self.known.extend(ends);
        }
    }

    /// The groups of all cores, by name.
    pub(super) fn join(&self, cores: Vec<(u16, Vec<GroupsPiece>)>) -> Vec<GroupState> {
        let mut groups: Vec<GroupState> = Vec::new();
        for (core, pieces) in cores {
            for piece in pieces.into_iter().flat_map(|piece| piece.groups) {
                let partitions = self.partitions(&piece);
                match groups.last_mut() {
                    // It had too many offsets for one piece.
                    Some(last) if last.core == core && last.name == piece.name => {
                        last.partitions.extend(partitions);
                    }
                    _ => groups.push(GroupState {
                        partitions,
                        core,
                        state: piece.state.to_string(),
                        generation: piece.generation.get(),
                        members: piece.members as u64,
                        name: piece.name,
                    }),
                }
            }
        }
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        for group in &mut groups {
            let place = |it: &GroupPartitionState| it.partition;
            group
                .partitions
                .sort_by(|a, b| (&a.topic, place(a)).cmp(&(&b.topic, place(b))));
        }
        groups
    }

    fn partitions(&self, piece: &GroupPiece) -> Vec<GroupPartitionState> {
        let partitions = piece.topics.iter().flat_map(|topic| {
            let offsets = topic.offsets.iter();
            offsets.map(|(index, committed)| {
                let end = self.known.get(&TopicPartition::new(topic.id, *index));
                GroupPartitionState {
                    topic: topic.name.clone(),
                    partition: index.get(),
                    committed: committed.get(),
                    // An offset may be committed, or lost, after the end was asked for.
                    lag: end.map(|end| end.saturating_sub(committed.get())),
                }
            })
        });
        partitions.collect()
    }
}

#[cfg(test)]
mod tests {
    use corelane_protocol::response::GroupState as Standing;
    use corelane_protocol::{Generation, LeaderEpoch, Offset, PartitionIndex, StoreId};
    use corelane_storage::store::{LogOffsets, PartitionMetrics};
    use uuid::Uuid;

    use super::*;
    use crate::lane::{GroupTopicPiece, PartitionPiece, TopicPiece, Traffic};

    fn topic(number: u128) -> TopicId {
        TopicId::new(Uuid::from_u128(number))
    }

    /// A piece with one group, which has committed offsets of partitions of one topic.
    fn group(name: &str, of: TopicId, topic: &str, offsets: &[(u32, u64)]) -> GroupsPiece {
        let offsets = offsets.iter();
        let topics = vec![GroupTopicPiece {
            id: of,
            name: topic.to_owned(),
            offsets: offsets
                .map(|(index, offset)| (PartitionIndex::new(*index), Offset::new(*offset)))
                .collect(),
        }];
        let group = GroupPiece {
            name: name.to_owned(),
            state: Standing::Stable,
            generation: Generation::new(3),
            members: 2,
            topics,
        };
        GroupsPiece {
            groups: vec![group],
            next: None,
        }
    }

    /// A piece with partitions of one topic; those without an end are in no store.
    fn partitions(id: TopicId, ends: &[(u32, Option<u64>)]) -> PartitionsPiece {
        let partition = |(index, end): &(u32, Option<u64>)| PartitionPiece {
            index: PartitionIndex::new(*index),
            store: StoreId::new(0),
            log: end.map(|end| PartitionMetrics {
                offsets: LogOffsets {
                    log_start: Offset::new(0),
                    high_watermark: Offset::new(end),
                    log_end: Offset::new(end + 5),
                    durable_end: Offset::new(end),
                },
                size_bytes: 0,
                segments: 1,
                is_online: true,
                damage: 0,
                leader_epoch: LeaderEpoch::new(0),
                compaction: None,
            }),
            readers: Vec::new(),
            traffic: Traffic::default(),
        };
        let topic = TopicPiece {
            id,
            name: "unused".to_owned(),
            partitions: ends.iter().map(partition).collect(),
        };
        PartitionsPiece {
            topics: vec![topic],
            next: None,
        }
    }

    fn joined(
        cores: Vec<(u16, Vec<GroupsPiece>)>,
        partitions: &[PartitionsPiece],
    ) -> Vec<GroupState> {
        let mut ends = Ends::wanted_by(cores.iter().flat_map(|(_, pieces)| pieces));
        for piece in partitions {
            ends.note(piece);
        }
        ends.join(cores)
    }

    fn lags(group: &GroupState) -> Vec<(&str, u32, u64, Option<u64>)> {
        let partitions = group.partitions.iter();
        partitions
            .map(|it| (it.topic.as_str(), it.partition, it.committed, it.lag))
            .collect()
    }

    #[test]
    fn groups_are_behind_by_what_other_cores_say_of_the_ends() {
        let orders = topic(1);
        let cores = vec![
            (0, vec![group("b", orders, "orders", &[(0, 4), (1, 9)])]),
            (1, vec![group("a", orders, "orders", &[(0, 6)])]),
        ];
        let ends = [
            partitions(orders, &[(0, Some(10))]),
            partitions(orders, &[(1, Some(9))]),
        ];
        let groups = joined(cores, &ends);
        let names: Vec<_> = groups
            .iter()
            .map(|it| (it.name.as_str(), it.core))
            .collect();
        assert_eq!(names, [("a", 1), ("b", 0)]);
        assert_eq!(lags(&groups[0]), [("orders", 0, 6, Some(4))]);
        let expected = [("orders", 0, 4, Some(6)), ("orders", 1, 9, Some(0))];
        assert_eq!(lags(&groups[1]), expected);
        assert_eq!(
            (
                groups[0].state.as_str(),
                groups[0].generation,
                groups[0].members
            ),
            ("stable", 3, 2)
        );
    }

    #[test]
    fn nobody_is_behind_by_less_than_nothing_or_by_what_is_not_known() {
        let orders = topic(1);
        let cores = vec![(
            0,
            vec![group("g", orders, "orders", &[(0, 8), (1, 8), (2, 8)])],
        )];
        // Partition 0 has lost records, 1 is in no store, and the core of 2 does not answer.
        let ends = [partitions(orders, &[(0, Some(5)), (1, None)])];
        let groups = joined(cores, &ends);
        let expected = [
            ("orders", 0, 8, Some(0)),
            ("orders", 1, 8, None),
            ("orders", 2, 8, None),
        ];
        assert_eq!(lags(&groups[0]), expected);
    }

    #[test]
    fn a_group_that_came_in_pieces_is_one_in_the_order_of_names() {
        let (late, early) = (topic(1), topic(2));
        let pieces = vec![
            group("g", late, "zebras", &[(0, 1), (1, 1)]),
            group("g", late, "zebras", &[(2, 1)]),
            group("g", early, "apes", &[(7, 1)]),
        ];
        let ends = [
            partitions(late, &[(2, Some(3))]),
            partitions(early, &[(7, Some(2))]),
        ];
        let groups = joined(vec![(0, pieces)], &ends);
        assert_eq!(groups.len(), 1);
        let expected = [
            ("apes", 7, 1, Some(1)),
            ("zebras", 0, 1, None),
            ("zebras", 1, 1, None),
            ("zebras", 2, 1, Some(2)),
        ];
        assert_eq!(lags(&groups[0]), expected);
        let topics: Vec<_> = groups[0].topics().map(<[_]>::len).collect();
        assert_eq!(topics, [1, 3]);
    }
}
