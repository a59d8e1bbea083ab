//! The records of the metadata log and their bytes.
//!
//! All little-endian. A record is `version u8` (1), `kind u8`, then the fields of its kind:
//!
//! | kind | record | fields |
//! |---|---|---|
//! | 1 | FeatureLevel | `level u16` |
//! | 2 | TopicCreated | `topic 16 B`, `name text`, `partitions u32`, `count u32` × (`key text`, `value text`) |
//! | 3 | PartitionsPlaced | `topic 16 B`, `first partition u32`, `count u32` × `store u16` |
//! | 4 | TopicDeleted | `topic 16 B` |
//! | 5 | TopicConfigChanged | `topic 16 B`, `count u32` × (`key text`, `value text`): all of its own settings |
//! | 6 | TopicExtended | `topic 16 B`, `partitions u32`: in all; the new ones are placed next |
//! | 7 | ProducerIdsReserved | `end u64`: ids below it may have been given out |
//!
//! Text is `length u16` and UTF-8. Nothing follows the last field. An unknown version or kind is
//! refused: the log was written by a newer version.

use std::fmt;

use corelane_protocol::wire::{DecodeError, Reader, Writer};
use corelane_protocol::{PartitionIndex, StoreId, TopicId, TopicName};

use crate::config::METADATA_RECORD_BYTES_MAX;

/// Partitions that one [`MetadataRecord::PartitionsPlaced`] may place.
pub const PLACEMENTS_PER_RECORD_MAX: u32 = 8192;

const _: () = assert!(PLACEMENTS_PER_RECORD_MAX as usize * 2 + 64 < METADATA_RECORD_BYTES_MAX);

const VERSION: u8 = 1;
const FEATURE_LEVEL: u8 = 1;
const TOPIC_CREATED: u8 = 2;
const PARTITIONS_PLACED: u8 = 3;
const TOPIC_DELETED: u8 = 4;
const TOPIC_CONFIG_CHANGED: u8 = 5;
const TOPIC_EXTENDED: u8 = 6;
const PRODUCER_IDS_RESERVED: u8 = 7;

/// A change of the metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataRecord {
    /// From here on the log may hold records of this level.
    FeatureLevel {
        /// The level.
        level: u16,
    },
    /// A topic exists; its partitions follow.
    TopicCreated {
        /// Its identity, never used before.
        id: TopicId,
        /// Its name, free until now.
        name: TopicName,
        /// Number of partitions.
        partitions: u32,
        /// Its own settings.
        settings: Vec<(String, String)>,
    },
    /// The next partitions of a topic have a place.
    PartitionsPlaced {
        /// The topic.
        topic: TopicId,
        /// The first of them.
        first: PartitionIndex,
        /// The store of each, at most [`PLACEMENTS_PER_RECORD_MAX`].
        stores: Vec<StoreId>,
    },
    /// A topic and its records are gone.
    TopicDeleted {
        /// Its identity.
        id: TopicId,
    },
    /// A topic has other settings.
    TopicConfigChanged {
        /// The topic.
        id: TopicId,
        /// All settings that it has of its own from here on.
        settings: Vec<(String, String)>,
    },
    /// A topic has more partitions; they are placed next.
    TopicExtended {
        /// The topic.
        id: TopicId,
        /// Its number of partitions, the new ones included.
        partitions: u32,
    },
    /// Producer ids below may be given out.
    ProducerIdsReserved {
        /// The first that may not.
        end: u64,
    },
}

/// Bytes that are not a record of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The record has a version that this build does not know.
    #[error(
        "metadata record of version {version}, this version reads {VERSION}; start a newer version"
    )]
    Version {
        /// The version.
        version: u8,
    },
    /// The record is of a kind that this build does not know.
    #[error(
        "metadata record of kind {kind}, which this version does not know; start a newer version"
    )]
    Kind {
        /// The kind.
        kind: u8,
    },
    /// The bytes do not follow the layout.
    #[error("metadata record: {0}")]
    Malformed(#[from] DecodeError),
}

