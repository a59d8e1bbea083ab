//! Records that are sent arrive, once, where and how the receipt says.

use std::time::Duration;

use corelane_client::{
    Acks, Compression, Durability, Error, ErrorCode, Partitioner, Record, Start,
};

use crate::support::{FakeBroker, numbers, written};

#[tokio::test]
async fn a_record_arrives_with_all_that_it_had() {
    let broker = FakeBroker::start(1).await;
    broker.create_topic("orders", 1);
    let client = broker.client().await;
    let producer = client.producer().build().await.unwrap();
    let record = Record::to("orders")
        .key("k")
        .value("v")
        .header("a", "1")
        .null_header("b")
        .timestamp_ms(42);
    let receipt = written(&producer, record).await;
    assert_eq!(
        (&*receipt.topic, receipt.partition, receipt.offset),
        ("orders", 0, 0)
    );
    assert_eq!(
        (receipt.durability, receipt.replicas_flushed),
        (Durability::Durable, 1)
    );
    let tombstone = Record::to("orders").key("k");
    assert_eq!(written(&producer, tombstone).await.offset, 1);

    let mut consumer = client
        .consumer()
        .assign([("orders", 0)], Start::Earliest)
        .build()
        .await
        .unwrap();
    let records = consumer.next().await.unwrap().unwrap();
    let record = records.iter().next().unwrap();
    assert_eq!(
        (record.topic(), record.partition(), record.offset()),
        ("orders", 0, 0)
    );
    assert_eq!(
        (record.key(), record.value()),
        (Some(&b"k"[..]), Some(&b"v"[..]))
    );
    assert_eq!(record.timestamp_ms(), 42);
    let headers: Vec<_> = record.headers().collect();
    assert_eq!(headers, [("a", Some(&b"1"[..])), ("b", None)]);
    let records = consumer.next().await.unwrap().unwrap();
    assert_eq!(records.iter().next().unwrap().value(), None);
}

#[tokio::test]
async fn records_sent_one_by_one_share_batches_and_keep_their_order() {
    let broker = FakeBroker::with_topic(1, 1).await;
    let producer = broker.producer().await;
    let mut deliveries = Vec::new();
    for index in 0..5_000 {
        deliveries.push(
            producer
                .send(Record::to("t").value(index.to_string()))
                .await
                .unwrap(),
        );
    }
    for (index, delivery) in deliveries.into_iter().enumerate() {
        assert_eq!(delivery.await.unwrap().offset, index as u64);
    }
    assert_eq!(broker.values("t", 0), numbers(5_000));
    assert!(
        broker.counters().batches < 1_000,
        "{}",
        broker.counters().batches
    );
}

#[tokio::test]
async fn keys_land_where_kafka_puts_them() {
    let broker = FakeBroker::with_topic(2, 8).await;
    let producer = broker.producer().await;
    for key in ["21", "foobar", "abc"] {
        let receipt = written(&producer, Record::to("t").key(key).value(key)).await;
        assert_eq!(
            receipt.partition,
            corelane_protocol::partition_for_key(key.as_bytes(), 8)
        );
    }
}

#[tokio::test]
async fn a_custom_partitioner_decides_and_an_explicit_partition_wins() {
    let broker = FakeBroker::with_topic(1, 4).await;
    let client = broker.client().await;
    let custom = Partitioner::custom(|input| input.partition_count - 1);
    let producer = client.producer().partitioner(custom).build().await.unwrap();
    assert_eq!(
        written(&producer, Record::to("t").value("x"))
            .await
            .partition,
        3
    );
    let explicit = Record::to("t").value("x").partition(1);
    assert_eq!(written(&producer, explicit).await.partition, 1);
}

