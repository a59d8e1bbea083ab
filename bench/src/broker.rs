//! A broker to be measured: embedded on one core, or any other that somebody has started.
//!
//! Owns the embedded broker with its directory, and a control connection that makes and deletes topics.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;

use corelane_broker::config::{BrokerConfig, ConfigSources, CoreSelection};
use corelane_broker::runtime::{self, Running, this_machine};
use corelane_protocol::request::{
    Acks, CreateTopicsRequest, DeleteTopicsRequest, MetadataRequest, NewTopic, ProduceEntry,
    ProduceRequest,
};
use corelane_protocol::response::CoreAddress;
use corelane_protocol::{
    CorrelationId, PartitionIndex, Request, RequestFlags, Response, ResponseHeader, TopicId,
    TopicPartition,
};
use tempfile::TempDir;

use crate::frames::Batch;
use crate::{BenchError, scratch};

/// The largest answer that is taken, bytes: metadata of 100,000 partitions.
const ANSWER_BYTES_MAX: u32 = 64 << 20;

/// The names of the broker's lane threads begin so; that of the program `corelane` does not.
pub const LANE_THREADS: &str = "core-";

/// A broker with one core and the default settings, in a directory that goes away with it.
pub struct Embedded {
    running: Running,
    _directory: TempDir,
}

impl Embedded {
    /// Starts it on a CPU.
    ///
    /// # Errors
    /// There is no room, or it does not start.
    pub fn start(parent: Option<&Path>, cpu: usize) -> Result<Self, BenchError> {
        let directory = scratch::directory(parent)?;
        Ok(Self {
            running: runtime::serve(config(&directory.path().join("data"), &[cpu])?)?,
            _directory: directory,
        })
    }

    /// Its bootstrap address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.running.bootstrap()
    }

    /// Ends it in order and removes its data.
    ///
    /// # Errors
    /// What did not go in order.
    pub fn stop(self) -> Result<(), BenchError> {
        self.running.shutdown_handle().shut_down();
        self.running.join().map_err(BenchError::Stop)
    }
}

/// The default settings and those of the environment, as `corelane serve` takes them.
///
/// # Errors
/// The environment has a setting that no broker takes.
fn configured() -> Result<BrokerConfig, BenchError> {
    let variables = std::env::vars_os();
    configured_by(
        variables
            // A name or value that is not Unicode can be no setting.
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
    )
}

/// The default settings for this machine and those of an environment.
fn configured_by(environment: Vec<(String, String)>) -> Result<BrokerConfig, BenchError> {
    let sources = ConfigSources {
        environment,
        machine: this_machine(),
        ..ConfigSources::default()
    };
    BrokerConfig::load(&sources).map_err(|error| BenchError::Settings(error.to_string()))
}

/// The settings of the environment that are not the defaults, `section.key=value`. None where a broker would not start
/// with them.
#[must_use]
pub fn unusual_settings() -> Vec<String> {
    let entries = |config: BrokerConfig| config.entries();
    let defaults = configured_by(Vec::new()).map(entries).unwrap_or_default();
    let configured = configured().map(entries).unwrap_or_default();
    let settings = configured.into_iter().zip(defaults);
    settings
        .filter(|(given, default)| given != default)
        .map(|((path, value), _)| format!("{path}={value}"))
        .collect()
}

/// The default settings and those of the environment, but for the place and a free port. Unless the environment says
/// where, nothing is served to those who operate it: the port may be another broker's.
///
/// # Errors
/// The environment has a setting that no broker takes.
pub fn config_in(data_dir: &Path) -> Result<BrokerConfig, BenchError> {
    let mut config = configured()?;
    config.server.data_dir = data_dir.to_owned();
    config.server.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    if config.admin.listen == BrokerConfig::default().admin.listen {
        config.admin.listen = None;
    }
    Ok(config)
}

