//! Straight to the owning core, and after it when a partition moves.

use std::time::Duration;

use corelane_client::{Record, RecordRef, Start};

use crate::support::{Action, FakeBroker, read_all, written};

#[tokio::test]
async fn each_partition_is_sent_to_its_own_core() {
    let broker = FakeBroker::start(3).await;
    broker.state().strict = true;
    broker.create_topic("t", 6);
    let producer = broker.producer().await;
    for partition in 0..6 {
        let record = Record::to("t").value("x").partition(partition);
        written(&producer, record).await;
    }
    let counters = broker.counters();
    assert_eq!(counters.batches, 6, "no batch was sent twice");
    assert!(counters.produce_cores.iter().copied().eq(0..3));
}

#[tokio::test]
async fn a_redirect_is_followed_at_once() {
    let broker = FakeBroker::start(2).await;
    broker.state().strict = true;
    broker.create_topic("t", 1);
    let producer = broker.producer().await;
    written(&producer, Record::to("t").value("a")).await;
    broker.state().log("t", 0).owner = 1;
    written(&producer, Record::to("t").value("b")).await;
    written(&producer, Record::to("t").value("c")).await;
    assert_eq!(broker.values("t", 0), ["a", "b", "c"]);
    assert_eq!(broker.counters().batches, 4, "one was redirected");
    assert_eq!(broker.counters().metadata, 1, "and nothing had to be asked");
}

#[tokio::test]
async fn order_is_kept_while_partitions_move_between_cores() {
    for strict in [true, false] {
        let broker = FakeBroker::start(2).await;
        broker.state().strict = strict;
        broker.create_topic("t", 2);
        broker.on_produce(|_| Action::AcceptAfter(Duration::from_millis(1)));
        let client = broker.client().await;
        let producer = client
            .producer()
            .batch_bytes(600)
            .request_bytes(1_200)
            .build()
            .await
            .unwrap();
        let expected: Vec<String> = (0..4_000).map(|index| index.to_string()).collect();
        for (index, chunk) in expected.chunks(100).enumerate() {
            for partition in 0..2 {
                let records = chunk
                    .iter()
                    .map(|value| RecordRef::value(value.as_bytes()).partition(partition));
                drop(producer.send_batch("t", records).await.unwrap());
            }
            broker.state().log("t", 0).owner = (index / 4 % 2) as u16;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        producer.flush().await.unwrap();
        for partition in 0..2 {
            assert_eq!(
                broker.values("t", partition),
                expected,
                "strict {strict}, partition {partition}"
            );
        }
        assert_eq!(broker.counters().produce_cores.len(), 2);
    }
}

#[tokio::test]
async fn with_the_bootstrap_address_only_everything_goes_there() {
    let broker = FakeBroker::with_topic(3, 6).await;
    let client = broker
        .builder()
        .use_bootstrap_only(true)
        .connect()
        .await
        .unwrap();
    let producer = client.producer().build().await.unwrap();
    for partition in 0..6 {
        let record = Record::to("t").value("x").partition(partition);
        written(&producer, record).await;
    }
    let mut consumer = client
        .consumer()
        .assign_topic("t", Start::Earliest)
        .until_end(true)
        .build()
        .await
        .unwrap();
    assert_eq!(read_all(&mut consumer).await.len(), 6);
    // One connection each for control, the producer and the consumer.
    assert_eq!(broker.counters().connections, 3);
}

#[tokio::test]
async fn a_consumer_follows_its_partition() {
    let broker = FakeBroker::start(2).await;
    broker.state().strict = true;
    broker.create_topic("t", 1);
    let client = broker.client().await;
    let producer = client.producer().build().await.unwrap();
    let consumer = client
        .consumer()
        .assign([("t", 0)], Start::Earliest)
        .max_wait(Duration::from_millis(50));
    let mut consumer = consumer.build().await.unwrap();
    for turn in 0..6 {
        broker.state().log("t", 0).owner = turn % 2;
        written(&producer, Record::to("t").value(turn.to_string())).await;
        let records = consumer.next().await.unwrap().unwrap();
        assert_eq!(records.iter().next().unwrap().offset(), u64::from(turn));
    }
}

#[tokio::test]
async fn cores_that_come_back_on_other_ports_are_found() {
    let mut broker = FakeBroker::start(2).await;
    broker.create_topic("t", 2);
    let client = broker.client().await;
    let producer = client.producer().build().await.unwrap();
    let consumer = client.consumer().assign_topic("t", Start::Earliest);
    let mut consumer = consumer.build().await.unwrap();
    for turn in 0..3 {
        for partition in 0..2 {
            let record = Record::to("t").value(turn.to_string()).partition(partition);
            written(&producer, record).await;
            let records = consumer.next().await.unwrap().unwrap();
            assert_eq!(records.partition(), partition);
            assert_eq!(records.iter().next().unwrap().offset(), turn);
        }
        broker.change_ports().await;
    }
}
