//! Where a member reads, and where it is told to.

use std::sync::Arc;

use corelane_protocol::{MemberId, PartitionIndex, TopicPartition};

use super::{CommittedOffset, GroupConsumer, PartitionPosition, fetch};
use crate::consumer::{Found, PartitionId, Start, find};
use crate::error::{Error, Result};

impl GroupConsumer {
    /// What the group has committed in partitions, given as (topic, index), in the order asked; of any partition, held
    /// or not.
    ///
    /// # Errors
    /// `Refused` with `UnknownTopic`; connection errors after the request timeout.
    ///
    /// # Cancel safety
    /// Safe: nothing changes.
    pub async fn committed<S: Into<String>>(
        &self,
        partitions: impl IntoIterator<Item = (S, u32)>,
    ) -> Result<Vec<Option<CommittedOffset>>> {
        let mut names = Vec::new();
        let mut asked = Vec::new();
        for (topic, partition) in partitions {
            let topic: String = topic.into();
            let id = self.group.cluster.topic(&topic).await?.id;
            asked.push(TopicPartition::new(id, PartitionIndex::new(partition)));
            names.push(topic);
        }
        let group = &self.group;
        let fetched = fetch(&group.coordinator, &group.name, Some(asked)).await?;
        let committed = names.into_iter().zip(fetched).map(|(topic, entry)| {
            let committed = entry.committed?;
            Some(CommittedOffset::new(topic, entry.partition, committed))
        });
        Ok(committed.collect())
    }

    /// The group's name.
    pub fn group(&self) -> &str {
        &self.group.name
    }

    /// The member's id. It changes when the member has to join anew, unless it has an instance name.
    pub fn member_id(&self) -> MemberId {
        self.group.shared.state().member.id
    }

    /// The partitions that are read now, as (topic, index).
    pub fn assignment(&self) -> Vec<(String, u32)> {
        let positions = self.positions().into_iter();
        positions
            .map(|position| (position.topic.to_string(), position.partition))
            .collect()
    }

    /// The partitions that are read now, with the offset of the next record of each to be handed out.
    pub fn positions(&self) -> Vec<PartitionPosition> {
        let state = self.group.shared.state();
        let read = state.partitions.iter().filter(|(_, held)| held.is_read());
        read.map(|(id, held)| PartitionPosition {
            topic: Arc::clone(&held.name),
            partition: id.partition.get(),
            offset: held.position.map(|mark| mark.offset),
        })
        .collect()
    }

    /// The offset of the next record of a partition to be handed out; `None` if the partition is not read, or if it
    /// could not be found out where to begin.
    pub fn position(&self, topic: &str, partition: u32) -> Option<u64> {
        let state = self.group.shared.state();
        let (_, held) = state.find(topic, partition)?;
        let position = held.position.filter(|_| held.is_read())?;
        Some(position.offset)
    }

    fn find(&mut self, topic: &str, partition: u32) -> Result<(PartitionId, TopicPartition, u64)> {
        self.follow();
        let state = self.group.shared.state();
        let held = state
            .find(topic, partition)
            .filter(|(_, held)| held.is_read());
        let (id, _) = held.ok_or_else(|| self.group.not_held(topic, partition))?;
        let mut reading = self.reading.iter();
        let (place, (_, number)) = reading
            .find(|(_, (partition, _))| *partition == id)
            .expect("what is read was just followed");
        Ok((*place, id, *number))
    }

    /// Goes on reading a partition at `offset`, and counts everything before as processed. A failure of the partition
    /// is forgotten. Whether the offset exists shows when it is read.
    ///
    /// # Errors
    /// `InvalidArgument` if the partition is not held.
    pub fn seek(&mut self, topic: &str, partition: u32, offset: u64) -> Result<()> {
        let (place, id, number) = self.find(topic, partition)?;
        self.source.seek(place, offset);
        self.moved(place, id, number);
        Ok(())
    }

    /// Goes on reading a partition at `start`, and counts everything before as processed. Returns the offset that this
    /// is.
    ///
    /// # Errors
    /// `InvalidArgument` if the partition is not held, or not any more once the offset is known; connection errors
    /// after the request timeout.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the position as it was.
    pub async fn seek_to(&mut self, topic: &str, partition: u32, start: Start) -> Result<u64> {
        let (place, id, number) = self.find(topic, partition)?;
        let found = match start.known() {
            Some(known) => Found {
                place: known,
                read_from: start.read_from(known),
                latest: u64::MAX,
            },
            None => find(&self.group.cluster, &[(self.source.asked(place), start)]).await?[0],
        };
        if self.find(topic, partition)? != (place, id, number) {
            return Err(self.group.not_held(topic, partition));
        }
        self.source.seek_to(place, found);
        self.moved(place, id, number);
        Ok(found.place.offset)
    }

    fn moved(&mut self, place: PartitionId, id: TopicPartition, number: u64) {
        if self.in_hand.is_some_and(|(in_hand, ..)| in_hand == id) {
            self.in_hand = None;
        }
        let mark = self.source.place(place).into();
        self.group.shared.state().processed(id, number, mark);
    }

    /// Leaves a partition alone until [`GroupConsumer::resume`], or until it is assigned anew; its position stays.
    ///
    /// # Errors
    /// `InvalidArgument` if the partition is not held.
    pub fn pause(&mut self, topic: &str, partition: u32) -> Result<()> {
        let (place, ..) = self.find(topic, partition)?;
        self.source.pause(place);
        Ok(())
    }

    /// Goes on with a partition that was paused or has failed, at its position.
    ///
    /// # Errors
    /// `InvalidArgument` if the partition is not held, or if it has no position: seek then.
    pub fn resume(&mut self, topic: &str, partition: u32) -> Result<()> {
        let (place, ..) = self.find(topic, partition)?;
        if self.position(topic, partition).is_none() {
            return Err(Error::invalid(format!(
                "it is not known where to begin with {topic}-{partition}; seek instead"
            )));
        }
        self.source.resume(place);
        Ok(())
    }
}
