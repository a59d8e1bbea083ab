//! The innocent client, and what is asserted of the broker while others are hostile.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use corelane_broker::config::BrokerConfig;
use corelane_broker::runtime::{Running, serve};
use corelane_protocol::request::{
    Acks, ListOffsetsEntry, ListOffsetsRequest, OffsetPosition, ProduceEntry, ProduceRequest,
};
use corelane_protocol::response::TopicPartitions;
use corelane_protocol::{Request, RequestFlags, Response, TopicPartition};
use tempfile::TempDir;

use crate::support::{Client, batch, config, partition, shut_down};

/// Memory of a core, in bytes.
const PER_CORE_BYTES: u64 = 96 << 20;

/// What the process has beside what the ledgers count, in bytes: rings, executors, connections, requests in
/// flight as they are decoded, and the hostile clients themselves, which live in the same process.
const BESIDE_LEDGERS_BYTES: u64 = 160 << 20;

const CORES: u64 = 2;

/// One scenario at a time: memory is that of the process.
static TURN: Mutex<()> = Mutex::new(());

/// A broker under attack.
pub(crate) struct Scene {
    pub(crate) broker: Running,
    pub(crate) topic: TopicPartitions,
    memory_before: u64,
    _dir: TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// Limits that a test reaches.
fn hostile_config(dir: &Path) -> BrokerConfig {
    let mut config = config(dir);
    config.memory.per_core_bytes = PER_CORE_BYTES;
    config.memory.read_cache_bytes = 8 << 20;
    config.journal.file_bytes = 20 << 20;
    config.journal.files_max = 3;
    config.limits.core_in_flight_bytes_max = 32 << 20;
    config.limits.connection_in_flight_bytes_max = 16 << 20;
    config.limits.reply_timeout_ms = 3000;
    config
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut BrokerConfig)) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = hostile_config(dir.path());
        change(&mut config);
        let memory_before = resident_bytes();
        let broker = serve(config).unwrap_or_else(|error| panic!("it does not start: {error}"));
        let topic = Client::connect(broker.bootstrap()).create_topic("innocent", 4);
        Self {
            broker,
            topic,
            memory_before,
            _dir: dir,
            _turn: turn,
        }
    }

    pub(crate) fn place(&self, index: u32) -> TopicPartition {
        partition(&self.topic, index)
    }

    /// Runs an attack until an innocent client has produced to every partition through both ports, `rounds`
    /// times, and asserts that memory stays within bounds all the while.
    pub(crate) fn withstands<T>(&self, rounds: u32, attack: impl FnOnce() -> T) -> T {
        let mut witness = Witness::new(self);
        witness.produce(1);
        let outcome = attack();
        witness.produce(rounds);
        witness.finish();
        outcome
    }

    /// What the process holds is within what was configured.
    pub(crate) fn memory_is_bounded(&self) {
        let more = resident_bytes().saturating_sub(self.memory_before);
        let most = CORES * PER_CORE_BYTES + BESIDE_LEDGERS_BYTES;
        assert!(more <= most, "{} MiB, at most {}", more >> 20, most >> 20);
    }

    /// Reads everything back, and ends the broker.
    pub(crate) fn end(self) {
        let ends = self.ends();
        for (index, end) in (0..).zip(ends) {
            let mut client = Client::connect(self.broker.cores()[0]);
            let values = client.read_all(self.place(index));
            assert_eq!(values.len() as u64, end);
        }
        shut_down(self.broker);
    }
}

/// Ends an attack that runs beside the witness, also where an assertion fails.
pub(crate) struct End<'a>(pub(crate) &'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A client that keeps to the rules, on a connection to each of the broker's ports.
pub(crate) struct Witness<'a> {
    scene: &'a Scene,
    clients: Vec<Client>,
    produced: [u64; 4],
}

impl<'a> Witness<'a> {
    pub(crate) fn new(scene: &'a Scene) -> Self {
        let cores = scene.broker.cores().iter().copied();
        let ports = cores.chain([scene.broker.bootstrap()]);
        Self {
            scene,
            clients: ports.map(Client::connect).collect(),
            produced: scene.ends(),
        }
    }

    /// Produces to every partition through every port, and each record is acknowledged in its place.
    pub(crate) fn produce(&mut self, rounds: u32) {
        for round in 0..rounds {
            for (number, client) in self.clients.iter_mut().enumerate() {
                for index in 0..4 {
                    let value = format!("{number}/{round}");
                    let batch = batch(&[value.as_bytes(), &[7; 900]]);
                    let receipt = patiently(client, self.scene.place(index), &batch);
                    assert_eq!(receipt, self.produced[index as usize]);
                    self.produced[index as usize] += 2;
                }
            }
            self.scene.memory_is_bounded();
        }
    }

    /// Everything that was acknowledged is there.
    pub(crate) fn finish(self) {
        assert_eq!(self.scene.ends(), self.produced);
    }
}

impl Scene {
    /// Records of each partition so far.
    fn ends(&self) -> [u64; 4] {
        let mut client = Client::connect(self.broker.bootstrap());
        [0, 1, 2, 3].map(|index| end_of(&mut client, self.place(index)))
    }
}

/// Where a partition ends, asked again as long as the broker asks for patience.
fn end_of(client: &mut Client, partition: TopicPartition) -> u64 {
    let request = Request::ListOffsets(ListOffsetsRequest {
        entries: vec![ListOffsetsEntry {
            partition,
            position: OffsetPosition::Latest,
        }],
    });
    for _ in 0..1500 {
        let (header, body) = client.call(&request, RequestFlags::default());
        let response = Response::decode(&header, &body).expect("sound");
        let Ok(Response::ListOffsets(mut listed)) = response else {
            panic!("{response:?}");
        };
        match listed.entries.remove(0).result {
            Ok(listed) => return listed.offset.get(),
            Err(error) => assert!(error.code.retriable(), "an innocent client: {error}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("an innocent client is refused for half a minute");
}

/// Produces, and again as long as the broker asks for patience, as a client library does; the offset.
pub(crate) fn patiently(client: &mut Client, partition: TopicPartition, batch: &[u8]) -> u64 {
    for attempt in 0..1500 {
        let request = Request::Produce(ProduceRequest {
            acks: Acks::All,
            timeout_ms: 30_000,
            entries: vec![ProduceEntry {
                partition,
                resume: attempt > 0,
                batch,
            }],
        });
        client.send(&request, RequestFlags::default());
        match client.receive_receipt() {
            Ok(receipt) => return receipt.base_offset.get(),
            Err(error) => assert!(error.code.retriable(), "an innocent client: {error}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("an innocent client is refused for half a minute");
}

/// Bytes of this process in memory.
pub(crate) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").expect("procfs");
    let pages = status.split(' ').nth(1).expect("a second field");
    pages.parse::<u64>().expect("a number") * 4096
}
