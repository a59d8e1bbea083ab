//! What a producer's caller awaits: the outcome of one record, or of a batch call.
//!
//! Owns: the completion that all records of a batch share (also when the batch is split), the futures
//! over it, the receipts.
//! Never: decides an outcome; the sender does.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use corelane_protocol::response::Durability;
use futures_util::FutureExt;
use futures_util::future::Shared;
use tokio::sync::oneshot;

use super::accumulator::Place;
use crate::error::{Error, Result};

/// The broker's word for one record: where it is, and how safe.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's index.
    pub partition: u32,
    /// The record's offset in the partition.
    pub offset: u64,
    /// When the broker appended it, in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// What had happened to the record when the broker answered.
    pub durability: Durability,
    /// How many replicas had flushed it.
    pub replicas_flushed: u8,
}

/// The broker's word for one batch of one partition.
#[derive(Debug, Clone)]
pub(crate) struct BatchReceipt {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: u32,
    pub(crate) base_offset: u64,
    pub(crate) timestamp_ms: i64,
    pub(crate) durability: Durability,
    pub(crate) replicas_flushed: u8,
}

impl BatchReceipt {
    fn record(&self, index: u32) -> Receipt {
        Receipt {
            topic: Arc::clone(&self.topic),
            partition: self.partition,
            offset: self.base_offset + u64::from(index),
            timestamp_ms: self.timestamp_ms,
            durability: self.durability,
            replicas_flushed: self.replicas_flushed,
        }
    }
}

/// What became of a batch on the wire.
pub(crate) type BatchResult = Result<BatchReceipt>;

/// How the records of a batch ended: together, or apart after it was split.
#[derive(Debug)]
pub(crate) enum Ending {
    Whole(BatchResult),
    Parts(Vec<Part>),
}

/// Consecutive records of a batch that ended together.
#[derive(Debug)]
pub(crate) struct Part {
    count: u32,
    result: BatchResult,
}

impl Ending {
    /// The result that holds for a record, its index among the records of that result, and how many
    /// of those there are from it on.
    fn at(&self, index: u32) -> (&BatchResult, u32, u32) {
        let parts = match self {
            Self::Whole(result) => return (result, index, u32::MAX),
            Self::Parts(parts) => parts,
        };
        let mut before = 0;
        for part in parts {
            if index - before < part.count {
                return (&part.result, index - before, part.count - (index - before));
            }
            before += part.count;
        }
        unreachable!("the parts hold all records of their batch");
    }

    fn receipt(&self, index: u32) -> Result<Receipt> {
        match self.at(index) {
            (Ok(receipt), index, _) => Ok(receipt.record(index)),
            (Err(error), ..) => Err(error.clone()),
        }
    }

    /// The first failure among its records.
    pub(crate) fn first_error(&self) -> Option<&Error> {
        match self {
            Self::Whole(result) => result.as_ref().err(),
            Self::Parts(parts) => parts.iter().find_map(|part| part.result.as_ref().err()),
        }
    }
}

/// The sender's side of a batch's completion, or of a part of it.
#[derive(Debug)]
pub(crate) enum Completer {
    Batch(oneshot::Sender<Arc<Ending>>),
    Part {
        split: Arc<Mutex<Split>>,
        index: usize,
    },
}

/// A split batch whose parts are not all settled yet.
#[derive(Debug)]
pub(crate) struct Split {
    whole: Option<Completer>,
    /// How many records each part has, and how it ended once it did.
    parts: Vec<(u32, Option<Ending>)>,
}

impl Completer {
    pub(crate) fn complete(self, result: BatchResult) {
        self.end(Ending::Whole(result));
    }

    /// One completer for each part of the batch, in order, with so many records each.
    pub(crate) fn split(self, counts: impl Iterator<Item = u32>) -> Vec<Self> {
        let parts: Vec<_> = counts.map(|count| (count, None)).collect();
        let indexes = 0..parts.len();
        let whole = Some(self);
        let split = Arc::new(Mutex::new(Split { whole, parts }));
        let part = |index| Self::Part {
            split: Arc::clone(&split),
            index,
        };
        indexes.map(part).collect()
    }

    fn end(self, ending: Ending) {
        match self {
            // Nobody listens any more: the caller dropped its deliveries, as it may.
            Self::Batch(sender) => drop(sender.send(Arc::new(ending))),
            Self::Part { split, index } => {
                let done = {
                    let mut split = split.lock().unwrap_or_else(PoisonError::into_inner);
                    split.parts[index].1 = Some(ending);
                    split.take_done()
                };
                if let Some((whole, parts)) = done {
                    whole.end(Ending::Parts(parts));
                }
            }
        }
    }
}

