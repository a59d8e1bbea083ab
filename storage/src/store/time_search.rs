//! Finding the first record at or after a time.
//!
//! Owns the search: by what is known of segments and of memory first, then by a segment's index, and then batch
//! by batch. What decides is read and verified like for a consumer, so damage is an error and never a skip.

use std::rc::Rc;

use corelane_protocol::batch::{DecompressLimit, RecordBatch, batches};
use corelane_protocol::{Offset, Timestamp, TopicPartition};

use super::fetch::Read;
use super::partition::{Partition, PartitionHandle};
use super::read_window::Segment;
use super::{ReadError, Store};
use crate::disk::Disk;
use crate::segment::batches::{peek, peek_times};

/// Bytes looked at in one step.
const STEP_BYTES: usize = 256 << 10;

/// Where to go on looking.
enum Place {
    /// In a segment's file, by its index.
    Segment(Segment),
    /// From this offset on, in memory.
    Memory(Offset),
    /// Nowhere: no record is that late.
    Nowhere,
}

impl<D: Disk> Store<D> {
    /// The first record at or after a time, below the high watermark: its offset and its timestamp. Nothing if
    /// all are earlier. It may have to unpack a batch.
    ///
    /// # Errors
    /// As `read_disk`.
    pub async fn offset_for_timestamp(
        self: &Rc<Self>,
        partition: TopicPartition,
        timestamp: Timestamp,
    ) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        let handle = self
            .partition_handle(partition)
            .ok_or(ReadError::UnknownPartition(partition))?;
        let _work = self.begin_work();
        let mut from = Offset::ZERO;
        loop {
            let (place, log_start) = self.place_of_time(handle, partition, from, timestamp)?;
            from = from.max(log_start);
            let end = match place {
                Place::Nowhere => return Ok(None),
                Place::Memory(first) => {
                    from = from.max(first);
                    Offset::MAX
                }
                Place::Segment(segment) => {
                    let end = segment.place.end_offset;
                    match self.time_floor(&segment, timestamp).await {
                        Ok(floor) => from = from.max(floor),
                        // Compaction may have put another file in its place.
                        Err(_) if self.is_replaced(&segment) => continue,
                        // It may have been deleted meanwhile, and then there is another first one.
                        Err(_) if self.log_start_of(handle) > from => continue,
                        Err(_) if self.partition_handle(partition) != Some(handle) => {
                            return Err(ReadError::UnknownPartition(partition));
                        }
                        Err(error) => return Err(error),
                    }
                    end
                }
            };
            match self.search(partition, from, end, timestamp).await {
                Ok(Searched::Found(offset, found)) => return Ok(Some((offset, found))),
                Ok(Searched::End) => return Ok(None),
                Ok(Searched::Until(offset)) => from = offset,
                Err(ReadError::OutOfRange { log_start, .. }) if log_start > from => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn log_start_of(&self, handle: PartitionHandle) -> Offset {
        let state = self.state.borrow();
        let partition = state.partitions.get(handle);
        partition.map_or(Offset::ZERO, |partition| partition.log_start)
    }

    /// The next place that may have a record at or after `timestamp` at or after `from`; and the log start.
    fn place_of_time(
        &self,
        handle: PartitionHandle,
        id: TopicPartition,
        from: Offset,
        timestamp: Timestamp,
    ) -> Result<(Place, Offset), ReadError> {
        let state = self.state.borrow();
        let partition = state.partitions.get(handle);
        let partition = partition.ok_or(ReadError::UnknownPartition(id))?;
        let log_start = partition.log_start;
        partition.expect_readable(log_start)?;
        let from = from.max(log_start);
        let place = match partition.flushed_place(from, timestamp) {
            Some(place) => Place::Segment(Segment {
                handle,
                partition: id,
                place,
            }),
            None => {
                let after = from.max(partition.flush.whole.offset);
                let first = partition.tail.first_at_time(after, timestamp);
                let end = partition.high_watermark().offset;
                let first = first.filter(|first| *first < end);
                first.map_or(Place::Nowhere, Place::Memory)
            }
        };
        Ok((place, log_start))
    }

    async fn time_floor(
        &self,
        segment: &Segment,
        timestamp: Timestamp,
    ) -> Result<Offset, ReadError> {
        let file = self.open_segment(segment).await?;
        let floor = self.index_time_floor(segment, &file, timestamp).await?;
        if crate::planted!(TimeFloorTooLate) {
            return Ok(floor.offset.advance(12));
        }
        Ok(floor.offset)
    }

    /// Looks at the batches from one offset to another.
    async fn search(
        self: &Rc<Self>,
        partition: TopicPartition,
        from: Offset,
        end: Offset,
        timestamp: Timestamp,
    ) -> Result<Searched, ReadError> {
        let limits = self.state.borrow().config.batch_limits;
        let limit = DecompressLimit {
            bytes_max: limits.uncompressed_bytes_max,
            ratio_max: limits.uncompressed_ratio_max,
        };
        let mut next = from;
        while next < end {
            let fetched = match self.read(partition, next, STEP_BYTES, true)? {
                Read::Ready(fetched) => fetched,
                Read::Disk(wanted) => self.read_disk(wanted).await?,
            };
            if fetched.bytes == 0 {
                return Ok(Searched::End);
            }
            for part in &fetched.parts {
                for batch in batches(part).flatten() {
                    if let Some((offset, found)) = first_in_batch(batch, next, timestamp, &limit) {
                        return Ok(Searched::Found(offset, found));
                    }
                }
            }
            next = fetched.next_offset;
        }
        Ok(Searched::Until(next))
    }
}

/// What came of looking at batches.
enum Searched {
    Found(Offset, Timestamp),
    /// The high watermark was reached.
    End,
    /// Nothing before this offset.
    Until(Offset),
}

impl Partition {
    /// The first segment with a flushed record at or after `timestamp` that reaches beyond `from`.
    fn flushed_place(
        &self,
        from: Offset,
        timestamp: Timestamp,
    ) -> Option<super::segments::SegmentPlace> {
        let sealed = self.sealed.iter();
        let found = sealed
            .filter(|segment| segment.end_offset > from)
            .find(|segment| segment.max_timestamp >= timestamp);
        if let Some(segment) = found {
            return self.segment_of(segment.base.max(from));
        }
        let flush = &self.flush;
        (flush.times.max_timestamp >= timestamp && flush.whole.offset > from)
            .then(|| self.segment_of(flush.flushed.segment.max(from)))
            .flatten()
    }
}

/// The first record of a verified batch at or after both an offset and a time.
fn first_in_batch(
    batch: &[u8],
    from: Offset,
    timestamp: Timestamp,
    limit: &DecompressLimit,
) -> Option<(Offset, Timestamp)> {
    let (place, times) = (peek(batch), peek_times(batch));
    if times.max_timestamp < timestamp || place.end_offset <= from {
        return None;
    }
    let Ok(records) = RecordBatch::parse(batch, limit) else {
        // Nobody can read its records; whoever begins here learns why.
        return Some((place.base_offset.max(from), times.max_timestamp));
    };
    let mut found = records.records();
    found
        .find(|record| record.offset >= from && record.timestamp >= timestamp)
        .map(|record| (record.offset, record.timestamp))
}
