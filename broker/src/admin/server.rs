//! The HTTP server of the admin endpoint.
//!
//! Owns its thread, its listener and what a client may take: so many connections, each for a bounded time, requests of
//! a bounded size, so many large answers on their way. What exceeds that is refused, so that no client of this
//! endpoint costs the broker more than that. Reads only: nothing of the broker can be changed here.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, HeaderValue, VARY};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{sleep, timeout};

use super::answer::{Answer, JSON, TEXT, answer, json, judged, shown_part};
use super::ask::AskLine;
use super::exposition::{OPEN_METRICS, PROMETHEUS};
use super::gather::{Gatherer, PATIENCE, Serving, Shown};
use super::health::{health, readiness};
use super::page;
use super::query::{StateQuery, Wanted};
use super::state::{BrokerState, Phase};
use super::summary::Summary;
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

/// How long accepting rests when it fails, for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The admin thread yields to the cores where there are fewer CPUs than threads.
const NICENESS: i32 = 10;

const INDEX: &str = "\
Corelane's admin endpoint. It can be read only.

  /metrics    metrics for Prometheus, as OpenMetrics where that is asked for
  /health     200 while every core answers, 503 otherwise
  /ready      200 while all partitions are served, 503 otherwise, with what to do
  /v1/state   the whole state as JSON; `corelane top` shows it live
              (?form=summary: in short; with &topic=NAME and &group=NAME their partitions)

In a browser there is a page here that shows it live.
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
        let part = page::part(path);
        let is_known =
            part.is_some() || matches!(path, "/" | "/metrics" | "/health" | "/ready" | "/v1/state");
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
        if let Some(part) = part {
            return shown_part(part);
        }
        match path {
            "/metrics" => {
                if accepts(request, "application/openmetrics-text") {
                    self.show(Shown::OpenMetrics, OPEN_METRICS).await
                } else {
                    self.show(Shown::Prometheus, PROMETHEUS).await
                }
            }
            "/v1/state" => match StateQuery::parse(request.uri().query()) {
                Ok(StateQuery::Whole) => self.show(Shown::Json, JSON).await,
                Ok(StateQuery::Summary(wanted)) => self.summary(&wanted).await,
                Err(text) => answer(StatusCode::BAD_REQUEST, TEXT, text.into(), None),
            },
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
                    Phase::Starting | Phase::Draining => Arc::new(BrokerState {
                        phase,
                        ..Default::default()
                    }),
                };
                judged(&readiness(&state, PATIENCE.as_millis()))
            }
            _ => {
                let mut index = if accepts(request, "text/html") {
                    shown_part(page::PAGE)
                } else {
                    answer(StatusCode::OK, TEXT, INDEX.into(), None)
                };
                let varies = HeaderValue::from_static("accept");
                index.headers_mut().insert(VARY, varies);
                index
            }
        }
    }

    /// Everything that there is to show, in a form.
    async fn show(&self, form: Shown, content_type: &'static str) -> Response<Answer> {
        let phase = self.phase();
        if phase == Phase::Starting {
            let text = "The broker recovers its stores; there is nothing to show yet.\n";
            return answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, text.into(), None);
        }
        let Some(permit) = self.large_answer() else {
            return too_many();
        };
        let bytes = self.gatherer.lock().await.shown(phase, form).await;
        answer(StatusCode::OK, content_type, bytes, Some(permit))
    }

    /// The state in short. A broker that starts says so in it, since nothing else is known yet.
    async fn summary(&self, wanted: &Wanted) -> Response<Answer> {
        let phase = self.phase();
        if phase == Phase::Starting {
            let state = BrokerState {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                phase,
                ..BrokerState::default()
            };
            let summary = Summary::new(&state, None, wanted, PATIENCE.as_millis());
            return answer(StatusCode::OK, JSON, json(&summary), None);
        }
        let Some(permit) = self.large_answer() else {
            return too_many();
        };
        let bytes = self.gatherer.lock().await.summary(phase, wanted).await;
        answer(StatusCode::OK, JSON, bytes, Some(permit))
    }

    /// The right to have a large answer on its way, if there is one more.
    fn large_answer(&self) -> Option<OwnedSemaphorePermit> {
        self.large_answers.clone().try_acquire_owned().ok()
    }
}

/// What is said to who has to come again for a large answer.
fn too_many() -> Response<Answer> {
    let text = "Too many clients read large answers from here; try again.\n";
    answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, text.into(), None)
}

/// What is repeated of a path that somebody asked for.
fn shorten(path: &str) -> String {
    path.chars().take(100).collect()
}

/// Whether a client names a type among those that it takes.
fn accepts(request: &Request<Incoming>, content_type: &str) -> bool {
    let accepts = request.headers().get(ACCEPT);
    let accepts = accepts.and_then(|value| value.to_str().ok());
    accepts.is_some_and(|value| value.contains(content_type))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;
    use crate::admin::asks;

    /// A broker that recovers for long would have to be waited for; an endpoint whose cores are not there yet is one.
    #[test]
    fn before_the_broker_serves_the_short_state_says_that_it_starts() {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        let (lines, _seats) = asks(2);
        let endpoint = AdminEndpoint::start(listener, lines, Clock::start(), || false)
            .expect("a thread and an event loop");
        let ask = |path: &str| {
            let mut stream = TcpStream::connect(endpoint.address()).expect("it listens");
            let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).expect("connected");
            let mut text = String::new();
            stream.read_to_string(&mut text).expect("an answer");
            text
        };
        assert!(ask("/v1/state").starts_with("HTTP/1.1 503"));
        let short = ask("/v1/state?form=summary");
        let (head, body) = short.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let state: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(state["phase"], "starting");
        let problem = state["problems"][0].as_str().expect("a sentence");
        assert!(problem.contains("recovers its stores"), "{problem}");
    }
}
