//! Frames that are ready to be sent: built once, and only numbered anew each time.
//!
//! Owns their bytes. A block of several frames lies in one piece, so that small ones leave with one system call.

use std::ops::Range;

use corelane_protocol::batch::{BatchBuilder, BatchBuilderConfig, PushError, RecordRef};
use corelane_protocol::request::{Acks, ProduceEntry, ProduceRequest};
use corelane_protocol::{
    AlignedBytes, CorrelationId, PartitionIndex, Request, RequestFlags, Timestamp, TopicId,
    TopicPartition,
};

use crate::BenchError;
use crate::relay::HEADER_BYTES;

/// Where the correlation id lies in a produce frame (docs/wire.md).
const CORRELATION_ID: Range<usize> = 8..12;
/// Where the first entry's partition lies: after the request's header, acks, timeout, count and topic.
const PARTITION: Range<usize> = 44..48;
/// A block has so many bytes or one frame: it is to stay in the second-level cache.
const BLOCK_BYTES: usize = 128 << 10;
/// How long the broker may take, ms.
const TIMEOUT_MS: u32 = 30_000;

/// Frames of one length.
#[derive(Clone, Debug)]
pub struct Frames {
    block: Vec<u8>,
    frame_bytes: usize,
    records: usize,
    value_bytes: usize,
    /// The partitions that produce frames go to in turn; empty for a relay.
    partitions: Vec<PartitionIndex>,
}

/// One batch, the records in it, and their value bytes.
#[derive(Clone, Debug)]
pub struct Batch {
    bytes: AlignedBytes,
    records: usize,
    value_bytes: usize,
}

impl Batch {
    /// As many records of `record_bytes` as a batch of `batch_bytes` holds, at most `records_max`.
    ///
    /// # Errors
    /// Not even one fits.
    pub fn build(
        record_bytes: usize,
        batch_bytes: u32,
        records_max: usize,
    ) -> Result<Self, BenchError> {
        let config = BatchBuilderConfig {
            bytes_max: batch_bytes,
            ..BatchBuilderConfig::default()
        };
        let mut builder =
            BatchBuilder::new(config).map_err(BenchError::io("cannot build batches"))?;
        let value = noise(record_bytes);
        let mut records = 0;
        while records < records_max {
            let record = RecordRef {
                value: Some(&value),
                timestamp: Timestamp::new(1_700_000_000_000),
                ..RecordRef::default()
            };
            match builder.try_push(record) {
                Ok(_) => records += 1,
                Err(PushError::Full) => break,
                Err(error) => return Err(BenchError::Settings(error.to_string())),
            }
        }
        let bytes = builder.finish();
        Ok(Self {
            bytes: bytes.map_err(|error| BenchError::Settings(error.to_string()))?,
            records,
            value_bytes: records * record_bytes,
        })
    }

    /// Records in it.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Frames {
    /// Produce requests of one batch each, going to the partitions of a topic in turn.
    ///
    /// # Errors
    /// There is no partition, or the batch is longer than a frame may be.
    pub fn produce(
        topic: TopicId,
        partitions: Vec<PartitionIndex>,
        batch: &Batch,
        acks: Acks,
    ) -> Result<Self, BenchError> {
        let Some(first) = partitions.first() else {
            let text = "the core has no partition of the topic: ask for more partitions";
            return Err(BenchError::Settings(text.into()));
        };
        let mut frame = Vec::new();
        let request = Request::Produce(ProduceRequest {
            acks,
            timeout_ms: TIMEOUT_MS,
            entries: vec![ProduceEntry {
                partition: TopicPartition::new(topic, *first),
                resume: false,
                batch: &batch.bytes,
            }],
        });
        request
            .encode(CorrelationId::new(0), RequestFlags::NONE, &mut frame)
            .map_err(|error| BenchError::Settings(error.to_string()))?;
        Ok(Self {
            partitions,
            ..Self::of(&frame, batch.records, batch.value_bytes)
        })
    }

    /// Frames for the relay, as long as `like`'s and standing for as many records.
    fn relay_like(like: &Self) -> Self {
        Self {
            value_bytes: like.value_bytes,
            ..Self::relay(like.frame_bytes, like.records)
        }
    }

    /// Frames for the relay, as long as produce requests of this batch.
    ///
    /// # Errors
    /// The batch is longer than a frame may be.
    pub fn relay_for(batch: &Batch) -> Result<Self, BenchError> {
        let partitions = vec![PartitionIndex::new(0)];
        let produce = Self::produce(TopicId::from_bytes([1; 16]), partitions, batch, Acks::All)?;
        Ok(Self::relay_like(&produce))
    }

