//! The settings of a producer.

use std::sync::Arc;
use std::time::Duration;

use corelane_protocol::batch::{BatchBuilderConfig, Compression};
use corelane_protocol::request::Acks;
use tokio::sync::mpsc;
use tracing::Instrument;

use super::builders::Builders;
use super::engine::{Engine, EngineSettings};
use super::partitioner::Partitioner;
use super::sender::Sender;
use super::shared::Shared;
use super::{Handle, Producer};
use crate::backoff::Backoff;
use crate::cluster::Cluster;
use crate::error::{Error, Result};

/// The smallest batch size that can be asked for, in bytes.
const BATCH_BYTES_MIN: u32 = 512;

/// The settings of a [`Producer`].
#[derive(Debug, Clone)]
pub struct ProducerBuilder {
    cluster: Arc<Cluster>,
    acks: Acks,
    linger: Duration,
    batch_bytes: u32,
    buffer_bytes: usize,
    in_flight_bytes: u64,
    request_bytes: u64,
    partial_in_flight: usize,
    delivery_timeout: Duration,
    compression: Compression,
    compression_level: Option<i32>,
    partitioner: Partitioner,
    backoff: Option<Backoff>,
    metadata_max_age: Duration,
    idempotent: bool,
    seed: Option<u64>,
}

