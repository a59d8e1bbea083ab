//! Buffers and windows are bounded, and calls wait or refuse when they are full.

use std::time::Duration;

use corelane_client::{Error, Record};

use crate::support::{Action, FakeBroker, written};

/// A broker that answers nothing until told.
async fn holding_broker() -> (FakeBroker, tokio::sync::watch::Sender<bool>) {
    let broker = FakeBroker::with_topic(1, 1).await;
    let (sender, receiver) = tokio::sync::watch::channel(true);
    broker.on_produce(move |_| match *receiver.borrow() {
        true => Action::Refuse(corelane_client::ErrorCode::Overloaded),
        false => Action::Accept,
    });
    (broker, sender)
}

#[tokio::test]
async fn a_full_buffer_hands_the_record_back() {
    let (broker, hold) = holding_broker().await;
    let client = broker.client().await;
    let producer = client
        .producer()
        .batch_bytes(512)
        .buffer_bytes(10_000)
        .build()
        .await
        .unwrap();
    let value = "x".repeat(1_000);
    let error = producer
        .try_send(Record::to("t").value("early"))
        .unwrap_err();
    assert!(
        matches!(error.error, Error::TopicNotReady { .. }),
        "{error}"
    );
    assert_eq!(producer.partition_count("t").await.unwrap(), 1);
    let mut deliveries = Vec::new();
    let refused = loop {
        match producer.try_send(Record::to("t").value(&value).header("h", "1")) {
            Ok(delivery) => deliveries.push(delivery),
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused.error, Error::BufferFull), "{refused}");
    assert_eq!(
        refused.record,
        Record::to("t").value(&value).header("h", "1")
    );
    assert_eq!(deliveries.len(), 9);
    hold.send(false).unwrap();
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    producer.try_send(refused.record).unwrap().await.unwrap();
    assert_eq!(broker.values("t", 0).len(), 10);
}

#[tokio::test]
async fn a_send_waits_for_room_and_a_cancelled_one_takes_none() {
    let (broker, hold) = holding_broker().await;
    let client = broker.client().await;
    let producer = client
        .producer()
        .batch_bytes(512)
        .buffer_bytes(5_000)
        .build()
        .await
        .unwrap();
    let value = "x".repeat(1_000);
    for _ in 0..4 {
        drop(producer.send(Record::to("t").value(&value)).await.unwrap());
    }
    for _ in 0..20 {
        let waiting = producer.send(Record::to("t").value(&value));
        assert!(
            tokio::time::timeout(Duration::from_millis(5), waiting)
                .await
                .is_err(),
            "it must wait"
        );
    }
    hold.send(false).unwrap();
    for _ in 0..20 {
        written(&producer, Record::to("t").value(&value)).await;
    }
    assert_eq!(
        broker.values("t", 0).len(),
        24,
        "cancelled sends left nothing"
    );
}

#[tokio::test]
async fn waiting_for_room_ends_the_linger() {
    let broker = FakeBroker::with_topic(1, 1).await;
    let client = broker.client().await;
    let producer = client
        .producer()
        .linger(Duration::from_secs(60))
        .batch_bytes(4_000)
        .buffer_bytes(4_000);
    let producer = producer.build().await.unwrap();
    let value = "x".repeat(500);
    for _ in 0..20 {
        let sent = producer.send(Record::to("t").value(&value));
        drop(
            tokio::time::timeout(Duration::from_secs(5), sent)
                .await
                .unwrap()
                .unwrap(),
        );
    }
}

#[tokio::test]
async fn the_bytes_in_flight_on_a_connection_are_bounded() {
    let broker = FakeBroker::with_topic(1, 1).await;
    broker.state().in_flight_bytes_max = 50_000;
    broker.on_produce(|_| Action::AcceptAfter(Duration::from_millis(2)));
    let client = broker.client().await;
    let producer = client.producer().batch_bytes(8_000).build().await.unwrap();
    let values = vec!["x".repeat(900); 1_000];
    producer
        .send_batch("t", &values)
        .await
        .unwrap()
        .await
        .into_result()
        .unwrap();
    let most = broker.counters().outstanding_bytes_max;
    assert!(most <= 50_000, "{most} bytes were in flight");
    assert!(most > 30_000, "the window is used: {most}");
}

#[tokio::test]
async fn little_credit_slows_down_and_does_not_stop() {
    let broker = FakeBroker::with_topic(1, 1).await;
    broker.state().credit_bytes = 0;
    let producer = broker
        .client()
        .await
        .producer()
        .batch_bytes(8_000)
        .build()
        .await
        .unwrap();
    let values = vec!["x".repeat(900); 1_000];
    producer
        .send_batch("t", &values)
        .await
        .unwrap()
        .await
        .into_result()
        .unwrap();
    assert_eq!(broker.values("t", 0).len(), 1_000);
}
