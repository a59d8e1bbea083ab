//! Stands between clients and a broker, and cuts their connections at moments of its choice.
//!
//! It follows the frames, so that it knows of each cut what the broker had and what the client was told.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use corelane_protocol::{ApiKey, FRAME_BYTES_MAX_DEFAULT, RequestHeader, Response, ResponseHeader};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::random::Random;

/// When a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Moment {
    /// The broker has answered that batches are durable, and nothing of that reaches the client.
    BeforeAnswer,
    /// The same, and the client gets a part of the answer.
    InAnswer,
    /// The broker has got a part of a produce.
    InRequest,
    /// The broker has got a produce; whether it reads it is left open.
    AfterRequest,
    /// A produce is held back: the broker gets it when the client may long have come back.
    BeforeRequest,
    /// Nothing is under way.
    Idle,
}

impl Moment {
    /// All of them, as often as they are to come up.
    const DICE: [Self; 12] = [
        Self::BeforeAnswer,
        Self::BeforeAnswer,
        Self::BeforeAnswer,
        Self::BeforeAnswer,
        Self::InAnswer,
        Self::InAnswer,
        Self::InRequest,
        Self::InRequest,
        Self::AfterRequest,
        Self::AfterRequest,
        Self::BeforeRequest,
        Self::Idle,
    ];

    pub(crate) const ALL: [Self; 6] = [
        Self::BeforeAnswer,
        Self::InAnswer,
        Self::InRequest,
        Self::AfterRequest,
        Self::BeforeRequest,
        Self::Idle,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::BeforeAnswer => "after the write and before its answer",
            Self::InAnswer => "in the middle of an answer to a write",
            Self::InRequest => "in the middle of a produce",
            Self::AfterRequest => "behind a produce",
            Self::BeforeRequest => "before a produce that arrives later",
            Self::Idle => "with nothing under way",
        }
    }
}

/// What was cut so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cuts {
    by_moment: BTreeMap<Moment, u64>,
    /// Batches that the broker had acknowledged as durable in answers that were cut off.
    pub(crate) unanswered_batches: u64,
}

impl Cuts {
    pub(crate) fn total(&self) -> u64 {
        self.by_moment.values().sum()
    }

    pub(crate) fn at(&self, moment: Moment) -> u64 {
        self.by_moment.get(&moment).copied().unwrap_or_default()
    }
}

/// A running proxy. It ends with the runtime that it was started on.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    broker: String,
    is_cutting: AtomicBool,
    cuts: Mutex<Cuts>,
}

impl Proxy {
    /// Listens, and passes every connection on to the broker until it is its turn to be cut.
    pub(crate) async fn start(broker: &str, mut random: Random) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            broker: broker.to_owned(),
            is_cutting: AtomicBool::new(true),
            cuts: Mutex::default(),
        });
        let of_links = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&of_links);
                let random = random.split();
                tokio::spawn(async move {
                    // Without a broker there is nobody to pass the client on to; it comes back.
                    if let Ok(link) = Link::open(client, shared, random).await {
                        link.run().await;
                    }
                });
            }
        });
        Ok(Self { address, shared })
    }

    /// Where clients connect to.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn cuts(&self) -> Cuts {
        self.shared.lock().clone()
    }

    /// Lets everything through from now on.
    pub(crate) fn stop_cutting(&self) {
        self.shared.is_cutting.store(false, Ordering::Relaxed);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Cuts> {
        self.cuts.lock().expect("nobody panics while counting")
    }
}

/// A client's connection, and the one that it is passed on to.
#[derive(Debug)]
struct Link {
    shared: Arc<Shared>,
    random: Random,
    client: TcpStream,
    broker: TcpStream,
    /// What came and was not passed on: less than a frame.
    from_client: Vec<u8>,
    from_broker: Vec<u8>,
    /// Requests that the broker has and did not answer.
    under_way: u64,
    /// When it is cut: at the first such moment once so many produces came.
    moment: Moment,
    produces_left: u64,
    /// After how long without a frame it counts as idle.
    patience: Duration,
}

/// Whether a connection goes on.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    /// It is cut.
    Cut,
    /// It is cut, and this reaches the broker later.
    CutBefore(Vec<u8>),
}

impl Link {
    async fn open(client: TcpStream, shared: Arc<Shared>, mut random: Random) -> io::Result<Self> {
        let broker = TcpStream::connect(&shared.broker).await?;
        client.set_nodelay(true)?;
        broker.set_nodelay(true)?;
        let dice = Moment::DICE.len() as u64;
        Ok(Self {
            moment: Moment::DICE[random.within(0..dice) as usize],
            produces_left: random.within(1..5),
            patience: Duration::from_millis(random.within(5..30)),
            shared,
            random,
            client,
            broker,
            from_client: Vec::new(),
            from_broker: Vec::new(),
            under_way: 0,
        })
    }

