//! Topics, offsets and the cluster.

use std::collections::BTreeSet;
use std::time::Duration;

use corelane_client::{
    ConfigSource, DeleteUpTo, ErrorCode, NewTopic, OffsetSpec, PartitionState, Record, Start,
    TopicAlteration,
};

use crate::support::FakeBroker;

#[tokio::test]
async fn topics_are_created_listed_described_and_deleted() {
    let broker = FakeBroker::start(2).await;
    let client = broker.client().await;
    let admin = client.admin();
    let topic = NewTopic::new("b", 3).config("retention.ms", "1000");
    admin.validate_topic(topic.clone()).await.unwrap();
    assert!(admin.list_topics().await.unwrap().is_empty());
    let id = admin.create_topic(topic.clone()).await.unwrap();
    admin.create_topic(NewTopic::new("a", 1)).await.unwrap();
    let error = admin.create_topic(topic).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TopicExists));
    assert!(error.to_string().contains("create topic b"), "{error}");

    let names: Vec<(String, u32)> = admin
        .list_topics()
        .await
        .unwrap()
        .into_iter()
        .map(|topic| (topic.name, topic.partitions))
        .collect();
    assert_eq!(names, [("a".to_owned(), 1), ("b".to_owned(), 3)]);

    let described = admin.describe_topics(["b"]).await.unwrap();
    assert_eq!((described[0].id, described[0].partitions.len()), (id, 3));
    let config = &described[0].configs[0];
    assert_eq!(
        (&*config.key, &*config.value, config.source),
        ("retention.ms", "1000", ConfigSource::Topic)
    );
    assert_eq!(config.bounded_by.as_deref(), Some("another"));
    assert_eq!(described[0].partitions[1].core, 1);
    assert_eq!(described[0].partitions[1].state, PartitionState::Online);
    assert_eq!(admin.describe_all_topics().await.unwrap().len(), 2);

    assert_eq!(admin.delete_topic("b").await.unwrap(), id);
    let error = admin.delete_topic("b").await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopic));
    let error = admin.describe_topics(["b"]).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopic));
}

#[tokio::test]
async fn settings_are_changed_checked_and_given_back() {
    let broker = FakeBroker::start(1).await;
    broker.create_topic("t", 1);
    let client = broker.client().await;
    let admin = client.admin();
    let own = async || -> Vec<(String, String)> {
        let described = admin.describe_topics(["t"]).await.unwrap().remove(0);
        let configs = described.configs.into_iter();
        configs.map(|config| (config.key, config.value)).collect()
    };
    let change = TopicAlteration::new("t").set("flush.ms", "5");
    admin.validate_alteration(change.clone()).await.unwrap();
    assert_eq!(own().await, []);
    admin.alter_topic(change).await.unwrap();
    assert_eq!(own().await, [("flush.ms".to_owned(), "5".to_owned())]);
    let change = TopicAlteration::new("t").unset("flush.ms");
    admin.alter_topic(change).await.unwrap();
    assert_eq!(own().await, []);

    let wrong = TopicAlteration::new("t").set("colour", "blue");
    let error = admin.alter_topic(wrong).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InvalidConfig));
    assert!(error.to_string().contains("alter topic t"), "{error}");
    let error = admin.alter_topic(TopicAlteration::new("none")).await;
    assert_eq!(error.unwrap_err().code(), Some(ErrorCode::UnknownTopic));
}

#[tokio::test]
async fn a_producer_uses_partitions_that_were_added_meanwhile() {
    let broker = FakeBroker::start(2).await;
    broker.create_topic("t", 1);
    let client = broker.client().await;
    let admin = client.admin();
    let producer = client
        .producer()
        .metadata_max_age(Duration::from_millis(20))
        .build()
        .await
        .unwrap();
    let send = async || {
        let delivery = producer.send(Record::to("t").value("x")).await.unwrap();
        delivery.await.unwrap().partition
    };
    assert_eq!(send().await, 0);
    admin.validate_partitions("t", 3).await.unwrap();
    assert_eq!(admin.list_topics().await.unwrap()[0].partitions, 1);
    admin.add_partitions("t", 3).await.unwrap();
    assert_eq!(admin.list_topics().await.unwrap()[0].partitions, 3);
    let mut seen = BTreeSet::new();
    while seen.len() < 3 {
        seen.insert(send().await);
    }
    let error = admin.add_partitions("t", 3).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InvalidPartitions));
    assert!(error.to_string().contains("topic t"), "{error}");
}

#[tokio::test]
async fn offsets_come_in_the_order_asked() {
    let broker = FakeBroker::start(2).await;
    broker.create_topic("t", 2);
    let client = broker.client().await;
    let producer = client.producer().build().await.unwrap();
    for _ in 0..3 {
        producer
            .send(Record::to("t").value("x").partition(1))
            .await
            .unwrap()
            .await
            .unwrap();
    }
    let asked = [
        ("t", 1, OffsetSpec::Latest),
        ("t", 0, OffsetSpec::Latest),
        ("t", 1, OffsetSpec::Earliest),
    ];
    let listed = client.admin().list_offsets(asked).await.unwrap();
    let offsets: Vec<(u32, u64)> = listed
        .iter()
        .map(|listing| (listing.partition, listing.offset))
        .collect();
    assert_eq!(offsets, [(1, 3), (0, 0), (1, 0)]);
}

#[tokio::test]
async fn records_are_found_by_time_and_the_oldest_ones_deleted() {
    let broker = FakeBroker::start(2).await;
    broker.create_topic("t", 1);
    let client = broker.client().await;
    let admin = client.admin();
    let producer = client.producer().build().await.unwrap();
    for number in 0..10 {
        let record = Record::to("t").value(number.to_string());
        let delivery = producer.send(record.timestamp_ms(100 * number)).await;
        delivery.unwrap().await.unwrap();
    }
    let find = async |time| {
        let asked = [("t", 0, OffsetSpec::Timestamp(time))];
        let found = admin.list_offsets(asked).await.unwrap().remove(0);
        (found.offset, found.timestamp_ms)
    };
    assert_eq!(find(0).await, (0, 0));
    assert_eq!(find(301).await, (4, 400));
    assert_eq!(find(901).await, (10, -1));
    for (start, first) in [(Start::Timestamp(301), 4), (Start::Timestamp(899), 9)] {
        let builder = client.consumer().assign([("t", 0)], start);
        let mut consumer = builder.until_end(true).build().await.unwrap();
        let records = consumer.next().await.unwrap().unwrap();
        assert_eq!(records.iter().next().unwrap().offset(), first);
        let sought = consumer.seek_to("t", 0, Start::Timestamp(200)).await;
        assert_eq!(sought.unwrap(), 2);
    }

    let delete = async |before| admin.delete_records("t", 0, before).await;
    assert_eq!(delete(DeleteUpTo::Offset(6)).await.unwrap(), 6);
    assert_eq!(delete(DeleteUpTo::Offset(2)).await.unwrap(), 6);
    assert_eq!(find(0).await, (6, 600));
    let error = delete(DeleteUpTo::Offset(11)).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::OffsetOutOfRange));
    assert!(error.to_string().contains("t-0"), "{error}");
    assert_eq!(delete(DeleteUpTo::End).await.unwrap(), 10);
}

#[tokio::test]
async fn the_cluster_is_described_with_the_addresses_of_its_cores() {
    let broker = FakeBroker::start(2).await;
    let cluster = broker
        .client()
        .await
        .admin()
        .describe_cluster()
        .await
        .unwrap();
    assert_eq!(cluster.brokers.len(), 1);
    assert_eq!(cluster.brokers[0].cores.len(), 2);
}
