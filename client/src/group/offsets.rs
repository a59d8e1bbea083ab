//! Committed offsets: how they are given and told, and how the coordinator is asked for them.

use std::collections::BTreeMap;

use corelane_protocol::request::{
    CommitEntry, CommitOffsetsRequest, FetchOffsetsRequest, MemberRef,
};
use corelane_protocol::response::{self, CommittedEntry, FetchedOffset};
use corelane_protocol::{
    LeaderEpoch, Offset, PartitionIndex, Request, Response, TopicId, TopicPartition,
};

use super::coordinator::Coordinator;
use crate::cluster::Repeat;
use crate::consumer::ConsumedRecord;
use crate::error::{Error, Result};

/// Entries of one request, far below what a broker refuses.
const ENTRIES_MAX: usize = 4 * 1024;

/// An offset to be committed for a partition.
///
/// ```
/// use corelane_client::OffsetToCommit;
/// // Everything before offset 42 was processed.
/// let offset = OffsetToCommit::new("orders", 0, 42).metadata("by till 3");
/// # let _ = offset;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetToCommit {
    pub(crate) topic: String,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    pub(crate) leader_epoch: Option<u32>,
    pub(crate) metadata: String,
}

impl OffsetToCommit {
    /// `offset` is that of the next record to be read: one more than that of the last that was processed.
    pub fn new(topic: impl Into<String>, partition: u32, offset: u64) -> Self {
        Self {
            topic: topic.into(),
            partition,
            offset,
            leader_epoch: None,
            metadata: String::new(),
        }
    }

    /// Everything up to this record was processed, and the record itself.
    pub fn after(record: &ConsumedRecord<'_>) -> Self {
        Self::new(record.topic(), record.partition(), record.offset() + 1)
            .leader_epoch(record.leader_epoch())
    }

    /// The leader epoch of the last record that was processed. With it, whoever goes on finds out whether what was
    /// read is still there.
    pub fn leader_epoch(mut self, leader_epoch: u32) -> Self {
        self.leader_epoch = Some(leader_epoch);
        self
    }

    /// A text to be kept beside the offset. Default: none.
    pub fn metadata(mut self, metadata: impl Into<String>) -> Self {
        self.metadata = metadata.into();
        self
    }

    pub(crate) fn entry(&self, topic: TopicId) -> CommitEntry {
        CommitEntry {
            partition: TopicPartition::new(topic, PartitionIndex::new(self.partition)),
            offset: Offset::new(self.offset),
            leader_epoch: self.leader_epoch.map(LeaderEpoch::new),
            metadata: self.metadata.clone(),
        }
    }
}

/// How far a group has come in a partition, as it was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The topic's name; empty if the topic is gone.
    pub topic: String,
    /// The topic's identity.
    pub topic_id: TopicId,
    /// The partition's index.
    pub partition: u32,
    /// The offset of the next record to be read.
    pub offset: u64,
    /// The leader epoch of the record before it, where whoever committed has said it.
    pub leader_epoch: Option<u32>,
    /// What was given to be kept beside the offset.
    pub metadata: String,
    /// When it was committed by the broker's clock, in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
}

impl CommittedOffset {
    pub(crate) fn new(
        topic: String,
        partition: TopicPartition,
        committed: response::CommittedOffset,
    ) -> Self {
        Self {
            topic,
            topic_id: partition.topic,
            partition: partition.partition.get(),
            offset: committed.offset.get(),
            leader_epoch: committed.leader_epoch.map(LeaderEpoch::get),
            metadata: committed.metadata,
            timestamp_ms: committed.time.get(),
        }
    }
}

/// Asks what a group has committed in these partitions, or in all.
pub(crate) async fn fetch(
    coordinator: &Coordinator,
    group: &str,
    partitions: Option<Vec<TopicPartition>>,
) -> Result<Vec<FetchedOffset>> {
    let Some(partitions) = partitions else {
        return fetch_part(coordinator, group, None).await;
    };
    let mut fetched = Vec::with_capacity(partitions.len());
    for part in partitions.chunks(ENTRIES_MAX) {
        fetched.extend(fetch_part(coordinator, group, Some(part.to_vec())).await?);
    }
    Ok(fetched)
}

async fn fetch_part(
    coordinator: &Coordinator,
    group: &str,
    partitions: Option<Vec<TopicPartition>>,
) -> Result<Vec<FetchedOffset>> {
    let asked = partitions.clone();
    let request = Request::FetchOffsets(FetchOffsetsRequest {
        group: group.to_owned(),
        partitions,
    });
    let context = format!("committed offsets of group {group}");
    let read = |response: Response<'_>| match response {
        Response::FetchOffsets(answer) => Some(answer),
        _ => None,
    };
    let fetched = coordinator
        .call(&request, Repeat::Safe, &context, read)
        .await?;
    let answered = fetched.iter().map(|entry| entry.partition);
    match asked {
        Some(asked) if !answered.eq(asked.iter().copied()) => Err(Error::Protocol {
            address: "the coordinator".into(),
            reason: "the committed offsets are of other partitions than were asked for".into(),
        }),
        _ => Ok(fetched),
    }
}

/// Commits offsets; the outcome of each comes in the order given.
pub(crate) async fn commit(
    coordinator: &Coordinator,
    group: &str,
    member: Option<MemberRef>,
    entries: &[CommitEntry],
) -> Result<Vec<CommittedEntry>> {
    let mut outcomes = Vec::with_capacity(entries.len());
    for part in entries.chunks(ENTRIES_MAX) {
        let request = Request::CommitOffsets(CommitOffsetsRequest {
            group: group.to_owned(),
            member,
            entries: part.to_vec(),
        });
        let context = format!("commit offsets of group {group}");
        let read = |response: Response<'_>| match response {
            Response::CommitOffsets(answer) => Some(answer),
            _ => None,
        };
        let answered = coordinator
            .call(&request, Repeat::Safe, &context, read)
            .await?;
        if answered.len() != part.len() {
            return Err(Error::Protocol {
                address: "the coordinator".into(),
                reason: "a commit has another number of outcomes than entries".into(),
            });
        }
        outcomes.extend(answered);
    }
    Ok(outcomes)
}

/// Committed offsets by partition.
pub(crate) fn by_partition(
    fetched: Vec<FetchedOffset>,
) -> BTreeMap<TopicPartition, response::CommittedOffset> {
    let committed = fetched
        .into_iter()
        .filter_map(|entry| Some((entry.partition, entry.committed?)));
    committed.collect()
}
