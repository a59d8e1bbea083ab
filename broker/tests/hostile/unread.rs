//! Clients that ask and never read.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use corelane_protocol::request::{
    DescribeTopicsRequest, FetchEntry, FetchRequest, MetadataRequest,
};
use corelane_protocol::{CorrelationId, Offset, Request, RequestFlags};
use socket2::{Domain, Socket, Type};

use crate::support::{Client, batch, partition};
use crate::witness::{Scene, patiently};

/// A connection whose kernel buffer is small, so that the broker feels that nobody reads.
fn connect(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a TCP socket");
    socket.connect(&address.into()).expect("it listens");
    socket.into()
}

/// Sends as many of a frame as the broker takes, up to a number.
fn ask(stream: &mut TcpStream, frame: &[u8], times: usize) {
    let patience = Some(Duration::from_millis(20));
    stream.set_write_timeout(patience).expect("a TCP socket");
    for _ in 0..times {
        if stream.write_all(frame).is_err() {
            return;
        }
    }
}

fn encoded(request: &Request<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    let (id, flags) = (CorrelationId::new(9), RequestFlags::NONE);
    request.encode(id, flags, &mut frame).expect("it fits");
    frame
}

#[test]
fn consumers_that_never_read_hold_nobody_up() {
    let scene = Scene::new();
    let mut loader = Client::connect(scene.broker.cores()[0]);
    let loaded = loader.create_topic("loaded", 4);
    let values = vec![[5_u8; 8000]; 60];
    let values: Vec<&[u8]> = values.iter().map(|value| &value[..]).collect();
    let large = batch(&values);
    for round in 0..40 {
        let place = partition(&loaded, round % 4);
        loader.produce(place, &large).expect("acknowledged");
    }
    let (streams, open) = scene.withstands(5, || {
        let mut streams = Vec::new();
        for number in 0..300 {
            let address = scene.broker.cores()[number % 2];
            let mut stream = connect(address);
            let entries = (0..4).map(|index| FetchEntry {
                partition: partition(&loaded, (index + number as u32) % 4),
                offset: Offset::new(number as u64 % 60 * 10),
                max_bytes: 16 << 20,
                current_epoch: None,
                last_epoch: None,
            });
            let fetch = Request::Fetch(FetchRequest {
                max_wait_ms: 10_000,
                min_bytes: 1,
                max_bytes: 16 << 20,
                entries: entries.collect(),
            });
            ask(&mut stream, &encoded(&fetch), 20);
            streams.push(stream);
            scene.memory_is_bounded();
        }
        (streams, sockets())
    });
    // What they asked for is in memory until they read or are given up; others write on meanwhile.
    for round in 0..60 {
        patiently(&mut loader, partition(&loaded, round % 4), &large);
        scene.memory_is_bounded();
    }
    // Those who came first have more to read than a kernel holds for them. The innocent client has gone, too.
    until_sockets_are(open - 6 - 2);
    drop(streams);
    scene.withstands(2, || {});
    scene.end();
}

/// Sockets of this process, in which both ends of each connection are.
fn sockets() -> usize {
    let files = std::fs::read_dir("/proc/self/fd").expect("procfs");
    let links = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
    links
        .filter(|link| link.to_string_lossy().starts_with("socket:"))
        .count()
}

/// Waits until the broker has closed some connections, whose other ends stay open.
fn until_sockets_are(most: usize) {
    for _ in 0..3000 {
        if sockets() <= most {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("clients that do not read are given up");
}

/// Answers that are made for each request, and much larger than it.
#[test]
fn descriptions_that_nobody_reads_are_bounded() {
    let scene = Scene::new();
    Client::connect(scene.broker.bootstrap()).create_topic("many", 1500);
    let requests = [
        Request::DescribeTopics(DescribeTopicsRequest { topics: None }),
        Request::Metadata(MetadataRequest { topics: None }),
    ]
    .map(|request| encoded(&request));
    let streams = scene.withstands(5, || {
        let mut streams = Vec::new();
        for number in 0..200 {
            let mut stream = connect(scene.broker.cores()[number % 2]);
            ask(&mut stream, &requests[number % 2], 300);
            streams.push(stream);
            scene.memory_is_bounded();
        }
        streams
    });
    drop(streams);
    scene.withstands(2, || {});
    scene.end();
}