    /// Frames for the relay.
    ///
    /// # Panics
    /// If `frame_bytes` is no more than a header's.
    #[must_use]
    pub fn relay(frame_bytes: usize, records: usize) -> Self {
        assert!(frame_bytes > HEADER_BYTES, "a frame has a body");
        let body = noise(frame_bytes - HEADER_BYTES);
        let mut frame = (body.len() as u32).to_le_bytes().to_vec();
        frame.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        frame.extend_from_slice(&body);
        Self::of(&frame, records, body.len())
    }

    fn of(frame: &[u8], records: usize, value_bytes: usize) -> Self {
        Self {
            block: frame.repeat((BLOCK_BYTES / frame.len()).max(1)),
            frame_bytes: frame.len(),
            records,
            value_bytes,
            partitions: Vec::new(),
        }
    }

    /// Frames of a block.
    #[must_use]
    pub fn block_frames(&self) -> usize {
        self.block.len() / self.frame_bytes
    }

    /// Bytes of a frame.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        self.frame_bytes
    }

    /// Records of a frame.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records
    }

    /// Value bytes of a frame's records.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        self.value_bytes
    }

    /// Partitions that they go to.
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.partitions.len()
    }

    /// The frames numbered from `first`, `count` of them.
    ///
    /// # Panics
    /// If `count` exceeds [`Self::block_frames`].
    pub fn block(&mut self, first: u64, count: usize) -> &[u8] {
        let block = &mut self.block[..count * self.frame_bytes];
        if !self.partitions.is_empty() {
            let frames = block.chunks_exact_mut(self.frame_bytes);
            for (number, frame) in (first..).zip(frames) {
                let partition = self.partitions[(number % self.partitions.len() as u64) as usize];
                // Numbers wrap as correlation ids do; far fewer are in flight.
                frame[CORRELATION_ID].copy_from_slice(&(number as u32).to_le_bytes());
                frame[PARTITION].copy_from_slice(&partition.get().to_le_bytes());
            }
        }
        block
    }

    /// Bytes of the block that was last numbered.
    #[must_use]
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.block[range]
    }
}

/// Bytes of which no two in a row are alike for long, so that nothing on the way gains by zeros.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state: u32 = 0x2545_f491;
    let noise = (0..bytes).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_le_bytes()[3]
    });
    noise.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane_protocol::RequestHeader;
    use corelane_protocol::batch::{BatchLimits, validate};

    #[test]
    fn produce_frames_are_numbered_and_go_round_the_partitions() {
        let batch = Batch::build(100, 4096, usize::MAX).unwrap();
        let topic = TopicId::from_bytes([3; 16]);
        let partitions = vec![PartitionIndex::new(4), PartitionIndex::new(9)];
        let mut frames = Frames::produce(topic, partitions, &batch, Acks::All).unwrap();
        let frame_bytes = frames.frame_bytes();
        let block = frames.block(u64::from(u32::MAX), 3).to_vec();
        let mut seen = Vec::new();
        for frame in block.chunks_exact(frame_bytes) {
            let header = RequestHeader::parse(frame, 1 << 20).unwrap().unwrap();
            assert_eq!(header.frame_length(), frame_bytes);
            let body = &frame[RequestHeader::LEN..];
            let request = Request::decode(header.api_key, header.api_version, body).unwrap();
            let Request::Produce(produce) = request else {
                panic!("{request:?}")
            };
            let entry = produce.entries[0];
            assert_eq!(entry.partition.topic, topic);
            validate(entry.batch, &BatchLimits::default()).unwrap();
            seen.push((header.correlation_id.get(), entry.partition.partition.get()));
        }
        assert_eq!(seen, [(u32::MAX, 9), (0, 4), (1, 9)]);
    }

    #[test]
    fn batches_are_as_full_as_asked() {
        let batch = Batch::build(1000, 65_536, usize::MAX).unwrap();
        assert!((64_000..=65_536).contains(&batch.bytes().len()));
        assert_eq!(Batch::build(1000, 65_536, 1).unwrap().records(), 1);
        assert!(Batch::build(1000, 512, 1).is_err());
    }

    #[test]
    fn the_relays_frames_are_as_long_as_the_brokers() {
        let batch = Batch::build(1000, 65_536, 1).unwrap();
        let topic = TopicId::from_bytes([3; 16]);
        let broker = Frames::produce(topic, vec![PartitionIndex::new(0)], &batch, Acks::All);
        let broker = broker.unwrap();
        let relay = Frames::relay_like(&broker);
        assert_eq!(relay.frame_bytes(), broker.frame_bytes());
        assert_eq!(relay.value_bytes(), 1000);
    }
}
