//! DescribeTopics: settings, placement, offsets and sizes.

use std::fmt;

use crate::error::ApiError;
use crate::ids::{CoreId, LeaderEpoch, Offset, PartitionIndex, StoreId, TopicId};
use crate::wire::{DecodeError, Reader, Writer};

/// The topics asked for, or all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribeTopicsResponse {
    /// One for each topic.
    pub topics: Vec<DescribedTopic>,
}

/// One topic, or why it is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedTopic {
    /// The name, as it was asked for.
    pub name: String,
    /// What it is made of.
    pub result: Result<TopicDescription, ApiError>,
}

/// What a topic is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its id.
    pub id: TopicId,
    /// Its settings in effect, by key.
    pub configs: Vec<TopicConfigEntry>,
    /// Its partitions, in the order of their numbers.
    pub partitions: Vec<DescribedPartition>,
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfigEntry {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Who set it.
    pub source: ConfigSource,
    /// What makes the value less than was set, if anything does: the name of another setting.
    pub bounded_by: Option<String>,
}

/// Who set a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ConfigSource {
    /// The topic itself.
    Topic = 0,
    /// The broker's configuration.
    Broker = 1,
    /// Nobody: it is the built-in default.
    Default = 2,
}

impl ConfigSource {
    /// The word in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Broker => "broker",
            Self::Default => "default",
        }
    }

    const fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Topic),
            1 => Some(Self::Broker),
            2 => Some(Self::Default),
            _ => None,
        }
    }
}

impl fmt::Display for ConfigSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedPartition {
    /// Its number.
    pub partition: PartitionIndex,
    /// The store that holds it.
    pub store: StoreId,
    /// The core that runs that store.
    pub core: CoreId,
    /// The leader's term.
    pub leader_epoch: LeaderEpoch,
    /// The first offset that is kept.
    pub log_start_offset: Offset,
    /// The first offset that is not served yet.
    pub high_watermark: Offset,
    /// The offset of the next record.
    pub log_end_offset: Offset,
    /// Bytes of its batches.
    pub size_bytes: u64,
    /// Where the log ended when the leader epoch began. A restart that was not in order begins a new one: what was
    /// acknowledged from memory may be lost from there on.
    pub epoch_start_offset: Offset,
    /// Whether it serves.
    pub state: PartitionState,
    /// Damage that was found in it and that costs only what it hit, the first few: each with file and position.
    pub damage: Vec<String>,
    /// The readers that the topic knows by name.
    pub readers: Vec<DescribedReader>,
}

/// How far a named reader has come in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedReader {
    /// Its name.
    pub name: String,
    /// The offset of the next record that it wants, as far as the broker knows; 0 if it never said so.
    pub position: Offset,
    /// Records that were deleted before it had come so far.
    pub expired_unread: u64,
}

/// Whether a partition serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartitionState {
    /// It does.
    Online,
    /// It does not; the message says why, with file and position.
    Failed(String),
}

/// Bytes of a partition that is online.
const PARTITION_BYTES_MIN: usize = 4 + 2 + 2 + 4 + 8 + 8 + 8 + 8 + 8 + 1 + 4 + 4;

impl DescribeTopicsResponse {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let topics = r.list(6, |r| {
            Ok(DescribedTopic {
                name: r.string()?,
                result: r.result(TopicDescription::decode)?,
            })
        })?;
        Ok(Self { topics })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.list(&self.topics, |w, topic| {
            w.text(&topic.name);
            w.result(&topic.result, |w, description| description.encode(w));
        });
    }
}

impl TopicDescription {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let id = r.topic_id()?;
        let configs = r.list(6, |r| {
            Ok(TopicConfigEntry {
                key: r.string()?,
                value: r.string()?,
                source: ConfigSource::from_u8(r.u8()?).ok_or_else(|| r.invalid("source"))?,
                bounded_by: r.option(|r| r.string())?,
            })
        })?;
        let partitions = r.list(PARTITION_BYTES_MIN, DescribedPartition::decode)?;
        Ok(Self {
            id,
            configs,
            partitions,
        })
    }

    fn encode(&self, w: &mut Writer<'_>) {
        w.topic_id(self.id);
        w.list(&self.configs, |w, config| {
            w.text(&config.key);
            w.text(&config.value);
            w.u8(config.source as u8);
            w.option(config.bounded_by.as_ref(), |w, name| w.text(name));
        });
        w.list(&self.partitions, |w, partition| partition.encode(w));
    }
}

impl DescribedPartition {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            partition: PartitionIndex::new(r.u32()?),
            store: StoreId::new(r.u16()?),
            core: CoreId::new(r.u16()?),
            leader_epoch: LeaderEpoch::new(r.u32()?),
            log_start_offset: r.offset()?,
            high_watermark: r.offset()?,
            log_end_offset: r.offset()?,
            size_bytes: r.u64()?,
            epoch_start_offset: r.offset()?,
            state: match r.option(|r| r.string())? {
                None => PartitionState::Online,
                Some(message) => PartitionState::Failed(message),
            },
            damage: r.list(2, |r| r.string())?,
            readers: r.list(2 + 8 + 8, |r| {
                Ok(DescribedReader {
                    name: r.string()?,
                    position: r.offset()?,
                    expired_unread: r.u64()?,
                })
            })?,
        })
    }

    fn encode(&self, w: &mut Writer<'_>) {
        w.u32(self.partition.get());
        w.u16(self.store.get());
        w.u16(self.core.get());
        w.u32(self.leader_epoch.get());
        w.offset(self.log_start_offset);
        w.offset(self.high_watermark);
        w.offset(self.log_end_offset);
        w.u64(self.size_bytes);
        w.offset(self.epoch_start_offset);
        match &self.state {
            PartitionState::Online => w.bool(false),
            PartitionState::Failed(message) => {
                w.bool(true);
                w.message(message);
            }
        }
        w.list(&self.damage, |w, damage| w.message(damage));
        w.list(&self.readers, |w, reader| {
            w.text(&reader.name);
            w.offset(reader.position);
            w.u64(reader.expired_unread);
        });
    }
}
