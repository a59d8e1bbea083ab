//! Reading: every record once, in order, from where it was asked.

use std::time::Duration;

use corelane_client::{
    Client, Consumer, Error, ErrorCode, OffsetReset, OnTruncation, Record, RecordRef, Start,
};

use crate::support::{FakeBroker, plain, read_all, written};

/// A topic whose partitions hold the numbers from 0, in batches of ten.
async fn numbers(cores: u16, partitions: u32, count: usize) -> (FakeBroker, Client) {
    let broker = FakeBroker::start(cores).await;
    broker.create_topic("t", partitions);
    let client = broker.client().await;
    let producer = client.producer().build().await.unwrap();
    let values: Vec<String> = (0..count).map(|index| index.to_string()).collect();
    for partition in 0..partitions {
        for chunk in values.chunks(10) {
            let records = chunk
                .iter()
                .map(|value| RecordRef::value(value.as_bytes()).partition(partition));
            producer
                .send_batch("t", records)
                .await
                .unwrap()
                .await
                .into_result()
                .unwrap();
        }
    }
    (broker, client)
}

fn offsets(read: &[(u32, u64, String)], partition: u32) -> Vec<u64> {
    let of_partition = read.iter().filter(|(from, _, _)| *from == partition);
    of_partition.map(|(_, offset, _)| *offset).collect()
}

#[tokio::test]
async fn all_partitions_are_read_to_their_ends() {
    let (_broker, client) = numbers(2, 5, 200).await;
    let consumer = client
        .consumer()
        .assign_topic("t", Start::Earliest)
        .until_end(true)
        .max_bytes(2_000);
    let mut consumer = consumer.build().await.unwrap();
    let read = read_all(&mut consumer).await;
    for partition in 0..5 {
        assert!(
            offsets(&read, partition).into_iter().eq(0..200),
            "partition {partition}"
        );
        assert_eq!(consumer.position("t", partition), Some(200));
    }
    assert!(
        read.iter()
            .all(|(_, offset, value)| *value == offset.to_string())
    );
    assert!(consumer.is_at_end());
    assert!(consumer.next().await.unwrap().is_none());
}

#[tokio::test]
async fn reading_begins_where_it_is_told_also_within_a_batch() {
    let (_broker, client) = numbers(1, 1, 100).await;
    let starts = [
        (Start::Earliest, 0),
        (Start::Offset(55), 55),
        (Start::Last(3), 97),
        (Start::Last(1_000), 0),
        (Start::Latest, 100),
    ];
    for (start, first) in starts {
        let consumer = client.consumer().assign([("t", 0)], start).until_end(true);
        let read = read_all(&mut consumer.build().await.unwrap()).await;
        assert!(offsets(&read, 0).into_iter().eq(first..100), "{start:?}");
    }
}

#[tokio::test]
async fn the_first_records_handed_out_count_only_what_was_asked() {
    let (_broker, client) = numbers(1, 1, 20).await;
    let mut consumer = client
        .consumer()
        .assign([("t", 0)], Start::Offset(5))
        .build()
        .await
        .unwrap();
    let records = consumer.next().await.unwrap().unwrap();
    assert_eq!(
        (records.len(), records.iter().len(), records.end_offset()),
        (5, 5, 10)
    );
    assert_eq!(records.high_watermark(), 20);
    assert_eq!(
        consumer.position("t", 0),
        Some(10),
        "behind the batch, and not behind what was fetched"
    );
}

#[tokio::test]
async fn a_long_poll_wakes_on_new_records() {
    let broker = FakeBroker::with_topic(1, 1).await;
    let client = broker.client().await;
    let consumer = client
        .consumer()
        .assign([("t", 0)], Start::Latest)
        .max_wait(Duration::from_secs(4));
    let mut consumer = consumer.build().await.unwrap();
    assert!(
        consumer
            .poll(Duration::from_millis(30))
            .await
            .unwrap()
            .is_none()
    );
    assert!(!consumer.is_at_end());
    let producer = client.producer().build().await.unwrap();
    written(&producer, Record::to("t").value("x")).await;
    let next = tokio::time::timeout(Duration::from_secs(2), consumer.next())
        .await
        .unwrap();
    assert_eq!(plain(&next.unwrap().unwrap()), [(0, 0, "x".into())]);
    assert_eq!(
        broker.counters().fetches,
        1,
        "one fetch waited all the time"
    );
}

