//! The records of one partition before they are on their way.

use std::time::Duration;

use corelane_protocol::batch::{BatchBuilderConfig, BatchHeader, Compression};
use corelane_protocol::{ProducerEpoch, ProducerId};

use super::accumulator::*;
use super::builders::Builders;
use super::sequence::Sequence;
use crate::record::RecordRef;

const T0: Duration = Duration::from_secs(1);
const LINGER: Duration = Duration::from_millis(5);
const ANY: Pull = Pull {
    linger: Duration::ZERO,
    partial: true,
};

fn builders() -> Builders {
    let config = BatchBuilderConfig {
        bytes_max: 1_000,
        ..BatchBuilderConfig::default()
    };
    Builders::new(config)
}

fn push(
    accumulator: &mut Accumulator,
    builders: &Builders,
    value_bytes: usize,
) -> Result<(u64, u32, bool), Refusal> {
    let value = vec![7; value_bytes];
    let mut at = (0, 0);
    let record = RecordRef::value(&value);
    let placed = |place: Place<'_>| at = (place.serial, place.index);
    let announce = accumulator.push(T0, &record, 0, value_bytes, builders, placed)?;
    Ok((at.0, at.1, announce))
}

fn record_count(batch: &SealedBatch) -> u32 {
    match &batch.content {
        Content::Records(builder) => builder.len() as u32,
        Content::Encoded(bytes) => BatchHeader::parse(bytes).unwrap().record_count,
    }
}

#[test]
fn the_sender_is_told_once_until_it_looks() {
    let (mut accumulator, builders) = (Accumulator::new(10_000), builders());
    assert!(push(&mut accumulator, &builders, 300).unwrap().2);
    assert!(!push(&mut accumulator, &builders, 300).unwrap().2);
    assert!(
        !push(&mut accumulator, &builders, 600).unwrap().2,
        "full, but not looked at"
    );
    accumulator.looked_at();
    assert!(
        !push(&mut accumulator, &builders, 10).unwrap().2,
        "the open batch goes on"
    );
    assert!(
        push(&mut accumulator, &builders, 600).unwrap().2,
        "another one is full"
    );
}

#[test]
fn records_are_numbered_within_their_batches() {
    let (mut accumulator, builders) = (Accumulator::new(10_000), builders());
    let places: Vec<(u64, u32)> = [300, 300, 600, 100]
        .iter()
        .map(|bytes| push(&mut accumulator, &builders, *bytes).unwrap())
        .map(|(serial, index, _)| (serial, index))
        .collect();
    assert_eq!(places, [(0, 0), (0, 1), (1, 0), (1, 1)]);
}

#[test]
fn an_open_batch_waits_for_the_end_of_its_linger() {
    let (mut accumulator, builders) = (Accumulator::new(10_000), builders());
    push(&mut accumulator, &builders, 10).unwrap();
    let lingering = Pull {
        linger: LINGER,
        partial: true,
    };
    assert!(accumulator.pull(T0, lingering).is_none());
    let timeout = Duration::from_secs(9);
    assert_eq!(accumulator.wake_at(T0, LINGER, timeout), Some(T0 + LINGER));
    assert!(accumulator.pull(T0 + LINGER, lingering).is_some());
    assert!(accumulator.is_empty());
}

#[test]
fn full_batches_go_whatever_the_linger_and_oldest_first() {
    let (mut accumulator, builders) = (Accumulator::new(10_000), builders());
    for _ in 0..3 {
        push(&mut accumulator, &builders, 600).unwrap();
    }
    let never = Pull {
        linger: Duration::from_secs(60),
        partial: false,
    };
    let counts: Vec<u32> = std::iter::from_fn(|| accumulator.pull(T0, never))
        .map(|batch| record_count(&batch))
        .collect();
    assert_eq!(counts, [1, 1]);
    assert!(!accumulator.is_empty(), "the open one stays");
}

