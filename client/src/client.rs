//! The entry point: a connection to a cluster, from which producers, consumers and the admin come.
//!
//! Owns: the builder's settings and the shared knowledge of the cluster.

use std::sync::Arc;
use std::time::Duration;

use crate::admin::Admin;
use crate::backoff::Backoff;
use crate::cluster::{Cluster, ClusterConfig};
use crate::connection::{ConnectionConfig, ConnectionEvent, EventListener};
use crate::consumer::ConsumerBuilder;
use crate::error::{Error, Result};
use crate::group::GroupBuilder;
use crate::producer::ProducerBuilder;

/// A client of one cluster. Cheap to clone; clones share what they learn of the cluster.
///
/// ```no_run
/// # async fn example() -> corelane_client::Result<()> {
/// use corelane_client::{Client, Record};
/// let client = Client::connect("127.0.0.1:9500").await?;
/// let producer = client.producer().build().await?;
/// let receipt = producer.send(Record::to("orders").key("7").value("3 apples")).await?.await?;
/// println!("offset {} of partition {}", receipt.offset, receipt.partition);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    cluster: Arc<Cluster>,
}

impl Client {
    /// Connects to the broker at `address` (`host:port`) with default settings.
    ///
    /// # Errors
    /// `Connect` if nobody answers there. It is tried once; later requests are repeated.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub async fn connect(address: impl Into<String>) -> Result<Self> {
        Self::builder().bootstrap([address.into()]).connect().await
    }

    /// Settings other than the defaults.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Settings of a new producer.
    pub fn producer(&self) -> ProducerBuilder {
        ProducerBuilder::new(Arc::clone(&self.cluster))
    }

    /// Settings of a new consumer.
    pub fn consumer(&self) -> ConsumerBuilder {
        ConsumerBuilder::new(Arc::clone(&self.cluster))
    }

    /// Settings of a new member of a consumer group.
    pub fn group(&self, name: impl Into<String>) -> GroupBuilder {
        GroupBuilder::new(Arc::clone(&self.cluster), name.into())
    }

    /// Requests about topics, offsets, groups and the cluster.
    pub fn admin(&self) -> Admin {
        Admin::new(Arc::clone(&self.cluster))
    }

    /// How many partitions a topic has, asked anew from the broker.
    ///
    /// # Errors
    /// `Refused` with `UnknownTopic` if there is no such topic; connection errors after the request
    /// timeout.
    ///
    /// # Cancel safety
    /// Safe: nothing changes.
    pub async fn partition_count(&self, topic: &str) -> Result<u32> {
        Ok(self.cluster.refresh(topic).await?.partition_count())
    }

    /// The version of the broker's software, as it said when the client connected.
    ///
    /// # Errors
    /// Connection errors, if the connection was lost and cannot be made again.
    ///
    /// # Cancel safety
    /// Safe: nothing changes.
    pub async fn broker_version(&self) -> Result<String> {
        Ok(self
            .cluster
            .control()
            .await?
            .greeting()
            .broker_version
            .clone())
    }
}

/// The settings of a [`Client`].
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    bootstrap: Vec<String>,
    client_name: String,
    connect_timeout: Duration,
    request_timeout: Duration,
    use_bootstrap_only: bool,
    backoff: Backoff,
    seed: Option<u64>,
    listener: EventListener,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            bootstrap: vec!["127.0.0.1:9500".into()],
            client_name: "corelane-client".into(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            use_bootstrap_only: false,
            backoff: Backoff::default(),
            seed: None,
            listener: EventListener::default(),
        }
    }
}

impl ClientBuilder {
    /// Where to connect first, as `host:port`; they are tried in order. Default `127.0.0.1:9500`.
    pub fn bootstrap<S: Into<String>>(mut self, addresses: impl IntoIterator<Item = S>) -> Self {
        self.bootstrap = addresses.into_iter().map(Into::into).collect();
        self
    }

    /// What the client calls itself in the broker's logs. Default `corelane-client`.
    pub fn client_name(mut self, name: impl Into<String>) -> Self {
        self.client_name = name.into();
        self
    }

    /// How long one connection may take to open, greeting included. Default 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long one request may take; also how long requests other than produces are repeated for.
    /// A connection on which a request is not answered in time counts as lost. Default 30 s.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Uses the first bootstrap address for everything, for brokers behind a gateway that makes
    /// their other addresses unreachable. The broker then forwards between its cores, which costs
    /// throughput. Default false.
    pub fn use_bootstrap_only(mut self, only: bool) -> Self {
        self.use_bootstrap_only = only;
        self
    }

    /// The shortest and the longest wait before something is tried again; it doubles in between.
    /// Default 20 ms and 1 s.
    pub fn retry_backoff(mut self, min: Duration, max: Duration) -> Self {
        self.backoff = Backoff { min, max };
        self
    }

    /// Calls `listener` with what becomes of every connection, so that a program can say why it waits. It is
    /// called on tasks of the client and must not block. Default: nobody is told.
    pub fn on_connection_event(
        mut self,
        listener: impl Fn(ConnectionEvent<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.listener = EventListener::new(listener);
        self
    }

    /// Makes the client's random choices (jitter of waits, first partitions) repeatable.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// `InvalidArgument` for settings that cannot work; `Connect` if none of the addresses answers.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub async fn connect(self) -> Result<Client> {
        if self.bootstrap.is_empty() {
            return Err(Error::invalid("at least one bootstrap address is needed"));
        }
        if let Some(bad) = self.bootstrap.iter().find(|address| !has_port(address)) {
            return Err(Error::invalid(format!(
                "the address {bad:?} is not of the form host:port"
            )));
        }
        if self.connect_timeout.is_zero() || self.request_timeout.is_zero() {
            return Err(Error::invalid("timeouts must be longer than zero"));
        }
        if self.backoff.min > self.backoff.max || self.backoff.max.is_zero() {
            return Err(Error::invalid(
                "the shortest wait before a retry must not exceed the longest",
            ));
        }
        let config = ClusterConfig {
            bootstrap: self.bootstrap.into_iter().map(Into::into).collect(),
            connection: ConnectionConfig {
                client_name: self.client_name,
                connect_timeout: self.connect_timeout,
                listener: self.listener,
            },
            request_timeout: self.request_timeout,
            use_bootstrap_only: self.use_bootstrap_only,
            backoff: self.backoff,
            seed: self.seed.unwrap_or_else(random_seed),
        };
        let cluster = Arc::new(Cluster::connect(config).await?);
        Ok(Client { cluster })
    }
}

fn has_port(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else {
        return false;
    };
    !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
}

/// A seed that differs between processes and between clients of one process.
pub(crate) fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}
