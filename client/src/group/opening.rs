//! Finding out where to begin with partitions that were taken.
//!
//! Owns: the questions (topic, committed offset, the end of the log where nothing was committed) and their repetition.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use corelane_protocol::response::CommittedOffset;
use corelane_protocol::{ApiError, ErrorCode, TopicPartition};
use futures_util::future::join_all;

use super::shared::{Opened, Taken};
use super::{Group, offsets};
use crate::backoff::Jitter;
use crate::cluster::TopicMetadata;
use crate::consumer::{Asked, Found, OffsetReset, Place, Start, find};
use crate::error::{Error, Result};

/// A partition that was taken: which, which taking of it, and its topic.
type Sought = (TopicPartition, u64, Arc<TopicMetadata>);

/// One of them, where it begins, and what was committed of it.
type Beginning = (Sought, Result<Found>, Option<u64>);

/// Finds out where each partition begins, trying for as long as it is held.
pub(super) async fn open(group: Arc<Group>, mut left: Taken) {
    let mut jitter = Jitter::new(group.cluster.next_seed());
    let mut failures = 0;
    loop {
        if let Err(error) = attempt(&group, &left).await {
            tracing::debug!(group = %group.name, %error, "cannot tell yet where to begin");
        }
        forget_opened(&group, &mut left);
        if left.is_empty() {
            return;
        }
        failures += 1;
        let wait = group.cluster.config().backoff.after(failures, &mut jitter);
        tokio::time::sleep(wait).await;
    }
}

fn forget_opened(group: &Group, left: &mut Taken) {
    let state = group.shared.state();
    left.retain(|partition, (number, _)| {
        let holding = state.partitions.get(partition);
        holding.is_some_and(|holding| holding.is_sought(*number))
    });
}

/// One attempt. What it finds is noted; the error is that of some partition which is to be asked for again.
async fn attempt(group: &Group, left: &Taken) -> Result<()> {
    let (sought, unknown) = find_topics(group, left).await;
    let asked = sought.iter().map(|(partition, ..)| *partition).collect();
    let fetched = offsets::fetch(&group.coordinator, &group.name, Some(asked)).await;
    let mut committed = match fetched {
        Ok(fetched) => offsets::by_partition(fetched),
        Err(error) if error.is_retriable() => return Err(error),
        Err(error) => {
            note(
                group,
                sought
                    .into_iter()
                    .map(|sought| (sought, Err(error.clone()), None)),
            );
            return unknown.map_or(Ok(()), Err);
        }
    };
    let (behind, without): (Vec<Sought>, Vec<Sought>) = sought
        .into_iter()
        .partition(|(partition, ..)| committed.contains_key(partition));
    let behind = behind.into_iter().filter_map(|sought| {
        let committed = committed.remove(&sought.0)?;
        Some((
            sought,
            Ok(start_behind(&committed)),
            Some(committed.offset.get()),
        ))
    });
    note(group, behind);
    begin_without(group, without).await?;
    unknown.map_or(Ok(()), Err)
}

/// The topics of partitions, and why one is not known if that is so.
async fn find_topics(group: &Group, left: &Taken) -> (Vec<Sought>, Option<Error>) {
    let names: BTreeSet<&Arc<str>> = left.values().map(|(_, name)| name).collect();
    let asked = names
        .into_iter()
        .map(async |name| (name, group.cluster.refresh(name).await));
    let topics: BTreeMap<&Arc<str>, Result<Arc<TopicMetadata>>> =
        join_all(asked).await.into_iter().collect();
    let mut sought = Vec::with_capacity(left.len());
    let mut unknown = None;
    for (partition, (number, name)) in left {
        match &topics[name] {
            // The answer may be older than the coordinator's: it is asked again.
            Ok(topic) if !has(topic, *partition) => {
                let reason = format!("topic {name} has no partition {partition} yet, or no more");
                unknown = Some(Error::invalid(reason));
            }
            Ok(topic) => sought.push((*partition, *number, Arc::clone(topic))),
            Err(error) => unknown = Some(error.clone()),
        }
    }
    (sought, unknown)
}

/// Notes where partitions begin.
fn note(group: &Group, found: impl IntoIterator<Item = Beginning>) {
    group.shared.update(|state| {
        for ((partition, number, topic), start, committed) in found {
            let opened = Opened {
                topic,
                start,
                committed,
            };
            state.opened(partition, number, opened);
        }
    });
}

fn has(topic: &TopicMetadata, partition: TopicPartition) -> bool {
    topic.id == partition.topic && topic.route(partition.partition.get()).is_some()
}

/// Everything before what was committed counts as read.
fn start_behind(committed: &CommittedOffset) -> Found {
    let epoch = committed.leader_epoch.map(|epoch| epoch.get());
    Found {
        place: Place::new(committed.offset.get(), epoch),
        read_from: 0,
        latest: u64::MAX,
    }
}

/// Begins with partitions that the group has committed nothing of.
async fn begin_without(group: &Group, partitions: Vec<Sought>) -> Result<()> {
    let start = match group.settings.options.offset_reset {
        OffsetReset::Earliest => Start::Earliest,
        OffsetReset::Latest => Start::Latest,
        OffsetReset::Fail => {
            let failed = partitions.into_iter().map(|sought| {
                let error = nothing_committed(&sought);
                (sought, Err(error), None)
            });
            note(group, failed);
            return Ok(());
        }
    };
    let together: Vec<(Asked<'_>, Start)> = partitions
        .iter()
        .map(|sought| (asked(sought), start))
        .collect();
    if let Ok(found) = find(&group.cluster, &together).await {
        let found = partitions.into_iter().zip(found);
        note(
            group,
            found.map(|(sought, found)| (sought, Ok(found), None)),
        );
        return Ok(());
    }
    // One of them is to blame, and the others need not wait for it.
    let alone = partitions.into_iter().map(async |sought| {
        let found = find(&group.cluster, &[(asked(&sought), start)]).await;
        match found {
            Err(error) if error.is_retriable() => Err(error),
            found => {
                let start = found.map(|found| found[0]);
                note(group, [(sought, start, None)]);
                Ok(())
            }
        }
    });
    join_all(alone).await.into_iter().collect()
}

fn asked((partition, _, topic): &Sought) -> Asked<'_> {
    Asked {
        name: &topic.name,
        topic: topic.id,
        partition: partition.partition.get(),
    }
}

fn nothing_committed((partition, _, topic): &Sought) -> Error {
    let message = "the group has committed nothing, and offset_reset is to fail; seek, or commit \
                   an offset for the group";
    let error = ApiError::new(ErrorCode::OffsetOutOfRange, message);
    let place = format!("{}-{}", topic.name, partition.partition);
    Error::refused(format!("begin to read {place}"), error)
}
