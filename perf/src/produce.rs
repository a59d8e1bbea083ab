//! The produce phase: closed loop, as fast as acknowledgements allow.

use std::time::{Duration, Instant};

use corelane_client::{Acks, Client, Durability, Producer};
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::error::PerfError;
use crate::report::Throughput;
use crate::run::{Load, Weakest};
use crate::value::Values;

/// What the phase gave.
pub(crate) struct Produced {
    pub(crate) throughput: Throughput,
    pub(crate) durability: Durability,
    pub(crate) errors: u64,
    /// Everything acknowledged, the warm-up included.
    pub(crate) everything: Fingerprint,
}

/// How many records there are and what their numbers add up to: enough to see that what was read is
/// what was acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    pub(crate) records: u64,
    pub(crate) sum: u64,
}

impl Fingerprint {
    pub(crate) fn add(&mut self, number: u64) {
        self.records += 1;
        self.sum = self.sum.wrapping_add(number);
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.records += other.records;
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

/// Records handed over by one call.
const RECORDS_PER_CALL: usize = 256;
/// Calls of one producer whose outcome is awaited at the same time.
const CALLS_IN_FLIGHT: usize = 64;
/// Numbers of different producers are so far apart.
const NUMBERS_PER_PRODUCER: u64 = 1 << 40;

pub(crate) async fn run(client: &Client, topic: &str, load: &Load) -> Result<Produced, PerfError> {
    #[expect(clippy::disallowed_methods, reason = "throughput is count over time")]
    let started = Instant::now();
    let window = Window {
        from: started + Duration::from_secs(load.warm_up_seconds.into()),
        to: started + Duration::from_secs((load.warm_up_seconds + load.produce_seconds).into()),
    };
    let mut producers = Vec::new();
    for index in 0..load.clients {
        let producer = client
            .producer()
            .acks(Acks::All)
            .batch_bytes(load.batch_bytes);
        let producer = producer.build().await?;
        let (topic, values) = (topic.to_owned(), Values::new(load.value_bytes));
        producers.push(tokio::spawn(async move {
            produce(
                producer,
                &topic,
                values,
                u64::from(index) * NUMBERS_PER_PRODUCER,
                window,
            )
            .await
        }));
    }
    let mut all = Tally::default();
    for producer in producers {
        all.merge(producer.await.expect("a producer does not panic")?);
    }
    let seconds = (window.to - window.from).as_secs_f64();
    let bytes = all.in_window * load.value_bytes as u64;
    Ok(Produced {
        throughput: Throughput::new(all.in_window, bytes, seconds),
        durability: all.durability.confirmed("produce")?,
        errors: all.errors,
        everything: all.everything,
    })
}

/// The time in which acknowledgements count.
#[derive(Clone, Copy)]
struct Window {
    from: Instant,
    to: Instant,
}

#[derive(Default)]
struct Tally {
    in_window: u64,
    errors: u64,
    everything: Fingerprint,
    durability: Weakest,
}

impl Tally {
    fn merge(&mut self, other: Self) {
        self.in_window += other.in_window;
        self.errors += other.errors;
        self.everything.merge(other.everything);
        self.durability.merge(other.durability);
    }
}

async fn produce(
    producer: Producer,
    topic: &str,
    values: Values,
    first_number: u64,
    window: Window,
) -> Result<Tally, PerfError> {
    let mut tally = Tally::default();
    let mut in_flight = FuturesUnordered::new();
    let mut next_number = first_number;
    let mut bytes = Vec::new();
    loop {
        #[expect(clippy::disallowed_methods, reason = "throughput is count over time")]
        let now = Instant::now();
        let sending = now < window.to;
        if sending && in_flight.len() < CALLS_IN_FLIGHT {
            values.fill(&mut bytes, next_number, RECORDS_PER_CALL);
            let records = bytes.chunks_exact(values.bytes());
            let delivery = producer.send_batch(topic, records).await?;
            let first = next_number;
            in_flight.push(async move { (first, delivery.await) });
            next_number += RECORDS_PER_CALL as u64;
            continue;
        }
        let Some((first, outcome)) = in_flight.next().await else {
            break;
        };
        #[expect(clippy::disallowed_methods, reason = "throughput is count over time")]
        let now = Instant::now();
        let acknowledged = outcome.acknowledged_count() as u64;
        if now >= window.from && now < window.to {
            tally.in_window += acknowledged;
        }
        tally.errors += RECORDS_PER_CALL as u64 - acknowledged;
        for (number, receipt) in (first..).zip(outcome.iter()) {
            if let Ok(receipt) = receipt {
                tally.durability.add(receipt.durability);
                tally.everything.add(number);
            }
        }
    }
    producer.close().await?;
    Ok(tally)
}
