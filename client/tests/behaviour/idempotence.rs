//! Idempotent producers: whatever is lost on the way, each record is in the log once and in order.

use std::collections::VecDeque;
use std::time::Duration;

use corelane_client::{Error, ErrorCode, ErrorKind, Producer, Record};

use crate::support::{Action, Dice, FakeBroker, numbers, written};

/// A record that was handed over and is not awaited yet.
async fn sent(producer: &Producer, value: &str) -> corelane_client::Delivery {
    let record = Record::to("t").value(value.to_owned());
    producer.send(record).await.unwrap()
}

/// The error that a record ends with.
async fn refused(producer: &Producer, value: &str) -> Error {
    sent(producer, value).await.await.unwrap_err()
}

/// Waits until the broker has seen so many batches.
async fn arrived(broker: &FakeBroker, batches: u64) {
    while broker.counters().batches < batches {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_producer_is_idempotent_unless_told_otherwise() {
    let broker = FakeBroker::with_topic(1, 2).await;
    let producer = broker.producer().await;
    assert_eq!(broker.counters().identities, 0, "it has nothing to send");
    for value in ["a", "b", "c"] {
        written(&producer, Record::to("t").value(value).partition(0)).await;
    }
    let lines = ["d", "e"].map(|value| corelane_client::RecordRef::value(value.as_bytes()));
    let lines = lines.map(|record| record.partition(1));
    let outcome = producer.send_batch("t", lines).await.unwrap().await;
    assert!(outcome.into_result().is_ok());
    written(&producer, Record::to("t").value("f").partition(1)).await;
    assert_eq!(broker.counters().identities, 1);
    let first = [(1_000, 0, 0), (1_000, 0, 1), (1_000, 0, 2)];
    assert_eq!(broker.sequences("t", 0), first);
    assert_eq!(broker.sequences("t", 1), [(1_000, 0, 0), (1_000, 0, 2)]);
    let other = broker.producer().await;
    written(&other, Record::to("t").value("g").partition(0)).await;
    assert_eq!(broker.sequences("t", 0).last(), Some(&(1_001, 0, 0)));
}

#[tokio::test]
async fn a_producer_that_is_not_idempotent_says_nothing_of_itself() {
    let broker = FakeBroker::with_topic(1, 1).await;
    let client = broker.client().await;
    let producer = client.producer().idempotent(false).build().await.unwrap();
    written(&producer, Record::to("t").value("a")).await;
    assert_eq!(broker.sequences("t", 0), [(u64::MAX, u16::MAX, u32::MAX)]);
    assert_eq!(broker.counters().identities, 0);
}

#[tokio::test]
async fn a_batch_whose_answer_was_lost_is_there_once_and_its_receipt_says_where() {
    let broker = FakeBroker::with_topic(1, 1).await;
    broker.on_produce(|seen| match seen.number {
        1 => Action::AcceptAndClose,
        _ => Action::Accept,
    });
    let producer = broker.producer().await;
    for (offset, value) in (0..).zip(["a", "b", "c"]) {
        let receipt = written(&producer, Record::to("t").value(value)).await;
        assert_eq!(receipt.offset, offset);
    }
    assert_eq!(broker.values("t", 0), ["a", "b", "c"]);
    assert_eq!(broker.counters().duplicates, 1);
}

#[tokio::test]
async fn lost_connections_and_refusals_write_each_record_once_and_in_order() {
    let mut connections = 0;
    for seed in 0..10 {
        let broker = FakeBroker::with_topic(2, 3).await;
        let mut dice = Dice(seed);
        broker.on_produce(move |_| match dice.roll(20) {
            0..3 => Action::AcceptAndClose,
            3 => Action::Close,
            4 => Action::Refuse(ErrorCode::Overloaded),
            5 => Action::AcceptAfter(Duration::from_millis(dice.roll(3))),
            _ => Action::Accept,
        });
        let client = broker.client().await;
        let producer = client.producer().batch_bytes(600).request_bytes(1_500);
        let producer = producer.build().await.unwrap();
        let values = numbers(1_000);
        for chunk in values.chunks(100) {
            for partition in 0..3 {
                let records = chunk.iter().map(|value| {
                    corelane_client::RecordRef::value(value.as_bytes()).partition(partition)
                });
                drop(producer.send_batch("t", records).await.unwrap());
            }
        }
        producer.flush().await.unwrap();
        for partition in 0..3 {
            let found = broker.values("t", partition);
            assert_eq!(found, values, "seed {seed}, partition {partition}");
        }
        assert!(broker.counters().duplicates > 0, "seed {seed}");
        connections += broker.counters().connections;
    }
    assert!(connections > 100, "{connections} connections");
}

#[tokio::test]
async fn batches_behind_one_that_fails_take_its_place() {
    let broker = FakeBroker::with_topic(1, 1).await;
    broker.on_produce(|seen| match seen.values[0].parse::<u32>() {
        Ok(value) if value % 7 == 3 => Action::Refuse(ErrorCode::InvalidTimestamp),
        _ => Action::Accept,
    });
    let client = broker.client().await;
    // One record for each batch: they are too long for two.
    let producer = client.producer().batch_bytes(600).build().await.unwrap();
    let values: Vec<String> = (0..50).map(|number| format!("{number:0400}")).collect();
    let mut deliveries = VecDeque::new();
    for value in &values {
        deliveries.push_back(sent(&producer, value).await);
    }
    let mut expected = Vec::new();
    for (number, value) in values.iter().enumerate() {
        match deliveries.pop_front().unwrap().await {
            Ok(receipt) => {
                assert_eq!(receipt.offset as usize, expected.len());
                expected.push(value.clone());
            }
            Err(error) => {
                assert_eq!(number % 7, 3);
                assert_eq!(error.code(), Some(ErrorCode::InvalidTimestamp));
                assert!(!error.is_outcome_unknown(), "{error}");
            }
        }
    }
    assert_eq!(broker.values("t", 0), expected);
    let sequences = broker.sequences("t", 0);
    let in_one_epoch = (0..43).map(|number| (1_000, 0, number));
    assert!(sequences.iter().copied().eq(in_one_epoch), "{sequences:?}");
}

#[tokio::test]
async fn acknowledged_records_that_the_broker_lost_do_not_stop_those_behind_them() {
    let broker = FakeBroker::with_topic(1, 1).await;
    let producer = broker.producer().await;
    for value in ["a", "b", "c"] {
        written(&producer, Record::to("t").value(value)).await;
    }
    broker.on_produce(|seen| match seen.number {
        3 => Action::Ignore,
        _ => Action::Accept,
    });
    let under_way = sent(&producer, "d").await;
    arrived(&broker, 4).await;
    broker.restart_without("t", 1);
    assert_eq!(under_way.await.unwrap().offset, 1);
    written(&producer, Record::to("t").value("e")).await;
    assert_eq!(broker.values("t", 0), ["a", "d", "e"]);
    let expected = [(1_000, 0, 0), (1_000, 1, 0), (1_000, 1, 1)];
    assert_eq!(broker.sequences("t", 0), expected);
}

#[tokio::test]
async fn a_producer_that_was_forgotten_goes_on_in_another_epoch() {
    let broker = FakeBroker::with_topic(1, 1).await;
    let producer = broker.producer().await;
    written(&producer, Record::to("t").value("a")).await;
    broker.state().log("t", 0).producers.forget();
    written(&producer, Record::to("t").value("b")).await;
    assert_eq!(broker.sequences("t", 0), [(1_000, 0, 0), (1_000, 1, 0)]);
}

#[tokio::test]
async fn what_was_sent_before_the_producer_was_forgotten_stays_in_doubt() {
    let broker = FakeBroker::with_topic(1, 1).await;
    broker.on_produce(|seen| match seen.number {
        1 => Action::Ignore,
        _ => Action::Accept,
    });
    let producer = broker.producer().await;
    written(&producer, Record::to("t").value("a")).await;
    let in_doubt = sent(&producer, "b").await;
    arrived(&broker, 2).await;
    broker.state().log("t", 0).producers.forget();
    broker.hang_up(false);
    let error = in_doubt.await.unwrap_err();
    assert!(matches!(error, Error::RefusedInDoubt { .. }), "{error}");
    assert_eq!(error.code(), Some(ErrorCode::UnknownProducer));
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    assert!(error.is_outcome_unknown());
    written(&producer, Record::to("t").value("c")).await;
    assert_eq!(broker.values("t", 0), ["a", "c"]);
}

#[tokio::test]
async fn a_fenced_producer_says_so() {
    let broker = FakeBroker::with_topic(1, 1).await;
    broker.on_produce(|_| Action::Refuse(ErrorCode::ProducerFenced));
    let producer = broker.producer().await;
    for value in ["a", "b"] {
        let error = refused(&producer, value).await;
        assert_eq!(error.code(), Some(ErrorCode::ProducerFenced));
        assert!(!error.is_outcome_unknown() && !error.is_retriable());
    }
}

#[tokio::test]
async fn a_batch_that_is_too_far_back_is_written_and_only_its_offset_is_not_known() {
    let broker = FakeBroker::with_topic(1, 1).await;
    broker.on_produce(|seen| match seen.number {
        0 => Action::AcceptAfter(Duration::from_secs(100)),
        _ => Action::Accept,
    });
    broker.state().log("t", 0).producers.remembered_max = Some(1);
    let producer = broker.producer().await;
    let first = sent(&producer, "a").await;
    arrived(&broker, 1).await;
    written(&producer, Record::to("t").value("b")).await;
    broker.hang_up(false);
    let error = first.await.unwrap_err();
    assert!(matches!(error, Error::OffsetUnknown { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::OffsetUnknown);
    assert_eq!(error.code(), Some(ErrorCode::DuplicateSequence));
    assert!(!error.is_outcome_unknown() && !error.is_retriable());
    written(&producer, Record::to("t").value("c")).await;
    assert_eq!(broker.values("t", 0), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_batch_that_was_given_up_leaves_no_gap() {
    let broker = FakeBroker::with_topic(1, 1).await;
    broker.on_produce(|seen| match seen.number {
        1 => Action::Ignore,
        _ => Action::Accept,
    });
    let client = broker.client().await;
    let producer = client
        .producer()
        .delivery_timeout(Duration::from_millis(300));
    let producer = producer.build().await.unwrap();
    written(&producer, Record::to("t").value("a")).await;
    let error = refused(&producer, "b").await;
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error}");
    for value in ["c", "d"] {
        written(&producer, Record::to("t").value(value)).await;
    }
    assert_eq!(broker.values("t", 0), ["a", "c", "d"]);
    let expected = [(1_000, 0, 0), (1_000, 1, 0), (1_000, 1, 1)];
    assert_eq!(broker.sequences("t", 0), expected);
}

#[tokio::test]
async fn the_pieces_of_a_batch_keep_its_numbers() {
    let broker = FakeBroker::with_topic(1, 1).await;
    broker.on_produce(|seen| match seen.number {
        0 => Action::AcceptAfter(Duration::from_secs(100)),
        _ => Action::Accept,
    });
    let client = broker.client().await;
    let producer = client.producer().linger(Duration::from_millis(50));
    let producer = producer.build().await.unwrap();
    let values: Vec<String> = (0..10).map(|number| format!("{number:0100}")).collect();
    let delivery = producer.send_batch("t", &values).await.unwrap();
    arrived(&broker, 1).await;
    broker.state().set_batch_bytes_max("t", 700);
    broker.hang_up(false);
    let outcome = delivery.await.into_result().unwrap();
    let offsets = outcome.iter().map(|receipt| receipt.unwrap().offset);
    assert!(offsets.eq(0..10));
    assert_eq!(broker.values("t", 0), values, "the whole was there already");
    assert!(broker.counters().duplicates > 1, "and each piece was known");
    written(&producer, Record::to("t").value("last")).await;
    assert_eq!(broker.sequences("t", 0), [(1_000, 0, 0), (1_000, 0, 10)]);
}

#[tokio::test]
async fn a_topic_made_again_begins_with_the_first_number() {
    let broker = FakeBroker::with_topic(1, 1).await;
    let producer = broker.producer().await;
    for value in ["a", "b"] {
        written(&producer, Record::to("t").value(value)).await;
    }
    broker.create_topic("t", 1);
    for value in ["c", "d"] {
        written(&producer, Record::to("t").value(value)).await;
    }
    assert_eq!(broker.values("t", 0), ["c", "d"]);
    assert_eq!(broker.sequences("t", 0), [(1_000, 1, 0), (1_000, 1, 1)]);
}

#[tokio::test]
async fn a_topic_that_was_gone_for_a_moment_takes_no_number_twice() {
    let broker = FakeBroker::with_topic(1, 1).await;
    let producer = broker.producer().await;
    written(&producer, Record::to("t").value("a")).await;
    let topic = broker.state().topics.remove("t").unwrap();
    let error = refused(&producer, "b").await;
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopic));
    broker.state().topics.insert("t".into(), topic);
    let receipt = written(&producer, Record::to("t").value("c")).await;
    assert_eq!(receipt.offset, 1, "it is not taken for the first one");
    assert_eq!(broker.values("t", 0), ["a", "c"]);
}

#[tokio::test]
async fn without_an_epoch_left_the_producer_asks_for_another_id() {
    let broker = FakeBroker::with_topic(1, 2).await;
    broker.state().identities.first_epoch = u16::MAX - 1;
    let producer = broker.producer().await;
    written(&producer, Record::to("t").value("a").partition(0)).await;
    written(&producer, Record::to("t").value("a").partition(1)).await;
    broker.state().log("t", 0).producers.forget();
    written(&producer, Record::to("t").value("b").partition(0)).await;
    written(&producer, Record::to("t").value("b").partition(1)).await;
    let last = u16::MAX - 1;
    assert_eq!(
        broker.sequences("t", 0),
        [(1_000, last, 0), (1_001, last, 0)]
    );
    let other = [(1_000, last, 0), (1_000, last, 1)];
    assert_eq!(broker.sequences("t", 1), other, "it needs none");
    assert_eq!(broker.counters().identities, 2);
}

#[tokio::test]
async fn an_id_that_cannot_be_had_now_is_asked_for_again() {
    let broker = FakeBroker::with_topic(1, 1).await;
    let refusals = [ErrorCode::ShuttingDown, ErrorCode::Overloaded];
    broker.state().identities.refusals.extend(refusals);
    let producer = broker.producer().await;
    written(&producer, Record::to("t").value("a")).await;
    assert_eq!(broker.counters().identities, 3);
}

#[tokio::test]
async fn without_an_id_in_time_nothing_was_written() {
    let broker = FakeBroker::with_topic(1, 1).await;
    let refusals = [ErrorCode::Overloaded; 1_000];
    broker.state().identities.refusals.extend(refusals);
    let client = broker.builder().request_timeout(Duration::from_millis(100));
    let client = client.connect().await.unwrap();
    let producer = client
        .producer()
        .delivery_timeout(Duration::from_millis(400));
    let producer = producer.build().await.unwrap();
    let error = refused(&producer, "a").await;
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    assert_eq!(error.code(), Some(ErrorCode::Overloaded), "{error}");
}

#[tokio::test]
async fn an_id_that_is_refused_for_good_fails_what_waits_and_nothing_after_it() {
    let broker = FakeBroker::with_topic(1, 1).await;
    let refusals = [ErrorCode::ProducerLimit];
    broker.state().identities.refusals.extend(refusals);
    let producer = broker.producer().await;
    let error = refused(&producer, "a").await;
    assert_eq!(error.code(), Some(ErrorCode::ProducerLimit));
    written(&producer, Record::to("t").value("b")).await;
    assert_eq!(broker.values("t", 0), ["b"]);
}

#[tokio::test]
async fn an_old_broker_is_told_from_a_new_one() {
    let broker = FakeBroker::with_topic(1, 1).await;
    broker.state().identities.known = false;
    let client = broker.client().await;
    let producer = client.producer().build().await.unwrap();
    let error = refused(&producer, "a").await;
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("idempotent(false)"), "{error}");
    let producer = client.producer().idempotent(false).build().await.unwrap();
    written(&producer, Record::to("t").value("b")).await;
    assert_eq!(broker.values("t", 0), ["b"]);
    assert_eq!(broker.counters().identities, 0);
}