#[tokio::test]
async fn a_seek_throws_away_what_was_fetched() {
    let (_broker, client) = numbers(1, 1, 100).await;
    let mut consumer = client
        .consumer()
        .assign([("t", 0)], Start::Earliest)
        .build()
        .await
        .unwrap();
    for target in [90, 35, 0] {
        consumer.seek("t", 0, target).unwrap();
        let records = consumer.next().await.unwrap().unwrap();
        assert_eq!(records.iter().next().unwrap().offset(), target);
    }
    assert_eq!(consumer.seek_to("t", 0, Start::Last(1)).await.unwrap(), 99);
    assert_eq!(
        plain(&consumer.next().await.unwrap().unwrap()),
        [(0, 99, "99".into())]
    );
    assert!(matches!(
        consumer.seek("t", 9, 0),
        Err(Error::InvalidArgument(_))
    ));
}

#[tokio::test]
async fn a_paused_partition_stays_where_it_is() {
    let (_broker, client) = numbers(1, 2, 50).await;
    let consumer = client
        .consumer()
        .assign_topic("t", Start::Earliest)
        .max_wait(Duration::from_millis(10));
    let mut consumer = consumer.build().await.unwrap();
    consumer.next().await.unwrap();
    consumer.pause("t", 1).unwrap();
    let paused_at = consumer.position("t", 1).unwrap();
    while let Some(records) = consumer.poll(Duration::from_millis(100)).await.unwrap() {
        assert_eq!(records.partition(), 0);
    }
    assert_eq!(consumer.position("t", 0), Some(50));
    assert_eq!(consumer.position("t", 1), Some(paused_at));
    consumer.resume("t", 1).unwrap();
    let records = consumer.next().await.unwrap().unwrap();
    assert_eq!(
        (records.partition(), records.iter().next().unwrap().offset()),
        (1, paused_at)
    );
}

#[tokio::test]
async fn lost_connections_are_neither_seen_nor_skipped() {
    let (broker, client) = numbers(2, 4, 500).await;
    let consumer = client
        .consumer()
        .assign_topic("t", Start::Earliest)
        .until_end(true);
    let mut consumer = consumer
        .max_bytes(1_000)
        .max_partition_bytes(500)
        .build()
        .await
        .unwrap();
    let mut read = Vec::new();
    while let Some(records) = consumer.next().await.unwrap() {
        read.extend(plain(&records));
        if read.len() % 150 < 10 {
            broker.hang_up(false);
        }
    }
    for partition in 0..4 {
        assert!(
            offsets(&read, partition).into_iter().eq(0..500),
            "partition {partition}"
        );
    }
    assert!(broker.counters().connections > 6, "connections were lost");
}

#[tokio::test]
async fn a_broker_that_is_away_is_waited_for() {
    let (broker, client) = numbers(1, 1, 10).await;
    let mut consumer = client
        .consumer()
        .assign([("t", 0)], Start::Earliest)
        .build()
        .await
        .unwrap();
    broker.hang_up(true);
    assert!(
        consumer
            .poll(Duration::from_millis(100))
            .await
            .unwrap()
            .is_none()
    );
    broker.hang_up(false);
    assert_eq!(consumer.next().await.unwrap().unwrap().len(), 10);
}

