//! One TCP connection to a broker: requests pipeline, answers are matched by correlation id.
//!
//! Owns: the socket, the task that reads it, the write queue, the requests that wait for answers,
//! the greeting. Never: retries or reconnects; when it breaks, every request waiting on it is told.
//! Runs on the user's tokio runtime, one task for each connection.

mod assembler;
mod events;
mod write_queue;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corelane_protocol::batch::BatchBytes;
use corelane_protocol::request::ApiVersionsRequest;
use corelane_protocol::response::ApiVersionsResponse;
use corelane_protocol::{
    ApiKey, CorrelationId, FRAME_BYTES_MAX_DEFAULT, Request, RequestFlags, Response,
    ResponseHeader, versions,
};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;
use tracing::Instrument;

use self::assembler::{Assembler, FrameBuffer};
pub use self::events::ConnectionEvent;
pub(crate) use self::events::EventListener;
use self::write_queue::{Flush, WriteQueue};
use crate::error::{Error, Result};

/// Room for a request without its batches, unless it has many entries.
const HEAD_BYTES_USUAL: usize = 256;

/// How often requests are checked against their timeouts.
const WATCHDOG_PERIOD: Duration = Duration::from_millis(250);

/// No broker is believed to need longer answers than this, whatever it says.
const FRAME_BYTES_LIMIT: u32 = 1 << 30;

/// What a connection says of itself, and how long it waits.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionConfig {
    pub(crate) client_name: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) listener: EventListener,
}

/// One answer as it arrived.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) header: ResponseHeader,
    buffer: FrameBuffer,
}

impl Frame {
    /// Reads the answer: the response, or the refusal of the whole request.
    pub(crate) fn decode(
        &self,
        address: &str,
    ) -> Result<Result<Response<'_>, corelane_protocol::ApiError>> {
        Response::decode(&self.header, self.body()).map_err(|error| Error::Protocol {
            address: address.into(),
            reason: error.to_string(),
        })
    }

    /// The bytes of the whole frame, 8-aligned, from the length field on.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.buffer.bytes()
    }

    /// A frame as it would arrive with this response.
    #[cfg(test)]
    pub(crate) fn of(response: &Response<'_>) -> Self {
        let mut out = Vec::new();
        let meta = corelane_protocol::ResponseMeta {
            api_version: response.api_key().version(),
            ..corelane_protocol::ResponseMeta::default()
        };
        response.encode(&meta, &mut out);
        let mut assembler = Assembler::default();
        let mut rest = &out[..];
        loop {
            let space = assembler.space();
            let count = space.len().min(rest.len());
            space[..count].copy_from_slice(&rest[..count]);
            assembler.filled(count);
            rest = &rest[count..];
            let next = assembler.next_frame(FRAME_BYTES_LIMIT);
            if let Some((header, buffer)) = next.expect("a frame of ours") {
                return Self { header, buffer };
            }
        }
    }

    fn body(&self) -> &[u8] {
        &self.buffer.bytes()[ResponseHeader::LEN..]
    }
}

/// A request to be sent: its fixed part, and the batches that follow as they are.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) request: &'a Request<'a>,
    /// The batches of a produce request, in the order of its entries; else empty.
    pub(crate) batches: Vec<Arc<BatchBytes>>,
    /// How long the answer may take before the connection counts as broken.
    pub(crate) timeout: Duration,
}

/// Where an answer goes.
#[derive(Debug)]
pub(crate) enum ReplyTo {
    Once(oneshot::Sender<Result<Frame>>),
    Queue {
        queue: mpsc::UnboundedSender<Reply>,
        token: u64,
    },
}

/// An answer to a request that was sent with [`ReplyTo::Queue`].
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) token: u64,
    pub(crate) result: Result<Frame>,
}

impl ReplyTo {
    fn send(self, result: Result<Frame>) {
        // Whoever asked may have gone; its answer is then of no use.
        match self {
            Self::Once(sender) => drop(sender.send(result)),
            Self::Queue { queue, token } => drop(queue.send(Reply { token, result })),
        }
    }
}

/// A handle to an open connection. The last one dropped closes it.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    greeting: ApiVersionsResponse,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close(None);
    }
}

