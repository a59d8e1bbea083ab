//! A broker, and the client's threads beside it: what runs are made with, one after the other, also in turns with
//! something else.

use std::net::ToSocketAddrs;

use corelane_client::{Client, ConfigSource, ErrorCode, NewTopic, TopicDescription};
use tokio::runtime::Runtime;

use crate::control::{Control, Phase, Progress};
use crate::embedded::EmbeddedBroker;
use crate::engine;
use crate::error::PerfError;
use crate::manifest;
use crate::processor_time::BrokerProcess;
use crate::result::PerfResult;
use crate::workload::{Kind, PARTITIONS_DEFAULT, Workload};

/// Which broker is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One on this machine's cores, in this process, with a temporary data directory.
    Embedded {
        /// Whether a workload will ask for its stages.
        stages: bool,
    },
    /// One that runs already.
    Address {
        /// Any of its addresses, `host:port`.
        broker: String,
        /// Its admin endpoint, for workloads that ask for its stages.
        admin: Option<String>,
    },
}

/// An open way to a broker.
pub struct Session {
    embedded: Option<EmbeddedBroker>,
    runtime: Runtime,
    client: Client,
    address: String,
    admin: Option<String>,
    process: BrokerProcess,
    topics_made: std::cell::Cell<u32>,
}

/// Where a run sends to or reads from.
pub(crate) struct UsedTopic {
    pub(crate) name: String,
    pub(crate) partitions: u32,
    pub(crate) is_made: bool,
    /// Whether the run may write to it although it holds records, and deletes it afterwards.
    pub(crate) is_own: bool,
    pub(crate) description: TopicDescription,
}

impl UsedTopic {
    /// Records that can be read, and the topic's size on disk in bytes.
    pub(crate) fn size(&self) -> (u64, u64) {
        let partitions = self.description.partitions.iter();
        let sizes = partitions.map(|partition| {
            let records = partition
                .high_watermark
                .saturating_sub(partition.log_start_offset);
            (records, partition.size_bytes)
        });
        sizes.fold((0, 0), |(records, bytes), (more, more_bytes)| {
            (records + more, bytes + more_bytes)
        })
    }

    /// The value of one of its settings.
    pub(crate) fn setting(&self, key: &str) -> Option<&str> {
        let entry = self
            .description
            .configs
            .iter()
            .find(|entry| entry.key == key);
        entry.map(|entry| entry.value.as_str())
    }
}