#[tokio::test]
async fn a_damaged_batch_is_reported_with_its_place_and_the_others_go_on() {
    let (broker, client) = numbers(1, 2, 30).await;
    broker.state().log("t", 0).log[1].2[200] ^= 1;
    let consumer = client
        .consumer()
        .assign_topic("t", Start::Earliest)
        .until_end(true);
    let mut consumer = consumer.build().await.unwrap();
    let (mut read, mut errors) = (Vec::new(), Vec::new());
    loop {
        match consumer.next().await {
            Ok(Some(records)) => read.extend(plain(&records)),
            Ok(None) => break,
            Err(error) => errors.push(error),
        }
    }
    assert!(
        matches!(
            &errors[..],
            [Error::CorruptBatch {
                partition: 0,
                offset: 10,
                ..
            }]
        ),
        "{errors:?}"
    );
    assert!(offsets(&read, 0).into_iter().eq(0..10));
    assert!(offsets(&read, 1).into_iter().eq(0..30));
    consumer.seek("t", 0, 20).unwrap();
    assert_eq!(
        plain(&consumer.next().await.unwrap().unwrap())[0],
        (0, 20, "20".into())
    );
}

#[tokio::test]
async fn a_consumer_without_partitions_left_says_why_again() {
    let (broker, client) = numbers(1, 1, 30).await;
    broker.state().log("t", 0).log[0].2[200] ^= 1;
    let mut consumer = client
        .consumer()
        .assign_topic("t", Start::Earliest)
        .build()
        .await
        .unwrap();
    for _ in 0..3 {
        assert!(matches!(
            consumer.next().await,
            Err(Error::CorruptBatch { .. })
        ));
    }
}

#[tokio::test]
async fn an_offset_that_does_not_exist_fails_or_is_reset() {
    let (broker, client) = numbers(1, 1, 30).await;
    broker.state().log("t", 0).start = 10;
    broker.state().log("t", 0).log.remove(0);
    let consumer = || client.consumer().assign([("t", 0)], Start::Offset(3));
    let error = consumer().build().await.unwrap().next().await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::OffsetOutOfRange));
    let mut consumer = consumer()
        .offset_reset(OffsetReset::Earliest)
        .build()
        .await
        .unwrap();
    assert_eq!(plain(&consumer.next().await.unwrap().unwrap())[0].1, 10);
    let consumer = client.consumer().assign([("t", 0)], Start::Offset(1_000));
    let consumer = consumer
        .offset_reset(OffsetReset::Latest)
        .max_wait(Duration::from_millis(10));
    let mut consumer = consumer.build().await.unwrap();
    assert!(
        consumer
            .poll(Duration::from_millis(100))
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(consumer.position("t", 0), Some(30));
}

#[tokio::test]
async fn a_batch_larger_than_the_fetch_is_read_all_the_same() {
    let broker = FakeBroker::with_topic(1, 1).await;
    let client = broker.client().await;
    let producer = client.producer().build().await.unwrap();
    let large = "x".repeat(300_000);
    written(&producer, Record::to("t").value(&large)).await;
    let consumer = client
        .consumer()
        .assign([("t", 0)], Start::Earliest)
        .max_bytes(1_000)
        .until_end(true);
    let read = read_all(&mut consumer.build().await.unwrap()).await;
    assert_eq!(read, [(0, 0, large)]);
}

#[tokio::test]
async fn a_dropped_next_loses_nothing() {
    let (_broker, client) = numbers(1, 3, 300).await;
    let consumer = client
        .consumer()
        .assign_topic("t", Start::Earliest)
        .until_end(true);
    let mut consumer = consumer.max_bytes(500).build().await.unwrap();
    let mut read = Vec::new();
    loop {
        match tokio::time::timeout(Duration::from_micros(50), consumer.next()).await {
            Ok(Ok(Some(records))) => read.extend(plain(&records)),
            Ok(Ok(None)) => break,
            Ok(Err(error)) => panic!("{error}"),
            Err(_) => {}
        }
    }
    for partition in 0..3 {
        assert!(
            offsets(&read, partition).into_iter().eq(0..300),
            "partition {partition}"
        );
    }
}

