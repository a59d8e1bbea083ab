//! What coordinators see of the broker's topics: those that clients are told of.

use std::collections::BTreeMap;

use corelane_protocol::{CoreId, TopicId, TopicPartition};

use crate::groups::Topics;
use crate::lane::Topology;
use crate::lane::partitions::{Home, Partitions};
use crate::lane::records::Growing;
use crate::metadata::{MetadataImage, is_internal};

/// A view of one core's topics.
pub(super) struct ShownTopics<'a> {
    pub(super) image: &'a MetadataImage,
    pub(super) hidden: &'a BTreeMap<TopicId, u64>,
    pub(super) growing: &'a BTreeMap<TopicId, Growing>,
    pub(super) partitions: &'a Partitions,
    pub(super) core: CoreId,
}

impl Topics for ShownTopics<'_> {
    fn by_name(&self, name: &str) -> Option<(TopicId, u32)> {
        let topic = self.image.topic_named(name)?;
        if self.hidden.contains_key(&topic.id) {
            return None;
        }
        let shown = self.growing.get(&topic.id).map(|growing| growing.shown);
        let shown = shown.map_or(topic.partition_count, |shown| {
            u32::try_from(shown).expect("partitions are numbered by u32")
        });
        Some((topic.id, shown))
    }

    fn name_of(&self, id: TopicId) -> Option<&str> {
        let topic = self.image.topic(id)?;
        Some(topic.name.as_str())
    }

    fn for_each_name(&self, f: &mut dyn FnMut(&str)) {
        let shown = self.image.topics().filter(|topic| {
            !self.hidden.contains_key(&topic.id) && !is_internal(topic.name.as_str())
        });
        for topic in shown {
            f(topic.name.as_str());
        }
    }

    fn core_of(&self, partition: TopicPartition) -> CoreId {
        match self.partitions.find(partition) {
            Home::Local(_) => self.core,
            Home::Remote(core) => core,
            Home::UnknownTopic | Home::UnknownPartition => Topology::CONTROLLER,
        }
    }
}