#[tokio::test]
async fn what_can_never_be_sent_is_refused_before_it_is_sent() {
    let broker = FakeBroker::with_topic(1, 1).await;
    let producer = broker.producer().await;
    let error = producer
        .send(Record::to("missing").value("x"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopic));
    let error = producer
        .send(Record::to("t").partition(1).value("x"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
    let error = producer
        .send(Record::to("t").timestamp_ms(-5).value("x"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
    let error = producer
        .send(Record::to("t").value(vec![0; 2 << 20]))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::RecordTooLarge { .. }), "{error}");
    assert_eq!(broker.counters().produces, 0);
}

#[tokio::test]
async fn a_record_larger_than_a_batch_arrives_alone_and_in_order() {
    let broker = FakeBroker::with_topic(1, 1).await;
    let producer = broker.producer().await;
    let large = "x".repeat(500_000);
    for value in ["a", &large, "b"] {
        drop(producer.send(Record::to("t").value(value)).await.unwrap());
    }
    producer.flush().await.unwrap();
    assert_eq!(broker.values("t", 0), ["a", &large, "b"]);
}

#[tokio::test]
async fn every_codec_arrives_readable_and_in_order() {
    for codec in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let broker = FakeBroker::with_topic(1, 1).await;
        let client = broker.client().await;
        let producer = client.producer().compression(codec).build().await.unwrap();
        let expected: Vec<String> = (0..20_000)
            .map(|index| format!("value {index} {}", "x".repeat(50)))
            .collect();
        let outcome = producer
            .send_batch("t", &expected)
            .await
            .unwrap()
            .await
            .into_result()
            .unwrap();
        assert_eq!(outcome.len(), expected.len());
        assert_eq!(broker.values("t", 0), expected, "{codec}");
        let size: usize = broker
            .state()
            .log("t", 0)
            .log
            .iter()
            .map(|(_, _, bytes)| bytes.len())
            .sum();
        assert!(size < 20_000 * 30, "{codec} took {size} bytes");
        let mut consumer = client
            .consumer()
            .assign_topic("t", Start::Earliest)
            .until_end(true)
            .build()
            .await
            .unwrap();
        let read = crate::support::read_all(&mut consumer).await;
        assert!(
            read.into_iter().map(|(_, _, value)| value).eq(expected),
            "{codec}"
        );
    }
}

#[tokio::test]
async fn lingering_makes_one_batch_of_many_records() {
    let broker = FakeBroker::with_topic(1, 1).await;
    let client = broker.client().await;
    let producer = client
        .producer()
        .linger(Duration::from_millis(300))
        .build()
        .await
        .unwrap();
    let mut deliveries = Vec::new();
    for index in 0..20 {
        deliveries.push(
            producer
                .send(Record::to("t").value(index.to_string()))
                .await
                .unwrap(),
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(broker.counters().batches, 0, "it lingers");
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    assert_eq!(broker.counters().batches, 1);
}

#[tokio::test]
async fn a_flush_does_not_wait_for_the_linger() {
    let broker = FakeBroker::with_topic(1, 3).await;
    let client = broker.client().await;
    let producer = client
        .producer()
        .linger(Duration::from_secs(60))
        .build()
        .await
        .unwrap();
    for partition in 0..3 {
        let record = Record::to("t").value("x").partition(partition);
        drop(producer.send(record).await.unwrap());
    }
    tokio::time::timeout(Duration::from_secs(5), producer.flush())
        .await
        .unwrap()
        .unwrap();
    assert!((0..3).all(|partition| broker.values("t", partition) == ["x"]));
}

#[tokio::test]
async fn closing_waits_for_everything_and_then_takes_no_more() {
    let broker = FakeBroker::with_topic(1, 1).await;
    let client = broker.client().await;
    let producer = client
        .producer()
        .linger(Duration::from_secs(60))
        .build()
        .await
        .unwrap();
    let delivery = producer.send(Record::to("t").value("x")).await.unwrap();
    producer.close().await.unwrap();
    assert_eq!(delivery.await.unwrap().offset, 0);
    let error = producer.send(Record::to("t").value("y")).await.unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    producer.close().await.unwrap();
}

#[tokio::test]
async fn a_dropped_producer_still_sends_what_it_took() {
    let broker = FakeBroker::with_topic(1, 1).await;
    let client = broker.client().await;
    let producer = client
        .producer()
        .linger(Duration::from_millis(20))
        .build()
        .await
        .unwrap();
    let delivery = producer.send(Record::to("t").value("x")).await.unwrap();
    drop(producer);
    assert_eq!(delivery.await.unwrap().offset, 0);
}

#[tokio::test]
async fn a_flush_reports_the_first_failure() {
    let broker = FakeBroker::with_topic(1, 1).await;
    broker.on_produce(|_| crate::support::Action::Refuse(ErrorCode::CorruptBatch));
    let producer = broker
        .client()
        .await
        .producer()
        .acks(Acks::Leader)
        .build()
        .await
        .unwrap();
    drop(producer.send(Record::to("t").value("x")).await.unwrap());
    let error = producer.flush().await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::CorruptBatch));
}
