//! Refusals, lost connections and deadlines: nothing accepted is lost, and order is kept.

use std::collections::BTreeSet;
use std::time::Duration;

use corelane_client::{Error, ErrorCode, Producer, Record, RecordRef, Start, TopicAlteration};

use crate::support::{Action, Dice, FakeBroker, numbers, written};

async fn send_numbers(producer: &Producer, partitions: u32, count: usize) {
    let values = numbers(count);
    for chunk in values.chunks(200) {
        for partition in 0..partitions {
            let records = chunk
                .iter()
                .map(|value| RecordRef::value(value.as_bytes()).partition(partition));
            drop(producer.send_batch("t", records).await.unwrap());
        }
    }
    producer.flush().await.unwrap();
}

/// The values with repeats left out: where each stands first.
fn first_occurrences(values: &[String]) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    let numbers = values.iter().map(|value| value.parse::<usize>().unwrap());
    numbers.filter(|number| seen.insert(*number)).collect()
}

#[tokio::test]
async fn refusals_in_the_middle_neither_lose_nor_repeat_nor_reorder() {
    for seed in 0..10 {
        let broker = FakeBroker::with_topic(2, 3).await;
        let mut dice = Dice(seed);
        broker.on_produce(move |_| match dice.roll(6) {
            0 => Action::Refuse(ErrorCode::Overloaded),
            1 => Action::AcceptAfter(Duration::from_millis(dice.roll(5))),
            _ => Action::Accept,
        });
        let client = broker.client().await;
        let producer = client
            .producer()
            .batch_bytes(600)
            .request_bytes(1_500)
            .build()
            .await
            .unwrap();
        send_numbers(&producer, 3, 2_000).await;
        let expected = numbers(2_000);
        for partition in 0..3 {
            assert_eq!(
                broker.values("t", partition),
                expected,
                "seed {seed}, partition {partition}"
            );
        }
        assert!(
            broker.counters().resumes > 0,
            "seed {seed}: refusals were met"
        );
    }
}

#[tokio::test]
async fn lost_connections_lose_nothing_and_keep_the_order_without_idempotence() {
    for seed in 0..5 {
        let broker = FakeBroker::with_topic(2, 3).await;
        let mut dice = Dice(seed);
        broker.on_produce(move |_| match dice.roll(20) {
            0 => Action::AcceptAndClose,
            1 => Action::Close,
            2 => Action::Refuse(ErrorCode::Overloaded),
            3 => Action::AcceptAfter(Duration::from_millis(dice.roll(5))),
            _ => Action::Accept,
        });
        let client = broker.client().await;
        let producer = client
            .producer()
            .idempotent(false)
            .batch_bytes(600)
            .request_bytes(1_500)
            .build()
            .await
            .unwrap();
        send_numbers(&producer, 3, 2_000).await;
        for partition in 0..3 {
            let values = broker.values("t", partition);
            let firsts = first_occurrences(&values);
            assert!(
                firsts.iter().copied().eq(0..2_000),
                "seed {seed}, partition {partition}"
            );
        }
    }
}

#[tokio::test]
async fn a_broker_that_comes_back_gets_everything() {
    let broker = FakeBroker::with_topic(1, 1).await;
    let client = broker.client().await;
    let producer = client.producer().build().await.unwrap();
    written(&producer, Record::to("t").value("before")).await;
    broker.hang_up(true);
    let delivery = producer
        .send(Record::to("t").value("during"))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    broker.hang_up(false);
    assert_eq!(delivery.await.unwrap().offset, 1);
    assert_eq!(broker.values("t", 0), ["before", "during"]);
}