    /// Passes on what comes until the connection is cut, or one of its ends has closed it.
    async fn run(mut self) {
        let next = loop {
            match self.step().await {
                Ok(Next::GoOn) => {}
                Ok(next) => break next,
                Err(_) => return,
            }
        };
        // An end of the connection is seen as an error or as the end of the stream.
        for stream in [&self.client, &self.broker] {
            if self.random.one_in(2) {
                drop(stream.set_zero_linger());
            }
        }
        if let Next::CutBefore(frame) = next {
            drop(self.client);
            tokio::time::sleep(Duration::from_millis(self.random.within(0..30))).await;
            drop(self.broker.write_all(&frame).await);
            // It is read if this end stays open until the answer.
            let answer = self.broker.read_buf(&mut self.from_broker);
            drop(tokio::time::timeout(Duration::from_secs(1), answer).await);
        }
    }

    /// Waits for something, and passes it on.
    ///
    /// # Errors
    /// One of the ends is closed.
    async fn step(&mut self) -> io::Result<Next> {
        // Under load nothing is ever idle, so what the client sends next is left unread.
        let is_closing = self.moment == Moment::Idle && self.is_due();
        if is_closing && self.under_way == 0 {
            return Ok(self.cut(Moment::Idle, 0));
        }
        tokio::select! {
            read = self.client.read_buf(&mut self.from_client), if !is_closing => {
                not_the_end(read)?;
                while let Some(frame) = take_frame(&mut self.from_client) {
                    let next = self.request(frame).await?;
                    if next != Next::GoOn {
                        return Ok(next);
                    }
                }
            }
            read = self.broker.read_buf(&mut self.from_broker) => {
                not_the_end(read)?;
                while let Some(frame) = take_frame(&mut self.from_broker) {
                    if self.answer(&frame).await? == Next::Cut {
                        return Ok(Next::Cut);
                    }
                }
            }
            () = tokio::time::sleep(self.patience) => {
                if self.under_way == 0 && self.from_client.is_empty() && self.is_cutting() {
                    return Ok(self.cut(Moment::Idle, 0));
                }
            }
        }
        Ok(Next::GoOn)
    }

    async fn request(&mut self, frame: Vec<u8>) -> io::Result<Next> {
        let header = RequestHeader::parse(&frame, FRAME_BYTES_MAX_DEFAULT);
        let header = header.ok().flatten().ok_or(io::ErrorKind::InvalidData)?;
        self.under_way += 1;
        if header.api_key == ApiKey::Produce.as_u16() {
            self.produces_left = self.produces_left.saturating_sub(1);
            let is_due = self.is_due();
            match self.moment {
                Moment::InRequest if is_due => {
                    let part = self.part_of(&frame);
                    self.broker.write_all(&frame[..part]).await?;
                    return Ok(self.cut(Moment::InRequest, 0));
                }
                Moment::AfterRequest if is_due => {
                    self.broker.write_all(&frame).await?;
                    return Ok(self.cut(Moment::AfterRequest, 0));
                }
                Moment::BeforeRequest if is_due => {
                    self.cut(Moment::BeforeRequest, 0);
                    return Ok(Next::CutBefore(frame));
                }
                _ => {}
            }
        }
        self.broker.write_all(&frame).await?;
        Ok(Next::GoOn)
    }

    async fn answer(&mut self, frame: &[u8]) -> io::Result<Next> {
        self.under_way = self.under_way.saturating_sub(1);
        let written = written_batches(frame)?;
        if written > 0 && self.is_due() {
            match self.moment {
                Moment::BeforeAnswer => return Ok(self.cut(Moment::BeforeAnswer, written)),
                Moment::InAnswer => {
                    let part = self.part_of(frame);
                    self.client.write_all(&frame[..part]).await?;
                    return Ok(self.cut(Moment::InAnswer, written));
                }
                _ => {}
            }
        }
        self.client.write_all(frame).await?;
        Ok(Next::GoOn)
    }

    /// Counts a cut.
    fn cut(&self, moment: Moment, written_batches: u64) -> Next {
        let mut cuts = self.shared.lock();
        *cuts.by_moment.entry(moment).or_default() += 1;
        cuts.unanswered_batches += written_batches;
        Next::Cut
    }

    /// Whether it is cut at the next moment of its kind.
    fn is_due(&self) -> bool {
        self.produces_left == 0 && self.is_cutting()
    }

    fn is_cutting(&self) -> bool {
        self.shared.is_cutting.load(Ordering::Relaxed)
    }

    /// Some bytes of a frame, not all.
    fn part_of(&mut self, frame: &[u8]) -> usize {
        self.random.within(1..frame.len() as u64) as usize
    }
}

/// Takes the frame at the front of `bytes` out, once it is there as a whole.
fn take_frame(bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = u32::from_le_bytes(*bytes.first_chunk()?) as usize + size_of::<u32>();
    (bytes.len() >= length).then(|| bytes.drain(..length).collect())
}

/// How many batches a frame from the broker acknowledges.
fn written_batches(frame: &[u8]) -> io::Result<u64> {
    let header = ResponseHeader::parse(frame, FRAME_BYTES_MAX_DEFAULT);
    let header = header.ok().flatten().ok_or(io::ErrorKind::InvalidData)?;
    match Response::decode(&header, &frame[ResponseHeader::LEN..]) {
        Ok(Ok(Response::Produce(answer))) => {
            let written = answer.entries.iter().filter(|entry| entry.result.is_ok());
            Ok(written.count() as u64)
        }
        Ok(_) => Ok(0),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}

fn not_the_end(read: io::Result<usize>) -> io::Result<()> {
    match read? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
