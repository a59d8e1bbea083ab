//! Reading back: everything that was acknowledged is read once, and counted only if it is whole.

use std::time::{Duration, Instant};

use corelane_client::{Client, Consumer, Start};

use crate::error::PerfError;
use crate::recorder::Fingerprint;
use crate::short::{Load, Throughput};
use crate::value::Values;

/// What reading gave.
pub(crate) struct Consumed {
    pub(crate) throughput: Throughput,
    /// Damaged values, and records missing or read too often.
    pub(crate) errors: u64,
}

/// A reader that is handed nothing for so long has lost something.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn run(
    client: &Client,
    topic: &str,
    load: &Load,
    values: &Values,
    expected: Fingerprint,
) -> Result<Consumed, PerfError> {
    let mut consumers = Vec::new();
    for index in 0..load.clients {
        let partitions = (0..load.partitions).filter(|partition| partition % load.clients == index);
        let assigned = partitions.map(|partition| (topic, partition));
        let consumer = client
            .consumer()
            .assign(assigned, Start::Earliest)
            .until_end(true);
        consumers.push(consumer.build().await?);
    }
    #[expect(clippy::disallowed_methods, reason = "throughput is count over time")]
    let started = Instant::now();
    let readers = consumers
        .into_iter()
        .map(|consumer| tokio::spawn(read(consumer, values.clone())));
    let readers: Vec<_> = readers.collect();
    let (mut seen, mut damaged) = (Fingerprint::default(), 0);
    for reader in readers {
        let (fingerprint, reader_damaged) = reader.await.expect("a reader does not panic")?;
        seen.merge(fingerprint);
        damaged += reader_damaged;
    }
    let seconds = started.elapsed().as_secs_f64();
    let bytes = seen.records * u64::from(load.value_bytes);
    Ok(Consumed {
        throughput: Throughput::new(seen.records, bytes, seconds),
        errors: damaged + difference(expected, seen),
    })
}

/// Records missing or too many; one at least if the counts agree and the numbers do not.
fn difference(expected: Fingerprint, seen: Fingerprint) -> u64 {
    let records = expected.records.abs_diff(seen.records);
    if expected.sum == seen.sum {
        records
    } else {
        records.max(1)
    }
}

async fn read(mut consumer: Consumer, values: Values) -> Result<(Fingerprint, u64), PerfError> {
    let (mut seen, mut damaged) = (Fingerprint::default(), 0);
    while let Some(records) = consumer.poll(PATIENCE).await? {
        for record in records.iter() {
            match record.value().and_then(|value| values.number(value)) {
                Some(number) => seen.add(number.pack()),
                None => damaged += 1,
            }
        }
    }
    Ok((seen, damaged))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_and_a_swapped_record_are_errors() {
        let mut expected = Fingerprint::default();
        let mut seen = Fingerprint::default();
        for number in 0..10 {
            expected.add(number);
            seen.add(if number == 9 { 8 } else { number });
        }
        assert_eq!(difference(expected, expected), 0);
        assert_eq!(difference(expected, seen), 1);
        seen.add(9);
        seen.add(9);
        assert_eq!(difference(expected, seen), 2);
    }
}
