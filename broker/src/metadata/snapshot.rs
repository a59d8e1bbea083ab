//! An image as records: what a metadata log that has grown long is replaced with.
//!
//! Never decides when, and never writes. Applied to an empty image at the same position, the records give
//! an equal image.

use corelane_protocol::{PartitionIndex, StoreId};

use super::{MetadataImage, MetadataRecord, PLACEMENTS_PER_RECORD_MAX, Topic};

impl MetadataImage {
    /// How many records [`MetadataImage::snapshot`] has.
    pub fn snapshot_records(&self) -> u64 {
        let level = u64::from(self.feature_level() > 0);
        let of_topic = |topic: &Topic| {
            let partitions = u32::try_from(topic.partitions.len()).expect("counted by 32 bits");
            1 + u64::from(partitions.div_ceil(PLACEMENTS_PER_RECORD_MAX))
        };
        let producers = u64::from(self.producer_ids_end() > 0);
        level + producers + self.topics().map(of_topic).sum::<u64>()
    }

    /// The fewest records that give this image.
    pub fn snapshot(&self) -> Vec<MetadataRecord> {
        let mut records = Vec::new();
        if self.feature_level() > 0 {
            let level = self.feature_level();
            records.push(MetadataRecord::FeatureLevel { level });
        }
        let end = self.producer_ids_end();
        if end > 0 {
            records.push(MetadataRecord::ProducerIdsReserved { end });
        }
        for topic in self.topics() {
            let pairs = topic.settings.to_pairs().into_iter();
            records.push(MetadataRecord::TopicCreated {
                id: topic.id,
                name: topic.name.clone(),
                partitions: topic.partition_count,
                settings: pairs.map(|(key, value)| (key.to_owned(), value)).collect(),
            });
            let stores: Vec<StoreId> = topic.partitions.iter().map(|at| at.store).collect();
            let chunks = stores.chunks(PLACEMENTS_PER_RECORD_MAX as usize);
            for (first, stores) in (0..)
                .step_by(PLACEMENTS_PER_RECORD_MAX as usize)
                .zip(chunks)
            {
                records.push(MetadataRecord::PartitionsPlaced {
                    topic: topic.id,
                    first: PartitionIndex::new(first),
                    stores: stores.to_vec(),
                });
            }
        }
        debug_assert_eq!(records.len() as u64, self.snapshot_records());
        records
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane_protocol::{TopicId, TopicName};

    #[test]
    fn a_snapshot_gives_the_same_image() {
        let id = |number| TopicId::from_bytes([number; 16]);
        let created = |number, name: &str, partitions| MetadataRecord::TopicCreated {
            id: id(number),
            name: TopicName::new(name).expect("a valid name"),
            partitions,
            settings: vec![("segment.bytes".to_owned(), "1048576".to_owned())],
        };
        let placed = |number, first, count| MetadataRecord::PartitionsPlaced {
            topic: id(number),
            first: PartitionIndex::new(first),
            stores: (0..count).map(|index| StoreId::new(index % 3)).collect(),
        };
        let mut image = MetadataImage::new();
        for record in [
            MetadataRecord::FeatureLevel { level: 1 },
            created(1, "wide", 10_000),
            placed(1, 0, 8192),
            placed(1, 8192, 1808),
            MetadataRecord::ProducerIdsReserved { end: 1000 },
            created(2, "gone", 4),
            placed(2, 0, 4),
            created(3, "narrow", 1),
            placed(3, 0, 1),
            MetadataRecord::TopicConfigChanged {
                id: id(3),
                settings: vec![("flush.ms".to_owned(), "5".to_owned())],
            },
            MetadataRecord::TopicExtended {
                id: id(3),
                partitions: 3,
            },
            placed(3, 1, 2),
            MetadataRecord::TopicDeleted { id: id(2) },
        ] {
            image.apply(&record).expect("it fits");
            let snapshot = image.snapshot();
            assert_eq!(snapshot.len() as u64, image.snapshot_records());
            let before = image.records_applied() - image.snapshot_records();
            let mut again = MetadataImage::at_position(before);
            for record in &snapshot {
                again.apply(record).expect("it fits");
            }
            assert_eq!(again, image);
        }
        assert_eq!(image.snapshot().len(), 7);
    }
}
