//! Receiving into the pool: order, exhaustion, pausing, the end of a connection.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use corelane_storage::ring::{
    Acceptor, BufferConfig, Piece, Receiver, Ring, RingConfig, SendBatch, SendPart, Socket,
};

use crate::support::{connection, features, on_core, on_core_with, socket, spawn};

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

fn write_in_background(mut stream: TcpStream, bytes: Vec<u8>) {
    std::thread::spawn(move || {
        stream.write_all(&bytes).expect("the receiver reads all");
        stream.shutdown(Shutdown::Write).expect("still connected");
        // Held open until the other end is done, so that nothing is reset.
        let _ = stream.read(&mut [0]);
    });
}

async fn receive_all(receiver: &mut Receiver) -> Vec<u8> {
    let mut received = Vec::new();
    while let Some(piece) = receiver.next().await.expect("the connection holds") {
        received.extend_from_slice(&piece);
    }
    received
}

fn pools() -> Vec<BufferConfig> {
    let mut pools = vec![
        BufferConfig::PLAIN,
        BufferConfig {
            count: 2,
            bytes: 4096,
            incremental: false,
        },
    ];
    if features().incremental_buffers {
        pools.push(BufferConfig::INCREMENTAL);
        pools.push(BufferConfig {
            count: 2,
            bytes: 4096,
            incremental: true,
        });
    }
    pools
}

fn with_pool(pool: BufferConfig) -> RingConfig {
    RingConfig {
        buffers: Some(pool),
        ..RingConfig::default()
    }
}

#[test]
fn bytes_arrive_in_order_through_any_pool() {
    for pool in pools() {
        on_core_with(with_pool(pool), features(), move |ring| async move {
            let (client, server) = connection();
            let sent = pattern(3_000_000);
            write_in_background(client, sent.clone());
            let mut receiver = Receiver::new(&socket(&ring, server));
            assert!(receive_all(&mut receiver).await == sent, "{pool:?}");
            assert_eq!(ring.buffers_with_kernel(), pool.count);
        });
    }
}

/// Two receivers on a pool of two buffers, one of which keeps what it gets for a while: both end for want
/// of buffers, and both are armed again.
#[test]
fn a_receive_without_buffers_goes_on_when_there_are_some() {
    for pool in pools() {
        let stats = on_core_with(with_pool(pool), features(), move |ring| async move {
            let sent = pattern(400_000);
            let mut tasks = Vec::new();
            for keeps in [0, 3] {
                let (client, server) = connection();
                write_in_background(client, sent.clone());
                tasks.push(spawn(receive_slowly(
                    ring.clone(),
                    socket(&ring, server),
                    keeps,
                )));
            }
            for task in tasks {
                assert!(task.await == sent, "{pool:?}");
            }
            ring.stats()
        });
        if pool.count == 2 {
            assert!(stats.buffers_exhausted > 0, "{pool:?} was never exhausted");
        }
    }
}

async fn receive_slowly(ring: Ring, socket: Socket, keeps: usize) -> Vec<u8> {
    let mut receiver = Receiver::new(&socket);
    let mut received = Vec::new();
    let mut kept: Vec<Piece> = Vec::new();
    while let Some(piece) = receiver.next().await.expect("the connection holds") {
        received.extend_from_slice(&piece);
        kept.push(piece);
        if kept.len() > keeps || ring.buffers_with_kernel() == 0 {
            ring.sleep(Duration::from_micros(200)).await;
            kept.clear();
        }
    }
    received
}

#[test]
fn a_paused_receive_takes_in_nothing_until_it_is_resumed() {
    on_core(|ring| async move {
        let (mut client, server) = connection();
        let mut receiver = Receiver::new(&socket(&ring, server));
        let control = receiver.control();
        client.write_all(b"first").expect("connected");
        let piece = receiver.next().await.expect("connected").expect("bytes");
        assert_eq!(&piece[..], b"first");
        drop(piece);
        for round in 0..50 {
            control.pause();
            ring.sleep(Duration::from_millis(if round == 0 { 20 } else { 0 }))
                .await;
            let before = ring.stats();
            client.write_all(&[round; 100]).expect("connected");
            if round == 0 {
                ring.sleep(Duration::from_millis(20)).await;
                let timeouts = 1;
                assert_eq!(ring.stats().completed - before.completed, timeouts);
            }
            control.resume();
            let mut received = Vec::new();
            while received.len() < 100 {
                let piece = receiver.next().await.expect("connected").expect("bytes");
                received.extend_from_slice(&piece);
            }
            assert_eq!(received, [round; 100]);
        }
    });
}