#[test]
fn a_flush_ends_the_linger_of_what_is_there() {
    let (mut accumulator, builders) = (Accumulator::new(10_000), builders());
    push(&mut accumulator, &builders, 600).unwrap();
    push(&mut accumulator, &builders, 600).unwrap();
    let mut completions = Vec::new();
    accumulator.force(&mut completions);
    assert_eq!(completions.len(), 2);
    let lingering = Pull {
        linger: LINGER,
        partial: true,
    };
    assert_eq!(
        std::iter::from_fn(|| accumulator.pull(T0, lingering)).count(),
        2
    );
    push(&mut accumulator, &builders, 10).unwrap();
    assert!(
        accumulator.pull(T0, lingering).is_none(),
        "what comes later lingers again"
    );
}

#[test]
fn a_record_larger_than_a_batch_goes_alone() {
    let (mut accumulator, builders) = (Accumulator::new(10_000), builders());
    push(&mut accumulator, &builders, 10).unwrap();
    push(&mut accumulator, &builders, 5_000).unwrap();
    push(&mut accumulator, &builders, 10).unwrap();
    let counts: Vec<u32> = std::iter::from_fn(|| accumulator.pull(T0, ANY))
        .map(|batch| record_count(&batch))
        .collect();
    assert_eq!(counts, [1, 1, 1]);
}

#[test]
fn a_record_that_no_batch_can_hold_is_refused_and_changes_nothing() {
    let (mut accumulator, builders) = (Accumulator::new(10_000), builders());
    push(&mut accumulator, &builders, 10).unwrap();
    let error = push(&mut accumulator, &builders, 20_000).unwrap_err();
    let is_expected = matches!(
        error,
        Refusal::TooLarge {
            bytes_max: 10_000,
            ..
        }
    );
    assert!(is_expected, "{error:?}");
    let record = RecordRef::value(b"x").timestamp_ms(-1);
    let error = accumulator
        .push(T0, &record, 0, 1, &builders, |_| {})
        .unwrap_err();
    assert!(matches!(error, Refusal::Invalid(_)), "{error:?}");
    assert_eq!(
        push(&mut accumulator, &builders, 10).unwrap().1,
        1,
        "the open batch goes on"
    );
}

#[test]
fn batches_are_cut_by_what_the_topic_takes_also_when_that_changes() {
    let (mut accumulator, builders) = (Accumulator::new(600), builders());
    for _ in 0..4 {
        push(&mut accumulator, &builders, 150).unwrap();
    }
    assert!(push(&mut accumulator, &builders, 500).is_err());
    accumulator.set_batch_bytes_max(800);
    push(&mut accumulator, &builders, 500).unwrap();
    accumulator.set_batch_bytes_max(600);
    for _ in 0..2 {
        push(&mut accumulator, &builders, 300).unwrap();
    }
    let batches = std::iter::from_fn(|| accumulator.pull(T0, ANY));
    let sizes: Vec<(u32, bool)> = batches
        .map(|batch| {
            let bytes = match &batch.content {
                Content::Encoded(bytes) => bytes.len(),
                Content::Records(builder) => builder.estimated_bytes(),
            };
            (record_count(&batch), bytes <= 600)
        })
        .collect();
    assert_eq!(
        sizes,
        [(2, true), (2, true), (1, false), (1, true), (1, true)]
    );
}

#[test]
fn a_record_that_may_shrink_enough_is_taken_and_goes_alone() {
    let config = BatchBuilderConfig {
        compression: Compression::Zstd,
        ..builders().config().clone()
    };
    let (mut accumulator, builders) = (Accumulator::new(2_000), Builders::new(config));
    for value_bytes in [10, 5_000, 10] {
        push(&mut accumulator, &builders, value_bytes).unwrap();
    }
    let counts: Vec<u32> = std::iter::from_fn(|| accumulator.pull(T0, ANY))
        .map(|batch| record_count(&batch))
        .collect();
    assert_eq!(counts, [1, 1, 1]);
    let error = push(&mut accumulator, &builders, 65 << 20).unwrap_err();
    assert!(matches!(error, Refusal::Invalid(_)), "{error:?}");
}

#[test]
fn what_is_overdue_is_taken_out() {
    let (mut accumulator, builders) = (Accumulator::new(10_000), builders());
    push(&mut accumulator, &builders, 600).unwrap();
    let value = vec![0; 600];
    let later = T0 + Duration::from_secs(1);
    accumulator
        .push(later, &RecordRef::value(&value), 0, 600, &builders, |_| {})
        .unwrap();
    assert_eq!(accumulator.take_opened_until(T0).len(), 1);
    assert_eq!(accumulator.take_opened_until(later).len(), 1);
    assert!(accumulator.is_empty());
}

