//! Sets of partitions.
//!
//! Owns their order: by topic and partition, each once, so that sets are compared and subtracted
//! by walking along both.

use corelane_protocol::TopicPartition;
use corelane_protocol::request::PartitionsOfTopic;
use corelane_protocol::response::NamedPartitions;

use super::Topics;

/// Partitions, in order and each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PartitionSet(Vec<TopicPartition>);

impl PartitionSet {
    pub(super) fn new(mut partitions: Vec<TopicPartition>) -> Self {
        partitions.sort_unstable();
        partitions.dedup();
        Self(partitions)
    }

    pub(super) fn from_wire(topics: &[PartitionsOfTopic]) -> Self {
        Self::new(
            topics
                .iter()
                .flat_map(|of| {
                    let in_topic = |index: &_| TopicPartition::new(of.topic, *index);
                    of.partitions.iter().map(in_topic)
                })
                .collect(),
        )
    }

    pub(super) fn to_wire(&self) -> Vec<PartitionsOfTopic> {
        self.0
            .chunk_by(|a, b| a.topic == b.topic)
            .map(|of| PartitionsOfTopic {
                topic: of[0].topic,
                partitions: of.iter().map(|one| one.partition).collect(),
            })
            .collect()
    }

    /// The same with names; that of a topic that is gone is empty.
    pub(super) fn named(&self, topics: &dyn Topics) -> Vec<NamedPartitions> {
        self.to_wire()
            .into_iter()
            .map(|of| NamedPartitions {
                topic: of.topic,
                name: topics.name_of(of.topic).unwrap_or_default().to_owned(),
                partitions: of.partitions,
            })
            .collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = TopicPartition> + '_ {
        self.0.iter().copied()
    }

    pub(super) fn contains(&self, partition: TopicPartition) -> bool {
        self.0.binary_search(&partition).is_ok()
    }

    /// What is in `self` and not in `other`.
    pub(super) fn minus(&self, other: &Self) -> Self {
        self.filtered(other, false)
    }

    /// What is in both.
    pub(super) fn and(&self, other: &Self) -> Self {
        self.filtered(other, true)
    }

    /// What is in either.
    pub(super) fn plus(&self, other: &Self) -> Self {
        Self::new(self.iter().chain(other.iter()).collect())
    }

    fn filtered(&self, other: &Self, wanted: bool) -> Self {
        let mut rest = other.0.as_slice();
        let mut found = Vec::new();
        for one in &self.0 {
            while rest.first().is_some_and(|first| first < one) {
                rest = &rest[1..];
            }
            if (rest.first() == Some(one)) == wanted {
                found.push(*one);
            }
        }
        Self(found)
    }
}
