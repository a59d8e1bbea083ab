//! What the client knows of the cluster, and how it asks.
//!
//! Owns: the control connection (metadata, admin and offset requests), the cache of topics, and the
//! addresses learnt. Shared by every producer and consumer of a client. Never: carries produces or
//! fetches; those have connections of their own, so that they cannot delay each other.

mod identity;
mod topics;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corelane_protocol::request::MetadataRequest;
use corelane_protocol::response::MetadataResponse;
use corelane_protocol::{ApiKey, ErrorCode, Request, Response};
use tokio::time::Instant;

pub(crate) use self::topics::{Route, TopicMetadata};
use crate::backoff::{Backoff, Jitter};
use crate::connection::{Connection, ConnectionConfig, Frame, unexpected};
use crate::error::{Error, Result};

/// The settings of a client.
#[derive(Debug, Clone)]
pub(crate) struct ClusterConfig {
    pub(crate) bootstrap: Vec<Arc<str>>,
    pub(crate) connection: ConnectionConfig,
    pub(crate) request_timeout: Duration,
    pub(crate) use_bootstrap_only: bool,
    pub(crate) backoff: Backoff,
    pub(crate) seed: u64,
}

/// Whether a request may be sent again after its outcome became unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It changes nothing, or changes the same thing twice.
    Safe,
    /// Only while it is certain that the broker did not do it.
    UnlessSent,
}

#[derive(Debug)]
pub(crate) struct Cluster {
    config: ClusterConfig,
    control: tokio::sync::Mutex<Option<Connection>>,
    topics: Mutex<BTreeMap<Arc<str>, Arc<TopicMetadata>>>,
    jitter: Mutex<Jitter>,
}

impl Cluster {
    /// Connects to the first bootstrap address that answers.
    pub(crate) async fn connect(config: ClusterConfig) -> Result<Self> {
        let cluster = Self {
            jitter: Mutex::new(Jitter::new(config.seed)),
            config,
            control: tokio::sync::Mutex::new(None),
            topics: Mutex::default(),
        };
        cluster.control().await?;
        Ok(cluster)
    }

    pub(crate) fn config(&self) -> &ClusterConfig {
        &self.config
    }

    /// A new seed for the jitter of a producer or consumer.
    pub(crate) fn next_seed(&self) -> u64 {
        self.jitter
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next()
    }

    /// The open control connection, made anew if need be.
    pub(crate) async fn control(&self) -> Result<Connection> {
        let mut control = self.control.lock().await;
        if let Some(connection) = control.as_ref().filter(|connection| connection.is_open()) {
            return Ok(connection.clone());
        }
        *control = None;
        let mut last_error = None;
        for address in &self.config.bootstrap {
            match Connection::open(Arc::clone(address), &self.config.connection).await {
                Ok(connection) => return Ok(control.insert(connection).clone()),
                Err(error) => last_error = Some(error),
            }
        }
        Err(last_error.expect("the builder refuses an empty bootstrap list"))
    }

    /// Sends a request on the control connection, again and again while that is safe and may help,
    /// within the request timeout.
    ///
    /// `refusal` looks at a decoded response for an error code that stands for the whole answer.
    pub(crate) async fn call<T>(
        &self,
        request: &Request<'_>,
        repeat: Repeat,
        mut read: impl FnMut(&Frame, &str) -> Result<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + self.config.request_timeout;
        let mut failures = 0;
        loop {
            let error = match self.control().await {
                Ok(connection) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    let answer = connection.call(request, left.max(MIN_CALL_TIMEOUT)).await;
                    match answer.and_then(|frame| read(&frame, connection.address())) {
                        Ok(value) => return Ok(value),
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            failures += 1;
            let safe = repeat == Repeat::Safe || !error.is_outcome_unknown();
            let wait = {
                let mut jitter = self.jitter.lock().unwrap_or_else(PoisonError::into_inner);
                self.config.backoff.after(failures, &mut jitter)
            };
            if !safe || !error.is_retriable() || Instant::now() + wait >= deadline {
                return Err(error);
            }
            tracing::debug!(api = %request.api_key(), %error, ?wait, "repeating a request");
            tokio::time::sleep(wait).await;
        }
    }

    fn topics(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<TopicMetadata>>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A topic's partitions, from the cache or the broker.
    pub(crate) async fn topic(&self, name: &str) -> Result<Arc<TopicMetadata>> {
        let cached = self.topics().get(name).cloned();
        match cached {
            Some(topic) => Ok(topic),
            None => self.refresh(name).await,
        }
    }

    /// A topic's partitions, from the broker.
    ///
    /// # Errors
    /// `Refused` with `UnknownTopic` if there is none; the cache has forgotten it then.
    pub(crate) async fn refresh(&self, name: &str) -> Result<Arc<TopicMetadata>> {
        let response = self.metadata(Some(vec![name.to_owned()])).await?;
        let topic = response.topics.iter().find(|topic| topic.name == name);
        let Some(topic) = topic else {
            return Err(Error::Protocol {
                address: "the broker".into(),
                reason: format!("the metadata answer leaves out topic {name}"),
            });
        };
        let partitions = match &topic.result {
            Ok(partitions) => partitions,
            Err(error) => {
                if error.code == ErrorCode::UnknownTopic {
                    self.topics().remove(name);
                }
                return Err(Error::refused(format!("topic {name}"), error.clone()));
            }
        };
        let only = self.only_address();
        let metadata = Arc::new(TopicMetadata::new(
            name,
            partitions,
            &response.brokers,
            only.as_ref(),
        )?);
        self.topics()
            .insert(Arc::clone(&metadata.name), Arc::clone(&metadata));
        Ok(metadata)
    }

    /// Asks for metadata of the named topics, or of all.
    pub(crate) async fn metadata(&self, topics: Option<Vec<String>>) -> Result<MetadataResponse> {
        let request = Request::Metadata(MetadataRequest { topics });
        self.call(&request, Repeat::Safe, |frame, address| {
            match frame
                .decode(address)?
                .map_err(|error| Error::refused("metadata", error))?
            {
                Response::Metadata(response) => Ok(response),
                _ => Err(unexpected(address, ApiKey::Metadata)),
            }
        })
        .await
    }

    /// Takes in a better address that an answer told. With the bootstrap address only, addresses do
    /// not matter and nothing is learnt.
    pub(crate) fn learn(&self, topic: &str, partition: u32, route: Route) {
        let mut topics = self.topics();
        if let Some(known) = topics.get_mut(topic) {
            Arc::make_mut(known).set_route(partition, route);
        }
    }

    /// Forgets a topic that turned out not to be what was known of it.
    pub(crate) fn forget(&self, topic: &str) {
        self.topics().remove(topic);
    }

    /// The one address to use, if the client was told to use no other.
    pub(crate) fn only_address(&self) -> Option<Arc<str>> {
        let only = self.config.use_bootstrap_only;
        only.then(|| Arc::clone(&self.config.bootstrap[0]))
    }
}

/// A call that begins just before its deadline still gets this long.
const MIN_CALL_TIMEOUT: Duration = Duration::from_millis(100);
