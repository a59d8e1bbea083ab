//! Where to begin reading.
//!
//! Owns: the public ways to say it, and finding the offset that each means.

use corelane_protocol::request::{ListOffsetsEntry, OffsetPosition};
use corelane_protocol::response::ListedEntry;
use corelane_protocol::{PartitionIndex, Timestamp, TopicId, TopicPartition};

use super::place::Place;
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
    /// At this offset, behind a record that was read before and had this leader epoch
    /// ([`Consumer::position_epoch`](crate::Consumer::position_epoch)): as
    /// [`Start::Offset`], but if what was read is gone since, that is reported.
    Continue {
        /// The offset of the next record.
        offset: u64,
        /// The leader epoch of the last one that was read.
        leader_epoch: u32,
    },
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

/// What to do when records that were read are gone: the broker lost them, because it was not stopped in order
/// and the topic lets records be acknowledged before they are flushed (`flush.messages`, `flush.ms`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnTruncation {
    /// Report it once, by [`Error::LogTruncated`](crate::Error::LogTruncated), and go on with what the log has at
    /// those offsets now.
    #[default]
    Report,
    /// Report it, and leave the partition alone until [`Consumer::seek`](crate::Consumer::seek) or
    /// [`Consumer::resume`](crate::Consumer::resume).
    Stop,
}

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) place: Place,
    /// Everything from here to the place was read before.
    pub(crate) read_from: u64,
    /// The end of what is readable.
    pub(crate) latest: u64,
}

/// A partition whose offsets are asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asked<'a> {
    pub(crate) name: &'a str,
    pub(crate) topic: TopicId,
    pub(crate) partition: u32,
}

/// The first and the end offset of a partition, with the leader epochs there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) earliest: u64,
    pub(super) earliest_epoch: u32,
    pub(super) latest: u64,
    pub(super) latest_epoch: u32,
}

impl Start {
    /// The place that it means, if the broker need not be asked.
    pub(crate) fn known(self) -> Option<Place> {
        match self {
            Self::Offset(offset) => Some(Place::new(offset, None)),
            Self::Continue {
                offset,
                leader_epoch,
            } => Some(Place::new(offset, Some(leader_epoch))),
            _ => None,
        }
    }

    /// Where reading behind this place began, as far as is known.
    pub(crate) fn read_from(self, place: Place) -> u64 {
        match self {
            Self::Continue { .. } => 0,
            _ => place.offset,
        }
    }

    /// The place that it means in a partition with these bounds; `None` for a time, which only the
    /// broker can find.
    pub(super) fn resolve(self, bounds: Bounds) -> Option<Place> {
        match self {
            Self::Earliest => Some(Place::new(bounds.earliest, Some(bounds.earliest_epoch))),
            Self::Latest => Some(Place::new(bounds.latest, Some(bounds.latest_epoch))),
            Self::Last(count) => {
                let offset = bounds.latest.saturating_sub(count).max(bounds.earliest);
                Some(Place::new(offset, None))
            }
            Self::Timestamp(_) => None,
            Self::Offset(_) | Self::Continue { .. } => self.known(),
        }
    }
}

/// Finds the place that each start means.
pub(crate) async fn find(cluster: &Cluster, asked: &[(Asked<'_>, Start)]) -> Result<Vec<Found>> {
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
        let place = match start.resolve(bounds) {
            Some(place) => place,
            None => {
                let timed = timed.next().expect("one answer for each question");
                let (offset, epoch) = offset_of(&timed, asked)?;
                Place::new(offset, Some(epoch))
            }
        };
        found.push(Found {
            place,
            read_from: start.read_from(place),
            latest: bounds.latest,
        });
    }
    Ok(found)
}

fn offset_of(entry: &ListedEntry, asked: &Asked<'_>) -> Result<(u64, u32)> {
    match &entry.result {
        Ok(listed) => Ok((listed.offset.get(), listed.leader_epoch.get())),
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
        let (earliest, earliest_epoch) = offset_of(&pair[0], asked)?;
        let (latest, latest_epoch) = offset_of(&pair[1], asked)?;
        Ok(Bounds {
            earliest,
            earliest_epoch,
            latest,
            latest_epoch,
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
            earliest_epoch: 1,
            latest: 15,
            latest_epoch: 2,
        };
        let again = Start::Continue {
            offset: 11,
            leader_epoch: 4,
        };
        for (start, place) in [
            (Start::Earliest, Some((10, Some(1)))),
            (Start::Latest, Some((15, Some(2)))),
            (Start::Offset(12), Some((12, None))),
            (Start::Last(2), Some((13, None))),
            (Start::Last(99), Some((10, None))),
            (Start::Timestamp(5), None),
            (again, Some((11, Some(4)))),
        ] {
            let found = start
                .resolve(bounds)
                .map(|place| (place.offset, place.epoch));
            assert_eq!(found, place, "{start:?}");
        }
    }
}
