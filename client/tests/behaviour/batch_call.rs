//! Many records in one call: one future, an outcome for each record.

use corelane_client::{Durability, Error, ErrorCode, RecordRef};

use crate::support::{Action, FakeBroker};

#[tokio::test]
async fn each_record_has_its_receipt_in_the_order_given() {
    let broker = FakeBroker::with_topic(2, 4).await;
    let producer = broker
        .client()
        .await
        .producer()
        .batch_bytes(2_000)
        .build()
        .await
        .unwrap();
    let values: Vec<String> = (0..10_000).map(|index| format!("value {index}")).collect();
    let keys: Vec<String> = (0..10_000)
        .map(|index| format!("key {}", index % 57))
        .collect();
    let records = values
        .iter()
        .zip(&keys)
        .map(|(value, key)| RecordRef::value(value.as_bytes()).key(key.as_bytes()));
    let delivery = producer.send_batch("t", records).await.unwrap();
    assert_eq!(delivery.len(), 10_000);
    let outcome = delivery.await.into_result().unwrap();
    assert_eq!(outcome.acknowledged_count(), 10_000);
    assert_eq!(outcome.weakest_durability(), Some(Durability::Durable));
    let logs: Vec<Vec<String>> = (0..4)
        .map(|partition| broker.values("t", partition))
        .collect();
    for (value, receipt) in values.iter().zip(outcome.iter()) {
        let receipt = receipt.unwrap();
        assert_eq!(
            &logs[receipt.partition as usize][receipt.offset as usize],
            value
        );
    }
    let one = outcome.get(1_234).unwrap().unwrap();
    assert_eq!(
        logs[one.partition as usize][one.offset as usize],
        values[1_234]
    );
    assert!(outcome.get(10_000).is_none());
}

#[tokio::test]
async fn without_keys_records_fill_one_partition_after_the_other() {
    let broker = FakeBroker::with_topic(1, 4).await;
    let producer = broker
        .client()
        .await
        .producer()
        .batch_bytes(4_096)
        .build()
        .await
        .unwrap();
    let values = vec!["x".repeat(100); 1_000];
    producer
        .send_batch("t", &values)
        .await
        .unwrap()
        .await
        .into_result()
        .unwrap();
    let counts: Vec<usize> = (0..4)
        .map(|partition| broker.values("t", partition).len())
        .collect();
    assert_eq!(counts.iter().sum::<usize>(), 1_000);
    assert!(counts.iter().all(|count| *count > 200), "{counts:?}");
    assert!(
        broker.counters().batches < 60,
        "batches are full: {}",
        broker.counters().batches
    );
}

#[tokio::test]
async fn batches_of_one_call_go_together() {
    let broker = FakeBroker::with_topic(1, 1).await;
    let client = broker.client().await;
    let producer = client.producer().batch_bytes(8_192).build().await.unwrap();
    let values = vec!["x".repeat(1_000); 1_000];
    let delivery = producer.send_batch("t", &values).await.unwrap();
    delivery.await.into_result().unwrap();
    assert_eq!(broker.values("t", 0).len(), 1_000);
    let counters = broker.counters();
    assert!(counters.batches >= 125, "{} batches", counters.batches);
    // 1 MB in steps of 256 KiB, and a few for what waited when it began and ended.
    assert!(counters.produces <= 10, "{} requests", counters.produces);
}

#[tokio::test]
async fn a_record_that_cannot_be_sent_does_not_stop_the_others() {
    let broker = FakeBroker::with_topic(1, 2).await;
    let producer = broker.producer().await;
    let huge = vec![0; 2 << 20];
    let records = [
        RecordRef::value(b"a").partition(0),
        RecordRef::value(&huge).partition(0),
        RecordRef::value(b"b").partition(7),
        RecordRef::value(b"c").partition(0),
    ];
    let outcome = producer.send_batch("t", records).await.unwrap().await;
    let results: Vec<Result<u64, Error>> = outcome
        .iter()
        .map(|result| result.map(|receipt| receipt.offset))
        .collect();
    assert!(matches!(results[0], Ok(0)));
    assert!(matches!(results[1], Err(Error::RecordTooLarge { .. })));
    assert!(matches!(results[2], Err(Error::InvalidArgument(_))));
    assert!(matches!(results[3], Ok(1)));
    assert_eq!(outcome.acknowledged_count(), 2);
    assert!(outcome.into_result().is_err());
}

#[tokio::test]
async fn more_records_than_the_buffer_holds_go_through_it() {
    let broker = FakeBroker::with_topic(1, 1).await;
    let client = broker.client().await;
    let producer = client
        .producer()
        .buffer_bytes(100_000)
        .build()
        .await
        .unwrap();
    let values: Vec<String> = (0..50_000).map(|index| format!("value {index}")).collect();
    producer
        .send_batch("t", &values)
        .await
        .unwrap()
        .await
        .into_result()
        .unwrap();
    assert_eq!(broker.values("t", 0), values);
}

#[tokio::test]
async fn a_failed_batch_fails_its_own_records_only() {
    let broker = FakeBroker::with_topic(1, 2).await;
    broker.on_produce(|seen| match seen.partition {
        0 => Action::Refuse(ErrorCode::StorageFailed),
        _ => Action::Accept,
    });
    let producer = broker.producer().await;
    let records = (0..10).map(|index| RecordRef::value(b"x").partition(index % 2));
    let outcome = producer.send_batch("t", records).await.unwrap().await;
    for (index, result) in outcome.iter().enumerate() {
        assert_eq!(result.is_ok(), index % 2 == 1);
    }
    assert_eq!(
        outcome.first_error().unwrap().code(),
        Some(ErrorCode::StorageFailed)
    );
    assert!(outcome.first_error().unwrap().is_outcome_unknown());
}

#[tokio::test]
async fn no_records_are_settled_at_once() {
    let broker = FakeBroker::with_topic(1, 1).await;
    let producer = broker.producer().await;
    let delivery = producer.send_batch("t", Vec::<&str>::new()).await.unwrap();
    assert!(delivery.is_empty());
    assert!(delivery.await.into_result().unwrap().is_empty());
}
