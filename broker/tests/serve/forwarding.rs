//! A client that only knows the bootstrap address is served by every core.

use corelane_protocol::ErrorCode;
use corelane_protocol::frame::RequestFlags;

use crate::support::{Client, batch, partition, shut_down, start};

#[test]
fn requests_reach_the_owning_core_and_their_answers_come_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path());
    let mut client = Client::connect(broker.bootstrap());
    let topic = client.create_topic("records", 8);
    let cores: std::collections::BTreeSet<_> = topic
        .partitions
        .iter()
        .map(|partition| partition.core)
        .collect();
    assert_eq!(cores.len(), 2, "both cores own partitions");
    for address in [broker.bootstrap(), broker.cores()[0], broker.cores()[1]] {
        let mut client = Client::connect(address);
        for number in 0..200_u32 {
            let place = partition(&topic, number % 8);
            client.send_produce(
                place,
                &batch(&[&number.to_le_bytes()]),
                RequestFlags::default(),
            );
        }
        for _ in 0..200 {
            client.receive_receipt().expect("acknowledged");
        }
    }
    for index in 0..8 {
        let values = client.read_all(partition(&topic, index));
        let expected = (0..200_u32).filter(|number| number % 8 == index);
        let expected: Vec<_> = expected
            .map(|number| number.to_le_bytes().to_vec())
            .collect();
        let of_three_clients = [&expected[..], &expected, &expected].concat();
        assert!(values == of_three_clients, "partition {index} is in order");
    }
    shut_down(broker);
}

#[test]
fn a_client_that_wants_no_forwarding_is_sent_to_the_owner() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path());
    let mut client = Client::connect(broker.cores()[0]);
    let topic = client.create_topic("records", 2);
    for index in 0..2 {
        let place = partition(&topic, index);
        let owner = usize::from(topic.partitions[index as usize].core.get());
        let other = broker.cores()[1 - owner];
        let mut client = Client::connect(other);
        client.send_produce(place, &batch(&[b"value"]), RequestFlags::NO_FORWARD);
        let refused = client.receive_receipt().expect_err("another core owns it");
        assert_eq!(refused.code, ErrorCode::NotOwner);
        let mut client = Client::connect(broker.cores()[owner]);
        client
            .produce(place, &batch(&[b"value"]))
            .expect("acknowledged");
    }
    shut_down(broker);
}

/// A poll that waits on one core is woken by a produce that came to another.
#[test]
fn a_long_poll_wakes_when_records_are_forwarded() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path());
    let topic = Client::connect(broker.bootstrap()).create_topic("records", 2);
    for address in broker.cores().to_vec() {
        for index in 0..2 {
            let place = partition(&topic, index);
            let mut poller = Client::connect(address);
            let mut producer = Client::connect(broker.cores()[1 - index as usize]);
            let before = producer.read_all(place).len() as u64;
            let polling = std::thread::spawn(move || {
                let mut values = Vec::new();
                poller.fetch(place, before, 30_000, &mut values);
                values
            });
            std::thread::sleep(std::time::Duration::from_millis(20));
            producer
                .produce(place, &batch(&[b"news"]))
                .expect("acknowledged");
            assert_eq!(polling.join().expect("answered"), [b"news".to_vec()]);
        }
    }
    shut_down(broker);
}
