//! The latency phase: an open loop. Records are due at fixed times, whatever the broker does, and
//! their latency counts from the time at which they were due.

use std::thread;
use std::time::{Duration, Instant};

use corelane_client::{Acks, Client, Delivery, Durability, Producer, Record};
use futures_util::stream::{FuturesUnordered, StreamExt};
use hdrhistogram::Histogram;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::mpsc;

use crate::error::PerfError;
use crate::report::LatencyReport;
use crate::run::{Load, Weakest};
use crate::value::Values;

/// What the phase gave.
pub(crate) struct Measured {
    pub(crate) percentiles: LatencyReport,
    pub(crate) durability: Durability,
    pub(crate) errors: u64,
}

/// The largest latency that a histogram tells from a larger one, in microseconds.
const LATENCY_US_MAX: u64 = 600_000_000;
/// Significant digits of a histogram.
const DIGITS: u8 = 3;

/// A record on its way.
struct Due {
    at: Instant,
    delivery: Delivery,
    counts: bool,
}

pub(crate) fn run(
    runtime: &Runtime,
    client: &Client,
    topic: &str,
    load: &Load,
) -> Result<Measured, PerfError> {
    let mut senders = Vec::new();
    let mut receivers = Vec::new();
    for index in 0..load.clients {
        let producer = client
            .producer()
            .acks(Acks::All)
            .linger(Duration::ZERO)
            .build();
        let producer = runtime.block_on(producer)?;
        let (due_sender, due) = mpsc::unbounded_channel();
        receivers.push(runtime.spawn(receive(due)));
        let schedule = Schedule::of(load, index);
        let (topic, values) = (topic.to_owned(), Values::new(load.value_bytes));
        let handle = runtime.handle().clone();
        // The executor's timer counts in milliseconds, which is too coarse to pace a record.
        senders.push(thread::spawn(move || {
            schedule.send(&handle, &producer, &topic, &values, &due_sender)
        }));
    }
    for sender in senders {
        sender.join().expect("a sender does not panic")?;
    }
    let mut all = Tally::new();
    for receiver in receivers {
        let tally = runtime
            .block_on(receiver)
            .expect("a receiver does not panic");
        all.histogram
            .add(&tally.histogram)
            .expect("all histograms have one range");
        all.errors += tally.errors;
        all.durability.merge(tally.durability);
    }
    Ok(Measured {
        percentiles: LatencyReport::new(&all.histogram),
        durability: all.durability.confirmed("latency")?,
        errors: all.errors,
    })
}

/// When the records of one sender are due.
struct Schedule {
    start: Instant,
    interval: Duration,
    warm_up: u64,
    records: u64,
}

impl Schedule {
    fn of(load: &Load, index: u32) -> Self {
        let rate = load.latency_rate / load.clients;
        let interval = Duration::from_secs(1) / rate;
        let warm_up = u64::from(load.warm_up_seconds) * u64::from(rate);
        #[expect(
            clippy::disallowed_methods,
            reason = "latency counts from real due times"
        )]
        let now = Instant::now();
        Self {
            // Senders take turns rather than all sending at once.
            start: now + interval / load.clients * index,
            interval,
            warm_up,
            records: warm_up + u64::from(load.latency_seconds) * u64::from(rate),
        }
    }

    fn send(
        &self,
        handle: &Handle,
        producer: &Producer,
        topic: &str,
        values: &Values,
        due: &mpsc::UnboundedSender<Due>,
    ) -> Result<(), PerfError> {
        let mut value = Vec::new();
        let mut at = self.start;
        for number in 0..self.records {
            #[expect(
                clippy::disallowed_methods,
                reason = "latency counts from real due times"
            )]
            let early = at.saturating_duration_since(Instant::now());
            if !early.is_zero() {
                thread::sleep(early);
            }
            values.fill(&mut value, number, 1);
            let record = Record::to(topic).value(&value);
            // It waits only while the producer's buffer is full; the record is late then, and its
            // latency says so.
            let delivery = handle.block_on(producer.send(record))?;
            let counts = number >= self.warm_up;
            // The receiver lives as long as this end.
            let _ = due.send(Due {
                at,
                delivery,
                counts,
            });
            at += self.interval;
        }
        Ok(())
    }
}

struct Tally {
    histogram: Histogram<u64>,
    errors: u64,
    durability: Weakest,
}

impl Tally {
    fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS);
        Self {
            histogram: histogram.expect("the bounds are valid"),
            errors: 0,
            durability: Weakest::default(),
        }
    }
}

/// Awaits the receipts of one sender.
async fn receive(mut due: mpsc::UnboundedReceiver<Due>) -> Tally {
    let mut tally = Tally::new();
    let mut waiting = FuturesUnordered::new();
    let mut open = true;
    while open || !waiting.is_empty() {
        tokio::select! {
            next = due.recv(), if open => match next {
                Some(Due { at, delivery, counts }) => {
                    waiting.push(async move { (at, counts, delivery.await) });
                }
                None => open = false,
            },
            Some((at, counts, outcome)) = waiting.next() => match outcome {
                Ok(receipt) => {
                    tally.durability.add(receipt.durability);
                    if counts {
                        let latency_us = u64::try_from(at.elapsed().as_micros());
                        let latency_us = latency_us.unwrap_or(LATENCY_US_MAX).max(1);
                        tally.histogram.saturating_record(latency_us);
                    }
                }
                Err(_) => tally.errors += 1,
            },
        }
    }
    tally
}
