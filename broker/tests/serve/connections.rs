//! Many connections, greedy ones, and broken ones.

use std::io::{Read, Write};
use std::net::TcpStream;

use corelane_broker::runtime::serve;
use corelane_protocol::frame::RequestFlags;

use crate::support::{Client, batch, config, partition, shut_down, start};

#[test]
fn a_thousand_connections_are_served() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path());
    let mut first = Client::connect(broker.bootstrap());
    let topic = first.create_topic("records", 4);
    let mut clients: Vec<_> = (0..1000)
        .map(|_| Client::connect(broker.bootstrap()))
        .collect();
    for round in 0..3_u32 {
        for (number, client) in clients.iter_mut().enumerate() {
            let place = partition(&topic, number as u32 % 4);
            client.send_produce(
                place,
                &batch(&[&round.to_le_bytes()]),
                RequestFlags::default(),
            );
        }
        for client in &mut clients {
            client.receive_receipt().expect("acknowledged");
        }
    }
    let kept: usize = (0..4)
        .map(|index| first.read_all(partition(&topic, index)).len())
        .sum();
    assert_eq!(kept, 3000);
    shut_down(broker);
}

#[test]
fn connections_beyond_the_limit_are_told_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = config(dir.path());
    config.limits.connections_max = 3;
    let broker = serve(config).expect("it starts");
    let core = broker.cores()[0];
    let mut clients: Vec<_> = (0..3).map(|_| Client::connect(core)).collect();
    for client in &mut clients {
        client.metadata();
    }
    let mut refused = Client::connect(core);
    let (header, _) = refused.receive();
    assert_eq!(header.error_code, 22, "TooManyConnections");
    drop(clients.pop());
    // The broker hears of the end a moment later.
    let mut served = false;
    for _ in 0..100 {
        let mut client = Client::connect(core);
        client.send(
            &corelane_protocol::request::Request::Metadata(
                corelane_protocol::request::MetadataRequest { topics: None },
            ),
            RequestFlags::default(),
        );
        let (header, _) = client.receive();
        served |= header.error_code == 0;
        if served {
            break;
        }
    }
    assert!(served);
    shut_down(broker);
}

/// Frames cut at every place, and several in one write.
#[test]
fn the_stream_may_be_cut_anywhere() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path());
    let mut client = Client::connect(broker.bootstrap());
    let topic = client.create_topic("records", 2);
    let mut count = [0; 2];
    for cut in [1, 3, 16, 17, 100, 1000, 65_536] {
        let frames: Vec<u8> = (0..10)
            .flat_map(|number| {
                count[number as usize % 2] += 1;
                client.encode_produce(partition(&topic, number % 2), &batch(&[&[9; 300]]))
            })
            .collect();
        for piece in frames.chunks(cut) {
            client.write(piece);
        }
        for _ in 0..10 {
            client.receive_receipt().expect("acknowledged");
        }
    }
    for index in 0..2 {
        let kept = client.read_all(partition(&topic, index)).len();
        assert_eq!(kept, count[index as usize]);
    }
    shut_down(broker);
}

#[test]
fn nonsense_ends_one_connection_and_no_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path());
    let mut client = Client::connect(broker.bootstrap());
    let topic = client.create_topic("records", 1);
    for nonsense in [
        &[0xff; 64][..],
        &[0; 64],
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(broker.bootstrap()).expect("it listens");
        stream.write_all(nonsense).expect("connected");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        client
            .produce(partition(&topic, 0), &batch(&[b"value"]))
            .expect("acknowledged");
    }
    shut_down(broker);
}

/// A client that sends without reading answers: the broker takes in no more than its limits.
#[test]
fn a_client_that_does_not_read_is_held_back_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = config(dir.path());
    config.limits.connection_in_flight_bytes_max = 16 << 20;
    config.limits.connection_requests_max = 100;
    let broker = serve(config).expect("it starts");
    let mut client = Client::connect(broker.bootstrap());
    let topic = client.create_topic("records", 2);
    let mut writer = client.another_handle();
    let writing = std::thread::spawn(move || {
        for number in 0..20_000_u32 {
            let value = number.to_le_bytes();
            let place = partition(&topic, number % 2);
            writer.send_produce(place, &batch(&[&value]), RequestFlags::default());
        }
        topic
    });
    std::thread::sleep(std::time::Duration::from_millis(500));
    for _ in 0..20_000 {
        client.receive_receipt().expect("acknowledged");
    }
    let topic = writing.join().expect("written");
    for index in 0..2 {
        assert_eq!(client.read_all(partition(&topic, index)).len(), 10_000);
    }
    shut_down(broker);
}

/// The half of a request is waited for as long as it is configured; an idle client stays.
#[test]
fn a_half_sent_request_is_given_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = config(dir.path());
    config.limits.frame_timeout_ms = 100;
    let broker = serve(config).expect("it starts");
    let mut idle = Client::connect(broker.bootstrap());
    idle.metadata();
    let mut half = TcpStream::connect(broker.cores()[1]).expect("it listens");
    half.write_all(&[16, 0, 0, 0, 1]).expect("connected");
    let mut silent = TcpStream::connect(broker.cores()[0]).expect("it listens");
    for stream in [&mut half, &mut silent] {
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).expect("an orderly end");
        assert!(reply.is_empty(), "{reply:?}");
    }
    idle.metadata();
    shut_down(broker);
}
