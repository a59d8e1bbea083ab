//! An HTTP client that says exactly what a test wants to say.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the endpoint listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a TCP socket");
    stream
}

/// Sends a whole head and reads until the connection is closed.
pub(crate) fn exchange(address: SocketAddr, head: &str) -> Answer {
    let mut stream = connect(address);
    stream.write_all(head.as_bytes()).expect("connected");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer");
    let text = String::from_utf8(bytes).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).expect("a status line");
    Answer {
        status: status.parse().expect("a number"),
        head: head.to_lowercase(),
        body: body.to_owned(),
    }
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    get_as(address, path, "*/*")
}

pub(crate) fn get_as(address: SocketAddr, path: &str, accept: &str) -> Answer {
    exchange(
        address,
        &format!(
            "GET {path} HTTP/1.1\r\nhost: test\r\naccept: {accept}\r\nconnection: close\r\n\r\n"
        ),
    )
}