impl Split {
    /// The batch with its parts, once all of them ended.
    fn take_done(&mut self) -> Option<(Completer, Vec<Part>)> {
        if self.parts.iter().any(|(_, ending)| ending.is_none()) {
            return None;
        }
        let mut parts = Vec::new();
        for (count, ending) in self.parts.drain(..) {
            match ending {
                Some(Ending::Whole(result)) => parts.push(Part { count, result }),
                Some(Ending::Parts(smaller)) => parts.extend(smaller),
                None => unreachable!("looked at above"),
            }
        }
        Some((self.whole.take()?, parts))
    }
}

/// The callers' side of a batch's completion.
#[derive(Debug, Clone)]
pub(crate) struct Completion(Shared<oneshot::Receiver<Arc<Ending>>>);

/// A new batch's completion: the side that tells and the side that listens.
pub(crate) fn completion() -> (Completer, Completion) {
    let (sender, receiver) = oneshot::channel();
    (Completer::Batch(sender), Completion(receiver.shared()))
}

impl Future for Completion {
    type Output = Arc<Ending>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match ready!(self.0.poll_unpin(context)) {
            Ok(result) => result,
            // The sender's task was dropped with its runtime, perhaps after the batch was sent.
            Err(_) => Arc::new(Ending::Whole(Err(Error::ConnectionLost {
                address: "the broker".into(),
                reason: "the runtime of the producer was shut down".into(),
            }))),
        })
    }
}

/// The outcome of one record, to be awaited.
///
/// It resolves to the [`Receipt`] once the broker has answered, or to an error once the record was
/// refused for good or its delivery timeout passed.
///
/// # Cancel safety
/// Dropping it, before or after polling, changes nothing about the record: it is sent all the same.
#[derive(Debug, Clone)]
#[must_use = "the record is sent either way, but only its delivery tells whether it arrived"]
pub struct Delivery {
    completion: Completion,
    index: u32,
}

impl Future for Delivery {
    type Output = Result<Receipt>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ending = ready!(self.completion.poll_unpin(context));
        Poll::Ready(ending.receipt(self.index))
    }
}

/// What an append tells about each record, in order.
pub(crate) trait Sink {
    /// The record lies in a batch of `partition`.
    fn placed(&mut self, partition: u32, place: Place<'_>);

    /// The record can never be sent, and was not put anywhere.
    fn refused(&mut self, error: Error);
}

/// Consecutive records of a batch call that lie consecutively in one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    /// Index into the call's batches.
    batch: u32,
    /// Index of the run's first record within that batch.
    first: u32,
    count: u32,
}

/// Where the records of one batch call went, in the order in which they were given.
#[derive(Debug, Default)]
pub(crate) struct Placement {
    batches: Vec<Completion>,
    runs: Vec<Run>,
    record_count: usize,
    /// The newest batch of each partition used: its serial and its index in `batches`.
    newest: Vec<Option<(u64, u32)>>,
    /// The partition and the batch, by its serial, of the last record, if it was placed.
    last: Option<(u32, u64)>,
}

impl Placement {
    #[inline]
    fn put(&mut self, partition: u32, place: Place<'_>) {
        if self.last == Some((partition, place.serial))
            && let Some(run) = self.runs.last_mut()
            && run.first + run.count == place.index
        {
            run.count += 1;
            self.record_count += 1;
            return;
        }
        self.begin_run(partition, place);
    }

    #[inline(never)]
    fn begin_run(&mut self, partition: u32, place: Place<'_>) {
        self.last = Some((partition, place.serial));
        let slot = partition as usize;
        if slot >= self.newest.len() {
            self.newest.resize(slot + 1, None);
        }
        let batch = match self.newest[slot] {
            Some((newest, batch)) if newest == place.serial => batch,
            _ => {
                let batch = u32::try_from(self.batches.len()).expect("a call has fewer batches");
                self.batches.push(place.completion.clone());
                self.newest[slot] = Some((place.serial, batch));
                batch
            }
        };
        self.record_count += 1;
        self.runs.push(Run {
            batch,
            first: place.index,
            count: 1,
        });
    }

    fn put_failed(&mut self, error: Error) {
        let (completer, completion) = completion();
        completer.complete(Err(error));
        let batch = u32::try_from(self.batches.len()).expect("a call has fewer batches");
        self.batches.push(completion);
        self.last = None;
        self.record_count += 1;
        self.runs.push(Run {
            batch,
            first: 0,
            count: 1,
        });
    }
}

impl Sink for Placement {
    #[inline]
    fn placed(&mut self, partition: u32, place: Place<'_>) {
        self.put(partition, place);
    }

    fn refused(&mut self, error: Error) {
        self.put_failed(error);
    }
}

/// Where one record went, or why it was not taken; `None` while it was not tried.
#[derive(Debug, Default)]
pub(crate) struct Single(pub(crate) Option<Result<Delivery>>);