/// What the handles and the connection's task share.
#[derive(Debug)]
struct Shared {
    address: Arc<str>,
    stream: TcpStream,
    frame_bytes_max: AtomicU32,
    writes: Mutex<WriteQueue>,
    write_blocked: Notify,
    pending: Mutex<PendingRequests>,
    closing: Notify,
    listener: EventListener,
    /// Whether the listener knows of the connection, so that it is to hear of its loss.
    told_of: AtomicBool,
}

#[derive(Debug)]
struct PendingRequests {
    next_id: u32,
    by_id: BTreeMap<u32, Pending>,
    /// Why the connection ended, once it did.
    ended: Option<Error>,
}

#[derive(Debug)]
struct Pending {
    reply: ReplyTo,
    deadline: Instant,
}

impl Connection {
    /// Connects to `address` (`host:port`) and exchanges greetings.
    ///
    /// Cancel safe: dropping the future closes the socket.
    pub(crate) async fn open(address: Arc<str>, config: &ConnectionConfig) -> Result<Self> {
        let opened = Self::open_and_greet(Arc::clone(&address), config).await;
        let address = &*address;
        match &opened {
            Ok(_) => config.listener.tell(ConnectionEvent::Connected { address }),
            Err(error) => config
                .listener
                .tell(ConnectionEvent::Failed { address, error }),
        }
        if let Ok(connection) = &opened {
            connection
                .handle
                .shared
                .told_of
                .store(true, Ordering::Relaxed);
        }
        opened
    }

    async fn open_and_greet(address: Arc<str>, config: &ConnectionConfig) -> Result<Self> {
        let failed = |reason: String| Error::Connect {
            address: address.to_string(),
            reason,
        };
        let deadline = Instant::now() + config.connect_timeout;
        let timed_out = |what: &str| {
            failed(format!(
                "{what} took longer than {:?}",
                config.connect_timeout
            ))
        };
        let stream = tokio::time::timeout_at(deadline, TcpStream::connect(&*address))
            .await
            .map_err(|_| timed_out("connecting"))?
            .map_err(|error| failed(error.to_string()))?;
        stream
            .set_nodelay(true)
            .map_err(|error| failed(error.to_string()))?;
        let shared = Arc::new(Shared::new(
            Arc::clone(&address),
            stream,
            config.listener.clone(),
        ));
        // Closes the connection if the greeting fails or this future is dropped.
        let mut handle = Handle {
            shared: Arc::clone(&shared),
            greeting: ApiVersionsResponse::default(),
        };
        let span = tracing::debug_span!("connection", %address);
        tokio::spawn(run(Arc::clone(&shared)).instrument(span));
        let greeting = tokio::time::timeout_at(deadline, greet(&shared, config))
            .await
            .map_err(|_| timed_out("the greeting"))?
            .map_err(|error| failed(error.to_string()))?;
        let frame_bytes_max = greeting
            .frame_bytes_max
            .clamp(FRAME_BYTES_MAX_DEFAULT, FRAME_BYTES_LIMIT);
        shared
            .frame_bytes_max
            .store(frame_bytes_max, Ordering::Relaxed);
        tracing::debug!(%address, broker_version = %greeting.broker_version, "connected");
        handle.greeting = greeting;
        Ok(Self {
            handle: Arc::new(handle),
        })
    }

    /// What the broker said of itself when the connection was made.
    pub(crate) fn greeting(&self) -> &ApiVersionsResponse {
        &self.handle.greeting
    }

    pub(crate) fn address(&self) -> &Arc<str> {
        &self.handle.shared.address
    }

    pub(crate) fn is_open(&self) -> bool {
        self.handle.shared.pending().ended.is_none()
    }

    /// Queues a request and sends as much as the socket takes at once. The answer, or the end of the
    /// connection, goes to `reply`. Returns the request's size on the wire, in bytes.
    ///
    /// # Errors
    /// When the connection has ended or the request cannot be encoded; `reply` is then dropped.
    pub(crate) fn submit(&self, outgoing: Outgoing<'_>, reply: ReplyTo) -> Result<u64> {
        self.handle.shared.submit(outgoing, reply)
    }

    /// Sends a request and awaits its answer.
    ///
    /// Not cancel safe in its effect: dropping the future leaves the request with the broker, and
    /// only its answer is lost.
    pub(crate) async fn call(&self, request: &Request<'_>, timeout: Duration) -> Result<Frame> {
        self.handle.shared.call(request, timeout).await
    }
}