#[tokio::test]
async fn a_deadline_without_an_attempt_says_that_nothing_was_written() {
    let broker = FakeBroker::with_topic(1, 1).await;
    let client = broker.client().await;
    let producer = client
        .producer()
        .delivery_timeout(Duration::from_millis(200))
        .build()
        .await
        .unwrap();
    producer.partition_count("t").await.unwrap();
    broker.hang_up(true);
    let error = producer
        .send(Record::to("t").value("x"))
        .await
        .unwrap()
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::TimedOut { cause: Some(_), .. }),
        "{error}"
    );
    assert!(!error.is_outcome_unknown());
}

#[tokio::test]
async fn a_connection_that_died_idle_leaves_no_doubt() {
    let broker = FakeBroker::with_topic(1, 1).await;
    let client = broker.client().await;
    let producer = client
        .producer()
        .delivery_timeout(Duration::from_millis(300));
    let producer = producer.build().await.unwrap();
    let sent = producer.send(Record::to("t").value("x")).await.unwrap();
    sent.await.unwrap();
    broker.hang_up(true);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let sent = producer.send(Record::to("t").value("y")).await.unwrap();
    let error = sent.await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
}

#[tokio::test]
async fn a_deadline_after_refusals_names_the_last_one() {
    let broker = FakeBroker::with_topic(1, 1).await;
    broker.on_produce(|_| Action::Refuse(ErrorCode::DiskFull));
    let client = broker.client().await;
    let producer = client
        .producer()
        .delivery_timeout(Duration::from_millis(200))
        .build()
        .await
        .unwrap();
    let error = producer
        .send(Record::to("t").value("x"))
        .await
        .unwrap()
        .await
        .unwrap_err();
    // Unknown if the last attempt was still under way when the deadline came.
    let is_expected = matches!(error, Error::TimedOut { .. } | Error::OutcomeUnknown { .. });
    assert!(is_expected, "{error}");
    assert_eq!(error.code(), Some(ErrorCode::DiskFull));
}

#[tokio::test]
async fn a_deadline_without_an_answer_is_unknown_and_not_failed() {
    let broker = FakeBroker::with_topic(1, 1).await;
    broker.on_produce(|seen| {
        if seen.number == 0 {
            Action::Ignore
        } else {
            Action::Accept
        }
    });
    let client = broker.client().await;
    let producer = client
        .producer()
        .delivery_timeout(Duration::from_millis(200))
        .build()
        .await
        .unwrap();
    let error = producer
        .send(Record::to("t").value("x"))
        .await
        .unwrap()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error}");
    assert!(error.is_outcome_unknown());
    let receipt = written(&producer, Record::to("t").value("y")).await;
    assert_eq!(receipt.offset, 0, "the producer goes on");
}

#[tokio::test]
async fn a_request_without_an_answer_is_sent_again_on_a_new_connection() {
    let broker = FakeBroker::with_topic(1, 1).await;
    broker.on_produce(|seen| {
        if seen.number == 0 {
            Action::Ignore
        } else {
            Action::Accept
        }
    });
    let client = broker
        .builder()
        .request_timeout(Duration::from_millis(700))
        .connect()
        .await
        .unwrap();
    let producer = client.producer().build().await.unwrap();
    let receipt = written(&producer, Record::to("t").value("x")).await;
    assert_eq!(receipt.offset, 0);
    assert_eq!(broker.values("t", 0), ["x"]);
}

#[tokio::test]
async fn a_refusal_for_good_fails_that_batch_and_no_other() {
    let broker = FakeBroker::with_topic(1, 1).await;
    broker.on_produce(|seen| match seen.values[0].as_str() {
        "bad" => Action::Refuse(ErrorCode::BatchTooLarge),
        _ => Action::Accept,
    });
    let producer = broker.producer().await;
    for (value, accepted) in [("a", true), ("bad", false), ("b", true)] {
        let result = producer
            .send(Record::to("t").value(value))
            .await
            .unwrap()
            .await;
        assert_eq!(result.is_ok(), accepted, "{value}");
    }
    assert_eq!(broker.values("t", 0), ["a", "b"]);
}

