//! Where the partitions of a topic are.
//!
//! Owns: the view of one topic as the last metadata answer gave it, corrected by redirects. Pure
//! values. Never: asks the broker.

use std::sync::Arc;

use corelane_protocol::batch::TimestampType;
use corelane_protocol::response::{BrokerMetadata, CoreAddress, TopicPartitions};
use corelane_protocol::{BrokerId, CoreId, TopicId};

use crate::error::{Error, Result};

/// Where one partition is served.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Route {
    /// Where to connect, as `host:port`.
    pub(crate) address: Arc<str>,
    pub(crate) broker: BrokerId,
    /// The core that owns it there: one fetch request asks one core.
    pub(crate) core: CoreId,
}

impl Route {
    /// The route that a redirect tells, unless the client keeps to one address.
    pub(crate) fn redirected(&self, owner: &CoreAddress, only: Option<&Arc<str>>) -> Self {
        Self {
            address: only.cloned().unwrap_or_else(|| owner.to_string().into()),
            broker: self.broker,
            core: owner.core,
        }
    }
}

/// A topic's identity and partitions.
#[derive(Debug, Clone)]
pub(crate) struct TopicMetadata {
    pub(crate) name: Arc<str>,
    pub(crate) id: TopicId,
    /// Which time its batches must say that their records have.
    pub(crate) timestamp_type: TimestampType,
    /// The largest batch that it takes, in bytes as it is sent.
    pub(crate) batch_bytes_max: u32,
    /// By partition index, without gaps.
    pub(crate) routes: Vec<Route>,
    /// The leader epochs of the partitions, likewise.
    pub(crate) epochs: Vec<u32>,
}

impl TopicMetadata {
    /// Reads the broker's answer. With `only`, every partition is reached by that address.
    ///
    /// # Errors
    /// `Protocol` when partitions have gaps, or name brokers or cores that the answer leaves out.
    pub(crate) fn new(
        name: &str,
        topic: &TopicPartitions,
        brokers: &[BrokerMetadata],
        only: Option<&Arc<str>>,
    ) -> Result<Self> {
        let malformed = |reason: String| Error::Protocol {
            address: "the broker".into(),
            reason: format!("metadata of topic {name}: {reason}"),
        };
        let mut addresses: Vec<(BrokerId, CoreId, Arc<str>)> = Vec::new();
        for broker in brokers {
            for core in &broker.cores {
                let address = only.cloned().unwrap_or_else(|| core.to_string().into());
                addresses.push((broker.id, core.core, address));
            }
        }
        let mut routes = Vec::with_capacity(topic.partitions.len());
        for (index, partition) in topic.partitions.iter().enumerate() {
            if partition.partition.get() as usize != index {
                return Err(malformed(format!("partition {index} is missing")));
            }
            let address = addresses
                .iter()
                .find(|(broker, core, _)| (*broker, *core) == (partition.leader, partition.core))
                .ok_or_else(|| {
                    malformed(format!(
                        "partition {index} is on core {} of broker {}, which has no address",
                        partition.core, partition.leader
                    ))
                })?;
            routes.push(Route {
                address: Arc::clone(&address.2),
                broker: partition.leader,
                core: partition.core,
            });
        }
        if routes.is_empty() {
            return Err(malformed("it has no partitions".into()));
        }
        Ok(Self {
            name: name.into(),
            id: topic.id,
            timestamp_type: topic.timestamp_type,
            batch_bytes_max: topic.batch_bytes_max,
            routes,
            epochs: topic
                .partitions
                .iter()
                .map(|partition| partition.leader_epoch.get())
                .collect(),
        })
    }

    pub(crate) fn partition_count(&self) -> u32 {
        u32::try_from(self.routes.len()).expect("partition indexes are u32")
    }

    pub(crate) fn route(&self, partition: u32) -> Option<&Route> {
        self.routes.get(partition as usize)
    }

    pub(crate) fn epoch(&self, partition: u32) -> Option<u32> {
        self.epochs.get(partition as usize).copied()
    }

    pub(crate) fn set_route(&mut self, partition: u32, route: Route) {
        if let Some(known) = self.routes.get_mut(partition as usize) {
            *known = route;
        }
    }
}

#[cfg(test)]
mod tests {
    use corelane_protocol::PartitionIndex;
    use corelane_protocol::response::PartitionMetadata;

    use super::*;

    fn broker() -> BrokerMetadata {
        let core = |core, port| CoreAddress {
            core: CoreId::new(core),
            host: "10.0.0.1".into(),
            port,
        };
        BrokerMetadata {
            id: BrokerId::new(1),
            host: "10.0.0.1".into(),
            port: 9500,
            cores: vec![core(0, 9501), core(1, 9502)],
        }
    }

    fn partition(index: u32, core: u16) -> PartitionMetadata {
        PartitionMetadata {
            partition: PartitionIndex::new(index),
            leader: BrokerId::new(1),
            core: CoreId::new(core),
            ..PartitionMetadata::default()
        }
    }

    fn topic(partitions: Vec<PartitionMetadata>) -> TopicPartitions {
        TopicPartitions {
            partitions,
            ..TopicPartitions::default()
        }
    }

    #[test]
    fn a_partition_is_reached_at_its_cores_own_address() {
        let topic = topic(vec![partition(0, 1), partition(1, 0)]);
        let metadata = TopicMetadata::new("t", &topic, &[broker()], None).unwrap();
        let addresses: Vec<&str> = metadata
            .routes
            .iter()
            .map(|route| &*route.address)
            .collect();
        assert_eq!(addresses, ["10.0.0.1:9502", "10.0.0.1:9501"]);
    }

    #[test]
    fn with_one_address_every_partition_is_reached_there() {
        let topic = topic(vec![partition(0, 1), partition(1, 0)]);
        let only: Arc<str> = "gateway:9".into();
        let metadata = TopicMetadata::new("t", &topic, &[broker()], Some(&only)).unwrap();
        assert!(metadata.routes.iter().all(|route| route.address == only));
        assert_ne!(metadata.routes[0], metadata.routes[1], "cores still differ");
    }

    #[test]
    fn gaps_and_unknown_cores_are_refused() {
        for partitions in [vec![], vec![partition(1, 0)], vec![partition(0, 7)]] {
            let error = TopicMetadata::new("t", &topic(partitions), &[broker()], None).unwrap_err();
            assert!(matches!(error, Error::Protocol { .. }), "{error}");
        }
    }
}
