//! One simulated machine: a disk, a wall clock, and the process of a broker, if it runs.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use corelane_broker::config::BrokerConfig;
use corelane_broker::lane::{Mail, Now};
use corelane_protocol::{Timestamp, TopicPartition};
use corelane_storage::disk::memory::{Latency, MemoryDisk};
use corelane_storage::testing::{Clock, Executor, Random};

use crate::process::{Process, ProcessParts};

/// The wall clock at the beginning of every run, ms.
const WALL_MS: i64 = 1_700_000_000_000;

/// Mail from one core to another, on its way.
#[derive(Default)]
pub(crate) struct MailQueue {
    pub(crate) mail: VecDeque<Mail>,
    /// When the last of it arrives.
    pub(crate) last_us: u64,
}

pub(crate) struct Machine {
    pub(crate) disk: MemoryDisk,
    /// Runs the operations of the disk, which go on while a core stands still.
    pub(crate) device: Executor,
    pub(crate) process: Option<Process>,
    pub(crate) config: Arc<BrokerConfig>,
    pub(crate) random: Random,
    /// Processes so far.
    pub(crate) lives: u32,
    /// Cores of the next process.
    pub(crate) cores: u16,
    pub(crate) wall_offset_ms: i64,
    /// By sender and receiver.
    pub(crate) mail: Vec<Vec<MailQueue>>,
    /// A start is planned.
    pub(crate) is_start_planned: bool,
    /// This life began when everything was mended.
    pub(crate) is_life_healed: bool,
    /// Something has failed in this life that only a restart mends.
    pub(crate) wants_restart: bool,
    /// A fault has struck an operation of this life.
    pub(crate) was_struck: bool,
    /// A write or flush has failed since the machine was started: what its caches say of the device is not to be
    /// trusted, so that the next restart of the broker is one of the machine.
    pub(crate) flush_failed: bool,
    /// The power is lost once the broker serves and so many writes of its journals have completed.
    pub(crate) power_lost_after_writes: Option<u32>,
    /// Only those writes count beside which another one is in flight.
    pub(crate) power_lost_in_between: bool,
    /// It has served at least once.
    pub(crate) has_served: bool,
    /// The leader epochs that its partitions had when it last began to serve.
    pub(crate) epochs: BTreeMap<TopicPartition, u32>,
    latency: Latency,
    is_slow: bool,
}

impl Machine {
    pub(crate) fn new(
        clock: Clock,
        config: BrokerConfig,
        cores: u16,
        (base_us, flush_us): (u64, u64),
        mut random: Random,
    ) -> Self {
        let device = Executor::new(random.next_u64()).without_a_word();
        let latency = Latency {
            clock,
            base_us,
            flush_us,
            mib_us: 500,
            slow_one_in: 200,
            slow_us_max: 20_000,
        };
        let machine = Self {
            disk: MemoryDisk::new(&device),
            device,
            process: None,
            config: Arc::new(config),
            random,
            lives: 0,
            cores,
            wall_offset_ms: 0,
            mail: Vec::new(),
            is_start_planned: false,
            is_life_healed: false,
            wants_restart: false,
            was_struck: false,
            flush_failed: false,
            power_lost_after_writes: None,
            power_lost_in_between: false,
            has_served: false,
            epochs: BTreeMap::new(),
            latency,
            is_slow: false,
        };
        machine.prepare_disk();
        machine
    }

    fn prepare_disk(&self) {
        let mut latency = self.latency.clone();
        if self.is_slow {
            latency.base_us = latency.base_us * 8 + 1_000;
            latency.flush_us = latency.flush_us * 8 + 10_000;
            latency.slow_one_in = 20;
            latency.slow_us_max = 500_000;
        }
        self.disk.set_latency(Some(latency));
        self.disk.start_trace();
    }

    pub(crate) fn set_slow(&mut self, is_slow: bool) {
        self.is_slow = is_slow;
        self.prepare_disk();
    }

    pub(crate) fn now(&self, now_us: u64) -> Now {
        Now {
            wall: Timestamp::new(WALL_MS + self.wall_offset_ms + (now_us / 1000) as i64),
            monotonic_us: now_us + 1_000_000,
        }
    }

    /// Starts a process.
    pub(crate) fn start(&mut self) {
        assert!(self.process.is_none(), "one process at a time");
        self.lives += 1;
        self.wants_restart = false;
        self.was_struck = false;
        let cores = usize::from(self.cores);
        let queues = || (0..cores).map(|_| MailQueue::default()).collect();
        self.mail = (0..cores).map(|_| queues()).collect();
        self.process = Some(Process::start(ProcessParts {
            life: self.lives,
            cores: self.cores,
            disk: self.disk.clone(),
            config: Arc::clone(&self.config),
            random: self.random.fork(),
        }));
    }

    /// The process is gone; what it had written stays.
    pub(crate) fn kill(&mut self) {
        if self.flush_failed {
            return self.lose_power();
        }
        self.end_process();
        self.disk.kill(self.random.next_u64());
        self.prepare_disk();
    }

    /// The power is gone; what was not flushed may be lost.
    pub(crate) fn lose_power(&mut self) {
        self.flush_failed = false;
        let image = self.disk.crash(self.random.next_u64());
        self.end_process();
        self.device = Executor::new(self.random.next_u64()).without_a_word();
        self.disk = MemoryDisk::from_image(&self.device, &image);
        self.prepare_disk();
    }

    /// The process has ended by itself.
    pub(crate) fn end_process(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
        self.device.crash();
    }
}
