//! What a topic takes: batches are cut by it, and by what it is changed to.

use std::time::Duration;

use corelane_client::{Compression, Error, ErrorCode, Record, RecordRef};
use corelane_protocol::batch::BatchHeader;

use crate::support::{Action, Dice, FakeBroker, numbers};

/// The sizes of a partition's batches in bytes, with their number of records.
fn batch_sizes(broker: &FakeBroker, topic: &str) -> Vec<(usize, u32)> {
    let mut state = broker.state();
    let sizes = state.log(topic, 0).log.iter().map(|(_, _, bytes)| {
        let header = BatchHeader::parse(bytes).unwrap();
        (bytes.len(), header.record_count)
    });
    sizes.collect()
}

/// Bytes that no codec shrinks.
fn noise(bytes: usize) -> Vec<u8> {
    let mut dice = Dice(1);
    (0..bytes).map(|_| dice.roll(256) as u8).collect()
}

#[tokio::test]
async fn batches_are_cut_by_what_each_topic_takes() {
    let broker = FakeBroker::start(1).await;
    for (topic, batch_bytes_max) in [("small", 2_000), ("large", 4 << 20)] {
        broker.create_topic(topic, 1);
        broker.state().set_batch_bytes_max(topic, batch_bytes_max);
    }
    let producer = broker.producer().await;
    let values = numbers(5_000);
    let sent = producer.send_batch("small", &values).await.unwrap();
    sent.await.into_result().unwrap();
    assert_eq!(broker.values("small", 0), values);
    assert!(
        batch_sizes(&broker, "small")
            .iter()
            .all(|(bytes, _)| *bytes <= 2_000)
    );
    let large = "x".repeat(3 << 20);
    let sent = producer.send(Record::to("large").value(&large)).await;
    sent.unwrap().await.unwrap();
    assert_eq!(broker.values("large", 0), [large]);
}