#[tokio::test]
async fn a_deleted_topic_is_reported() {
    let (broker, client) = numbers(1, 1, 10).await;
    let consumer = client
        .consumer()
        .assign_topic("t", Start::Latest)
        .max_wait(Duration::from_millis(20));
    let mut consumer = consumer.build().await.unwrap();
    assert!(
        consumer
            .poll(Duration::from_millis(30))
            .await
            .unwrap()
            .is_none()
    );
    broker.create_topic("t", 1);
    let error = consumer.next().await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopic), "{error}");
    broker.state().topics.remove("t");
    consumer.resume("t", 0).unwrap();
    let error = consumer.next().await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopic), "{error}");
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let (_broker, client) = numbers(1, 1, 1).await;
    let refused = [
        client.consumer().build().await,
        client
            .consumer()
            .assign([("t", 4)], Start::Earliest)
            .build()
            .await,
        client
            .consumer()
            .assign([("t", 0), ("t", 0)], Start::Earliest)
            .build()
            .await,
        client
            .consumer()
            .assign([("t", 0)], Start::Earliest)
            .max_bytes(0)
            .build()
            .await,
        client
            .consumer()
            .assign([("t", 0)], Start::Earliest)
            .max_wait(Duration::from_secs(60))
            .build()
            .await,
    ];
    for result in refused {
        assert!(
            matches!(result, Err(Error::InvalidArgument(_))),
            "{result:?}"
        );
    }
    let missing = client
        .consumer()
        .assign_topic("missing", Start::Earliest)
        .build()
        .await;
    assert_eq!(missing.unwrap_err().code(), Some(ErrorCode::UnknownTopic));
}

/// Reads until `count` records came, or an error.
async fn read_some(consumer: &mut Consumer, count: usize) -> Result<Vec<(u64, String)>, Error> {
    let mut read = Vec::new();
    while read.len() < count {
        let records = consumer.poll(Duration::from_secs(5)).await?;
        for record in &records.expect("there are more") {
            let value = String::from_utf8_lossy(record.value().unwrap()).into_owned();
            read.push((record.offset(), value));
        }
    }
    Ok(read)
}

async fn write(client: &Client, values: &[&str]) {
    let producer = client.producer().build().await.unwrap();
    let records = values
        .iter()
        .map(|value| RecordRef::value(value.as_bytes()).partition(0));
    let sent = producer.send_batch("t", records).await.unwrap();
    sent.await.into_result().unwrap();
}

