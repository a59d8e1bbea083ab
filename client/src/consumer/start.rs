//! Where to begin reading.
//!
//! Owns: the public ways to say it, and finding the offset that each means.

use corelane_protocol::request::{ListOffsetsEntry, OffsetPosition};
use corelane_protocol::response::ListedEntry;
use corelane_protocol::{PartitionIndex, Timestamp, TopicId, TopicPartition};

use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::offsets;

/// Where to begin reading a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the first record that is kept.
    Earliest,
    /// Behind the last record that is readable now: only what comes.
    Latest,
    /// At this offset.
    Offset(u64),
    /// So many records before the end, or at the first one kept if there are fewer.
    Last(u64),
    /// At the first record at or after this time, in milliseconds since the Unix epoch; behind the last
    /// one if all are earlier.
    Timestamp(i64),
}

/// What to do when the offset to be read does not exist (any more, or yet).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OffsetReset {
    /// Report it: [`Consumer::next`](crate::Consumer::next) fails with `OffsetOutOfRange`.
    #[default]
    Fail,
    /// Go on at the first record that is kept.
    Earliest,
    /// Go on behind the last record.
    Latest,
}

/// A partition whose offsets are asked for.
#[derive(Debug, Clone)]
pub(super) struct Asked<'a> {
    pub(super) name: &'a str,
    pub(super) topic: TopicId,
    pub(super) partition: u32,
}

/// The first and the end offset of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) earliest: u64,
    pub(super) latest: u64,
}

impl Start {
    /// The offset that it means in a partition with these bounds; `None` for a time, which only the
    /// broker can find.
    pub(super) fn resolve(self, bounds: Bounds) -> Option<u64> {
        match self {
            Self::Earliest => Some(bounds.earliest),
            Self::Latest => Some(bounds.latest),
            Self::Offset(offset) => Some(offset),
            Self::Last(count) => Some(bounds.latest.saturating_sub(count).max(bounds.earliest)),
            Self::Timestamp(_) => None,
        }
    }
}

/// Finds the offset that each start means, and the bounds of its partition.
pub(super) async fn find(
    cluster: &Cluster,
    asked: &[(Asked<'_>, Start)],
) -> Result<Vec<(u64, Bounds)>> {
    let partitions: Vec<Asked<'_>> = asked.iter().map(|(asked, _)| asked.clone()).collect();
    let bounds = bounds(cluster, &partitions).await?;
    let mut timed = Vec::new();
    for (asked, start) in asked {
        if let Start::Timestamp(time) = start {
            timed.push(ListOffsetsEntry {
                partition: TopicPartition::new(asked.topic, PartitionIndex::new(asked.partition)),
                position: OffsetPosition::Timestamp(Timestamp::new(*time)),
            });
        }
    }
    let mut timed = offsets::list(cluster, &timed).await?.into_iter();
    let mut found = Vec::with_capacity(asked.len());
    for ((asked, start), bounds) in asked.iter().zip(bounds) {
        let offset = match start.resolve(bounds) {
            Some(offset) => offset,
            None => offset_of(&timed.next().expect("one answer for each question"), asked)?,
        };
        found.push((offset, bounds));
    }
    Ok(found)
}

fn offset_of(entry: &ListedEntry, asked: &Asked<'_>) -> Result<u64> {
    match &entry.result {
        Ok(listed) => Ok(listed.offset.get()),
        Err(error) => {
            let context = format!("offsets of {}-{}", asked.name, asked.partition);
            Err(Error::refused(context, error.clone()))
        }
    }
}

/// Asks for the bounds of partitions; the answers come in the order asked.
pub(super) async fn bounds(cluster: &Cluster, asked: &[Asked<'_>]) -> Result<Vec<Bounds>> {
    let entries = asked.iter().flat_map(|asked| {
        let partition = TopicPartition::new(asked.topic, PartitionIndex::new(asked.partition));
        let entry = move |position| ListOffsetsEntry {
            partition,
            position,
        };
        [
            entry(OffsetPosition::Earliest),
            entry(OffsetPosition::Latest),
        ]
    });
    let entries: Vec<ListOffsetsEntry> = entries.collect();
    let answers = offsets::list(cluster, &entries).await?;
    let pairs = asked.iter().zip(answers.chunks_exact(2));
    let bounds = pairs.map(|(asked, pair)| {
        Ok(Bounds {
            earliest: offset_of(&pair[0], asked)?,
            latest: offset_of(&pair[1], asked)?,
        })
    });
    bounds.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_means_one_offset() {
        let bounds = Bounds {
            earliest: 10,
            latest: 15,
        };
        for (start, offset) in [
            (Start::Earliest, Some(10)),
            (Start::Latest, Some(15)),
            (Start::Offset(12), Some(12)),
            (Start::Last(2), Some(13)),
            (Start::Last(99), Some(10)),
            (Start::Timestamp(5), None),
        ] {
            assert_eq!(start.resolve(bounds), offset, "{start:?}");
        }
    }
}
