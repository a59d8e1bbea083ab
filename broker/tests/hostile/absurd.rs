//! Bytes that are no requests, and requests that ask for absurd things.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use corelane_protocol::frame::ResponseHeader;
use corelane_protocol::{ErrorCode, Response};

use crate::witness::Scene;

/// A request frame with any header and body.
fn frame(length: u32, api_key: u16, version: u16, flags: u32, body: &[u8]) -> Vec<u8> {
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend(api_key.to_le_bytes());
    frame.extend(version.to_le_bytes());
    frame.extend(77_u32.to_le_bytes());
    frame.extend(flags.to_le_bytes());
    frame.extend(body);
    frame
}

/// A frame whose header is right, with any body.
fn framed(api_key: u16, version: u16, body: &[u8]) -> Vec<u8> {
    frame(12 + body.len() as u32, api_key, version, 0, body)
}

/// Sends bytes and no more; everything that comes back until the broker closes, or nothing more comes.
fn exchange(address: SocketAddr, bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let patience = Some(Duration::from_millis(400));
    stream.set_read_timeout(patience).expect("a TCP socket");
    // The broker may close before it has taken everything.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return (answer, true),
            Ok(count) => answer.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                return (answer, true);
            }
            Err(_) => return (answer, false),
        }
    }
}

fn refusal(answer: &[u8]) -> Option<ErrorCode> {
    let header = ResponseHeader::parse(answer, u32::MAX).expect("a sound frame")?;
    let body = &answer[ResponseHeader::LEN..header.frame_length()];
    let response = Response::decode(&header, body).expect("a sound body");
    response.err().map(|error| error.code)
}

#[test]
fn what_is_no_frame_is_refused_and_closed() {
    let scene = Scene::new();
    let too_long = frame(u32::MAX, 2, 1, 0, &[]);
    let too_short = frame(11, 2, 1, 0, &[]);
    let unknown_flags = frame(12, 1, 1, 1 << 31, &[]);
    let tls_hello = [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        &[0x5a; 500],
    ]
    .concat();
    let http = b"POST /topics/orders HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\na=b";
    let cases: [(&[u8], ErrorCode); 7] = [
        (&too_long, ErrorCode::FrameTooLarge),
        (&too_short, ErrorCode::MalformedRequest),
        (&unknown_flags, ErrorCode::MalformedRequest),
        (&tls_hello, ErrorCode::FrameTooLarge),
        (http, ErrorCode::FrameTooLarge),
        (&[0; 64], ErrorCode::MalformedRequest),
        (&[0xff; 64], ErrorCode::FrameTooLarge),
    ];
    scene.withstands(2, || {
        for address in scene
            .broker
            .cores()
            .iter()
            .chain([&scene.broker.bootstrap()])
        {
            for (bytes, code) in cases {
                let (answer, is_closed) = exchange(*address, bytes);
                assert!(
                    is_closed,
                    "{code:?}: where the next frame begins is unknown"
                );
                assert_eq!(refusal(&answer), Some(code), "{bytes:02x?}");
            }
        }
    });
    scene.end();
}

#[test]
fn absurd_requests_cost_only_themselves() {
    let scene = Scene::new();
    let many = u32::MAX.to_le_bytes();
    let lots_of_names = [&65_537_u32.to_le_bytes()[..], &[0; 2 * 65_537]].concat();
    let counts = [&[0; 12][..], &many].concat();
    let cases = [
        (framed(999, 1, &[]), ErrorCode::UnsupportedApi),
        (framed(3, 9, &[]), ErrorCode::UnsupportedVersion),
        (framed(1, 1, &[2]), ErrorCode::MalformedRequest),
        (framed(6, 1, &many), ErrorCode::MalformedRequest),
        (framed(3, 1, &counts), ErrorCode::MalformedRequest),
        (framed(6, 1, &lots_of_names), ErrorCode::MalformedRequest),
        (framed(0, 1, &[0xff; 4]), ErrorCode::MalformedRequest),
        (framed(2, 1, &[0xee; 60_000]), ErrorCode::MalformedRequest),
    ];
    scene.withstands(2, || {
        for (bytes, code) in &cases {
            let (answer, is_closed) = exchange(scene.broker.cores()[0], bytes);
            assert!(
                !is_closed,
                "{code:?}: what is framed rightly costs only itself"
            );
            assert_eq!(refusal(&answer), Some(*code));
        }
    });
    scene.end();
}

/// A length that is allowed, of which nothing more comes than a few bytes, on many connections.
#[test]
fn announced_frames_reserve_nothing() {
    let scene = Scene::new();
    let announced = frame(8 << 20, 2, 1, 0, &[1; 100]);
    scene.withstands(5, || {
        let address = scene.broker.bootstrap();
        let streams: Vec<_> = (0..400)
            .map(|_| {
                let mut stream = TcpStream::connect(address).expect("it listens");
                stream.write_all(&announced).expect("connected");
                stream
            })
            .collect();
        scene.memory_is_bounded();
        for stream in &streams[..200] {
            stream.shutdown(Shutdown::Write).expect("connected");
        }
        streams
    });
    scene.end();
}