impl fmt::Display for MetadataRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FeatureLevel { level } => write!(f, "feature level {level}"),
            Self::TopicCreated {
                id,
                name,
                partitions,
                settings,
            } => {
                write!(f, "topic {name} created: id {id}, partitions {partitions}")?;
                for (key, value) in settings {
                    write!(f, ", {key}={value}")?;
                }
                Ok(())
            }
            Self::PartitionsPlaced {
                topic,
                first,
                stores,
            } => {
                write!(f, "partitions of {topic} placed from {first} on: stores")?;
                stores.iter().try_for_each(|store| write!(f, " {store}"))
            }
            Self::TopicDeleted { id } => write!(f, "topic {id} deleted"),
            Self::TopicConfigChanged { id, settings } => {
                write!(f, "settings of topic {id} changed; its own are now:")?;
                settings
                    .iter()
                    .try_for_each(|(key, value)| write!(f, " {key}={value}"))
            }
            Self::ProducerIdsReserved { end } => write!(f, "producer ids reserved up to {end}"),
            Self::TopicExtended { id, partitions } => {
                write!(f, "topic {id} extended to {partitions} partitions")
            }
        }
    }
}

impl MetadataRecord {
    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut w = Writer::new(&mut out);
        w.u8(VERSION);
        match self {
            Self::FeatureLevel { level } => {
                w.u8(FEATURE_LEVEL);
                w.u16(*level);
            }
            Self::TopicCreated {
                id,
                name,
                partitions,
                settings,
            } => {
                w.u8(TOPIC_CREATED);
                w.topic_id(*id);
                w.text(name.as_str());
                w.u32(*partitions);
                write_settings(&mut w, settings);
            }
            Self::PartitionsPlaced {
                topic,
                first,
                stores,
            } => {
                w.u8(PARTITIONS_PLACED);
                w.topic_id(*topic);
                w.u32(first.get());
                w.list(stores, |w, store| w.u16(store.get()));
            }
            Self::TopicDeleted { id } => {
                w.u8(TOPIC_DELETED);
                w.topic_id(*id);
            }
            Self::TopicConfigChanged { id, settings } => {
                w.u8(TOPIC_CONFIG_CHANGED);
                w.topic_id(*id);
                write_settings(&mut w, settings);
            }
            Self::ProducerIdsReserved { end } => {
                w.u8(PRODUCER_IDS_RESERVED);
                w.u64(*end);
            }
            Self::TopicExtended { id, partitions } => {
                w.u8(TOPIC_EXTENDED);
                w.topic_id(*id);
                w.u32(*partitions);
            }
        }
        w.finish()
            .expect("names and settings are shorter than a text may be");
        debug_assert!(out.len() <= METADATA_RECORD_BYTES_MAX);
        out
    }

    /// Reads a record.
    ///
    /// # Errors
    /// The bytes are not a record that this version writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new(bytes);
        let r = &mut reader;
        let version = r.u8()?;
        if version != VERSION {
            return Err(RecordError::Version { version });
        }
        let record = match r.u8()? {
            FEATURE_LEVEL => Self::FeatureLevel { level: r.u16()? },
            TOPIC_CREATED => Self::TopicCreated {
                id: r.topic_id()?,
                name: TopicName::new(r.text()?).map_err(|_| r.invalid("topic name"))?,
                partitions: r.u32()?,
                settings: read_settings(r)?,
            },
            PARTITIONS_PLACED => Self::PartitionsPlaced {
                topic: r.topic_id()?,
                first: PartitionIndex::new(r.u32()?),
                stores: r.list_up_to(2, PLACEMENTS_PER_RECORD_MAX as usize, |r| {
                    Ok(StoreId::new(r.u16()?))
                })?,
            },
            TOPIC_DELETED => Self::TopicDeleted { id: r.topic_id()? },
            TOPIC_CONFIG_CHANGED => Self::TopicConfigChanged {
                id: r.topic_id()?,
                settings: read_settings(r)?,
            },
            TOPIC_EXTENDED => Self::TopicExtended {
                id: r.topic_id()?,
                partitions: r.u32()?,
            },
            PRODUCER_IDS_RESERVED => Self::ProducerIdsReserved { end: r.u64()? },
            kind => return Err(RecordError::Kind { kind }),
        };
        reader.finish()?;
        Ok(record)
    }
}

