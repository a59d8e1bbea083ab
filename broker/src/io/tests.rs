//! Connections and mail on the running kernel, with a user that only counts and echoes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use corelane_storage::ring::{Acceptor, PREEMPT_TIMER, Ring, RingAddress, RingConfig, probe};
use corelane_storage::testing::yield_now;
use glommio::{LocalExecutorBuilder, Placement};

use super::{
    ConnectionEvents, Connections, Mailbox, MailboxSeat, TaskGroup, accept, bind, mailboxes,
};
use crate::lane::{ConnectionId, ReplyPart};

/// Sends back what it receives, and keeps count.
struct Echo {
    connections: Rc<Connections>,
    next: Cell<u32>,
    open: RefCell<BTreeMap<ConnectionId, usize>>,
    closed: Cell<usize>,
    limit: usize,
}

impl ConnectionEvents for Echo {
    fn opened(&self, peer: SocketAddr) -> Result<ConnectionId, Vec<u8>> {
        assert!(peer.ip().is_loopback());
        if self.open.borrow().len() >= self.limit {
            return Err(b"full".to_vec());
        }
        let number = self.next.get();
        self.next.set(number + 1);
        let id = ConnectionId {
            index: number % 100,
            generation: number / 100,
        };
        self.open.borrow_mut().insert(id, 0);
        Ok(id)
    }

    /// Takes a few bytes at once, as a lane takes a few requests.
    fn received(&self, id: ConnectionId, bytes: &[u8]) -> usize {
        let bytes = &bytes[..bytes.len().min(10_000)];
        *self.open.borrow_mut().get_mut(&id).expect("open") += bytes.len();
        self.connections
            .send(id, vec![ReplyPart::Bytes(bytes.to_vec())]);
        if bytes.contains(&b'!') {
            self.connections.close(id, true);
        } else if bytes.contains(&b'#') {
            self.connections.close(id, false);
        }
        bytes.len()
    }

    fn sent(&self, id: ConnectionId, bytes: usize) {
        let mut open = self.open.borrow_mut();
        let unsent = open.get_mut(&id).expect("nothing is sent after the end");
        *unsent = unsent.checked_sub(bytes).expect("what was received");
    }

    fn closed(&self, id: ConnectionId) {
        assert!(self.open.borrow_mut().remove(&id).is_some());
        self.closed.set(self.closed.get() + 1);
    }
}

/// Serves echoes while `clients` runs on a thread of its own; then everything must have ended.
fn serve<F: Future<Output = ()> + 'static>(
    limit: usize,
    clients: impl FnOnce(SocketAddr) + Send + 'static,
    check: impl FnOnce(Rc<Echo>, Ring) -> F + Send + 'static,
) {
    let core = LocalExecutorBuilder::new(Placement::Unbound)
        .preempt_timer(PREEMPT_TIMER)
        .spawn(move || async move {
            let features = probe().expect("Linux 6.1 or newer with io_uring");
            let ring = Ring::start(RingConfig::default(), &features).expect("a ring");
            let tasks = TaskGroup::default();
            let connections = Connections::new(ring.clone(), tasks.clone());
            let echo = Rc::new(Echo {
                connections: connections.clone(),
                next: Cell::new(0),
                open: RefCell::default(),
                closed: Cell::new(0),
                limit,
            });
            let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
            let listeners = bind(any_port, 1).expect("free ports").remove(0);
            let address = listeners.own_address;
            let (_, listener) = listeners.listen().expect("bound");
            let acceptor = Acceptor::new(&ring, listener);
            tasks.spawn_until_stopped(accept(
                ring.clone(),
                acceptor,
                connections.clone(),
                echo.clone(),
            ));
            // A panic there would leave this future waiting for ever.
            let clients = std::panic::AssertUnwindSafe(move || clients(address));
            let outcome = glommio::executor()
                .spawn_blocking(move || std::panic::catch_unwind(clients))
                .await;
            outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            check(echo.clone(), ring.clone()).await;
            tasks.stop();
            connections.close_all();
            tasks.ended().await;
            assert!(echo.open.borrow().is_empty());
            ring.close().await;
            assert_eq!((ring.in_flight(), ring.orphans()), (0, 0));
        })
        .expect("an executor");
    core.join().expect("the test does not panic");
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a TCP socket");
    stream
}

fn round_trip(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).expect("connected");
    let mut answer = vec![0; bytes.len()];
    stream.read_exact(&mut answer).expect("answered");
    assert!(answer == bytes);
}

