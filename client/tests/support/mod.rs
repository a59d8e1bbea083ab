//! A broker in this process, for tests of the client: it speaks the whole protocol over TCP, keeps
//! its logs in memory, and misbehaves on demand.

pub(crate) mod group_members;
mod groups;
mod handlers;
mod producers;
mod state;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use corelane_client::{Client, ClientBuilder, Consumer, Producer, Receipt, Record, Records};
use corelane_protocol::{FRAME_BYTES_MAX_DEFAULT, Request, RequestHeader};
use tokio::io::AsyncReadExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

pub(crate) use self::groups::GroupAction;
pub(crate) use self::state::{Action, Counters, Seen, State};

/// The broker. Everything ends when it is dropped.
pub(crate) struct FakeBroker {
    shared: Arc<Shared>,
    bootstrap: SocketAddr,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

pub(crate) struct Shared {
    state: Mutex<State>,
    /// Told after every append, for long polls.
    appended: Notify,
    /// Told to close all connections.
    hang_up: Notify,
    ports: Mutex<Vec<u16>>,
}

impl Shared {
    pub(crate) fn ports(&self) -> MutexGuard<'_, Vec<u16>> {
        self.ports.lock().unwrap()
    }

    pub(crate) fn port(&self, core: u16) -> u16 {
        self.ports()[usize::from(core)]
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl FakeBroker {
    /// A broker with so many cores, each with a port of its own beside the bootstrap port.
    pub(crate) async fn start(cores: u16) -> Self {
        let mut listeners = Vec::new();
        for _ in 0..=cores {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let addresses: Vec<SocketAddr> = listeners
            .iter()
            .map(|listener| listener.local_addr().unwrap())
            .collect();
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(cores)),
            appended: Notify::new(),
            hang_up: Notify::new(),
            ports: Mutex::new(addresses[1..].iter().map(SocketAddr::port).collect()),
        });
        let mut broker = Self {
            shared,
            bootstrap: addresses[0],
            tasks: Vec::new(),
        };
        for (index, listener) in listeners.into_iter().enumerate() {
            broker.listen(listener, index.saturating_sub(1));
        }
        broker
    }

    /// A broker with so many cores, and a topic `t` of so many partitions.
    pub(crate) async fn with_topic(cores: u16, partitions: u32) -> Self {
        let broker = Self::start(cores).await;
        broker.create_topic("t", partitions);
        broker
    }

    fn listen(&mut self, listener: TcpListener, core: usize) {
        let core = u16::try_from(core).unwrap();
        let task = accept(Arc::clone(&self.shared), listener, core);
        self.tasks.push(tokio::spawn(task));
    }

    /// Closes every connection; the cores then listen on other ports, as after a restart.
    pub(crate) async fn change_ports(&mut self) {
        for task in self.tasks.drain(1..) {
            task.abort();
        }
        let cores = self.shared.ports().len();
        for core in 0..cores {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            self.shared.ports()[core] = listener.local_addr().unwrap().port();
            self.listen(listener, core);
        }
        self.hang_up(false);
    }

    /// The bootstrap address.
    pub(crate) fn address(&self) -> String {
        self.bootstrap.to_string()
    }

    /// A client of this broker with short timeouts and waits.
    pub(crate) fn builder(&self) -> ClientBuilder {
        Client::builder()
            .bootstrap([self.address()])
            .request_timeout(Duration::from_secs(5))
            .retry_backoff(Duration::from_millis(1), Duration::from_millis(20))
            .seed(1)
    }

    pub(crate) async fn client(&self) -> Client {
        self.builder().connect().await.unwrap()
    }

