//! Two thousand connections that send a byte now and then.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::witness::Scene;

const CONNECTIONS: usize = 2000;

/// The two ends of each connection are in this process.
fn raise_open_files() {
    let wanted = 2 * CONNECTIONS as u64 + 500;
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a limit that lives through both calls.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        assert!(
            limit.rlim_max >= wanted,
            "this test needs {wanted} open files, and the hard limit is {}: raise it with ulimit -Hn",
            limit.rlim_max
        );
        limit.rlim_cur = limit.rlim_cur.max(wanted);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
}

#[test]
fn a_byte_a_second_on_two_thousand_connections() {
    raise_open_files();
    let scene = Scene::with(|config| config.limits.frame_timeout_ms = 5000);
    let mut streams: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let cores = scene.broker.cores();
            let stream = TcpStream::connect(cores[number % cores.len()]).expect("it listens");
            stream.set_nodelay(true).expect("a TCP socket");
            stream
        })
        .collect();
    // The header of a frame that is allowed, and of which the rest never comes.
    let frame = [0, 0, 1, 0, 2, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0];
    scene.withstands(3, || {
        for byte in frame.iter().take(3) {
            for stream in &mut streams {
                stream.write_all(&[*byte]).expect("connected");
            }
            thread::sleep(Duration::from_secs(1));
        }
    });
    // Each of them had five seconds to send a whole request.
    for stream in &mut streams {
        let patience = Some(Duration::from_secs(20));
        stream.set_read_timeout(patience).expect("a TCP socket");
        let _ = stream.write_all(&[0]);
        let mut answer = [0; 64];
        match stream.read(&mut answer) {
            Ok(count) => assert_eq!(count, 0, "there was nothing to answer"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
    scene.withstands(2, || {});
    scene.end();
}
