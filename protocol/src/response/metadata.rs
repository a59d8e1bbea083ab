//! Metadata: brokers, their cores' addresses, topics and leaders.

use std::fmt;

use crate::batch::TimestampType;
use crate::error::ApiError;
use crate::ids::{BrokerId, CoreId, LeaderEpoch, PartitionIndex, TopicId};
use crate::wire::{DecodeError, Reader, Writer};

/// Who serves which partition, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataResponse {
    /// Every broker.
    pub brokers: Vec<BrokerMetadata>,
    /// The broker that decides on topics.
    pub controller: BrokerId,
    /// The topics asked for, or all.
    pub topics: Vec<TopicMetadata>,
}

/// One broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerMetadata {
    /// Its number.
    pub id: BrokerId,
    /// The host of its bootstrap address.
    pub host: String,
    /// The port of its bootstrap address, which any core may answer.
    pub port: u16,
    /// Its cores, each with an address of its own.
    pub cores: Vec<CoreAddress>,
}

/// Where one core is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreAddress {
    /// The core.
    pub core: CoreId,
    /// The host, a name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// One topic, or why it is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicMetadata {
    /// The name, as it was asked for.
    pub name: String,
    /// The topic's id and partitions.
    pub result: Result<TopicPartitions, ApiError>,
}

/// A topic's id and partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicPartitions {
    /// The id, which requests use from here on.
    pub id: TopicId,
    /// Which time its records' timestamps are: what batches must say.
    pub timestamp_type: TimestampType,
    /// Bytes of the largest batch that the topic takes, as it is sent.
    pub batch_bytes_max: u32,
    /// The partitions, in the order of their numbers.
    pub partitions: Vec<PartitionMetadata>,
}

/// One partition's leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionMetadata {
    /// The partition.
    pub partition: PartitionIndex,
    /// The broker that leads it.
    pub leader: BrokerId,
    /// The core of that broker that owns it.
    pub core: CoreId,
    /// The leader's term.
    pub leader_epoch: LeaderEpoch,
}

/// The fewest bytes of an item: a result is an error code and an empty message.
const TOPIC_BYTES_MIN: usize = 2 + 4;

impl MetadataResponse {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let brokers = r.list(12, |r| {
            Ok(BrokerMetadata {
                id: BrokerId::new(r.u32()?),
                host: r.string()?,
                port: r.u16()?,
                cores: r.list(CoreAddress::BYTES_MIN, CoreAddress::decode)?,
            })
        })?;
        let controller = BrokerId::new(r.u32()?);
        let topics = r.list(TOPIC_BYTES_MIN, |r| {
            Ok(TopicMetadata {
                name: r.string()?,
                result: r.result(TopicPartitions::decode)?,
            })
        })?;
        Ok(Self {
            brokers,
            controller,
            topics,
        })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.list(&self.brokers, |w, broker| {
            w.u32(broker.id.get());
            w.text(&broker.host);
            w.u16(broker.port);
            w.list(&broker.cores, |w, core| core.encode(w));
        });
        w.u32(self.controller.get());
        w.list(&self.topics, |w, topic| {
            w.text(&topic.name);
            w.result(&topic.result, |w, topic| topic.encode(w));
        });
    }
}

impl TopicPartitions {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let id = r.topic_id()?;
        let timestamp_type =
            TimestampType::from_u8(r.u8()?).ok_or_else(|| r.invalid("timestamp type"))?;
        let batch_bytes_max = r.u32()?;
        let partitions = r.list(14, |r| {
            Ok(PartitionMetadata {
                partition: PartitionIndex::new(r.u32()?),
                leader: BrokerId::new(r.u32()?),
                core: CoreId::new(r.u16()?),
                leader_epoch: LeaderEpoch::new(r.u32()?),
            })
        })?;
        Ok(Self {
            id,
            timestamp_type,
            batch_bytes_max,
            partitions,
        })
    }

    fn encode(&self, w: &mut Writer<'_>) {
        w.topic_id(self.id);
        w.u8(self.timestamp_type.as_u8());
        w.u32(self.batch_bytes_max);
        w.list(&self.partitions, |w, partition| {
            w.u32(partition.partition.get());
            w.u32(partition.leader.get());
            w.u16(partition.core.get());
            w.u32(partition.leader_epoch.get());
        });
    }
}

impl CoreAddress {
    /// The fewest bytes of an address.
    pub(super) const BYTES_MIN: usize = 6;

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            core: CoreId::new(r.u16()?),
            host: r.string()?,
            port: r.u16()?,
        })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.u16(self.core.get());
        w.text(&self.host);
        w.u16(self.port);
    }
}

impl fmt::Display for CoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
