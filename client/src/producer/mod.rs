//! Sending records.
//!
//! Owns: the public producer and its settings. Callers append to per-partition accumulators under
//! short locks; one task for each producer (`sender`) carries out what the engine (`engine`,
//! `answers`, `plan`, `order`, `sequence`, `window`, `link`: sans-IO) decides.

mod accumulator;
#[cfg(test)]
mod accumulator_tests;
mod answers;
mod batch;
mod builder;
mod builders;
mod delivery;
mod engine;
#[cfg(test)]
mod engine_tests;
mod identification;
mod intake;
mod link;
mod order;
mod order_answers;
#[cfg(test)]
mod order_model_tests;
#[cfg(test)]
mod order_numbers_tests;
#[cfg(test)]
mod order_tests;
mod partitioner;
mod plan;
mod sender;
mod sequence;
mod shared;
mod split;
mod window;

use std::fmt;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

pub use self::builder::ProducerBuilder;
pub use self::delivery::{BatchDelivery, BatchOutcome, Delivery, Receipt};
pub use self::partitioner::{PartitionFn, PartitionInput, Partitioner};

use self::delivery::{Placement, Single, Sink};
use self::intake::Intake;
use self::sender::Command;
use self::shared::{Grant, Shared, Stopped};
use crate::error::{Error, Result};
use crate::record::{Record, RecordRef};

/// Sends records to topics. Cheap to clone; clones share one buffer and one set of connections.
///
/// Records of one partition are written in the order in which they were sent, also when some of
/// them have to be sent again. A batch whose answer was lost is sent again, and the broker knows it
/// again: a record whose delivery has a receipt is in the log exactly once, and no record is there
/// twice, for as long as the producer lives. That does not cost requests in flight; it can be turned
/// off with [`ProducerBuilder::idempotent`].
///
/// What a delivery says of its record:
///
/// | outcome | in the log |
/// |---|---|
/// | a [`Receipt`], or [`Error::OffsetUnknown`] | once |
/// | an error of which [`Error::is_outcome_unknown`] is true | once, or not at all |
/// | any other error | not at all |
///
/// A record that is sent again by its program is another one: after an unknown outcome it may then be
/// there twice.
///
/// When the last clone is dropped, records already accepted are still sent, for as long as the
/// tokio runtime lives; [`Producer::close`] waits for them.
#[derive(Debug, Clone)]
pub struct Producer {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// A record that [`Producer::try_send`] did not take, handed back with the reason.
#[derive(Debug)]
pub struct TrySendError<'a> {
    /// The record, as it was given.
    pub record: Record<'a>,
    /// Why it was not taken.
    pub error: Error,
}

impl fmt::Display for TrySendError<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(formatter)
    }
}

impl std::error::Error for TrySendError<'_> {}

/// Records of a batch call that are taken from its iterator at a time.
const BATCH_CALL_AHEAD: usize = 32;

/// Bytes that a batch call hands over before it lets the sender run, which then sends the batches in
/// one request and one write: to wake the broker for each of them costs more than to build it.
const HANDED_OVER_BYTES: usize = 256 * 1024;

impl Producer {
    /// Hands a record over. It waits while the buffer is full, and the first time a topic is used
    /// for its partitions; the returned delivery resolves when the broker has answered.
    ///
    /// # Errors
    /// `RecordTooLarge` or `InvalidArgument` for a record that can never be sent; `Refused` with
    /// `UnknownTopic`; connection errors while asking for an unknown topic; `Closed`. Where batches
    /// are compressed, it is the delivery that says `RecordTooLarge`: how far the record shrinks is
    /// known only then.
    ///
    /// # Cancel safety
    /// Dropping the future before it completes means that the record was not taken.
    pub async fn send(&self, record: Record<'_>) -> Result<Delivery> {
        let headers = header_refs(&record);
        let item = record_ref(&record, &headers);
        let shared = &*self.handle.shared;
        // A caller that never waits would keep the sender, woken on its own thread, from running.
        tokio::task::consume_budget().await;
        let mut one = One::new(shared, &record.topic, item);
        loop {
            match one.append()? {
                Ok(delivery) => return Ok(delivery),
                Err(Stopped::NeedsBytes(bytes)) => shared.reserve(&mut one.grant, bytes).await?,
                Err(Stopped::NeedsTopic) => shared.load_topic(&record.topic).await?,
                Err(Stopped::OldLimit(_)) => shared.refresh_limit(&record.topic).await,
            }
        }
    }

