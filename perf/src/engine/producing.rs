//! One producer of a run: open loop, by a schedule, or closed loop, as fast as acknowledgements allow.

use std::thread;
use std::time::Duration;

use corelane_bench::wait::be_punctual;
use corelane_client::{BatchDelivery, BatchOutcome, Error, ErrorKind, Producer};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::Shared;
use crate::error::PerfError;
use crate::recorder::{Fingerprint, Recorder, Times};
use crate::schedule::{Pacer, Schedule, Step};
use crate::value::{Number, Values};

/// Bytes of values that are given to the client by one call, at most, if more than one record is.
const CALL_BYTES: usize = 256 * 1024;
/// Records that are given to the client by one call, at most.
const CALL_RECORDS_MAX: usize = 1024;
/// A closed loop makes at least so many calls in a window.
const CALLS_PER_WINDOW: u64 = 8;
/// How long a sender sleeps at most before it looks whether the run was ended.
const SLEEP_MAX: Duration = Duration::from_millis(20);

/// A producer with all it needs.
pub(super) struct Sending {
    pub(super) shared: Shared,
    pub(super) producer: Producer,
    pub(super) index: u8,
    pub(super) values: Values,
    pub(super) is_end_to_end: bool,
}

/// When a closed loop ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Until {
    pub(super) end_ns: u64,
    pub(super) records: u64,
}

/// Records that were given to the client by one call.
struct Flight {
    first: u64,
    count: u64,
    sent_ns: u64,
    delivery: BatchDelivery,
}

impl Sending {
    fn number(&self, sequence: u64) -> Number {
        Number {
            run: self.shared.run,
            producer: self.index,
            sequence,
        }
    }

    /// Gives records to the client. `None` if the run was ended while it waited for room.
    async fn send(
        &mut self,
        first: u64,
        count: u64,
        sent_ns: u64,
    ) -> Result<Option<BatchDelivery>, Error> {
        let number = self.number(first);
        let topic = &*self.shared.topic;
        let mut cancelled = self.shared.cancelled.clone();
        let stamp = self.is_end_to_end.then_some(sent_ns);
        let records = self.values.make(number, count as usize, stamp);
        tokio::select! {
            biased;
            delivery = self.producer.send_batch(topic, records) => delivery.map(Some),
            _ = cancelled.wait_for(Option::is_some) => Ok(None),
        }
    }

    /// Counts what became of records, which were due at these times.
    fn settle(&self, flight: (u64, u64, u64), outcome: &BatchOutcome, due_ns: impl Fn(u64) -> u64) {
        let (first, count, sent_ns) = flight;
        let now_ns = self.shared.clock.ns();
        let value_bytes = self.values.bytes() as u64;
        let mut recorder = self.shared.recorder();
        let mut acknowledged = Fingerprint::default();
        let mut take = |recorder: &mut Recorder, sequence: u64, count: u64| {
            let times = Times {
                due_ns: due_ns(sequence),
                sent_ns,
                done_ns: now_ns,
            };
            acknowledged.add_run(self.number(sequence).pack(), count);
            if self.is_end_to_end {
                recorder.timed_acknowledge(times, count);
            } else {
                recorder.timed(times, count);
            }
        };
        let is_whole = outcome.acknowledged_count() as u64 == count;
        if is_whole && due_ns(first) == due_ns(first + count - 1) {
            take(&mut recorder, first, count);
        } else if is_whole {
            (first..first + count).for_each(|sequence| take(&mut recorder, sequence, 1));
        } else {
            for (sequence, result) in (first..).zip(outcome.iter()) {
                match result {
                    Ok(_) => take(&mut recorder, sequence, 1),
                    Err(error) => recorder.failed(now_ns, &kind(&error), 1, &error.to_string()),
                }
            }
        }
        if !self.is_end_to_end {
            recorder.done(
                now_ns,
                acknowledged.records,
                acknowledged.records * value_bytes,
            );
        }
        recorder.acknowledged(acknowledged, outcome.weakest_durability());
    }

    /// Records that were not taken at all. The run goes on if that may pass.
    fn refused(&self, count: u64, error: Error) -> Result<(), PerfError> {
        let now_ns = self.shared.clock.ns();
        self.shared
            .recorder()
            .lost(now_ns, &kind(&error), count, &error.to_string());
        if error.is_retriable() {
            Ok(())
        } else {
            Err(error.into())
        }
    }

