//! The other end of the endpoint: asks a broker, this process's or another one, for its state.

use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::state::BrokerState;

/// How long an answer may take: a broker with a stuck core takes a few seconds to find that out.
const PATIENCE: Duration = Duration::from_secs(10);

/// The largest state that is taken: a hundred thousand partitions have less.
const STATE_BYTES_MAX: usize = 256 << 20;

/// The state that the admin endpoint at `host:port` shows, at most a second old.
///
/// # Errors
/// Why there is none, in words.
pub async fn fetch(admin: &str) -> Result<BrokerState, String> {
    match timeout(PATIENCE, ask(admin)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer for {} s", PATIENCE.as_secs())),
    }
}

async fn ask(admin: &str) -> Result<BrokerState, String> {
    let stream = TcpStream::connect(admin).await;
    let stream = stream.map_err(|error| error.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let request = Request::get("/v1/state")
        .header(HOST, admin)
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await;
    let answer = answer.map_err(|error| error.to_string())?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), STATE_BYTES_MAX).collect();
    let body = body.await.map_err(|error| error.to_string())?.to_bytes();
    drop(sender);
    // It ends with the answer; whatever it says, the answer is here.
    let _ = connection.await;
    if status != StatusCode::OK {
        let said = String::from_utf8_lossy(&body);
        let said = said.lines().next().unwrap_or_default();
        return Err(format!("{} ({status})", said.trim_end_matches('.')));
    }
    serde_json::from_slice(&body)
        .map_err(|error| format!("that is no admin endpoint of this version: {error}"))
}