    /// Hands a record over without waiting, or hands it back.
    ///
    /// The partitions of the topic must be known: send a record to it before, or call
    /// [`Producer::partition_count`] once.
    ///
    /// # Errors
    /// The record and the reason: `BufferFull`, `TopicNotReady`, or as [`Producer::send`].
    #[expect(
        clippy::result_large_err,
        reason = "the record is handed back as it is, without an allocation"
    )]
    pub fn try_send<'a>(&self, record: Record<'a>) -> Result<Delivery, TrySendError<'a>> {
        let attempt = {
            let headers = header_refs(&record);
            let item = record_ref(&record, &headers);
            self.try_append(&record.topic, item)
        };
        attempt.map_err(|error| TrySendError { record, error })
    }

    fn try_append(&self, topic: &str, item: RecordRef<'_>) -> Result<Delivery> {
        let shared = &*self.handle.shared;
        let bytes = item.buffer_bytes();
        shared.check_fits(bytes)?;
        match One::new(shared, topic, item).append()? {
            Ok(delivery) => Ok(delivery),
            Err(Stopped::NeedsBytes(_)) => Err(Error::BufferFull),
            Err(Stopped::NeedsTopic) => Err(Error::TopicNotReady {
                topic: topic.into(),
            }),
            Err(Stopped::OldLimit(error)) => Err(error),
        }
    }

    /// Hands many records of one topic over, with one future for all of them. It waits while the
    /// buffer is full; its memory does not grow with the number of records beyond a few bytes for
    /// each run of records that go to one partition.
    ///
    /// A record that can never be sent does not stop the others; its failure is in the outcome.
    ///
    /// # Errors
    /// `Refused` with `UnknownTopic`, connection errors while asking for an unknown topic, or
    /// `Closed`; records taken before that are sent all the same.
    ///
    /// # Cancel safety
    /// Dropping the future keeps the records that were taken so far, which are sent, and takes no
    /// more.
    ///
    /// ```no_run
    /// # async fn example(producer: corelane_client::Producer) -> corelane_client::Result<()> {
    /// use corelane_client::RecordRef;
    /// let lines = ["one", "two", "three"];
    /// let outcome = producer.send_batch("orders", lines).await?.await.into_result()?;
    /// for receipt in outcome.iter() {
    ///     println!("{}", receipt?.offset);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn send_batch<'r, I>(&self, topic: &str, records: I) -> Result<BatchDelivery>
    where
        I: IntoIterator,
        I::Item: Into<RecordRef<'r>>,
    {
        let shared = &*self.handle.shared;
        let mut records: Intake<'_, _, BATCH_CALL_AHEAD> =
            Intake::new(records.into_iter().map(Into::into));
        let mut placement = Placement::default();
        let mut grant = shared.grant();
        // What calls before this one handed over may wait already.
        let mut handed_over = HANDED_OVER_BYTES;
        loop {
            let now_ms = unix_time_ms();
            match shared.append(topic, &mut records, &mut grant, now_ms, &mut placement)? {
                None => return Ok(BatchDelivery::new(placement)),
                Some(Stopped::NeedsTopic) => shared.load_topic(topic).await?,
                Some(Stopped::OldLimit(_)) => shared.refresh_limit(topic).await,
                Some(Stopped::NeedsBytes(bytes)) => {
                    if let Err(error) = shared.check_fits(bytes) {
                        placement.refused(error);
                        records.advance();
                    } else {
                        let wanted = bytes.saturating_mul(records.count_min());
                        let wanted = wanted.clamp(bytes, shared.grant_bytes_max().max(bytes));
                        shared.reserve(&mut grant, wanted).await?;
                        if handed_over >= HANDED_OVER_BYTES && shared.sender_is_late() {
                            // It may have been woken on this very thread.
                            tokio::task::yield_now().await;
                            handed_over = 0;
                        }
                        handed_over = handed_over.saturating_add(wanted);
                    }
                }
            }
        }
    }

    /// How many partitions a topic has; makes the topic ready for [`Producer::try_send`].
    ///
    /// # Errors
    /// `Refused` with `UnknownTopic`; connection errors after the request timeout.
    ///
    /// # Cancel safety
    /// Safe: nothing changes.
    pub async fn partition_count(&self, topic: &str) -> Result<u32> {
        self.handle.shared.load_topic(topic).await?;
        Ok(self
            .handle
            .shared
            .cluster
            .topic(topic)
            .await?
            .partition_count())
    }

    /// Sends everything accepted so far without lingering, and waits until all of it is settled.
    ///
    /// # Errors
    /// The first failure among those records; their deliveries tell which. `Closed`.
    ///
    /// # Cancel safety
    /// Dropping the future stops only the waiting.
    pub async fn flush(&self) -> Result<()> {
        let (sender, receiver) = oneshot::channel();
        let closed = || Error::Closed { what: "producer" };
        self.handle
            .commands
            .send(Command::Flush(sender))
            .map_err(|_| closed())?;
        self.handle.shared.wake.notify_one();
        let completions = receiver.await.map_err(|_| closed())?;
        let mut first_failure = Ok(());
        for completion in completions {
            let ending = completion.await;
            if let (Some(error), Ok(())) = (ending.first_error(), &first_failure) {
                first_failure = Err(error.clone());
            }
        }
        first_failure
    }

    /// Takes no more records (on any clone), and waits until all accepted ones are settled.
    ///
    /// # Errors
    /// The first failure among the records that were not settled yet.
    ///
    /// # Cancel safety
    /// Dropping the future stops only the waiting: the producer is closed, and what was accepted is
    /// still sent.
    pub async fn close(&self) -> Result<()> {
        self.handle.shared.close();
        match self.flush().await {
            // Closed before: there was nothing left to wait for.
            Err(Error::Closed { .. }) => Ok(()),
            result => result,
        }
    }
}