    /// A producer with default settings, of a client of its own.
    pub(crate) async fn producer(&self) -> Producer {
        let client = self.client().await;
        client.producer().build().await.unwrap()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    /// Adds a topic; partition `i` is owned by core `i` modulo their number.
    pub(crate) fn create_topic(&self, name: &str, partitions: u32) {
        self.state().create_topic(name, partitions);
    }

    /// Loses the batches of partition 0 that end beyond an offset, as a restart does that was not in order.
    pub(crate) fn restart_without(&self, topic: &str, end: u64) {
        self.state().log(topic, 0).lose_from(end);
        self.hang_up(false);
    }

    /// Decides what happens to each batch that arrives.
    pub(crate) fn on_produce(&self, decide: impl FnMut(&Seen) -> Action + Send + 'static) {
        self.state().on_produce = Some(Box::new(decide));
    }

    /// Closes every connection; with `down`, also every new one until told otherwise.
    pub(crate) fn hang_up(&self, down: bool) {
        self.state().down = down;
        self.shared.hang_up.notify_waiters();
    }

    /// The producer id, epoch and base sequence of each batch in a partition's log.
    pub(crate) fn sequences(&self, topic: &str, partition: u32) -> Vec<(u64, u16, u32)> {
        self.state().log(topic, partition).sequences()
    }

    /// The values in a partition's log, in order.
    pub(crate) fn values(&self, topic: &str, partition: u32) -> Vec<String> {
        self.state().values(topic, partition)
    }

    pub(crate) fn counters(&self) -> Counters {
        self.state().counters.clone()
    }
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        self.shared.hang_up.notify_waiters();
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener, core: u16) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let connection = {
            let mut state = shared.state();
            if state.down {
                continue;
            }
            state.counters.connections += 1;
            state.counters.connections
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            tokio::select! {
                () = shared.hang_up.notified() => {}
                () = serve(&shared, stream, core, connection) => {}
            }
        });
    }
}

/// The writing half of a connection, shared by the answers that are under way.
type Replies = Arc<tokio::sync::Mutex<OwnedWriteHalf>>;

async fn serve(shared: &Arc<Shared>, stream: TcpStream, core: u16, connection: u64) {
    stream.set_nodelay(true).unwrap();
    let (mut reader, writer) = stream.into_split();
    let replies: Replies = Arc::new(tokio::sync::Mutex::new(writer));
    while let Some((header, body)) = read_frame(&mut reader).await {
        let request = Request::decode(
            header.api_key,
            header.api_version,
            &body[RequestHeader::LEN..],
        );
        let request = request.expect("the client sends well-formed requests");
        let meta = shared.state().meta(&header);
        let going_on = handlers::handle(shared, &replies, core, connection, meta, request).await;
        if !going_on {
            return;
        }
    }
}

async fn read_frame(reader: &mut OwnedReadHalf) -> Option<(RequestHeader, Vec<u8>)> {
    let mut frame = vec![0; RequestHeader::LEN];
    reader.read_exact(&mut frame).await.ok()?;
    let header = RequestHeader::parse(&frame, FRAME_BYTES_MAX_DEFAULT)
        .unwrap()
        .unwrap();
    frame.resize(header.frame_length(), 0);
    reader
        .read_exact(&mut frame[RequestHeader::LEN..])
        .await
        .ok()?;
    Some((header, frame))
}

/// A small seeded generator for the faults of a test.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// The numbers from 0 on, as values.
pub(crate) fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

/// Sends one record, which must be written.
pub(crate) async fn written(producer: &Producer, record: Record<'_>) -> Receipt {
    let delivery = producer.send(record).await.unwrap();
    delivery.await.unwrap()
}

/// Reads until the consumer's end, as (partition, offset, value).
pub(crate) async fn read_all(consumer: &mut Consumer) -> Vec<(u32, u64, String)> {
    let mut read = Vec::new();
    while let Some(records) = consumer.next().await.unwrap() {
        read.extend(plain(&records));
    }
    read
}

/// Records as (partition, offset, value).
pub(crate) fn plain(records: &Records) -> Vec<(u32, u64, String)> {
    let plain = records.iter().map(|record| {
        let value = String::from_utf8(record.value().unwrap().to_vec()).unwrap();
        (record.partition(), record.offset(), value)
    });
    plain.collect()
}