/// The same, with a core on each of the CPUs.
///
/// # Errors
/// A CPU has a number that no broker takes; the environment has a setting that no broker takes.
pub fn config(data_dir: &Path, cpus: &[usize]) -> Result<BrokerConfig, BenchError> {
    let mut config = config_in(data_dir)?;
    let cpus = cpus.iter().map(|cpu| u16::try_from(*cpu));
    let cpus = cpus.collect::<Result<Vec<_>, _>>();
    let cpus = cpus.map_err(|_| BenchError::Settings("a CPU beyond 65,535".into()))?;
    config.server.cores = CoreSelection::List(cpus);
    Ok(config)
}

/// The partitions of a topic that one core owns, and where that core listens.
#[derive(Clone, Debug)]
pub struct CoreTopic {
    /// The topic's id.
    pub id: TopicId,
    /// The core's own address.
    pub address: SocketAddr,
    /// Its partitions.
    pub partitions: Vec<PartitionIndex>,
}

/// A connection for requests that are not measured.
#[derive(Debug)]
pub struct Control {
    stream: TcpStream,
    next: u32,
}

impl Control {
    /// Connects to a bootstrap address.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(address: impl ToSocketAddrs) -> Result<Self, BenchError> {
        let stream = TcpStream::connect(address);
        let stream = stream.map_err(BenchError::io("cannot connect to the broker"))?;
        let no_delay = stream.set_nodelay(true);
        no_delay.map_err(BenchError::io("the control connection"))?;
        Ok(Self { stream, next: 0 })
    }

    /// Sends a request and hands its answer's body to `take`.
    ///
    /// # Errors
    /// The connection breaks, or the request is refused as a whole.
    pub fn call<T>(
        &mut self,
        what: &'static str,
        request: &Request<'_>,
        take: impl FnOnce(Response<'_>) -> Result<T, BenchError>,
    ) -> Result<T, BenchError> {
        let protocol = |error: &dyn std::fmt::Display| BenchError::Protocol(error.to_string());
        let mut frame = Vec::new();
        self.next += 1;
        request
            .encode(
                CorrelationId::new(self.next),
                RequestFlags::NONE,
                &mut frame,
            )
            .map_err(|error| protocol(&error))?;
        let mut header = [0; ResponseHeader::LEN];
        let exchanged = self.stream.write_all(&frame);
        let exchanged = exchanged.and_then(|()| self.stream.read_exact(&mut header));
        exchanged.map_err(BenchError::io(what))?;
        let header = ResponseHeader::parse(&header, ANSWER_BYTES_MAX);
        let header = header.map_err(|error| protocol(&error))?;
        let header = header.expect("the header is whole");
        let mut body = vec![0; header.body_length()];
        let read = self.stream.read_exact(&mut body);
        read.map_err(BenchError::io(what))?;
        match Response::decode(&header, &body).map_err(|error| protocol(&error))? {
            Ok(response) => take(response),
            Err(error) => Err(BenchError::Refused { what, error }),
        }
    }

    /// Makes a topic with the broker's defaults, but for segments of `segment_bytes`.
    ///
    /// # Errors
    /// The broker refuses.
    pub fn create_topic(
        &mut self,
        name: &str,
        partitions: u32,
        segment_bytes: Option<u64>,
    ) -> Result<(), BenchError> {
        let what = "to create a topic";
        let request = Request::CreateTopics(CreateTopicsRequest {
            topics: vec![NewTopic {
                name: name.to_owned(),
                partitions,
                configs: segment_bytes
                    .map(|bytes| ("segment.bytes".to_owned(), bytes.to_string()))
                    .into_iter()
                    .collect(),
            }],
            validate_only: false,
        });
        self.call(what, &request, |response| match response {
            Response::CreateTopics(mut response) => match response.topics.pop() {
                Some(topic) => match topic.result {
                    Ok(_) => Ok(()),
                    Err(error) => Err(BenchError::Refused { what, error }),
                },
                None => Err(BenchError::Protocol("no topic in the answer".into())),
            },
            other => Err(unexpected(&other)),
        })
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// The broker refuses.
    pub fn delete_topic(&mut self, name: &str) -> Result<(), BenchError> {
        let what = "to delete a topic";
        let names = vec![name.to_owned()];
        let request = Request::DeleteTopics(DeleteTopicsRequest { names });
        self.call(what, &request, |response| match response {
            Response::DeleteTopics(mut response) => match response.topics.pop() {
                Some(topic) => match topic.result {
                    Ok(_) => Ok(()),
                    Err(error) => Err(BenchError::Refused { what, error }),
                },
                None => Err(BenchError::Protocol("no topic in the answer".into())),
            },
            other => Err(unexpected(&other)),
        })
    }

    /// The addresses of all cores.
    ///
    /// # Errors
    /// The broker refuses to say, or an address leads nowhere.
    pub fn core_addresses(&mut self) -> Result<Vec<SocketAddr>, BenchError> {
        let topics = Some(Vec::new());
        let request = Request::Metadata(MetadataRequest { topics });
        self.call("to name its cores", &request, |response| {
            let Response::Metadata(metadata) = response else {
                return Err(unexpected(&response));
            };
            let cores = metadata.brokers.iter().flat_map(|broker| &broker.cores);
            cores.map(core_address).collect()
        })
    }

    /// Writes a batch to each of some partitions, and waits until all are durable.
    ///
    /// # Errors
    /// The broker refuses one.
    pub(crate) fn produce(
        &mut self,
        topic: TopicId,
        partitions: &[PartitionIndex],
        batch: &Batch,
    ) -> Result<(), BenchError> {
        let what = "a batch";
        let entries = partitions.iter().map(|partition| ProduceEntry {
            partition: TopicPartition::new(topic, *partition),
            resume: false,
            batch: batch.bytes(),
        });
        let request = Request::Produce(ProduceRequest {
            acks: Acks::All,
            timeout_ms: 30_000,
            entries: entries.collect(),
        });
        self.call(what, &request, |response| {
            let Response::Produce(response) = response else {
                return Err(unexpected(&response));
            };
            let count = response.entries.len();
            for entry in response.entries {
                entry
                    .result
                    .map_err(|error| BenchError::Refused { what, error })?;
            }
            if count == partitions.len() {
                Ok(())
            } else {
                let text = format!("{count} receipts for {} batches", partitions.len());
                Err(BenchError::Protocol(text))
            }
        })
    }

    /// The core that owns the topic's first partition, with all partitions that it owns.
    ///
    /// # Errors
    /// There is no such topic, or the core's address leads nowhere.
    pub fn core_topic(&mut self, name: &str) -> Result<CoreTopic, BenchError> {
        let what = "to describe a topic";
        let topics = Some(vec![name.to_owned()]);
        let request = Request::Metadata(MetadataRequest { topics });
        self.call(what, &request, |response| {
            let Response::Metadata(mut metadata) = response else {
                return Err(unexpected(&response));
            };
            let missing = |thing: &str| BenchError::Protocol(format!("the metadata lacks {thing}"));
            let topic = metadata.topics.pop().ok_or_else(|| missing("the topic"))?;
            let topic = topic
                .result
                .map_err(|error| BenchError::Refused { what, error })?;
            let first = topic.partitions.first();
            let first = *first.ok_or_else(|| missing("partitions"))?;
            let broker = metadata
                .brokers
                .iter()
                .find(|broker| broker.id == first.leader);
            let cores = broker.map_or(&[][..], |broker| &broker.cores);
            let core = cores.iter().find(|core| core.core == first.core);
            let core = core.ok_or_else(|| missing("the core's address"))?;
            let owned = topic.partitions.iter().filter(|partition| {
                (partition.leader, partition.core) == (first.leader, first.core)
            });
            Ok(CoreTopic {
                id: topic.id,
                address: core_address(core)?,
                partitions: owned.map(|partition| partition.partition).collect(),
            })
        })
    }
}

fn core_address(core: &CoreAddress) -> Result<SocketAddr, BenchError> {
    let resolved = (core.host.as_str(), core.port).to_socket_addrs();
    let mut addresses = resolved.map_err(BenchError::io("the core's address"))?;
    let missing = || BenchError::Protocol("a core's address leads nowhere".into());
    addresses.next().ok_or_else(missing)
}

fn unexpected(response: &Response<'_>) -> BenchError {
    BenchError::Protocol(format!("an answer that was not asked for: {response:?}"))
}
