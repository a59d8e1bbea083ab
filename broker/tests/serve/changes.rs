//! Topics change while the broker serves.

use corelane_protocol::frame::RequestFlags;
use corelane_protocol::request::{AlterTopicConfigsRequest, TopicAlteration};
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