#[test]
fn a_task_that_waits_for_bytes_is_woken_by_resume() {
    on_core(|ring| async move {
        let (mut client, server) = connection();
        let socket = socket(&ring, server);
        let mut receiver = Receiver::new(&socket);
        let control = receiver.control();
        control.pause();
        let waiting = spawn(async move {
            let piece = receiver.next().await.expect("connected").expect("bytes");
            piece.to_vec()
        });
        client.write_all(b"late").expect("connected");
        ring.sleep(Duration::from_millis(5)).await;
        control.resume();
        assert_eq!(waiting.await, b"late");
    });
}

#[test]
fn the_end_and_the_loss_of_a_connection_come_after_its_bytes() {
    on_core(|ring| async move {
        let (mut client, server) = connection();
        client.write_all(b"last words").expect("connected");
        drop(client);
        let mut receiver = Receiver::new(&socket(&ring, server));
        assert_eq!(receive_all(&mut receiver).await, b"last words");
        assert!(receiver.next().await.expect("still the end").is_none());

        let (client, server) = connection();
        let socket = socket(&ring, server);
        let mut receiver = Receiver::new(&socket);
        let ending = spawn(async move { receiver.next().await.expect("shut down").is_none() });
        ring.sleep(Duration::from_millis(2)).await;
        socket.shut_down();
        assert!(ending.await);
        drop(client);
    });
}

#[test]
fn accepted_connections_answer_what_they_are_sent() {
    on_core(|ring| async move {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let clients = std::thread::spawn(move || {
            let mut streams: Vec<_> = (0..50)
                .map(|_| TcpStream::connect(address).expect("connects"))
                .collect();
            for (index, stream) in streams.iter_mut().enumerate() {
                let sent = pattern(70_000 + index);
                stream.write_all(&sent).expect("connected");
                stream.shutdown(Shutdown::Write).expect("connected");
                let mut received = Vec::new();
                stream.read_to_end(&mut received).expect("answered");
                assert!(received == sent, "connection {index}");
            }
        });
        let mut acceptor = Acceptor::new(&ring, listener);
        let mut tasks = Vec::new();
        for _ in 0..50 {
            let socket = acceptor.next().await.expect("accepts");
            socket.set_no_delay().expect("a TCP socket");
            assert!(socket.peer_address().expect("connected").ip().is_loopback());
            tasks.push(spawn(async move {
                let mut receiver = Receiver::new(&socket);
                let mut batch = SendBatch::new();
                let received = receive_all(&mut receiver).await;
                for part in received.chunks(1111) {
                    batch.push(SendPart::Bytes(part.to_vec()));
                }
                while !batch.is_empty() {
                    let (sent, rest) = socket.send(batch).await;
                    sent.expect("connected");
                    batch = rest;
                }
            }));
        }
        for task in tasks {
            task.await;
        }
        let clients = glommio::executor().spawn_blocking(move || clients.join().is_ok());
        assert!(clients.await, "every client got its answer");
    });
}

#[test]
fn connections_that_come_all_at_once_are_accepted_one_a_turn() {
    on_core(|ring| async move {
        const CONNECTIONS: u64 = 40;
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|_| TcpStream::connect(address).expect("connects"))
            .collect();
        let mut acceptor = Acceptor::new(&ring, listener);
        let first = acceptor.next().await.expect("accepts");
        let before = ring.stats().turns;
        for _ in 1..CONNECTIONS {
            acceptor.next().await.expect("accepts");
        }
        let turns = ring.stats().turns - before;
        assert!(turns >= CONNECTIONS - 1, "{turns} turns");
        drop((first, clients));
    });
}

#[test]
fn a_send_to_a_lost_connection_fails() {
    on_core(|ring| async move {
        let (client, server) = connection();
        drop(client);
        let socket = socket(&ring, server);
        let mut failed = false;
        for _ in 0..10 {
            let mut batch = SendBatch::new();
            batch.push(SendPart::Bytes(vec![1; 100_000]));
            failed |= socket.send(batch).await.0.is_err();
        }
        assert!(failed);
    });
}
