//! Memory that batches are built in, used again and again.
//!
//! Owns: the spare builders and the spare buffers of one producer, both bounded. Shared by callers
//! (who begin batches) and the sender (who encodes and settles them).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use corelane_protocol::batch::{
    BatchBuilder, BatchBuilderConfig, BatchBytes, Compression, UNCOMPRESSED_BYTES_MAX_DEFAULT,
};
use corelane_protocol::{ProducerEpoch, ProducerId};

use crate::error::{Error, Result};

/// Spare builders that are kept. More are made when more batches are open at a time.
const SPARE_BUILDERS_MAX: usize = 64;

/// Bytes of spare buffers that are kept.
const SPARE_BUFFER_BYTES_MAX: usize = 16 * 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Builders {
    config: BatchBuilderConfig,
    spare: Mutex<Spare>,
    buffers: Mutex<Vec<BatchBytes>>,
}

/// Builders without records.
#[derive(Debug)]
#[expect(
    clippy::vec_box,
    reason = "a builder is large, and moves between caller, sender and here"
)]
struct Spare {
    /// What the batches say of their producer, unless the sender corrects it.
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    /// All of that producer.
    builders: Vec<Box<BatchBuilder>>,
}

impl Builders {
    pub(crate) fn new(config: BatchBuilderConfig) -> Self {
        Self {
            spare: Mutex::new(Spare {
                producer_id: config.producer_id,
                producer_epoch: config.producer_epoch,
                builders: Vec::new(),
            }),
            config,
            buffers: Mutex::default(),
        }
    }

    #[cfg(test)]
    pub(crate) fn config(&self) -> &BatchBuilderConfig {
        &self.config
    }

    /// Who the producer is that batches begun from now on are of.
    pub(crate) fn identify(&self, producer_id: ProducerId, producer_epoch: ProducerEpoch) {
        let mut spare = lock(&self.spare);
        spare.producer_id = producer_id;
        spare.producer_epoch = producer_epoch;
        // They were made for another one, or for none.
        spare.builders.clear();
    }

    /// The size at which a usual batch is full, in bytes.
    pub(crate) fn batch_bytes(&self) -> usize {
        self.config.bytes_max as usize
    }

    /// The bytes that a batch of one record may have before it is compressed, where the topic takes
    /// `topic_bytes_max` as it is sent. How far a record shrinks is known once it was compressed.
    pub(crate) fn alone_bytes_max(&self, topic_bytes_max: u32) -> u32 {
        match self.config.compression {
            Compression::None => topic_bytes_max,
            _ => topic_bytes_max.max(UNCOMPRESSED_BYTES_MAX_DEFAULT),
        }
    }

    /// Whether encoding compresses.
    pub(crate) fn compresses(&self) -> bool {
        self.config.compression != Compression::None
    }

    /// An empty builder of a usual batch, for a topic that takes `topic_bytes_max`.
    pub(crate) fn take(&self, topic_bytes_max: u32) -> Result<Box<BatchBuilder>> {
        let taken = {
            let mut spare = lock(&self.spare);
            let builder = spare.builders.pop();
            builder.ok_or_else(|| self.config_of(&spare))
        };
        let mut builder = match taken {
            Ok(builder) => builder,
            Err(config) => build(config)?,
        };
        builder.set_bytes_max(self.config.bytes_max.min(topic_bytes_max));
        Ok(builder)
    }

    /// An empty builder for one record that is larger than a usual batch.
    pub(crate) fn large(&self, topic_bytes_max: u32) -> Result<Box<BatchBuilder>> {
        build(BatchBuilderConfig {
            bytes_max: self.alone_bytes_max(topic_bytes_max),
            ..self.config_of(&lock(&self.spare))
        })
    }

    fn config_of(&self, spare: &Spare) -> BatchBuilderConfig {
        BatchBuilderConfig {
            producer_id: spare.producer_id,
            producer_epoch: spare.producer_epoch,
            ..self.config.clone()
        }
    }

    /// Takes back a builder; what is in it is forgotten.
    pub(crate) fn give_back(&self, mut builder: Box<BatchBuilder>) {
        if builder.config().bytes_max > self.config.bytes_max {
            return;
        }
        builder.clear();
        let mut spare = lock(&self.spare);
        let is_current = builder.config().producer_id == spare.producer_id;
        if is_current && spare.builders.len() < SPARE_BUILDERS_MAX {
            spare.builders.push(builder);
        }
    }

    /// Turns a builder's records into the bytes of a batch, and takes the builder back.
    pub(crate) fn encode(&self, mut builder: Box<BatchBuilder>) -> BatchBytes {
        let next = lock(&self.buffers).pop();
        let finished = builder.finish_in_place(next.unwrap_or_default());
        self.give_back(builder);
        finished.expect("an open batch has at least one record")
    }

    /// Takes back a batch's bytes, if nobody else holds them.
    pub(crate) fn give_back_bytes(&self, bytes: Arc<BatchBytes>) {
        let Ok(bytes) = Arc::try_unwrap(bytes) else {
            return;
        };
        let usual = self.config.bytes_max as usize;
        let mut buffers = lock(&self.buffers);
        // A batch's memory grows by doubling, and has room before the batch.
        if bytes.capacity() <= usual.saturating_mul(3)
            && buffers.len() < SPARE_BUFFER_BYTES_MAX / usual.max(1)
        {
            buffers.push(bytes);
        }
    }
}

fn build(config: BatchBuilderConfig) -> Result<Box<BatchBuilder>> {
    let codec = config.compression;
    BatchBuilder::new(config)
        .map(Box::new)
        .map_err(|error| Error::invalid(format!("{codec} cannot be set up: {error}")))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use corelane_protocol::batch::RecordRef;

    use super::*;

    fn builders() -> Builders {
        Builders::new(BatchBuilderConfig {
            bytes_max: 4_096,
            ..BatchBuilderConfig::default()
        })
    }

    fn filled(builders: &Builders) -> Box<BatchBuilder> {
        let mut builder = builders.take(1 << 20).unwrap();
        for byte in 0..3 {
            let value = [byte; 1_000];
            let record = RecordRef {
                value: Some(&value),
                ..RecordRef::default()
            };
            builder.try_push(record).unwrap();
        }
        builder
    }

    #[test]
    fn batches_are_built_in_the_memory_of_settled_ones() {
        let builders = builders();
        let expected = filled(&builders).finish().unwrap();
        let first = builders.encode(filled(&builders));
        assert_eq!(first[..], expected[..]);
        let memory = first.as_ptr().addr()..first.as_ptr().addr() + first.capacity();
        builders.give_back_bytes(Arc::new(first));
        // Its records are collected before it is known that the memory is free.
        let second = builders.encode(filled(&builders));
        assert!(!memory.contains(&second.as_ptr().addr()));
        let third = builders.encode(filled(&builders));
        assert!(memory.contains(&third.as_ptr().addr()));
        assert_eq!((&second[..], &third[..]), (&expected[..], &expected[..]));
    }

    #[test]
    fn memory_that_others_hold_or_that_is_too_large_is_not_kept() {
        let builders = builders();
        let kept = || lock(&builders.buffers).len();
        let held = Arc::new(BatchBytes::copy_of(&[0; 100]));
        builders.give_back_bytes(Arc::clone(&held));
        assert_eq!(kept(), 0);
        builders.give_back_bytes(held);
        assert_eq!(kept(), 1);
        builders.give_back_bytes(Arc::new(BatchBytes::copy_of(&[0; 4_096 * 3 + 1])));
        assert_eq!(kept(), 1);
    }
}
