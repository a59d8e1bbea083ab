//! Reading records.
//!
//! Owns: the public consumer. It has no task of its own: its connections read ahead in the
//! background, and each call takes in what arrived and asks for more (`fetcher`: sans-IO). So
//! positions move only when records are handed out. Members of groups read with the same source.

mod assigned;
mod builder;
mod fetcher;
#[cfg(test)]
mod fetcher_tests;
mod io;
mod options;
mod place;
mod records;
mod source;
mod start;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub use self::builder::ConsumerBuilder;
pub use self::records::{ConsumedRecord, Records, RecordsIter};
pub use self::start::{OffsetReset, OnTruncation, Start};

pub(crate) use self::fetcher::PartitionId;
pub(crate) use self::options::FetchOptions;
pub(crate) use self::place::Place;
pub(crate) use self::source::{Next, RecordSource};
pub(crate) use self::start::{Asked, Found, find};

use self::assigned::Assigned;
use self::start::bounds;
use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::reports::{Position, report};

/// The parts of a fetch request that never change.
#[derive(Debug, Clone, Copy)]
struct FetchParameters {
    max_wait_ms: u32,
    min_bytes: u32,
    max_bytes: u32,
    offset_reset: OffsetReset,
}

/// Reads assigned partitions, each in the order of its offsets.
///
/// The position of a partition is the offset of the next record to be handed out. It moves behind a
/// batch when [`Consumer::next`] returns that batch, and nowhere else; keep positions yourself to
/// go on after a restart.
#[derive(Debug)]
pub struct Consumer {
    cluster: Arc<Cluster>,
    source: RecordSource,
    /// The name under which positions are reported.
    reader: Option<String>,
}

impl Consumer {
    fn new(cluster: Arc<Cluster>, source: RecordSource, reader: Option<String>) -> Self {
        Self {
            cluster,
            source,
            reader,
        }
    }

    /// The next records, of any of the partitions; waits for them. `None` when reading was to end
    /// (see [`ConsumerBuilder::until_end`]) and has.
    ///
    /// # Errors
    /// `Refused` (`OffsetOutOfRange`, `UnknownTopic`, `CorruptData` …) or `CorruptBatch` for one
    /// partition. That partition is then left alone until [`Consumer::seek`] or
    /// [`Consumer::resume`]; calling again goes on with the others. `LogTruncated` when records that were handed
    /// out are gone: calling again goes on with the partition where it agrees with what was read, unless
    /// [`ConsumerBuilder::on_truncation`] says otherwise. Lost connections and refusals that pass are not reported
    /// but tried again, for ever.
    ///
    /// # Cancel safety
    /// Safe: a dropped future has handed nothing out, and what arrived is kept for the next call.
    pub async fn next(&mut self) -> Result<Option<Records>> {
        loop {
            if let Some(records) = self.take_next()? {
                return Ok(Some(records));
            }
            if self.source.fetcher.is_done() {
                return Ok(None);
            }
            self.source.wait(None).await;
        }
    }