/// A call with one record.
struct One<'r> {
    shared: &'r Shared,
    topic: &'r str,
    records: Intake<'r, std::iter::Once<RecordRef<'r>>, 1>,
    grant: Grant<'r>,
    now_ms: i64,
}

impl<'r> One<'r> {
    /// Takes the buffer space that the record needs, if there is so much now.
    fn new(shared: &'r Shared, topic: &'r str, item: RecordRef<'r>) -> Self {
        let mut grant = shared.grant();
        shared.try_reserve(&mut grant, item.buffer_bytes());
        Self {
            shared,
            topic,
            records: Intake::new(std::iter::once(item)),
            grant,
            now_ms: unix_time_ms(),
        }
    }

    /// Appends the record; the inner error tells what has to come first.
    fn append(&mut self) -> Result<Result<Delivery, Stopped>> {
        let mut single = Single::default();
        let (records, grant) = (&mut self.records, &mut self.grant);
        match self
            .shared
            .append(self.topic, records, grant, self.now_ms, &mut single)?
        {
            Some(stopped) => Ok(Err(stopped)),
            None => single
                .0
                .expect("the record was appended or refused")
                .map(Ok),
        }
    }
}

fn header_refs<'a>(record: &'a Record<'_>) -> Vec<(&'a str, Option<&'a [u8]>)> {
    let headers = record.headers.iter();
    headers
        .map(|(name, value)| (&**name, value.as_deref()))
        .collect()
}

fn record_ref<'a>(
    record: &'a Record<'_>,
    headers: &'a [(&'a str, Option<&'a [u8]>)],
) -> RecordRef<'a> {
    RecordRef {
        partition: record.partition,
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers,
        timestamp_ms: record.timestamp_ms,
    }
}

/// The time for records that bring none.
#[expect(
    clippy::disallowed_methods,
    reason = "records are stamped with the wall clock where they enter"
)]
fn unix_time_ms() -> i64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_epoch.map_or(0, |elapsed| {
        i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
    })
}