    /// Sends whenever fewer than `window_bytes` of values wait for their acknowledgements.
    pub(super) async fn closed(mut self, until: Until, window_bytes: u64) -> Result<(), PerfError> {
        let value_bytes = self.values.bytes() as u64;
        let call_records = (window_bytes / CALLS_PER_WINDOW / value_bytes)
            .min(CALL_BYTES as u64 / value_bytes)
            .clamp(1, self.values.made_max().min(CALL_RECORDS_MAX) as u64);
        let mut in_flight = FuturesUnordered::new();
        let (mut next, mut waiting) = (0, 0);
        loop {
            let sent_ns = self.shared.clock.ns();
            let is_sending =
                sent_ns < until.end_ns && next < until.records && !self.shared.is_cancelled();
            let count = call_records.min(until.records.saturating_sub(next));
            if is_sending && (waiting == 0 || (waiting + count) * value_bytes <= window_bytes) {
                match self.send(next, count, sent_ns).await {
                    Ok(Some(delivery)) => {
                        self.shared.recorder().handed(count);
                        in_flight.push(async move { ((next, count, sent_ns), delivery.await) });
                        waiting += count;
                    }
                    Ok(None) => continue,
                    Err(error) => self.refused(count, error)?,
                }
                next += count;
                continue;
            }
            let Some((flight, outcome)) = in_flight.next().await else {
                break;
            };
            waiting -= flight.1;
            self.settle(flight, &outcome, |_| flight.2);
        }
        Ok(())
    }

    /// Sends when records are due, on a thread of its own: the executor's timer counts in milliseconds, which is too
    /// coarse to pace a record. Receipts are awaited here.
    pub(super) async fn open(self, schedule: Schedule) -> Result<(), PerfError> {
        let (flights, mut landing) = mpsc::unbounded_channel();
        let handle = Handle::current();
        let receiving = Self {
            producer: self.producer.clone(),
            shared: self.shared.clone(),
            values: self.values.clone(),
            ..self
        };
        let sender = thread::Builder::new().name("perf-sender".into());
        let sender = sender.spawn(move || self.follow(&handle, schedule, &flights));
        let sender = sender.map_err(PerfError::Threads)?;
        let mut in_flight = FuturesUnordered::new();
        let mut is_open = true;
        while is_open || !in_flight.is_empty() {
            tokio::select! {
                flight = landing.recv(), if is_open => match flight {
                    Some(Flight { first, count, sent_ns, delivery }) => {
                        in_flight.push(async move { ((first, count, sent_ns), delivery.await) });
                    }
                    None => is_open = false,
                },
                Some((flight, outcome)) = in_flight.next() => {
                    receiving.settle(flight, &outcome, |sequence| schedule.due_ns(sequence));
                }
            }
        }
        sender.join().expect("a sender does not panic")
    }

    fn follow(
        mut self,
        handle: &Handle,
        schedule: Schedule,
        flights: &mpsc::UnboundedSender<Flight>,
    ) -> Result<(), PerfError> {
        be_punctual();
        let call_records = CALL_BYTES / self.values.bytes();
        let call_records =
            call_records.clamp(1, self.values.made_max().min(CALL_RECORDS_MAX)) as u64;
        let mut pacer = Pacer::new(schedule);
        loop {
            let now_ns = self.shared.clock.ns();
            let cancelled_ns = *self.shared.cancelled.borrow();
            if let Some(cancelled_ns) = cancelled_ns {
                self.unsent(now_ns, pacer.behind(cancelled_ns));
                return Ok(());
            }
            match pacer.step(now_ns, call_records) {
                Step::Done => return Ok(()),
                Step::Wait { until_ns } => {
                    thread::sleep(Duration::from_nanos(until_ns - now_ns).min(SLEEP_MAX));
                }
                // It waits only while the client's buffer is full; what becomes due meanwhile is late then, and its
                // latency says so.
                Step::Send { first, count } => {
                    match handle.block_on(self.send(first, count, now_ns)) {
                        Ok(Some(delivery)) => {
                            self.shared.recorder().handed(count);
                            // The receiver lives as long as this end.
                            let _ = flights.send(Flight {
                                first,
                                count,
                                sent_ns: now_ns,
                                delivery,
                            });
                        }
                        Ok(None) => self.unsent(now_ns, count),
                        Err(error) => self.refused(count, error)?,
                    }
                }
            }
        }
    }

    fn unsent(&self, now_ns: u64, count: u64) {
        let why = "records were due and could not be sent before the end, since the client's buffer was full";
        self.shared.recorder().lost(now_ns, "unsent", count, why);
    }
}

/// A word for the kind of a failure: the broker's code where it refused.
pub(super) fn kind(error: &Error) -> String {
    match (error.kind(), error.code()) {
        (ErrorKind::Refused, Some(code)) => words(&format!("{code:?}")),
        (kind, _) => words(&format!("{kind:?}")),
    }
}

/// `OutcomeUnknown` as `outcome-unknown`.
fn words(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push('-');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_words() {
        let error = Error::InvalidArgument("no".into());
        assert_eq!(kind(&error), "invalid-argument");
        assert_eq!(words("UnknownTopic"), "unknown-topic");
    }
}