impl Shared {
    fn new(address: Arc<str>, stream: TcpStream, listener: EventListener) -> Self {
        Self {
            address,
            listener,
            told_of: AtomicBool::new(false),
            stream,
            frame_bytes_max: AtomicU32::new(FRAME_BYTES_MAX_DEFAULT),
            writes: Mutex::new(WriteQueue::default()),
            write_blocked: Notify::new(),
            pending: Mutex::new(PendingRequests {
                next_id: 0,
                by_id: BTreeMap::new(),
                ended: None,
            }),
            closing: Notify::new(),
        }
    }

    fn pending(&self) -> MutexGuard<'_, PendingRequests> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(&self, outgoing: Outgoing<'_>, reply: ReplyTo) -> Result<u64> {
        let deadline = Instant::now() + outgoing.timeout;
        let id = {
            let mut pending = self.pending();
            if let Some(error) = &pending.ended {
                return Err(error.clone());
            }
            let id = pending.free_id();
            pending.by_id.insert(id, Pending { reply, deadline });
            id
        };
        let mut head = Vec::with_capacity(HEAD_BYTES_USUAL);
        let correlation_id = CorrelationId::new(id);
        let encoded = match outgoing.request {
            Request::Produce(produce) => {
                produce.encode_head(correlation_id, RequestFlags::NONE, &mut head)
            }
            other => other.encode(correlation_id, RequestFlags::NONE, &mut head),
        };
        if let Err(error) = encoded {
            self.pending().by_id.remove(&id);
            return Err(Error::invalid(error.to_string()));
        }
        let flush = {
            let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
            let bytes = writes.push(head, outgoing.batches);
            writes.flush(&self.stream).map(|flush| (flush, bytes))
        };
        match flush {
            Ok((Flush::Done, bytes)) => Ok(bytes),
            Ok((Flush::Blocked, bytes)) => {
                self.write_blocked.notify_one();
                Ok(bytes)
            }
            Err(error) => {
                // The request counts as sent: a part of it may have left. Its reply tells.
                self.close(Some(self.lost(error.to_string())));
                Ok(0)
            }
        }
    }

    async fn call(&self, request: &Request<'_>, timeout: Duration) -> Result<Frame> {
        let (sender, receiver) = oneshot::channel();
        let outgoing = Outgoing {
            request,
            batches: Vec::new(),
            timeout,
        };
        self.submit(outgoing, ReplyTo::Once(sender))?;
        receiver
            .await
            .unwrap_or_else(|_| Err(self.lost("the client's runtime was shut down".into())))
    }

    fn lost(&self, reason: String) -> Error {
        Error::ConnectionLost {
            address: self.address.to_string(),
            reason,
        }
    }

    /// Ends the connection: every request waiting on it is told why. Only the first reason counts.
    fn close(&self, reason: Option<Error>) {
        let waiting = {
            let mut pending = self.pending();
            if pending.ended.is_some() {
                return;
            }
            let reason = reason.unwrap_or(Error::Closed { what: "connection" });
            pending.ended = Some(reason);
            std::mem::take(&mut pending.by_id)
        };
        self.closing.notify_one();
        let reason = self.pending().ended.clone().expect("set above");
        tracing::debug!(address = %self.address, waiting = waiting.len(), %reason, "connection ended");
        if self.told_of.load(Ordering::Relaxed) && !matches!(reason, Error::Closed { .. }) {
            self.listener.tell(ConnectionEvent::Lost {
                address: &self.address,
                error: &reason,
            });
        }
        for pending in waiting.into_values() {
            pending.reply.send(Err(reason.clone()));
        }
    }

    fn dispatch(&self, frame: Frame) -> Result<()> {
        let id = frame.header.correlation_id.get();
        let Some(pending) = self.pending().by_id.remove(&id) else {
            return Err(Error::Protocol {
                address: self.address.to_string(),
                reason: format!("an answer to request {id}, which was not asked"),
            });
        };
        pending.reply.send(Ok(frame));
        Ok(())
    }
}

impl PendingRequests {
    fn free_id(&mut self) -> u32 {
        loop {
            let id = self.next_id;
            self.next_id = self.next_id.wrapping_add(1);
            if !self.by_id.contains_key(&id) {
                return id;
            }
        }
    }
}

