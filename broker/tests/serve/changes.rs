//! Topics change while the broker serves.

use corelane_protocol::frame::RequestFlags;
use corelane_protocol::request::{
    AlterTopicConfigsRequest, CreatePartitionsRequest, TopicAlteration, TopicExtension,
};
use corelane_protocol::response::Durability;
use corelane_protocol::{Request, Response};

use crate::support::{Client, batch, partition, shut_down, start};

#[test]
fn a_topic_becomes_weak_and_durable_again_under_a_producer() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path());
    let (mut admin, mut producer) = (
        Client::connect(broker.bootstrap()),
        Client::connect(broker.bootstrap()),
    );
    let topic = admin.create_topic("t", 4);
    let mut alter = |set: &[(&str, &str)], unset: &[&str]| {
        let set = set
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let request = Request::AlterTopicConfigs(AlterTopicConfigsRequest {
            topics: vec![TopicAlteration {
                name: "t".to_owned(),
                set: set.collect(),
                unset: unset.iter().map(|key| (*key).to_owned()).collect(),
            }],
            validate_only: false,
        });
        let (header, body) = admin.call(&request, RequestFlags::default());
        let response = Response::decode(&header, &body).expect("sound");
        let Ok(Response::AlterTopicConfigs(mut altered)) = response else {
            panic!("{response:?}");
        };
        altered.topics.remove(0).result.expect("changed");
    };
    for round in 0..3 {
        for (set, unset, durability) in [
            (&[("flush.ms", "50")][..], &[][..], Durability::Memory),
            (&[], &["flush.ms"], Durability::Durable),
        ] {
            alter(set, unset);
            for number in 0..4 {
                let to = partition(&topic, number);
                let receipt = producer.produce(to, &batch(&[b"x"])).expect("appended");
                assert_eq!(
                    receipt.durability, durability,
                    "round {round}, partition {number}"
                );
            }
        }
    }
    for number in 0..4 {
        assert_eq!(producer.read_all(partition(&topic, number)).len(), 6);
    }
    shut_down(broker);
}

#[test]
fn a_topic_gets_more_partitions_under_a_producer() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path());
    let mut client = Client::connect(broker.bootstrap());
    let before = client.create_topic("t", 2);
    let request = Request::CreatePartitions(CreatePartitionsRequest {
        topics: vec![TopicExtension {
            name: "t".to_owned(),
            total: 6,
        }],
        validate_only: false,
    });
    let waiting = client.send_produce(
        partition(&before, 0),
        &batch(&[b"x"]),
        RequestFlags::default(),
    );
    let asked = client.send(&request, RequestFlags::default());
    let mut answered = [client.receive().0, client.receive().0].map(|header| header.correlation_id);
    answered.sort_unstable();
    assert_eq!(answered, [waiting, asked]);
    let after = client.topic("t");
    assert_eq!(after.partitions[..2], before.partitions[..]);
    for number in 0..6 {
        let receipt = client.produce(partition(&after, number), &batch(&[b"y"]));
        assert_eq!(receipt.expect("appended").durability, Durability::Durable);
    }
    shut_down(broker);
    let broker = start(dir.path());
    let mut client = Client::connect(broker.bootstrap());
    for number in 0..6 {
        let values = client.read_all(partition(&after, number));
        assert_eq!(values.len(), if number == 0 { 2 } else { 1 });
    }
    shut_down(broker);
}
