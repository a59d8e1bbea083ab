//! What the stores of a broker turned out to be when they were opened.
//!
//! Each core finds it out for its own stores; every core serves by what all found. Changes nothing.

use std::rc::Rc;

use corelane_protocol::{LeaderEpoch, TopicPartition};
use corelane_storage::disk::Disk;
use corelane_storage::store::{RecoveryReport, Store};

use crate::config::BrokerConfig;
use crate::controller::UnfitStores;
use crate::metadata::{EffectiveSettings, MetadataImage};

/// Losses that are told one by one; of the others the number is.
const LOSSES_TOLD_MAX: usize = 100;

/// What cores must know of each other's stores before they serve.
#[derive(Clone, Debug, Default)]
pub struct StoresFound {
    /// The stores that are out of service, and why.
    pub unfit: UnfitStores,
    /// The leader epochs of partitions, of all that are beyond their first.
    pub epochs: Vec<(TopicPartition, LeaderEpoch)>,
}

impl StoresFound {
    /// What these stores are.
    pub fn of<'a, D: Disk>(stores: impl IntoIterator<Item = &'a Rc<Store<D>>>) -> Self {
        let mut found = Self::default();
        for store in stores {
            if let Some(reason) = store.unfit() {
                found.unfit.insert(store.id(), reason.to_string());
                continue;
            }
            let epochs = store.partitions().into_iter();
            let epochs = epochs.filter_map(|id| Some((id, store.leader_epoch(id)?)));
            found
                .epochs
                .extend(epochs.filter(|(_, epoch)| epoch.get() > 0));
        }
        found
    }

    /// Adds what another core found.
    pub fn extend(&mut self, other: Self) {
        self.unfit.extend(other.unfit);
        self.epochs.extend(other.epochs);
    }
}

/// Says which records a restart that was not in order may have lost: those that were acknowledged from memory.
pub(super) fn tell_losses(report: &RecoveryReport, image: &MetadataImage, config: &BrokerConfig) {
    let mut untold = 0;
    for (told, loss) in losses(report, image, config).into_iter().enumerate() {
        if told < LOSSES_TOLD_MAX {
            tracing::warn!("{loss}");
        } else {
            untold += 1;
        }
    }
    if untold > 0 {
        tracing::warn!(
            "the same is true of {untold} more partitions; topic describe shows the offset of each"
        );
    }
}

/// One sentence for each partition that may have lost records: by its settings of now, or by those that its store
/// knew.
fn losses(report: &RecoveryReport, image: &MetadataImage, config: &BrokerConfig) -> Vec<String> {
    let mut losses = Vec::new();
    for (partition, begun) in &report.raised {
        let Some(topic) = image.topic(partition.topic) else {
            continue;
        };
        let settings = topic.effective(config);
        let was_weak = report.weak_losses.iter().any(|(weak, _)| weak == partition);
        if settings.is_weak() || was_weak {
            let (name, number) = (&topic.name, partition.partition);
            losses.push(format!(
                "{name}-{number} was not closed in order: records that were acknowledged from memory may be lost, from \
                 offset {} on ({}); its leader epoch is {} now, and consumers that have read them are told",
                begun.start,
                how_many(&settings),
                begun.epoch
            ));
        }
    }
    losses
}

/// How many records may have waited to be flushed.
fn how_many(settings: &EffectiveSettings) -> String {
    match (settings.flush_messages, settings.flush_ms) {
        (Some(records), Some(ms)) => {
            format!("as a rule up to {records} of them, of the last {ms} ms, wait to be flushed")
        }
        (Some(records), None) => format!("as a rule up to {records} of them wait to be flushed"),
        (None, Some(ms)) => format!("as a rule those of the last {ms} ms wait to be flushed"),
        (None, None) => "those of the time before the topic was made durable".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use corelane_protocol::{Offset, PartitionIndex, StoreId, TopicId, TopicName};
    use corelane_storage::epochs::EpochStart;

    use super::*;
    use crate::metadata::MetadataRecord;

    #[test]
    fn what_may_be_lost_is_said_of_weak_topics_alone() {
        let id = |number| TopicId::from_bytes([number; 16]);
        let mut image = MetadataImage::new();
        for (number, name, setting) in [
            (1, "weak", Some(("flush.messages", "100"))),
            (2, "durable", None),
            (3, "was-weak", None),
        ] {
            let settings = setting.iter();
            let created = MetadataRecord::TopicCreated {
                id: id(number),
                name: TopicName::new(name).expect("a valid name"),
                partitions: 1,
                settings: settings
                    .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                    .collect(),
            };
            let placed = MetadataRecord::PartitionsPlaced {
                topic: id(number),
                first: PartitionIndex::new(0),
                stores: vec![StoreId::new(0)],
            };
            for record in [created, placed] {
                image.apply(&record).expect("it fits");
            }
        }
        let partition = |number| TopicPartition::new(id(number), PartitionIndex::new(0));
        let begun = |number: u8| EpochStart {
            epoch: LeaderEpoch::new(7),
            start: Offset::new(u64::from(number) * 10),
        };
        let report = RecoveryReport {
            raised: (1..5)
                .map(|number| (partition(number), begun(number)))
                .collect(),
            weak_losses: vec![(partition(3), Offset::new(30))],
            ..RecoveryReport::default()
        };
        let losses = losses(&report, &image, &BrokerConfig::default());
        assert_eq!(
            losses,
            [
                "weak-0 was not closed in order: records that were acknowledged from memory may be lost, from offset 10 \
                 on (as a rule up to 100 of them wait to be flushed); its leader epoch is 7 now, and consumers that have \
                 read them are told",
                "was-weak-0 was not closed in order: records that were acknowledged from memory may be lost, from offset \
                 30 on (those of the time before the topic was made durable); its leader epoch is 7 now, and consumers \
                 that have read them are told",
            ]
        );
    }
}