/// What a batch was encoded with, which must be what was guessed, and its records.
fn numbers(batch: SealedBatch, builders: &Builders) -> (Guess, u32) {
    let bytes = match batch.content {
        Content::Encoded(bytes) => bytes,
        Content::Records(builder) => builders.encode(builder),
    };
    let header = BatchHeader::parse(&bytes).unwrap();
    let said = Sequence {
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
    };
    let guess = batch.guess.unwrap();
    assert_eq!(guess.sequence, said);
    (guess, header.record_count)
}

fn sequence(producer_epoch: u16, base_sequence: u32) -> Sequence {
    Sequence {
        producer_id: ProducerId::new(5),
        producer_epoch: ProducerEpoch::new(producer_epoch),
        base_sequence,
    }
}

#[test]
fn batches_are_encoded_with_the_number_that_they_will_have() {
    let (mut accumulator, builders) = (Accumulator::new(10_000), builders());
    builders.identify(ProducerId::new(5), ProducerEpoch::new(1));
    for _ in 0..5 {
        push(&mut accumulator, &builders, 300).unwrap();
    }
    let next = |accumulator: &mut Accumulator| {
        let batch = accumulator.pull(T0, ANY).unwrap();
        numbers(batch, &builders)
    };
    let (first, in_first) = next(&mut accumulator);
    let (second, in_second) = next(&mut accumulator);
    assert_eq!(first.sequence, sequence(1, 0));
    assert_eq!(second.sequence, sequence(1, in_first));
    // The first one came to be behind five other records, and so do those after it.
    accumulator.correct(first, sequence(1, 5));
    accumulator.correct(second, sequence(1, 5 + in_first));
    for _ in 0..4 {
        push(&mut accumulator, &builders, 300).unwrap();
    }
    let (third, in_third) = next(&mut accumulator);
    let (fourth, _) = next(&mut accumulator);
    let expected = 5 + in_first + in_second;
    assert_eq!(third.sequence, sequence(1, expected), "it was open");
    assert_eq!(fourth.sequence, sequence(1, expected + in_third));
}

#[test]
fn once_the_epoch_was_raised_batches_are_encoded_with_it() {
    let (mut accumulator, builders) = (Accumulator::new(10_000), builders());
    builders.identify(ProducerId::new(5), ProducerEpoch::new(1));
    for _ in 0..3 {
        push(&mut accumulator, &builders, 600).unwrap();
    }
    let pull = |accumulator: &mut Accumulator| {
        let batch = accumulator.pull(T0, ANY).unwrap();
        numbers(batch, &builders).0
    };
    let first = pull(&mut accumulator);
    let second = pull(&mut accumulator);
    assert_eq!(second.sequence, sequence(1, 1), "full before");
    accumulator.correct(first, sequence(2, 0));
    accumulator.correct(second, sequence(2, 1));
    push(&mut accumulator, &builders, 600).unwrap();
    let third = pull(&mut accumulator);
    let fourth = pull(&mut accumulator);
    assert_eq!(third.sequence, sequence(2, 2), "it was open");
    assert_eq!(fourth.sequence, sequence(2, 3));
    accumulator.correct(third, sequence(2, 2));

    // Another partition of the producer is in its own epoch.
    let mut other = Accumulator::new(10_000);
    push(&mut other, &builders, 600).unwrap();
    assert_eq!(pull(&mut other).sequence, sequence(1, 0));
}

#[test]
fn without_an_identity_batches_have_no_number() {
    let (mut accumulator, builders) = (Accumulator::new(10_000), builders());
    push(&mut accumulator, &builders, 300).unwrap();
    let batch = accumulator.pull(T0, ANY).unwrap();
    let Content::Records(builder) = batch.content else {
        panic!("it was not full");
    };
    let bytes = builders.encode(builder);
    let header = BatchHeader::parse(&bytes).unwrap();
    assert_eq!(header.producer_id, ProducerId::NONE);
    assert_eq!(header.base_sequence, u32::MAX);
}
