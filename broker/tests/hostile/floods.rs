//! One connection that sends as much as it can, while others work.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use corelane_protocol::request::{
    DescribeTopicsRequest, FetchEntry, FetchRequest, ListOffsetsEntry, ListOffsetsRequest,
    MetadataRequest, OffsetPosition,
};
use corelane_protocol::{CorrelationId, Offset, Request, RequestFlags, Timestamp};

use crate::witness::{End, Scene, Witness};

fn encoded(request: &Request<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    let (id, flags) = (CorrelationId::new(9), RequestFlags::NONE);
    request.encode(id, flags, &mut frame).expect("it fits");
    frame
}

/// Sends a frame again and again until it is over, reading what comes back or not.
fn flood(address: SocketAddr, frame: &[u8], reads: bool, is_over: &AtomicBool) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let patience = Some(Duration::from_millis(50));
    stream.set_write_timeout(patience).expect("a TCP socket");
    stream.set_read_timeout(patience).expect("a TCP socket");
    let many = frame.repeat((64 * 1024 / frame.len()).max(1));
    let mut answers = vec![0; 256 * 1024];
    let mut at = 0;
    while !is_over.load(Ordering::Relaxed) {
        match stream.write(&many[at..]) {
            Ok(count) => at = (at + count) % many.len(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            // The broker may close a connection that takes nothing.
            Err(_) => return,
        }
        if reads {
            let _ = stream.read(&mut answers);
        }
    }
}

#[test]
fn floods_of_every_kind_of_request() {
    let scene = Scene::new();
    let places = (0..4).map(|index| scene.place(index));
    let list = places.clone().map(|partition| ListOffsetsEntry {
        partition,
        position: OffsetPosition::Timestamp(Timestamp::new(1)),
    });
    let fetch = places.map(|partition| FetchEntry {
        partition,
        offset: Offset::ZERO,
        max_bytes: 1 << 20,
        current_epoch: None,
        last_epoch: None,
    });
    let floods = [
        encoded(&Request::Metadata(MetadataRequest { topics: None })),
        encoded(&Request::DescribeTopics(DescribeTopicsRequest {
            topics: None,
        })),
        encoded(&Request::ListOffsets(ListOffsetsRequest {
            entries: list.collect(),
        })),
        encoded(&Request::Fetch(FetchRequest {
            max_wait_ms: 300_000,
            min_bytes: u32::MAX,
            max_bytes: 1 << 20,
            entries: fetch.collect(),
        })),
        // Garbage that is framed rightly.
        [&[212, 0, 0, 0, 2, 0, 1, 0][..], &[0; 8], &[0xee; 200]].concat(),
    ];
    for frame in &floods {
        for reads in [true, false] {
            let is_over = AtomicBool::new(false);
            let mut witness = Witness::new(&scene);
            thread::scope(|scope| {
                let _end = End(&is_over);
                for address in [scene.broker.bootstrap(), scene.broker.cores()[0]] {
                    let is_over = &is_over;
                    scope.spawn(move || flood(address, frame, reads, is_over));
                }
                witness.produce(3);
            });
            witness.finish();
        }
    }
    scene.end();
}
