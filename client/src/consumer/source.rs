//! Records of partitions as they come: what a consumer and a member of a group have in common.
//!
//! Owns: the fetcher and its connections. Never: decides which partitions are read.

use std::sync::Arc;

use tokio::time::Instant;

use super::FetchParameters;
use super::assigned::Assigned;
use super::fetcher::{Fetcher, Item, PartitionId};
use super::io::FetchIo;
use super::place::Place;
use super::records::Records;
use super::start::{Asked, Found};
use crate::cluster::{Cluster, TopicMetadata};
use crate::error::{Error, Result};

/// Reads partitions ahead, and hands records out.
#[derive(Debug)]
pub(crate) struct RecordSource {
    pub(super) fetcher: Fetcher,
    io: FetchIo,
}

/// What is there to be handed out.
#[derive(Debug)]
pub(crate) enum Next {
    /// None are left of a batch where compaction has removed its records.
    Records(PartitionId, Records),
    /// The position of the partition moved by itself; the error says why.
    Jumped(PartitionId, Error),
}

impl RecordSource {
    pub(super) fn new(
        cluster: Arc<Cluster>,
        fetcher: Fetcher,
        parameters: FetchParameters,
    ) -> Self {
        Self {
            io: FetchIo::new(cluster, parameters),
            fetcher,
        }
    }

    /// What is there now, after asking for what comes next. The position moves behind records that this gives.
    ///
    /// # Errors
    /// Why a partition is read no further, until a seek or resume.
    pub(crate) fn take_next(&mut self) -> Result<Option<Next>> {
        self.io.turn(&mut self.fetcher);
        match self.fetcher.next_item() {
            None => Ok(None),
            Some(Item::Failed(error)) => Err(error),
            Some(Item::Jumped(id, error)) => Ok(Some(Next::Jumped(id, error))),
            Some(Item::Batch {
                id,
                bytes,
                end_offset,
                epoch,
            }) => {
                let assigned = &self.fetcher.partitions[id];
                let (topic, partition) = (Arc::clone(&assigned.topic), assigned.partition);
                let watermark = assigned.high_watermark.unwrap_or(end_offset);
                let opened =
                    Records::open(topic, partition, bytes, assigned.position.offset, watermark);
                let records = opened.map_err(|error| self.damaged(id, &error))?;
                self.fetcher.handed_out(id, end_offset, epoch);
                Ok(Some(Next::Records(id, records)))
            }
        }
    }

    fn damaged(&mut self, id: PartitionId, reason: &dyn std::fmt::Display) -> Error {
        let assigned = &self.fetcher.partitions[id];
        let error = Error::CorruptBatch {
            topic: assigned.topic.to_string(),
            partition: assigned.partition,
            offset: assigned.position.offset,
            reason: reason.to_string(),
        };
        self.fetcher.damaged(id, error)
    }

    /// Waits until something arrived or is due, at most until `deadline`. Cancel safe.
    pub(crate) async fn wait(&mut self, deadline: Option<Instant>) {
        self.io.wait(&mut self.fetcher, deadline).await;
    }

    /// Reads one more partition, which the topic must have.
    pub(crate) fn add(
        &mut self,
        topic: &TopicMetadata,
        partition: u32,
        start: Found,
    ) -> PartitionId {
        let route = topic.route(partition).expect("whoever adds it has looked");
        let mut assigned = Assigned::new(topic, partition, route.clone());
        assigned.begin_at(start);
        self.fetcher.add(assigned)
    }

    /// A partition that cannot be read yet, for a reason that is told; a seek says where to begin.
    pub(crate) fn add_failed(
        &mut self,
        topic: &TopicMetadata,
        partition: u32,
        error: Error,
    ) -> PartitionId {
        let start = Found {
            place: Place::default(),
            read_from: 0,
            latest: u64::MAX,
        };
        let id = self.add(topic, partition, start);
        self.fetcher.fail(id, error);
        id
    }

    /// Reads a partition no more, and forgets what was fetched of it.
    pub(crate) fn remove(&mut self, id: PartitionId) {
        self.fetcher.remove(id);
    }

    /// The next record to be handed out.
    pub(crate) fn place(&self, id: PartitionId) -> Place {
        self.fetcher.partitions[id].position
    }

    /// The partition, to ask for its offsets.
    pub(crate) fn asked(&self, id: PartitionId) -> Asked<'_> {
        self.fetcher.partitions[id].asked()
    }

    pub(crate) fn seek(&mut self, id: PartitionId, offset: u64) {
        self.fetcher.seek(id, offset);
    }

    pub(crate) fn seek_to(&mut self, id: PartitionId, found: Found) {
        self.fetcher.seek_to(id, found);
    }

    pub(crate) fn pause(&mut self, id: PartitionId) {
        self.fetcher.pause(id);
    }

    pub(crate) fn resume(&mut self, id: PartitionId) {
        self.fetcher.resume(id);
    }
}
