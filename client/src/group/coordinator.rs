//! The way to the core that coordinates a group.
//!
//! Owns: where that core is, as far as answers have told, and the connection there. Any core may be asked: it forwards,
//! or says where to ask. Never: decides what is asked.

use std::sync::Arc;
use std::time::Duration;

use corelane_protocol::response::{CoreAddress, GroupAnswer};
use corelane_protocol::{ErrorCode, Request, Response};
use tokio::time::Instant;

use crate::backoff::Jitter;
use crate::cluster::{Cluster, Repeat};
use crate::connection::{Connection, unexpected};
use crate::error::{Error, Result};

#[derive(Debug)]
pub(crate) struct Coordinator {
    cluster: Arc<Cluster>,
    known: tokio::sync::Mutex<Known>,
}

/// Where the group is coordinated; the control connection is used while that is not known.
#[derive(Debug, Default)]
struct Known {
    address: Option<Arc<str>>,
    connection: Option<Connection>,
}

/// Attempts that begin just before a deadline still get this long.
const ATTEMPT_TIMEOUT_MIN: Duration = Duration::from_millis(100);

impl Coordinator {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self {
            cluster,
            known: tokio::sync::Mutex::default(),
        }
    }

    /// Asks again and again while that is safe and may help, within the client's request timeout.
    pub(crate) async fn call<T>(
        &self,
        request: &Request<'_>,
        repeat: Repeat,
        context: &str,
        read: impl Fn(Response<'_>) -> Option<GroupAnswer<T>>,
    ) -> Result<T> {
        let config = self.cluster.config();
        let deadline = Instant::now() + config.request_timeout;
        let mut jitter = Jitter::new(self.cluster.next_seed());
        let mut failures = 0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = left.max(ATTEMPT_TIMEOUT_MIN);
            let error = match self.attempt(request, timeout, context, &read).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            failures += 1;
            let safe = repeat == Repeat::Safe || !error.is_outcome_unknown();
            let wait = config.backoff.after(failures, &mut jitter);
            if !safe || !error.is_retriable() || Instant::now() + wait >= deadline {
                return Err(error);
            }
            tracing::debug!(api = %request.api_key(), %error, ?wait, "repeating a request");
            tokio::time::sleep(wait).await;
        }
    }

    /// Asks once, and where the answer says once more if that is elsewhere.
    pub(crate) async fn attempt<T>(
        &self,
        request: &Request<'_>,
        timeout: Duration,
        context: &str,
        read: impl Fn(Response<'_>) -> Option<GroupAnswer<T>>,
    ) -> Result<T> {
        let attempt = async {
            let first = self.ask(request, timeout, context, &read).await;
            match first {
                Err((_, true)) => self.ask(request, timeout, context, &read).await,
                other => other,
            }
        };
        match tokio::time::timeout(timeout, attempt).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err((error, _))) => Err(error),
            Err(_) => {
                self.forget().await;
                Err(Error::OutcomeUnknown {
                    what: context.to_owned(),
                    after: timeout,
                    cause: None,
                })
            }
        }
    }

    /// One question. An error comes with whether another core was named that has the answer.
    async fn ask<T>(
        &self,
        request: &Request<'_>,
        timeout: Duration,
        context: &str,
        read: impl Fn(Response<'_>) -> Option<GroupAnswer<T>>,
    ) -> std::result::Result<T, (Error, bool)> {
        let connection = self.connection().await.map_err(|error| (error, false))?;
        let frame = match connection.call(request, timeout).await {
            Ok(frame) => frame,
            Err(error) => {
                self.forget().await;
                return Err((error, false));
            }
        };
        let address = connection.address();
        let response = frame.decode(address).map_err(|error| (error, false))?;
        let response = response.map_err(|error| (Error::refused(context, error), false))?;
        let answer =
            read(response).ok_or_else(|| (unexpected(address, request.api_key()), false))?;
        let elsewhere = match &answer.owner {
            Some(owner) => self.learn(owner, address).await,
            None => false,
        };
        answer.result.map_err(|error| {
            let asks_elsewhere = error.code == ErrorCode::NotOwner && elsewhere;
            (Error::refused(context, error), asks_elsewhere)
        })
    }

    /// The open connection to the coordinating core, or to any if it is not known.
    async fn connection(&self) -> Result<Connection> {
        let mut known = self.known.lock().await;
        let Some(address) = known.address.clone() else {
            return self.cluster.control().await;
        };
        if let Some(connection) = known.connection.as_ref().filter(|known| known.is_open()) {
            return Ok(connection.clone());
        }
        match Connection::open(address, &self.cluster.config().connection).await {
            Ok(connection) => Ok(known.connection.insert(connection).clone()),
            Err(error) => {
                // The broker may listen elsewhere by now: any core can tell.
                *known = Known::default();
                Err(error)
            }
        }
    }

    /// Takes in where the group is coordinated; true if that is not where was asked.
    async fn learn(&self, owner: &CoreAddress, asked: &str) -> bool {
        if self.cluster.only_address().is_some() {
            return false;
        }
        let owner = owner.to_string();
        let elsewhere = owner != asked;
        let mut known = self.known.lock().await;
        if known.address.as_deref() != Some(&owner) {
            *known = Known {
                address: Some(owner.into()),
                connection: None,
            };
        }
        elsewhere
    }

    async fn forget(&self) {
        *self.known.lock().await = Known::default();
    }
}
