//! What was acknowledged is there after any end of the broker.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use corelane_broker::config::CoreSelection;
use corelane_broker::runtime::serve;
use corelane_protocol::frame::RequestFlags;
use corelane_protocol::request::{CreateTopicsRequest, DeleteTopicsRequest, NewTopic, Request};
use corelane_protocol::response::Durability;

use crate::support::{Client, batch, config, partition, receipt, shut_down, start};

fn value(partition: u32, number: u32) -> Vec<u8> {
    let len = 10 + (number as usize * 37) % 3000;
    let mut value = format!("{partition}/{number}/").into_bytes();
    value.resize(len.max(value.len()), b'.');
    value
}

#[test]
fn acknowledged_records_survive_kills_and_orderly_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut expected = vec![Vec::new(); 4];
    for round in 0..6_u32 {
        let broker = start(dir.path());
        let mut client = Client::connect(broker.bootstrap());
        let topic = if round == 0 {
            client.create_topic("records", 4)
        } else {
            client.topic("records")
        };
        for (index, values) in expected.iter().enumerate() {
            let read = client.read_all(partition(&topic, index as u32));
            assert!(read == *values, "partition {index} in round {round}");
        }
        for number in 0..50 {
            let index = number % 4;
            let values: Vec<_> = (0..number % 5 + 1)
                .map(|_| value(index, round * 100 + number))
                .collect();
            let references: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
            let receipt = client
                .produce(partition(&topic, index), &batch(&references))
                .expect("acknowledged");
            let known = &mut expected[index as usize];
            assert_eq!(receipt.base_offset.get(), known.len() as u64);
            assert_eq!(receipt.durability, Durability::Durable);
            known.extend(values);
        }
        if round % 2 == 0 {
            drop(broker);
        } else {
            shut_down(broker);
        }
    }
}

#[test]
fn a_kill_under_load_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut acknowledged = 0;
    for round in 0..4 {
        let broker = start(dir.path());
        let mut client = Client::connect(broker.bootstrap());
        let topic = if round == 0 {
            client.create_topic("records", 1)
        } else {
            client.topic("records")
        };
        let place = partition(&topic, 0);
        let owner = topic.partitions[0].core;
        let found = client.read_all(place);
        assert!(
            found.len() >= acknowledged,
            "{} of {acknowledged}",
            found.len()
        );
        for (offset, value) in found.iter().enumerate() {
            assert_eq!(value, offset.to_string().as_bytes());
        }
        acknowledged = found.len();
        let mut producer = Client::connect(broker.cores()[usize::from(owner.get())]);
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(150));
            drop(broker);
        });
        let mut sent = acknowledged;
        loop {
            for _ in 0..20 {
                let value = sent.to_string();
                producer.send_produce(place, &batch(&[value.as_bytes()]), RequestFlags::default());
                sent += 1;
            }
            let mut is_over = false;
            for _ in 0..20 {
                match producer.try_receive() {
                    Ok((header, body)) => {
                        let receipt = receipt(&header, &body).expect("acknowledged");
                        acknowledged = acknowledged.max(receipt.base_offset.get() as usize + 1);
                    }
                    Err(_) => is_over = true,
                }
            }
            if is_over || producer.is_closed() {
                break;
            }
        }
        killer.join().expect("it was dropped");
    }
    assert!(acknowledged > 100, "{acknowledged} records in four rounds");
}

/// An orderly end answers what it has taken in.
#[test]
fn requests_in_flight_are_answered_before_the_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path());
    let mut client = Client::connect(broker.bootstrap());
    let topic = client.create_topic("records", 2);
    let handle = broker.shutdown_handle();
    let large = vec![7; 100_000];
    for number in 0..100 {
        client.send_produce(
            partition(&topic, number % 2),
            &batch(&[&large]),
            RequestFlags::default(),
        );
    }
    std::thread::sleep(Duration::from_millis(5));
    handle.shut_down();
    let mut receipts = 0;
    while let Ok((header, body)) = client.try_receive() {
        receipts += usize::from(receipt(&header, &body).is_ok());
    }
    broker.join().expect("an orderly end");
    let broker = start(dir.path());
    let mut client = Client::connect(broker.bootstrap());
    let kept: usize = (0..2)
        .map(|index| client.read_all(partition(&topic, index)).len())
        .sum();
    assert!(kept >= receipts, "{kept} kept, {receipts} acknowledged");
    shut_down(broker);
}

#[test]
fn stores_follow_the_number_of_cores() {
    let dir = tempfile::tempdir().expect("a directory");
    for (round, cores) in [2, 1, 3, 2].into_iter().enumerate() {
        let mut config = config(dir.path());
        config.server.cores = CoreSelection::Count(cores);
        let broker = serve(config).expect("it starts");
        let mut client = Client::connect(broker.bootstrap());
        let topic = if round == 0 {
            client.create_topic("records", 4)
        } else {
            client.topic("records")
        };
        for index in 0..4 {
            let place = partition(&topic, index);
            assert_eq!(client.read_all(place).len(), round);
            client
                .produce(place, &batch(&[b"one"]))
                .expect("acknowledged");
        }
        shut_down(broker);
    }
}

/// Topics that come and go leave nothing behind in the metadata log.
#[test]
fn the_metadata_log_is_rewritten_while_the_broker_runs() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path());
    let mut client = Client::connect(broker.bootstrap());
    let kept = client.create_topic("kept", 2);
    client
        .produce(partition(&kept, 0), &batch(&[b"value"]))
        .expect("acknowledged");
    let ask = |client: &mut Client, request: &Request<'_>| {
        let (header, _) = client.call(request, RequestFlags::default());
        assert_eq!(header.error_code, 0);
    };
    let log = || std::fs::metadata(dir.path().join("metadata/log")).expect("it exists");
    let first = log().ino();
    for round in 0..6 {
        let names: Vec<_> = (0..100)
            .map(|number| format!("t-{round}-{number}"))
            .collect();
        let topics = names.iter().map(|name| NewTopic {
            name: name.clone(),
            partitions: 1,
            configs: Vec::new(),
        });
        let create = CreateTopicsRequest {
            topics: topics.collect(),
            validate_only: false,
        };
        ask(&mut client, &Request::CreateTopics(create));
        let delete = DeleteTopicsRequest { names };
        ask(&mut client, &Request::DeleteTopics(delete));
    }
    // A command is answered after the rewriting that the one before it made due.
    client.create_topic("last", 1);
    assert_ne!(log().ino(), first, "it is another file by now");
    drop(broker);
    let broker = start(dir.path());
    let mut client = Client::connect(broker.bootstrap());
    let names: Vec<_> = client
        .metadata()
        .topics
        .into_iter()
        .map(|topic| topic.name)
        .collect();
    assert_eq!(names, ["kept", "last"]);
    assert_eq!(client.read_all(partition(&kept, 0)), [b"value".to_vec()]);
    shut_down(broker);
}