impl Session {
    /// Starts the embedded broker, or connects to the one that is there.
    ///
    /// # Errors
    /// The broker does not start, or nobody answers at the address.
    pub fn open(target: &Target) -> Result<Self, PerfError> {
        let (embedded, address, admin) = match target {
            Target::Embedded { stages } => {
                let embedded = EmbeddedBroker::start(*stages)?;
                let (address, admin) = (embedded.address(), embedded.admin());
                (Some(embedded), address, admin)
            }
            Target::Address { broker, admin } => (None, broker.clone(), admin.clone()),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("perf")
            .enable_all()
            .build();
        let runtime = runtime.map_err(PerfError::Threads)?;
        let client = Client::builder()
            .bootstrap([address.as_str()])
            .client_name("corelane-perf");
        let client = runtime.block_on(client.connect())?;
        let process = match &embedded {
            Some(_) => BrokerProcess::Embedded,
            None => {
                let resolved = address
                    .to_socket_addrs()
                    .ok()
                    .and_then(|mut all| all.next());
                resolved.map_or(BrokerProcess::Unknown, BrokerProcess::find)
            }
        };
        Ok(Self {
            embedded,
            runtime,
            client,
            address,
            admin,
            process,
            topics_made: std::cell::Cell::new(0),
        })
    }

    /// Runs a load and says what came of it.
    ///
    /// # Errors
    /// A workload that cannot work; what kept it from being run at all. Records that were refused or lost are in the
    /// result.
    pub fn run(
        &self,
        workload: &Workload,
        control: &mut Control<'_>,
    ) -> Result<PerfResult, PerfError> {
        workload.check()?;
        if workload.stages {
            self.admin()?;
        }
        (control.observe)(&Progress::of(Phase::Prepare));
        let topic = self.runtime.block_on(self.prepare(workload))?;
        let mut result = engine::run(self, workload, &topic, control);
        if topic.is_own {
            let delete = self.client.admin();
            let deleted = self.runtime.block_on(delete.delete_topic(&topic.name));
            // That is no reason to lose what was measured; the result says it.
            if let Ok(result) = &mut result {
                result.manifest.topic.kept = deleted.is_err();
            }
        }
        result
    }

    /// Ends what was started.
    ///
    /// # Errors
    /// The embedded broker did not end in order.
    pub fn close(self) -> Result<(), PerfError> {
        drop(self.client);
        drop(self.runtime);
        self.embedded.map_or(Ok(()), EmbeddedBroker::stop)
    }

    /// The topic of a run, made if it is absent.
    async fn prepare(&self, workload: &Workload) -> Result<UsedTopic, PerfError> {
        let admin = self.client.admin();
        let name = workload
            .topic
            .clone()
            .unwrap_or_else(|| self.own_name(workload.kind));
        let mut is_made = false;
        let description = match admin.describe_topics([&*name]).await {
            Ok(description) => description,
            Err(error) if error.code() == Some(ErrorCode::UnknownTopic) => {
                let partitions = workload.partitions.unwrap_or(PARTITIONS_DEFAULT);
                admin
                    .create_topic(NewTopic::new(&*name, partitions))
                    .await?;
                is_made = true;
                admin.describe_topics([&*name]).await?
            }
            Err(error) => return Err(error.into()),
        };
        let description = description.into_iter().next();
        let description = description.expect("one topic was asked for");
        let topic = UsedTopic {
            partitions: description.partitions.len() as u32,
            is_own: is_made && workload.topic.is_none(),
            name,
            is_made,
            description,
        };
        check_fits(workload, &topic)?;
        Ok(topic)
    }

    /// A name that no other run has.
    fn own_name(&self, kind: Kind) -> String {
        let count = self.topics_made.get();
        self.topics_made.set(count + 1);
        format!(
            "perf-{}-{:04x}-{}-{count}",
            kind.name(),
            self.tag(),
            std::process::id()
        )
    }

    /// Tells the records of this session from those of others.
    pub(crate) fn tag(&self) -> u16 {
        use std::hash::{BuildHasher, Hasher};
        std::hash::RandomState::new().build_hasher().finish() as u16
    }

    /// What the manifest says of broker and topic.
    pub(crate) fn broker(&self) -> Result<manifest::Broker, PerfError> {
        let (version, cluster) = self.runtime.block_on(async {
            let version = self.client.broker_version().await?;
            Ok::<_, PerfError>((version, self.client.admin().describe_cluster().await?))
        })?;
        Ok(manifest::Broker {
            address: self.address.clone(),
            embedded: self.embedded.is_some(),
            version,
            cores: cluster
                .brokers
                .iter()
                .map(|broker| broker.cores.len())
                .sum(),
            settings: self.embedded.as_ref().map(|_| EmbeddedBroker::settings()),
        })
    }

    pub(crate) fn data_dir(&self) -> Option<&std::path::Path> {
        self.embedded.as_ref().map(EmbeddedBroker::data_dir)
    }

    /// How much room the broker's disk has, where that can be told.
    pub(crate) fn room(&self) -> Option<String> {
        self.embedded.as_ref().and_then(EmbeddedBroker::room)
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Where the broker's stages are asked for.
    ///
    /// # Errors
    /// `Workload` if nobody has said that.
    pub(crate) fn admin(&self) -> Result<&str, PerfError> {
        self.admin.as_deref().ok_or_else(|| {
            PerfError::Workload(
                "--stages are asked of the broker's admin endpoint: name it with --admin HOST:PORT (its admin.listen, \
                 127.0.0.1:9600 unless configured)"
                    .to_owned(),
            )
        })
    }

    pub(crate) fn process(&self) -> BrokerProcess {
        self.process
    }
}

/// What the topic says to a workload, before anything is sent.
fn check_fits(workload: &Workload, topic: &UsedTopic) -> Result<(), PerfError> {
    /// What a batch of one record takes on top of its value, generously.
    const OVERHEAD_BYTES: u64 = 512;
    let refuse = |what: String| Err(PerfError::Workload(what));
    let name = &topic.name;
    match workload.partitions {
        Some(partitions) if partitions != topic.partitions => {
            return refuse(format!(
                "topic {name} has {} partitions and not {partitions}; leave out --partitions, or name another --topic",
                topic.partitions
            ));
        }
        _ => {}
    }
    let largest = topic
        .setting("max.message.bytes")
        .and_then(|value| value.parse::<u64>().ok());
    match largest {
        Some(largest)
            if workload.kind != Kind::Consume
                && u64::from(workload.record_size) + OVERHEAD_BYTES > largest =>
        {
            refuse(format!(
                "topic {name} takes batches of at most {largest} bytes (max.message.bytes), and --record-size is {}",
                workload.record_size
            ))
        }
        _ => Ok(()),
    }
}

/// A topic's settings that are not the defaults.
pub(crate) fn unusual(topic: &UsedTopic) -> Vec<String> {
    let configs = topic.description.configs.iter();
    let unusual = configs.filter(|entry| entry.source != ConfigSource::Default);
    unusual
        .map(|entry| format!("{}={}", entry.key, entry.value))
        .collect()
}