#[tokio::test]
async fn a_record_that_alone_is_too_large_is_refused_for_itself_and_says_what_to_raise() {
    let broker = FakeBroker::with_topic(1, 1).await;
    broker.state().set_batch_bytes_max("t", 2_000);
    let producer = broker.producer().await;
    let large = "x".repeat(2_000);
    let outcome = producer
        .send_batch("t", ["a", &large, "b"])
        .await
        .unwrap()
        .await;
    let error = outcome.get(1).unwrap().unwrap_err();
    let message = error.to_string();
    for part in [
        "topic t takes 2000",
        "max.message.bytes of the topic",
        "log.max_message_bytes of the broker",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(outcome.acknowledged_count(), 2);
    assert_eq!(broker.values("t", 0), ["a", "b"]);
}

#[tokio::test]
async fn a_raised_limit_counts_for_the_next_record_that_needs_it() {
    let broker = FakeBroker::with_topic(1, 1).await;
    broker.state().set_batch_bytes_max("t", 2_000);
    let producer = broker.producer().await;
    let large = "x".repeat(5_000);
    producer.partition_count("t").await.unwrap();
    broker.state().set_batch_bytes_max("t", 10_000);
    let sent = producer.send(Record::to("t").value(&large)).await.unwrap();
    sent.await.unwrap();
    assert_eq!(broker.values("t", 0), [large]);
}

#[tokio::test]
async fn many_records_that_are_too_large_ask_for_the_limit_now_and_then_only() {
    let broker = FakeBroker::with_topic(1, 1).await;
    broker.state().set_batch_bytes_max("t", 2_000);
    let producer = broker.producer().await;
    let values = vec!["x".repeat(2_000); 1_000];
    let outcome = producer.send_batch("t", &values).await.unwrap().await;
    assert_eq!(outcome.acknowledged_count(), 0);
    let asked = broker.counters().metadata;
    assert!(asked < 200, "{asked} times");
}

#[tokio::test]
async fn a_lowered_limit_splits_what_is_on_its_way_and_keeps_the_order() {
    for seed in 0..10 {
        let broker = FakeBroker::with_topic(1, 1).await;
        let mut dice = Dice(seed);
        broker.on_produce(move |_| match dice.roll(10) {
            0 => Action::Refuse(ErrorCode::Overloaded),
            1 => Action::AcceptAfter(Duration::from_millis(dice.roll(3))),
            _ => Action::Accept,
        });
        let compression = [Compression::None, Compression::Lz4][seed as usize % 2];
        let client = broker.client().await;
        let producer = client
            .producer()
            .batch_bytes(4_000)
            .compression(compression);
        let producer = producer.build().await.unwrap();
        let mut sent = Vec::new();
        for (round, limit) in [100_000, 2_000, 700, 50_000, 1_000].into_iter().enumerate() {
            broker.state().set_batch_bytes_max("t", limit);
            let values = (0..500).map(|number| (round * 500 + number).to_string());
            let values: Vec<String> = values.collect();
            let records = values
                .iter()
                .map(|value| RecordRef::value(value.as_bytes()));
            sent.push(producer.send_batch("t", records).await.unwrap());
        }
        producer.flush().await.unwrap();
        assert_eq!(broker.values("t", 0), numbers(2_500), "seed {seed}");
        let mut offset = 0;
        for delivery in sent {
            let outcome = delivery.await.into_result().unwrap();
            assert_eq!(outcome.len(), 500);
            for receipt in outcome.iter() {
                assert_eq!(receipt.unwrap().offset, offset, "seed {seed}");
                offset += 1;
            }
        }
    }
}

#[tokio::test]
async fn of_a_batch_that_is_split_only_what_cannot_fit_fails() {
    let broker = FakeBroker::with_topic(1, 1).await;
    let client = broker.client().await;
    let producer = client
        .producer()
        .linger(Duration::from_secs(60))
        .build()
        .await
        .unwrap();
    let large = "x".repeat(2_000);
    let mut deliveries = Vec::new();
    let mut values = numbers(100);
    values.insert(50, large);
    for value in &values {
        deliveries.push(producer.send(Record::to("t").value(value)).await.unwrap());
    }
    broker.state().set_batch_bytes_max("t", 600);
    let error = producer.flush().await.unwrap_err();
    assert!(
        matches!(error, Error::RecordTooLarge { bytes_max: 600, .. }),
        "{error}"
    );
    let mut offset = 0;
    for (index, delivery) in deliveries.into_iter().enumerate() {
        match delivery.await {
            Ok(receipt) => {
                assert_eq!(receipt.offset, offset, "record {index}");
                offset += 1;
            }
            Err(error) => {
                assert_eq!(index, 50, "{error}");
            }
        }
    }
    assert_eq!(broker.values("t", 0), numbers(100));
    assert!(
        batch_sizes(&broker, "t")
            .iter()
            .all(|(bytes, _)| *bytes <= 600)
    );
    assert!(broker.counters().metadata >= 2, "asked again");
}

#[tokio::test]
async fn a_broker_that_takes_less_than_it_says_gets_smaller_and_smaller_batches() {
    let broker = FakeBroker::with_topic(1, 1).await;
    broker.on_produce(|seen| match seen.values.len() {
        0..=3 => Action::Accept,
        _ => Action::Refuse(ErrorCode::BatchTooLarge),
    });
    let client = broker.client().await;
    for compression in [Compression::None, Compression::Zstd] {
        let producer = client
            .producer()
            .compression(compression)
            .build()
            .await
            .unwrap();
        let sent = producer.send_batch("t", &numbers(200)).await.unwrap();
        sent.await.into_result().unwrap();
    }
    let values = broker.values("t", 0);
    assert_eq!(values, [numbers(200), numbers(200)].concat());
}

#[tokio::test]
async fn a_record_counts_as_it_is_sent_and_not_as_it_was_given() {
    let broker = FakeBroker::with_topic(1, 1).await;
    broker.state().set_batch_bytes_max("t", 20_000);
    let client = broker.client().await;
    for codec in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let producer = client.producer().compression(codec).build().await.unwrap();
        let text = "many words that are the same ".repeat(3_000);
        let noise = noise(25_000);
        let records = [&b"a"[..], text.as_bytes(), &noise, b"b"];
        let outcome = producer.send_batch("t", records).await.unwrap().await;
        let failed: Vec<bool> = outcome.iter().map(|result| result.is_err()).collect();
        assert_eq!(failed, [false, false, true, false], "{codec}");
        let error = outcome.first_error().unwrap();
        assert!(
            matches!(
                error,
                Error::RecordTooLarge {
                    bytes: 25_000..,
                    ..
                }
            ),
            "{error}"
        );
        let mut state = broker.state();
        let values = state.values("t", 0);
        assert_eq!(values, ["a", &text, "b"], "{codec}");
        state.log("t", 0).log.clear();
    }
}