    /// The next records if they come within `timeout`. `None` after that time, and when reading has
    /// ended ([`Consumer::is_at_end`] tells).
    ///
    /// # Errors
    /// As [`Consumer::next`].
    ///
    /// # Cancel safety
    /// Safe, as [`Consumer::next`].
    pub async fn poll(&mut self, timeout: Duration) -> Result<Option<Records>> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(records) = self.take_next()? {
                return Ok(Some(records));
            }
            if self.source.fetcher.is_done() || Instant::now() >= deadline {
                return Ok(None);
            }
            self.source.wait(Some(deadline)).await;
        }
    }

    /// Whether reading was to end and has: every partition is at its end, or failed on the way.
    pub fn is_at_end(&self) -> bool {
        self.source.fetcher.is_done()
    }

    fn take_next(&mut self) -> Result<Option<Records>> {
        loop {
            match self.source.take_next()? {
                None => return Ok(None),
                Some(Next::Records(_, records)) if records.is_empty() => {}
                Some(Next::Records(_, records)) => return Ok(Some(records)),
                Some(Next::Jumped(_, error)) => return Err(error),
            }
        }
    }

    fn find(&self, topic: &str, partition: u32) -> Result<PartitionId> {
        let found = self.source.fetcher.find(topic, partition);
        found.ok_or_else(|| {
            Error::invalid(format!(
                "partition {topic}-{partition} is not assigned to this consumer"
            ))
        })
    }

    /// The offset of the next record of a partition to be handed out; `None` if the partition is
    /// not assigned.
    pub fn position(&self, topic: &str, partition: u32) -> Option<u64> {
        let id = self.source.fetcher.find(topic, partition)?;
        Some(self.source.fetcher.partitions[id].position.offset)
    }

    /// The leader epoch of the last record before the position of a partition, if it is known. Kept together with
    /// the position it lets a later [`Start::Continue`] find out whether what was read is still there.
    pub fn position_epoch(&self, topic: &str, partition: u32) -> Option<u32> {
        let id = self.source.fetcher.find(topic, partition)?;
        self.source.fetcher.partitions[id].position.epoch
    }

    /// The position of every assigned partition, as (topic, partition, offset).
    pub fn positions(&self) -> impl Iterator<Item = (&str, u32, u64)> {
        let partitions = self.source.fetcher.partitions.iter();
        partitions.map(|assigned| {
            (
                &*assigned.topic,
                assigned.partition,
                assigned.position.offset,
            )
        })
    }

    /// Reports as the reader that [`ConsumerBuilder::reader`] named that everything which was handed out has been
    /// processed, so that retention need not keep it for this reader. Call it once it has been: what a crash of this
    /// program would lose is not to be reported. Nothing is sent for partitions whose position is reported already.
    ///
    /// # Errors
    /// `InvalidArgument` if the consumer has no name; as [`Admin::report_positions`](crate::Admin::report_positions).
    ///
    /// # Cancel safety
    /// Safe: what may not have been reported is reported by the next call.
    pub async fn report_processed(&mut self) -> Result<()> {
        let Some(reader) = &self.reader else {
            return Err(Error::invalid(
                "the consumer has no name; give it one with ConsumerBuilder::reader",
            ));
        };
        let unreported = |assigned: &&Assigned| assigned.reported != Some(assigned.position.offset);
        let positions = self.source.fetcher.partitions.iter().filter(unreported);
        let positions: Vec<Position<'_>> = positions
            .map(|assigned| Position {
                topic: &assigned.topic,
                id: assigned.topic_id,
                partition: assigned.partition,
                offset: assigned.position.offset,
            })
            .collect();
        if positions.is_empty() {
            return Ok(());
        }
        report(&self.cluster, reader, &positions).await?;
        for assigned in &mut self.source.fetcher.partitions {
            assigned.reported = Some(assigned.position.offset);
        }
        Ok(())
    }

    /// Goes on reading a partition at `offset`. A failure of the partition is forgotten. Whether the
    /// offset exists shows when it is read.
    ///
    /// # Errors
    /// `InvalidArgument` if the partition is not assigned.
    pub fn seek(&mut self, topic: &str, partition: u32, offset: u64) -> Result<()> {
        let id = self.find(topic, partition)?;
        self.source.fetcher.seek(id, offset);
        Ok(())
    }

    /// Goes on reading a partition at `start`. Returns the offset that this is.
    ///
    /// # Errors
    /// `InvalidArgument` if the partition is not assigned; connection errors after the request
    /// timeout.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the position as it was.
    pub async fn seek_to(&mut self, topic: &str, partition: u32, start: Start) -> Result<u64> {
        let id = self.find(topic, partition)?;
        let asked = [(self.source.fetcher.partitions[id].asked(), start)];
        let found = match start.known() {
            Some(place) => Found {
                place,
                read_from: start.read_from(place),
                latest: u64::MAX,
            },
            None => find(&self.cluster, &asked).await?[0],
        };
        self.source.fetcher.seek_to(id, found);
        Ok(found.place.offset)
    }

    /// Leaves a partition alone until [`Consumer::resume`]; its position stays.
    ///
    /// # Errors
    /// `InvalidArgument` if the partition is not assigned.
    pub fn pause(&mut self, topic: &str, partition: u32) -> Result<()> {
        let id = self.find(topic, partition)?;
        self.source.fetcher.pause(id);
        Ok(())
    }

    /// Goes on with a partition that was paused or has failed, at its position.
    ///
    /// # Errors
    /// `InvalidArgument` if the partition is not assigned.
    pub fn resume(&mut self, topic: &str, partition: u32) -> Result<()> {
        let id = self.find(topic, partition)?;
        self.source.fetcher.resume(id);
        Ok(())
    }

    /// The end of every assigned partition as the broker has it now, as (topic, partition, offset
    /// of the next readable record).
    ///
    /// # Errors
    /// Connection errors after the request timeout.
    ///
    /// # Cancel safety
    /// Safe: nothing changes.
    pub async fn end_offsets(&self) -> Result<Vec<(String, u32, u64)>> {
        let partitions = &self.source.fetcher.partitions;
        let asked: Vec<Asked<'_>> = partitions.iter().map(|assigned| assigned.asked()).collect();
        let found = bounds(&self.cluster, &asked).await?;
        let ends = asked.iter().zip(found);
        Ok(ends
            .map(|(asked, bounds)| (asked.name.to_owned(), asked.partition, bounds.latest))
            .collect())
    }
}