impl ProducerBuilder {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self {
            cluster,
            acks: Acks::All,
            linger: Duration::ZERO,
            batch_bytes: 64 * 1024,
            buffer_bytes: 32 * 1024 * 1024,
            in_flight_bytes: 8 * 1024 * 1024,
            request_bytes: 1024 * 1024,
            partial_in_flight: 5,
            delivery_timeout: Duration::from_secs(120),
            compression: Compression::None,
            compression_level: None,
            partitioner: Partitioner::default(),
            backoff: None,
            metadata_max_age: Duration::from_secs(300),
            idempotent: true,
            seed: None,
        }
    }

    /// When the broker answers: at once from memory (`None`), once the leader has flushed
    /// (`Leader`), or once every in-sync replica has (`All`, the default).
    pub fn acks(mut self, acks: Acks) -> Self {
        self.acks = acks;
        self
    }

    /// How long a batch that is not full waits for more records. Default zero: an idle producer
    /// sends at once, and a busy one fills batches while others are in flight.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// The size at which a batch is full, in bytes before compression. Default 64 KiB; less where a
    /// topic takes less. A larger record goes in a batch of its own.
    pub fn batch_bytes(mut self, bytes: u32) -> Self {
        self.batch_bytes = bytes;
        self
    }

    /// The bytes of records that may wait for their answers, before calls wait. Default 32 MiB.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = bytes;
        self
    }

    /// The bytes of requests that may be in flight on one connection; the broker may ask for less.
    /// Default 8 MiB.
    pub fn in_flight_bytes(mut self, bytes: u64) -> Self {
        self.in_flight_bytes = bytes;
        self
    }

    /// The bytes of batches that are put into one request, at most; a larger batch goes alone.
    /// Default 1 MiB.
    pub fn request_bytes(mut self, bytes: u64) -> Self {
        self.request_bytes = bytes;
        self
    }

    /// How many batches of one partition may be in flight before one that is not full has to wait
    /// for company. Full batches are bounded by bytes only. Default 5.
    pub fn partial_in_flight(mut self, batches: usize) -> Self {
        self.partial_in_flight = batches;
        self
    }

    /// How long a record may take from being accepted to being settled, repeats included. Default
    /// 120 s. After it the delivery fails with `TimedOut` if the record certainly was not written,
    /// and with `OutcomeUnknown` if it may have been.
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.delivery_timeout = timeout;
        self
    }

    /// How batches are compressed. Default: not at all. A batch that does not shrink is sent as it
    /// is.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// The level of gzip (0 to 9) or zstd; other codecs have none. Default: the codec's own.
    pub fn compression_level(mut self, level: i32) -> Self {
        self.compression_level = Some(level);
        self
    }

    /// How records without an explicit partition are spread. Default [`Partitioner::KeyOrSticky`].
    pub fn partitioner(mut self, partitioner: Partitioner) -> Self {
        self.partitioner = partitioner;
        self
    }

    /// The shortest and the longest wait before a batch is sent again; it doubles in between.
    /// Default: the client's.
    pub fn retry_backoff(mut self, min: Duration, max: Duration) -> Self {
        self.backoff = Some(Backoff { min, max });
        self
    }

    /// How old the producer's view of a topic may become while records are sent to it: after so long new
    /// partitions are used. Default 5 min. On an error that shows a stale view it is renewed at once.
    pub fn metadata_max_age(mut self, age: Duration) -> Self {
        self.metadata_max_age = age;
        self
    }

    /// Whether the broker knows a batch again that is sent again because its answer was lost, so that
    /// every record is in the log once. Default: yes; see [`Producer`] for what it gives.
    ///
    /// The producer asks for its id with the first batch. It works with every kind of acks. Where the
    /// broker may lose what it has acknowledged (with acks `None`, or a topic with `flush.messages` or
    /// `flush.ms`), the records that it lost are not sent again, those behind them are, once.
    ///
    /// Without it a batch whose answer was lost may be there twice. That is needed only for a broker
    /// that is too old to give producer ids: the first delivery then fails and says so.
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        self.idempotent = idempotent;
        self
    }

    /// Makes the producer's random choices (jitter of waits, first partitions) repeatable.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Starts the producer, with one task on the current tokio runtime.
    ///
    /// # Errors
    /// `InvalidArgument` for settings that cannot work; connection errors.
    ///
    /// # Cancel safety
    /// Dropping the future starts nothing.
    pub async fn build(self) -> Result<Producer> {
        self.check()?;
        let connection = self.cluster.control().await?;
        let greeting = connection.greeting();
        let frame_bytes_max = greeting.frame_bytes_max;
        let config = BatchBuilderConfig {
            bytes_max: self.batch_bytes,
            compression: self.compression,
            compression_level: self.compression_level,
            ..BatchBuilderConfig::default()
        };
        let builders = Arc::new(Builders::new(config));
        // Shows at once whether the codec can be set up.
        builders.give_back(builders.take(self.batch_bytes)?);
        let seed = self.seed.unwrap_or_else(|| self.cluster.next_seed());
        let settings = EngineSettings {
            linger: self.linger,
            delivery_timeout: self.delivery_timeout,
            in_flight_bytes_max: self.in_flight_bytes,
            request_bytes_max: self.request_bytes.min(u64::from(frame_bytes_max)),
            partial_in_flight_max: self.partial_in_flight,
            backoff: self.backoff.unwrap_or(self.cluster.config().backoff),
            metadata_max_age: self.metadata_max_age,
            idempotent: self.idempotent,
            seed,
        };
        let engine = Engine::new(settings, Arc::clone(&builders), self.cluster.only_address());
        let shared = Shared::new(
            self.cluster,
            builders,
            self.partitioner,
            self.buffer_bytes,
            seed,
        );
        let shared = Arc::new(shared);
        let (commands, receiver) = mpsc::unbounded_channel();
        let sender = Sender::new(Arc::clone(&shared), engine, self.acks, receiver);
        tokio::spawn(
            sender
                .run()
                .instrument(tracing::debug_span!("producer", seed)),
        );
        Ok(Producer {
            handle: Arc::new(Handle { shared, commands }),
        })
    }

    fn check(&self) -> Result<()> {
        let refuse = |what: &str| Err(Error::invalid(what));
        if self.batch_bytes < BATCH_BYTES_MIN {
            return refuse("batch_bytes must be at least 512");
        }
        if self.buffer_bytes < self.batch_bytes as usize || self.buffer_bytes > BUFFER_BYTES_MAX {
            return refuse("buffer_bytes must hold at least one batch, and at most 4 GiB");
        }
        if self.in_flight_bytes == 0 || self.request_bytes == 0 || self.partial_in_flight == 0 {
            return refuse(
                "in_flight_bytes, request_bytes and partial_in_flight must be more than 0",
            );
        }
        if self.metadata_max_age.is_zero() {
            return refuse("metadata_max_age must be more than 0");
        }
        if self.delivery_timeout <= self.linger {
            return refuse("delivery_timeout must be longer than linger");
        }
        match self.backoff {
            Some(backoff) if backoff.min > backoff.max || backoff.max.is_zero() => {
                refuse("the shortest wait before a retry must not exceed the longest")
            }
            _ => Ok(()),
        }
    }
}

/// What the counter of buffer space can count.
const BUFFER_BYTES_MAX: usize = u32::MAX as usize;
