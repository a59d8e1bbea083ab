//! Where to begin reading.
//!
//! Owns: the public ways to say it, and finding the offset that each means.

use corelane_protocol::request::{ListOffsetsEntry, OffsetPosition};
use corelane_protocol::response::ListedEntry;
use corelane_protocol::{PartitionIndex, TopicId, TopicPartition};

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
    /// The offset that it means in a partition with these bounds.
    pub(super) fn resolve(self, bounds: Bounds) -> u64 {
        match self {
            Self::Earliest => bounds.earliest,
            Self::Latest => bounds.latest,
            Self::Offset(offset) => offset,
            Self::Last(count) => bounds.latest.saturating_sub(count).max(bounds.earliest),
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
    let offset = |entry: &ListedEntry, asked: &Asked<'_>| match &entry.result {
        Ok(listed) => Ok(listed.offset.get()),
        Err(error) => {
            let context = format!("offsets of {}-{}", asked.name, asked.partition);
            Err(Error::refused(context, error.clone()))
        }
    };
    let pairs = asked.iter().zip(answers.chunks_exact(2));
    let bounds = pairs.map(|(asked, pair)| {
        Ok(Bounds {
            earliest: offset(&pair[0], asked)?,
            latest: offset(&pair[1], asked)?,
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
        assert_eq!(Start::Earliest.resolve(bounds), 10);
        assert_eq!(Start::Latest.resolve(bounds), 15);
        assert_eq!(Start::Offset(12).resolve(bounds), 12);
        assert_eq!(Start::Last(2).resolve(bounds), 13);
        assert_eq!(Start::Last(99).resolve(bounds), 10);
    }
}
