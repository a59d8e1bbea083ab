//! The HTTP server of the admin endpoint.
//!
//! Owns its thread, its listener and what a client may take: so many connections, each for a bounded time, requests of
//! a bounded size, so many large answers on their way. What exceeds that is refused, so that no client of this
//! endpoint costs the broker more than that. Reads only: nothing of the broker can be changed here.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{sleep, timeout};

use super::ask::AskLine;
use super::exposition::{OPEN_METRICS, PROMETHEUS};
use super::gather::{Gatherer, PATIENCE, Serving, Shown};
use super::health::{Verdict, health, readiness};
use super::state::Phase;
use crate::runtime::Clock;

/// Connections that are open at a time; what comes beyond is closed at once.
const CONNECTIONS_MAX: usize = 64;

/// Large answers that are on their way at a time, since each of them is kept until it has left.
const LARGE_ANSWERS_MAX: usize = 4;

/// How long a client may take for the head of a request, from the connection or the last answer on.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);

/// How long a connection lives: who scrapes in between connects again.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(60);

/// Bytes and lines of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEAD_LINES_MAX: usize = 64;

/// An answer is handed over in pieces of so many bytes, as fast as the client takes them.
const PIECE_BYTES: usize = 64 * 1024;

/// How long accepting rests when it fails, for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The admin thread yields to the cores where there are fewer CPUs than threads.
const NICENESS: i32 = 10;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

const INDEX: &str = "\
Corelane's admin endpoint. It can be read only.

  /metrics    metrics for Prometheus, as OpenMetrics where that is asked for
  /health     200 while every core answers, 503 otherwise
  /ready      200 while all partitions are served, 503 otherwise, with what to do
  /v1/state   the whole state as JSON; `corelane top` shows it live
";