#[tokio::test]
async fn records_for_a_topic_that_was_deleted_fail() {
    let broker = FakeBroker::with_topic(1, 1).await;
    let producer = broker.producer().await;
    written(&producer, Record::to("t").value("x")).await;
    broker.state().topics.remove("t");
    let error = producer
        .send(Record::to("t").value("y"))
        .await
        .unwrap()
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopic));
    let error = producer.send(Record::to("t").value("z")).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopic));
}

#[tokio::test]
async fn records_follow_a_topic_that_was_made_again() {
    let broker = FakeBroker::with_topic(1, 1).await;
    let producer = broker.producer().await;
    written(&producer, Record::to("t").value("x")).await;
    broker.create_topic("t", 1);
    let receipt = written(&producer, Record::to("t").value("y")).await;
    assert_eq!(receipt.offset, 0);
    assert_eq!(broker.values("t", 0), ["y"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_callers_at_once_lose_nothing_and_keep_their_own_order() {
    let broker = FakeBroker::with_topic(2, 3).await;
    let mut dice = Dice(7);
    broker.on_produce(move |_| match dice.roll(15) {
        0 => Action::Refuse(ErrorCode::Overloaded),
        1 => Action::AcceptAfter(Duration::from_millis(dice.roll(3))),
        _ => Action::Accept,
    });
    let client = broker.client().await;
    let producer = client.producer().batch_bytes(700).buffer_bytes(20_000);
    let producer = producer.build().await.unwrap();
    let callers = (0..8).map(|caller| {
        let producer = producer.clone();
        tokio::spawn(async move {
            for index in 0..1_000 {
                let value = format!("{caller}:{index}");
                let record = Record::to("t").value(value).partition(index % 3);
                drop(producer.send(record).await.unwrap());
                if index % 100 == 99 {
                    producer.flush().await.unwrap();
                }
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    producer.close().await.unwrap();
    for partition in 0..3 {
        let values = broker.values("t", partition);
        for caller in 0..8 {
            let prefix = format!("{caller}:");
            let of_caller = values
                .iter()
                .filter_map(|value| value.strip_prefix(&prefix));
            let expected = (0..1_000).filter(|index| index % 3 == partition);
            assert!(
                of_caller
                    .map(|index| index.parse::<u32>().unwrap())
                    .eq(expected),
                "caller {caller}, partition {partition}"
            );
        }
    }
}

#[tokio::test]
async fn a_topic_whose_kind_of_time_changes_takes_every_record_once_and_in_order() {
    let broker = FakeBroker::with_topic(2, 2).await;
    let client = broker.client().await;
    let admin = client.admin();
    let producer = client.producer().batch_bytes(600).build().await.unwrap();
    let mut sent = 0;
    for value in ["CreateTime", "LogAppendTime", "CreateTime", "LogAppendTime"] {
        let change = TopicAlteration::new("t").set("message.timestamp.type", value);
        admin.alter_topic(change).await.unwrap();
        for _ in 0..50 {
            let record = Record::to("t").value(sent.to_string()).partition(1);
            drop(producer.send(record.timestamp_ms(5)).await.unwrap());
            sent += 1;
        }
        producer.flush().await.unwrap();
    }
    let expected: Vec<String> = (0..sent).map(|number| number.to_string()).collect();
    assert_eq!(broker.values("t", 1), expected);
    let mut consumer = client
        .consumer()
        .assign([("t", 1)], Start::Earliest)
        .until_end(true)
        .build()
        .await
        .unwrap();
    let mut times = Vec::new();
    while let Some(records) = consumer.next().await.unwrap() {
        times.extend(records.iter().map(|record| record.timestamp_ms()));
    }
    // The broker of the tests appends at one time only.
    let appended = |start: usize| {
        times[start..start + 50]
            .iter()
            .all(|time| *time == 1_000_000)
    };
    assert_eq!([0, 50, 100, 150].map(appended), [false, true, false, true]);
    assert!(times[..50].iter().all(|time| *time == 5));
}