impl Sink for Single {
    fn placed(&mut self, _: u32, place: Place<'_>) {
        self.0 = Some(Ok(Delivery {
            completion: place.completion.clone(),
            index: place.index,
        }));
    }

    fn refused(&mut self, error: Error) {
        self.0 = Some(Err(error));
    }
}

/// The outcome of a batch call, to be awaited: one future however many records.
///
/// It resolves once every record is settled.
///
/// # Cancel safety
/// Dropping it changes nothing about the records: they are sent all the same.
#[derive(Debug)]
#[must_use = "the records are sent either way, but only the delivery tells whether they arrived"]
pub struct BatchDelivery {
    placement: Placement,
    endings: Vec<Arc<Ending>>,
}

impl BatchDelivery {
    pub(crate) fn new(placement: Placement) -> Self {
        Self {
            placement,
            endings: Vec::new(),
        }
    }

    /// How many records the call took.
    pub fn len(&self) -> usize {
        self.placement.record_count
    }

    /// Whether the call was given no record.
    pub fn is_empty(&self) -> bool {
        self.placement.record_count == 0
    }
}

impl Future for BatchDelivery {
    type Output = BatchOutcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        while this.endings.len() < this.placement.batches.len() {
            let completion = &mut this.placement.batches[this.endings.len()];
            let ending = ready!(completion.poll_unpin(context));
            this.endings.push(ending);
        }
        let mut outcome = BatchOutcome {
            runs: std::mem::take(&mut this.placement.runs),
            record_count: this.placement.record_count,
            endings: std::mem::take(&mut this.endings),
        };
        outcome.break_up_runs();
        Poll::Ready(outcome)
    }
}

/// What became of every record of a batch call, in the order in which they were given.
#[derive(Debug, Clone)]
pub struct BatchOutcome {
    /// Records of one run ended together.
    runs: Vec<Run>,
    endings: Vec<Arc<Ending>>,
    record_count: usize,
}

impl BatchOutcome {
    /// Ends each run where a part of its batch ends, if any batch was split.
    fn break_up_runs(&mut self) {
        let is_split = |ending: &Arc<Ending>| matches!(**ending, Ending::Parts(_));
        if !self.endings.iter().any(is_split) {
            return;
        }
        for mut run in std::mem::take(&mut self.runs) {
            while run.count > 0 {
                let (_, _, together) = self.endings[run.batch as usize].at(run.first);
                let count = run.count.min(together);
                self.runs.push(Run { count, ..run });
                run.first += count;
                run.count -= count;
            }
        }
    }

    /// Each run's number of records, its result, and its first record among those of the result.
    fn results(&self) -> impl Iterator<Item = (u32, &BatchResult, u32)> {
        self.runs.iter().map(|run| {
            let (result, first, _) = self.endings[run.batch as usize].at(run.first);
            (run.count, result, first)
        })
    }

    /// How many records the call took.
    pub fn len(&self) -> usize {
        self.record_count
    }

    /// Whether the call was given no record.
    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// The outcome of each record, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = Result<Receipt>> + '_ {
        self.results().flat_map(|(count, result, first)| {
            (first..first + count).map(move |index| match result {
                Ok(receipt) => Ok(receipt.record(index)),
                Err(error) => Err(error.clone()),
            })
        })
    }

    /// The outcome of the record given at `index`, if there were that many. It walks the runs of
    /// records that share a batch; use [`BatchOutcome::iter`] to see all.
    pub fn get(&self, index: usize) -> Option<Result<Receipt>> {
        let mut before = 0;
        for run in &self.runs {
            let count = run.count as usize;
            if index < before + count {
                let within = run.first + u32::try_from(index - before).ok()?;
                return Some(self.endings[run.batch as usize].receipt(within));
            }
            before += count;
        }
        None
    }

    /// How many of the records the broker acknowledged.
    pub fn acknowledged_count(&self) -> usize {
        let acknowledged = self.results().filter(|(_, result, _)| result.is_ok());
        acknowledged.map(|(count, ..)| count as usize).sum()
    }

    /// The first failure among the records, if any failed.
    pub fn first_error(&self) -> Option<&Error> {
        self.results()
            .find_map(|(_, result, _)| result.as_ref().err())
    }

    /// The weakest durability among the acknowledged records; `None` if none was acknowledged.
    pub fn weakest_durability(&self) -> Option<Durability> {
        self.results()
            .filter_map(|(_, result, _)| result.as_ref().ok())
            .map(|receipt| receipt.durability)
            .min()
    }

    /// Itself if every record was acknowledged.
    ///
    /// # Errors
    /// The first failure among the records; others may have been acknowledged all the same.
    pub fn into_result(self) -> Result<Self> {
        match self.first_error() {
            Some(error) => Err(error.clone()),
            None => Ok(self),
        }
    }
}