/// A listener for the endpoint, before anything answers on it.
///
/// # Errors
/// The kernel's answer.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The endpoint, running. It ends when this is dropped.
pub(crate) struct AdminEndpoint {
    address: SocketAddr,
    serving: Arc<OnceLock<Serving>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the requests of all connections share.
struct Endpoint {
    gatherer: Mutex<Gatherer>,
    /// Filled once the cores can be asked.
    serving: Arc<OnceLock<Serving>>,
    /// The broker is about to stop.
    is_ending: Box<dyn Fn() -> bool + Send + Sync>,
    large_answers: Arc<Semaphore>,
}

impl AdminEndpoint {
    /// Starts to answer on a listener. `is_ending` says whether the broker is about to stop.
    ///
    /// # Errors
    /// There can be no thread, or no event loop.
    pub(crate) fn start(
        listener: TcpListener,
        lines: Vec<AskLine>,
        clock: Clock,
        is_ending: impl Fn() -> bool + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let serving = Arc::new(OnceLock::new());
        let endpoint = Arc::new(Endpoint {
            gatherer: Mutex::new(Gatherer::new(lines, serving.clone(), clock)),
            serving: serving.clone(),
            is_ending: Box::new(is_ending),
            large_answers: Arc::new(Semaphore::new(LARGE_ANSWERS_MAX)),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || {
                // Of this thread alone; without permission it stays as it is.
                let _ = rustix::process::setpriority_process(None, NICENESS);
                runtime.block_on(async {
                    tokio::select! {
                        () = serve(listener, endpoint) => {}
                        _ = stopped => {}
                    }
                });
            })?;
        Ok(Self {
            address,
            serving,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The address that it answers on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the cores can be asked.
    pub(crate) fn broker_serves(&self, serving: Serving) {
        let is_first = self.serving.set(serving).is_ok();
        debug_assert!(is_first, "a broker begins to serve once");
    }
}

impl Drop for AdminEndpoint {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so, and is gone.
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, endpoint: Arc<Endpoint>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the admin endpoint does not answer");
            return;
        }
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "the admin endpoint cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            continue;
        };
        let endpoint = endpoint.clone();
        tokio::spawn(async move {
            let answer = service_fn(|request| {
                let endpoint = endpoint.clone();
                async move { Ok::<_, Infallible>(endpoint.answer(&request).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_PATIENCE)
                .max_buf_size(HEAD_BYTES_MAX)
                .max_headers(HEAD_LINES_MAX)
                .serve_connection(TokioIo::new(stream), answer);
            // Whatever a client does wrong is its own affair.
            let _ = timeout(CONNECTION_AGE_MAX, connection).await;
            drop(place);
        });
    }
}

impl Endpoint {
    fn phase(&self) -> Phase {
        if (self.is_ending)() {
            Phase::Draining
        } else if self.serving.get().is_some() {
            Phase::Serving
        } else {
            Phase::Starting
        }
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Answer> {
        let path = request.uri().path();
        let is_known = matches!(path, "/" | "/metrics" | "/health" | "/ready" | "/v1/state");
        if !is_known {
            let text = format!(
                "There is no {} here; / lists what there is.\n",
                shorten(path)
            );
            return answer(StatusCode::NOT_FOUND, TEXT, text.into(), None);
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let text = "This endpoint can be read only: GET or HEAD.\n";
            let mut refusal = answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, text.into(), None);
            let allowed = HeaderValue::from_static("GET, HEAD");
            refusal.headers_mut().insert(ALLOW, allowed);
            return refusal;
        }
        match path {
            "/metrics" => {
                let accepts = request.headers().get(ACCEPT);
                let accepts = accepts.and_then(|value| value.to_str().ok());
                let wants_open =
                    accepts.is_some_and(|value| value.contains("application/openmetrics-text"));
                if wants_open {
                    self.show(Shown::OpenMetrics, OPEN_METRICS).await
                } else {
                    self.show(Shown::Prometheus, PROMETHEUS).await
                }
            }
            "/v1/state" => self.show(Shown::Json, JSON).await,
            "/health" => {
                let phase = self.phase();
                let silent = match phase {
                    Phase::Serving => self.gatherer.lock().await.silent().await,
                    Phase::Starting | Phase::Draining => Vec::new(),
                };
                judged(&health(phase, &silent, PATIENCE.as_millis()))
            }
            "/ready" => {
                let phase = self.phase();
                let state = match phase {
                    Phase::Serving => self.gatherer.lock().await.state(phase).await,
                    Phase::Starting | Phase::Draining => Arc::new(super::state::BrokerState {
                        phase,
                        ..Default::default()
                    }),
                };
                judged(&readiness(&state, PATIENCE.as_millis()))
            }
            _ => answer(StatusCode::OK, TEXT, INDEX.into(), None),
        }
    }

    /// Everything that there is to show, in a form.
    async fn show(&self, form: Shown, content_type: &'static str) -> Response<Answer> {
        let phase = self.phase();
        if phase == Phase::Starting {
            let text = "The broker recovers its stores; there is nothing to show yet.\n";
            return answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, text.into(), None);
        }
        let Ok(permit) = self.large_answers.clone().try_acquire_owned() else {
            let text = "Too many clients read large answers from here; try again.\n";
            return answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, text.into(), None);
        };
        let bytes = self.gatherer.lock().await.shown(phase, form).await;
        answer(StatusCode::OK, content_type, bytes, Some(permit))
    }
}

/// What is repeated of a path that somebody asked for.
fn shorten(path: &str) -> String {
    path.chars().take(100).collect()
}

fn judged(verdict: &Verdict) -> Response<Answer> {
    let status = if verdict.is_good {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let json = serde_json::to_vec(verdict).expect("plain data has a JSON form");
    answer(status, JSON, json.into(), None)
}

fn answer(
    status: StatusCode,
    content_type: &'static str,
    bytes: Bytes,
    permit: Option<OwnedSemaphorePermit>,
) -> Response<Answer> {
    let mut response = Response::new(Answer {
        rest: bytes,
        _permit: permit,
    });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The body of an answer, and the right to have a large one on its way: given back when the last piece is taken.
struct Answer {
    rest: Bytes,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.rest.len().min(PIECE_BYTES);
        let piece = (length > 0).then(|| Ok(Frame::data(self.rest.split_to(length))));
        Poll::Ready(piece)
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