/// Ends the connection also when its task is dropped with the runtime.
struct CloseOnDrop(Arc<Shared>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        // Whoever shuts the runtime down knows.
        self.0.told_of.store(false, Ordering::Relaxed);
        let reason = self.0.lost("its runtime was shut down".into());
        self.0.close(Some(reason));
    }
}

/// The connection's task: reads, continues blocked writes, watches timeouts.
async fn run(shared: Arc<Shared>) {
    let _guard = CloseOnDrop(Arc::clone(&shared));
    let reason = tokio::select! {
        reason = read_frames(&shared) => Some(reason),
        reason = continue_writes(&shared) => Some(reason),
        reason = watch_timeouts(&shared) => Some(reason),
        () = shared.closing.notified() => None,
    };
    shared.close(reason);
}

async fn read_frames(shared: &Shared) -> Error {
    let mut assembler = Assembler::default();
    loop {
        if let Err(error) = shared.stream.readable().await {
            return shared.lost(error.to_string());
        }
        let read = shared.stream.try_read(assembler.space());
        match read {
            Ok(0) => return shared.lost("the broker closed it".into()),
            Ok(count) => assembler.filled(count),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) => return shared.lost(error.to_string()),
        }
        let frame_bytes_max = shared.frame_bytes_max.load(Ordering::Relaxed);
        loop {
            let dispatched = match assembler.next_frame(frame_bytes_max) {
                Ok(Some((header, buffer))) => shared.dispatch(Frame { header, buffer }),
                Ok(None) => break,
                Err(error) => Err(Error::Protocol {
                    address: shared.address.to_string(),
                    reason: error.to_string(),
                }),
            };
            if let Err(error) = dispatched {
                return error;
            }
        }
    }
}

async fn continue_writes(shared: &Shared) -> Error {
    loop {
        shared.write_blocked.notified().await;
        loop {
            if let Err(error) = shared.stream.writable().await {
                return shared.lost(error.to_string());
            }
            let flushed = {
                let mut writes = shared.writes.lock().unwrap_or_else(PoisonError::into_inner);
                writes.flush(&shared.stream)
            };
            match flushed {
                Ok(Flush::Done) => break,
                Ok(Flush::Blocked) => {}
                Err(error) => return shared.lost(error.to_string()),
            }
        }
    }
}

async fn watch_timeouts(shared: &Shared) -> Error {
    let mut ticks = tokio::time::interval(WATCHDOG_PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let now = ticks.tick().await;
        let overdue = shared
            .pending()
            .by_id
            .values()
            .filter(|pending| pending.deadline <= now)
            .count();
        if overdue > 0 {
            return shared.lost(format!("{overdue} requests were not answered in time"));
        }
    }
}

/// The first exchange: who we are, and whether we speak the same versions.
async fn greet(shared: &Shared, config: &ConnectionConfig) -> Result<ApiVersionsResponse> {
    let request = Request::ApiVersions(ApiVersionsRequest {
        client_name: config.client_name.clone(),
        client_version: env!("CARGO_PKG_VERSION").into(),
    });
    let frame = shared.call(&request, config.connect_timeout).await?;
    let response = frame.decode(&shared.address)?;
    let response = response.map_err(|error| Error::refused("greeting", error))?;
    let Response::ApiVersions(greeting) = response else {
        return Err(unexpected(&shared.address, ApiKey::ApiVersions));
    };
    // Who needs a producer id asks for it, and can do without.
    let needed = ApiKey::ALL
        .iter()
        .filter(|key| **key != ApiKey::InitProducerId);
    for key in needed {
        let spoken = greeting.apis.iter().find(|api| api.api_key == key.as_u16());
        let fits = spoken.is_some_and(|api| {
            let ours = versions(*key);
            (api.version_min..=api.version_max).contains(ours.end())
        });
        if !fits {
            let reason = format!(
                "the broker ({}) does not speak {key} version {}",
                greeting.broker_version,
                key.version()
            );
            let address = shared.address.to_string();
            return Err(Error::Protocol { address, reason });
        }
    }
    Ok(greeting)
}

/// The error for an answer of another kind than was asked for.
pub(crate) fn unexpected(address: &str, asked: ApiKey) -> Error {
    Error::Protocol {
        address: address.into(),
        reason: format!("the answer to {asked} is of another kind"),
    }
}