fn write_settings(w: &mut Writer<'_>, settings: &[(String, String)]) {
    w.list(settings, |w, (key, value)| {
        w.text(key);
        w.text(value);
    });
}

fn read_settings(r: &mut Reader<'_>) -> Result<Vec<(String, String)>, DecodeError> {
    r.list(4, |r| Ok((r.string()?, r.string()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<MetadataRecord> {
        let id = TopicId::from_bytes([7; 16]);
        vec![
            MetadataRecord::FeatureLevel { level: 1 },
            MetadataRecord::TopicCreated {
                id,
                name: TopicName::new("orders").expect("a valid name"),
                partitions: 3,
                settings: vec![("segment.bytes".to_owned(), "1048576".to_owned())],
            },
            MetadataRecord::PartitionsPlaced {
                topic: id,
                first: PartitionIndex::new(1),
                stores: vec![StoreId::new(0), StoreId::new(300)],
            },
            MetadataRecord::TopicDeleted { id },
            MetadataRecord::TopicConfigChanged {
                id,
                settings: vec![("flush.ms".to_owned(), "7".to_owned())],
            },
            MetadataRecord::TopicExtended { id, partitions: 5 },
            MetadataRecord::ProducerIdsReserved { end: 3000 },
        ]
    }

    #[test]
    fn records_read_back() {
        for record in samples() {
            assert_eq!(MetadataRecord::decode(&record.encode()), Ok(record));
        }
    }

    #[test]
    fn the_bytes_are_the_documented_ones() {
        let bytes = samples()[2].encode();
        let mut expected = vec![1, 3];
        expected.extend([7; 16]);
        expected.extend([1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 44, 1]);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn records_are_shown_in_words() {
        let id = "07070707-0707-0707-0707-070707070707";
        let shown: Vec<_> = samples().iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "feature level 1".to_owned(),
                format!("topic orders created: id {id}, partitions 3, segment.bytes=1048576"),
                format!("partitions of {id} placed from 1 on: stores 0 300"),
                format!("topic {id} deleted"),
                format!("settings of topic {id} changed; its own are now: flush.ms=7"),
                format!("topic {id} extended to 5 partitions"),
                "producer ids reserved up to 3000".to_owned(),
            ]
        );
    }

    #[test]
    fn every_prefix_is_refused() {
        for record in samples() {
            let bytes = record.encode();
            for end in 0..bytes.len() {
                assert!(
                    MetadataRecord::decode(&bytes[..end]).is_err(),
                    "{record:?} cut at {end}"
                );
            }
        }
    }

    #[test]
    fn no_flipped_bit_goes_unnoticed_or_panics() {
        for record in samples() {
            let bytes = record.encode();
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                // The log's checksum is what catches a flip; here it must give another record or
                // an error, never the same record.
                assert_ne!(
                    MetadataRecord::decode(&flipped),
                    Ok(record.clone()),
                    "bit {bit}"
                );
            }
        }
    }

    #[test]
    fn absurd_counts_are_refused() {
        for count in [u32::MAX, 1 << 31, PLACEMENTS_PER_RECORD_MAX + 1] {
            let mut bytes = samples()[2].encode();
            bytes[22..26].copy_from_slice(&count.to_le_bytes());
            assert!(MetadataRecord::decode(&bytes).is_err());
        }
        assert_eq!(
            MetadataRecord::decode(&[2, 1, 0, 0]),
            Err(RecordError::Version { version: 2 })
        );
        assert_eq!(
            MetadataRecord::decode(&[1, 9]),
            Err(RecordError::Kind { kind: 9 })
        );
    }
}