#[test]
fn many_connections_are_served_and_forgotten() {
    let clients = |address| {
        for round in 0..3 {
            let mut streams: Vec<_> = (0..90).map(|_| connect(address)).collect();
            for (number, stream) in streams.iter_mut().enumerate() {
                round_trip(stream, &vec![round; 10 + 500 * number]);
            }
            for (number, stream) in streams.iter_mut().enumerate() {
                round_trip(stream, &[round; 1]);
                if number % 2 == 0 {
                    stream.shutdown(Shutdown::Both).expect("connected");
                }
            }
        }
    };
    serve(100, clients, async |echo, ring| {
        while echo.closed.get() < 270 {
            ring.sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(ring.buffers_with_kernel(), ring.buffers().count);
    });
}

/// A client that does not read: what it is sent waits, and nothing else is held up.
#[test]
fn a_slow_reader_gets_everything_in_order() {
    const BYTES: usize = 20_000_000;
    /// Neither of the bytes that end a connection.
    fn pattern(number: usize) -> [u8; 4] {
        (number as u32 & 0x0f0f_0f0f | number as u32 >> 4 & 0x0f0f_0f0f).to_le_bytes()
    }
    let clients = |address| {
        let mut slow = connect(address);
        let mut writer = slow.try_clone().expect("a descriptor");
        let writing = std::thread::spawn(move || {
            let bytes: Vec<u8> = (0..BYTES / 4).flat_map(pattern).collect();
            for part in bytes.chunks(1013) {
                writer.write_all(part).expect("connected");
            }
        });
        let mut other = connect(address);
        round_trip(&mut other, b"meanwhile");
        std::thread::sleep(Duration::from_millis(200));
        round_trip(&mut other, b"and again");
        let mut received = vec![0; BYTES];
        slow.read_exact(&mut received).expect("everything arrives");
        writing.join().expect("written");
        let mut parts = received.chunks(4).enumerate();
        assert!(parts.all(|(number, bytes)| bytes == pattern(number)));
    };
    serve(100, clients, async |_, _| {});
}

#[test]
fn a_close_after_sending_delivers_the_last_reply() {
    let clients = |address| {
        for len in [1, 100_000, 3_000_000] {
            let mut stream = connect(address);
            let mut sent = vec![7; len];
            let reader = {
                let mut stream = stream.try_clone().expect("a descriptor");
                std::thread::spawn(move || {
                    let mut received = Vec::new();
                    stream.read_to_end(&mut received).map(|_| received)
                })
            };
            sent.push(b'!');
            stream.write_all(&sent).expect("connected");
            // What comes after the end is thrown away, and does not cut off the reply.
            let _ = stream.write_all(&[8; 10_000]);
            let received = reader.join().expect("no panic").expect("no reset");
            assert!(received.starts_with(&sent[..sent.len() - 1]));
        }
    };
    serve(100, clients, async |echo, ring| {
        while !echo.open.borrow().is_empty() {
            ring.sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn a_close_at_once_ends_the_stream() {
    let clients = |address| {
        let mut stream = connect(address);
        round_trip(&mut stream, b"hello");
        stream.write_all(b"go#").expect("connected");
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() <= 3);
    };
    serve(100, clients, async |echo, ring| {
        while !echo.open.borrow().is_empty() {
            ring.sleep(Duration::from_millis(1)).await;
        }
    });
}

/// Its send would wait for ever, and with it everything that waits for the connection's tasks.
#[test]
fn a_close_at_once_ends_a_send_that_nobody_reads() {
    let clients = |address| {
        let mut stream = connect(address);
        stream.write_all(&[7; 20_000_000]).expect("taken in");
        stream.write_all(b"#").expect("connected");
        // Kept open, unread, beyond the end.
        std::mem::forget(stream);
    };
    serve(100, clients, async |echo, ring| {
        while !echo.open.borrow().is_empty() {
            ring.sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn a_refused_connection_is_told_why() {
    let clients = |address| {
        let mut first = connect(address);
        round_trip(&mut first, b"first");
        for _ in 0..10 {
            let mut second = connect(address);
            let mut reason = Vec::new();
            second.read_to_end(&mut reason).expect("told");
            assert_eq!(reason, b"full");
        }
        drop(first);
    };
    serve(1, clients, async |echo, _| assert_eq!(echo.next.get(), 1));
}

/// Each of three cores sends to both others in bursts larger than a queue; each receives all of it in order.
#[test]
fn mail_arrives_complete_and_in_order() {
    const ITEMS: u32 = 20_000;
    const CORES: usize = 3;
    let (told, addresses) = mpsc::channel();
    let mut starts = Vec::new();
    let cores: Vec<_> = mailboxes::<u32>(CORES)
        .into_iter()
        .map(|seat| {
            let (start, started) = mpsc::channel();
            starts.push(start);
            let told = told.clone();
            LocalExecutorBuilder::new(Placement::Unbound)
                .preempt_timer(PREEMPT_TIMER)
                .spawn(move || exchange(seat, told, started, ITEMS))
                .expect("an executor")
        })
        .collect();
    let mut addresses: Vec<_> = addresses.iter().take(CORES).collect();
    addresses.sort_by_key(|(core, _)| *core);
    let addresses: Vec<_> = addresses.into_iter().map(|(_, address)| address).collect();
    for start in starts {
        start.send(addresses.clone()).expect("the core waits");
    }
    for core in cores {
        core.join().expect("no panic");
    }
}

async fn exchange(
    seat: MailboxSeat<u32>,
    told: mpsc::Sender<(usize, RingAddress)>,
    started: mpsc::Receiver<Vec<RingAddress>>,
    items: u32,
) {
    let features = probe().expect("Linux 6.1 or newer with io_uring");
    let ring = Ring::start(RingConfig::default(), &features).expect("a ring");
    let core = seat.core();
    told.send((core, ring.address())).expect("the test waits");
    let addresses = glommio::executor()
        .spawn_blocking(move || started.recv().expect("the test tells"))
        .await;
    let cores = addresses.len();
    let (mailbox, incoming) = Mailbox::new(seat, ring.clone(), addresses);
    let tasks = TaskGroup::default();
    let received = Rc::new(RefCell::new(vec![0; cores]));
    let count = received.clone();
    tasks.spawn_until_stopped(mailbox.clone().receive(
        incoming,
        move |from, item| {
            let mut received = count.borrow_mut();
            assert_eq!(item, received[from], "in order");
            received[from] += 1;
        },
        || {},
    ));
    tasks.spawn_until_stopped(mailbox.clone().retry());
    for item in 0..items {
        for to in (0..cores).filter(|to| *to != core) {
            mailbox.send(to, item);
        }
        if item % 3000 == 0 {
            ring.sleep(Duration::from_millis(3)).await;
        }
    }
    while received.borrow().iter().sum::<u32>() < items * (cores as u32 - 1) {
        ring.sleep(Duration::from_millis(1)).await;
    }
    // The others may still wait for what found a queue full.
    ring.sleep(Duration::from_millis(300)).await;
    tasks.stop();
    tasks.ended().await;
    ring.close().await;
}

/// A task that is done at once starts the next one, as a flood of requests answered from memory does.
#[test]
fn tasks_that_start_tasks_do_not_nest() {
    fn next(tasks: TaskGroup, left: u32) {
        if left > 0 {
            let more = tasks.clone();
            tasks.spawn(async move { next(more, left - 1) });
        }
    }
    let core = LocalExecutorBuilder::new(Placement::Unbound)
        .preempt_timer(PREEMPT_TIMER)
        .spawn(|| async {
            let tasks = TaskGroup::default();
            next(tasks.clone(), 100_000);
            tasks.ended().await;
        })
        .expect("an executor");
    core.join().expect("no overflow of the stack");
}

/// One task is cut off where it waits, the other has until then to end what it began.
#[test]
fn what_a_task_with_a_stop_sign_has_begun_is_ended() {
    let core = LocalExecutorBuilder::new(Placement::Unbound)
        .preempt_timer(PREEMPT_TIMER)
        .spawn(|| async {
            let tasks = TaskGroup::default();
            let ended = Rc::new(RefCell::new(Vec::new()));
            let work = |name: &'static str| {
                let ended = ended.clone();
                async move {
                    for _ in 0..100 {
                        yield_now().await;
                    }
                    ended.borrow_mut().push(name);
                }
            };
            tasks.spawn_until_stopped(work("cut off"));
            let mut stop = tasks.stop_sign();
            let (begun, next) = (work("begun"), work("not begun"));
            tasks.spawn(async move {
                assert_eq!(stop.or(async { 1 }).await, Some(1));
                begun.await;
                assert_eq!(stop.or(next).await, None);
            });
            for _ in 0..10 {
                yield_now().await;
            }
            tasks.stop();
            tasks.ended().await;
            assert_eq!(*ended.borrow(), ["begun"]);
        })
        .expect("an executor");
    core.join().expect("it ends");
}
