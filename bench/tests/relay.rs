//! The relay does what it is a yardstick for: nothing is acknowledged that is not in its file.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use corelane_bench::cpu::{self, Threads};
use corelane_bench::frames::Frames;
use corelane_bench::relay::{Form, MEMORY_BYTES, Relay};
use corelane_bench::sender::{Pace, Peer, Plan, send};
use corelane_bench::{BenchError, scratch};

const FILE_BYTES: u64 = 2 * MEMORY_BYTES as u64;
const BLOCK: u64 = 4096;

fn prepare(form: Form, directory: &tempfile::TempDir) -> Relay {
    let (cpu, _) = cpu::pair();
    Relay::prepare(form, directory.path(), FILE_BYTES, cpu).expect("there is room")
}

fn acknowledgement(socket: &mut TcpStream) -> u64 {
    let mut bytes = [0; 8];
    socket.read_exact(&mut bytes).expect("an acknowledgement");
    u64::from_le_bytes(bytes)
}

#[test]
fn what_is_acknowledged_is_in_the_file() {
    for form in [Form::Recycled, Form::Fresh] {
        let directory = scratch::directory(None).unwrap();
        let relay = prepare(form, &directory);
        let serving = relay.serve().unwrap();
        let mut socket = TcpStream::connect(serving.address()).unwrap();
        for number in 0..20_u64 {
            // One at a time: each is a write of its own, padded to a block.
            let frame = Frames::relay(1000 + number as usize, 1)
                .block(0, 1)
                .to_vec();
            socket.write_all(&frame).unwrap();
            let sent: u64 = (0..=number).map(|number| 1000 + number).sum();
            while acknowledgement(&mut socket) < sent {}
            let mut written = vec![0; frame.len()];
            let file = File::open(relay.path()).unwrap();
            file.read_exact_at(&mut written, number * BLOCK).unwrap();
            assert!(
                written == frame,
                "{form:?}: frame {number} is not in the file"
            );
        }
        drop(socket);
        let served = serving.finish().unwrap();
        assert_eq!((served.frames, served.writes), (20, 20));
        assert_eq!(served.written_bytes, 20 * BLOCK);
    }
}

#[test]
fn a_damaged_frame_ends_it_unacknowledged() {
    let directory = scratch::directory(None).unwrap();
    let serving = prepare(Form::Recycled, &directory).serve().unwrap();
    let mut socket = TcpStream::connect(serving.address()).unwrap();
    let mut frame = Frames::relay(100_000, 1).block(0, 1).to_vec();
    frame[50_000] ^= 1;
    // It may hang up before it has read everything.
    let _ = socket.write_all(&frame);
    let mut answer = [0; 8];
    let ended = socket.read_exact(&mut answer).unwrap_err().kind();
    assert!(matches!(
        ended,
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
    ));
    let error = serving.finish().unwrap_err().to_string();
    assert!(error.contains("checksum"), "{error}");
}

#[test]
fn a_fresh_file_that_is_full_is_an_error_and_not_gone_over_again() {
    let directory = scratch::directory(None).unwrap();
    let relay = prepare(Form::Fresh, &directory);
    let serving = relay.serve().unwrap();
    let plan = Plan {
        peer: Peer::Relay,
        address: serving.address(),
        pace: Pace::Closed {
            window_bytes: 1 << 20,
        },
        warm_up: Duration::ZERO,
        // Far longer than the file lasts, unless the disk writes less than 2 MB a second.
        duration: Duration::from_secs(20),
        cpu: cpu::pair().1,
    };
    let sent = send(&plan, &mut Frames::relay(65_536, 1), &Threads::default());
    let error = serving.finish().unwrap_err();
    assert!(
        matches!(error, BenchError::FileFull { bytes: FILE_BYTES }),
        "{error}"
    );
    assert!(sent.is_err(), "the sender hears of it");
    relay.clear();
    assert!(!relay.path().exists());
}

#[test]
fn every_frame_that_is_sent_is_acknowledged_once() {
    let directory = scratch::directory(None).unwrap();
    let relay = prepare(Form::Recycled, &directory);
    for pace in [
        Pace::Closed {
            window_bytes: 100_000,
        },
        Pace::Open { rate: 2000.0 },
    ] {
        let serving = relay.serve().unwrap();
        let plan = Plan {
            peer: Peer::Relay,
            address: serving.address(),
            pace,
            warm_up: Duration::ZERO,
            duration: Duration::from_millis(300),
            cpu: cpu::pair().1,
        };
        let mut frames = Frames::relay(1128, 1);
        let outcome = send(&plan, &mut frames, &Threads::default()).unwrap();
        let served = serving.finish().unwrap();
        assert_eq!(
            (outcome.unanswered, outcome.stray_answers, outcome.errors),
            (0, 0, 0)
        );
        assert!(outcome.sent == served.frames && outcome.acks <= served.frames);
        assert_eq!(outcome.latency_us.count, outcome.acks);
        assert_eq!(outcome.durability, Some("durable"));
        if let Pace::Open { rate } = pace {
            let due = (0.3 * rate) as u64;
            assert_eq!((outcome.sent, outcome.acks), (due, due));
        }
    }
}