#[tokio::test]
async fn records_that_were_read_and_are_gone_are_reported_before_others_take_their_offsets() {
    let (broker, client) = numbers(1, 1, 30).await;
    let mut consumer = client
        .consumer()
        .assign([("t", 0)], Start::Earliest)
        .build()
        .await
        .unwrap();
    assert_eq!(read_some(&mut consumer, 30).await.unwrap().len(), 30);
    assert_eq!(consumer.position_epoch("t", 0), Some(1));
    broker.restart_without("t", 20);
    write(&client, &["new 20", "new 21"]).await;
    let error = read_some(&mut consumer, 1).await.unwrap_err();
    let Error::LogTruncated {
        topic,
        partition,
        from,
        to,
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!((&**topic, *partition, *from, *to), ("t", 0, 20, 30));
    assert!(error.to_string().contains("records 20 to 29 of t-0"));
    assert_eq!(consumer.position("t", 0), Some(20));
    let read = read_some(&mut consumer, 2).await.unwrap();
    assert_eq!(read, [(20, "new 20".to_owned()), (21, "new 21".to_owned())]);
    assert_eq!(consumer.position_epoch("t", 0), Some(2));
}

#[tokio::test]
async fn a_consumer_that_is_to_stop_waits_for_a_word_where_records_are_gone() {
    let (broker, client) = numbers(1, 1, 30).await;
    let mut consumer = client
        .consumer()
        .assign([("t", 0)], Start::Earliest)
        .on_truncation(OnTruncation::Stop)
        .build()
        .await
        .unwrap();
    read_some(&mut consumer, 30).await.unwrap();
    broker.restart_without("t", 20);
    write(&client, &["new 20"]).await;
    for _ in 0..2 {
        let error = read_some(&mut consumer, 1).await.unwrap_err();
        assert!(matches!(error, Error::LogTruncated { .. }), "{error}");
    }
    consumer.resume("t", 0).unwrap();
    let read = read_some(&mut consumer, 1).await.unwrap();
    assert_eq!(read, [(20, "new 20".to_owned())]);
}

#[tokio::test]
async fn a_position_that_was_kept_is_known_to_be_gone_by_its_epoch() {
    let (broker, client) = numbers(1, 1, 30).await;
    broker.restart_without("t", 20);
    write(&client, &["new 20", "new 21", "new 22"]).await;
    let consumer = |start| client.consumer().assign([("t", 0)], start).build();
    let start = Start::Continue {
        offset: 22,
        leader_epoch: 1,
    };
    let mut told = consumer(start).await.unwrap();
    let error = read_some(&mut told, 1).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::LogTruncated {
                from: 20,
                to: 22,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(read_some(&mut told, 3).await.unwrap()[0].0, 20);
    let start = Start::Continue {
        offset: 22,
        leader_epoch: 2,
    };
    let mut agreeing = consumer(start).await.unwrap();
    let read = read_some(&mut agreeing, 1).await.unwrap();
    assert_eq!(read, [(22, "new 22".to_owned())]);
}

#[tokio::test]
async fn whoever_waited_at_the_end_reads_what_comes_after_a_loss() {
    let (broker, client) = numbers(1, 1, 30).await;
    let consumer = client
        .consumer()
        .assign([("t", 0)], Start::Latest)
        .max_wait(Duration::from_millis(50));
    let mut consumer = consumer.build().await.unwrap();
    assert!(
        consumer
            .poll(Duration::from_millis(20))
            .await
            .unwrap()
            .is_none()
    );
    broker.restart_without("t", 10);
    write(&client, &["new 10", "new 11"]).await;
    let read = read_some(&mut consumer, 2).await.unwrap();
    assert_eq!(read, [(10, "new 10".to_owned()), (11, "new 11".to_owned())]);
}

#[tokio::test]
async fn reading_to_the_end_does_not_wait_for_what_is_gone() {
    let (broker, client) = numbers(1, 1, 30).await;
    let consumer = client
        .consumer()
        .assign([("t", 0)], Start::Earliest)
        .until_end(true)
        .max_wait(Duration::from_millis(50));
    let mut consumer = consumer.build().await.unwrap();
    broker.restart_without("t", 20);
    let read = read_all(&mut consumer).await;
    assert!(offsets(&read, 0).into_iter().eq(0..20));
}

#[tokio::test]
async fn a_reader_reports_what_was_processed_and_nothing_twice() {
    let (broker, client) = numbers(1, 2, 30).await;
    let build = |name: &str| {
        let consumer = client.consumer().assign_topic("t", Start::Earliest);
        consumer.reader(name).build()
    };
    let mut consumer = build("billing").await.unwrap();
    read_some(&mut consumer, 60).await.unwrap();
    for _ in 0..2 {
        consumer.report_processed().await.unwrap();
    }
    let reported = |partition| {
        let key = ("billing".to_owned(), partition);
        broker.state().positions.get(&key).copied()
    };
    assert_eq!([reported(0), reported(1)], [Some(30), Some(30)]);
    assert_eq!(broker.state().counters.reports, 1);
    let error = build("nobody").await.unwrap().report_processed().await;
    assert_eq!(error.unwrap_err().code(), Some(ErrorCode::InvalidRequest));
    let admin = client.admin();
    admin
        .report_positions("billing", [("t", 1, 7)])
        .await
        .unwrap();
    assert_eq!(reported(1), Some(7));
    let mut nameless = client.consumer().assign_topic("t", Start::Earliest);
    nameless = nameless.max_bytes(1);
    let mut nameless = nameless.build().await.unwrap();
    let error = nameless.report_processed().await.unwrap_err();
    assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
}
