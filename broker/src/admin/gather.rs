//! Asks every core for its numbers and puts them together.
//!
//! Owns the lines to the cores, and how long a core may take. What was gathered is used again for a while, so that
//! however often clients ask, the cores and this thread spend a small share of their time on it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use corelane_protocol::{PartitionIndex, TopicId, TopicPartition};
use corelane_storage::ring::RingAddress;
use futures_util::future::join_all;
use tokio::time::timeout;

use super::ask::{Ask, AskLine, CoreAnswer};
use super::cores::{core_state, store_state};
use super::groups::{Ends, ask_groups};
use super::query::Wanted;
use super::state::{BrokerState, CompactionState, PartitionState, Phase, ReaderState, TopicState};
use super::summary::{Busiest, Summary};
use super::{LOG_LINES_LOST, exposition, process};
use crate::lane::{GroupsPiece, PartitionPiece, PartitionsPiece};
use crate::runtime::Clock;

/// How long a core may take for an answer before it counts as stuck.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// What was gathered is used again for at least so long …
const REUSE_US_MIN: u64 = 100_000;

/// … and for so many times as long as it took to gather and to show it …
const REUSE_FACTOR: u64 = 10;

/// … but not for longer than this.
const REUSE_US_MAX: u64 = 1_000_000;

/// What the admin thread is told once the broker serves.
pub(crate) struct Serving {
    pub(crate) about: About,
    /// Every core's ring, by core number.
    pub(crate) addresses: Vec<RingAddress>,
}

/// What does not change while a broker runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct About {
    pub(crate) broker_id: u32,
    pub(crate) cluster_id: String,
    pub(crate) bootstrap: String,
    pub(crate) started_ms: i64,
    pub(crate) partition_series_max: usize,
}

/// The admin thread's way to the cores.
pub(crate) struct Gatherer {
    lines: Vec<AskLine>,
    serving: Arc<OnceLock<Serving>>,
    clock: Clock,
    last: Option<Gathered>,
    /// The state that the last summary was made of: the next one says what happened since.
    compared: Option<Arc<BrokerState>>,
}

/// What was gathered, and how it was shown.
struct Gathered {
    state: Arc<BrokerState>,
    /// What gathering and showing it took.
    took_us: u64,
    prometheus: Option<Bytes>,
    open_metrics: Option<Bytes>,
    json: Option<Bytes>,
    /// The partitions with the most traffic, once a summary was asked for.
    busiest: Option<Busiest>,
    /// The summary that was asked for last.
    summary: Option<(Wanted, Bytes)>,
}

/// A form of what was gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Prometheus,
    OpenMetrics,
    Json,
}

impl Gatherer {
    /// `serving` is empty until the cores can be asked.
    pub(crate) fn new(lines: Vec<AskLine>, serving: Arc<OnceLock<Serving>>, clock: Clock) -> Self {
        Self {
            lines,
            serving,
            clock,
            last: None,
            compared: None,
        }
    }

    /// The lines to the cores; none answers before the broker serves.
    fn lines(&mut self) -> impl Iterator<Item = &mut AskLine> {
        if let Some(serving) = self.serving.get() {
            for (line, address) in self.lines.iter_mut().zip(&serving.addresses) {
                line.connect(address);
            }
        }
        self.lines.iter_mut()
    }

    fn about(&self) -> About {
        let serving = self.serving.get();
        serving.map_or_else(About::default, |serving| serving.about.clone())
    }

    /// The cores that do not answer.
    pub(super) async fn silent(&mut self) -> Vec<u16> {
        let pings = self.lines().map(|line| line.ask(Ask::Ping));
        let answers = join_all(pings.map(|ping| timeout(PATIENCE, ping))).await;
        let numbered = (0..).zip(answers);
        let silent = numbered.filter(|(_, answer)| !matches!(answer, Ok(Ok(()))));
        silent.map(|(core, _)| core).collect()
    }

    /// The broker's state, a moment old at most.
    pub(super) async fn state(&mut self, phase: Phase) -> Arc<BrokerState> {
        let now_us = self.clock.now().monotonic_us;
        if let Some(last) = &self.last
            && last.state.phase == phase
            && now_us - last.state.taken_us < reuse_us(last.took_us)
        {
            return last.state.clone();
        }
        let state = Arc::new(self.gather(phase).await);
        self.last = Some(Gathered {
            took_us: self.clock.now().monotonic_us - now_us,
            state: state.clone(),
            prometheus: None,
            open_metrics: None,
            json: None,
            busiest: None,
            summary: None,
        });
        state
    }

    /// The broker's state in a form, a moment old at most.
    pub(super) async fn shown(&mut self, phase: Phase, form: Shown) -> Bytes {
        self.state(phase).await;
        let began_us = self.clock.now().monotonic_us;
        let most = self.about().partition_series_max;
        let last = self.last.as_mut().expect("just gathered");
        let place = match form {
            Shown::Prometheus => &mut last.prometheus,
            Shown::OpenMetrics => &mut last.open_metrics,
            Shown::Json => &mut last.json,
        };
        if let Some(bytes) = place {
            return bytes.clone();
        }
        let state = last.state.clone();
        let bytes: Bytes = match form {
            Shown::Prometheus => exposition::prometheus(state, most).into(),
            Shown::OpenMetrics => exposition::open_metrics(state, most).into(),
            Shown::Json => serde_json::to_vec(&*state)
                .expect("plain data has a JSON form")
                .into(),
        };
        *place = Some(bytes.clone());
        last.took_us += self.clock.now().monotonic_us - began_us;
        bytes
    }

    /// The broker's state in short, a moment old at most.
    pub(super) async fn summary(&mut self, phase: Phase, wanted: &Wanted) -> Bytes {
        self.state(phase).await;
        let began_us = self.clock.now().monotonic_us;
        let last = self.last.as_mut().expect("just gathered");
        if let Some((known, bytes)) = &last.summary
            && known == wanted
        {
            return bytes.clone();
        }
        let earlier = self.compared.replace(last.state.clone());
        if let Some(earlier) = earlier.filter(|earlier| !Arc::ptr_eq(earlier, &last.state)) {
            last.busiest = Busiest::between(&earlier, &last.state);
        }
        let busiest = last.busiest.as_ref();
        let summary = Summary::new(&last.state, busiest, wanted, PATIENCE.as_millis());
        let json = serde_json::to_vec(&summary).expect("plain data has a JSON form");
        let bytes = Bytes::from(json);
        last.summary = Some((wanted.clone(), bytes.clone()));
        last.took_us += self.clock.now().monotonic_us - began_us;
        bytes
    }

    async fn gather(&mut self, phase: Phase) -> BrokerState {
        let taken_us = self.clock.now().monotonic_us;
        let asked = self.lines().map(ask_core);
        let answers = join_all(asked).await;
        let about = self.about();
        let mut state = BrokerState {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            broker_id: about.broker_id,
            cluster_id: about.cluster_id,
            bootstrap: about.bootstrap,
            phase,
            started_ms: about.started_ms,
            taken_us,
            log_lines_lost: LOG_LINES_LOST.load(Ordering::Relaxed),
            process: process::look(),
            ..BrokerState::default()
        };
        let mut topics = BTreeMap::new();
        let mut groups = Vec::new();
        let said = answers.iter().flatten();
        let mut ends = Ends::wanted_by(said.flat_map(|said| &said.groups));
        for (core, said) in (0..).zip(answers) {
            let Some(said) = said else {
                state.silent_cores.push(core);
                continue;
            };
            let answer = said.core;
            let stores = answer.lane.stores.iter();
            state
                .stores
                .extend(stores.map(|store| store_state(core, store)));
            // Every core applies the same records, one a little sooner than the other.
            let records = answer.lane.metadata_records;
            state.metadata_records = state.metadata_records.max(records);
            state.cores.push(core_state(core, *answer));
            groups.push((core, said.groups));
            for piece in said.partitions {
                ends.note(&piece);
                add_topics(&mut topics, core, piece);
            }
        }
        state.groups = ends.join(groups);
        state.stores.sort_by_key(|store| store.store);
        state.topics = topics.into_values().collect();
        state.topics.sort_by(|one, other| one.name.cmp(&other.name));
        for topic in &mut state.topics {
            topic
                .partitions
                .sort_by_key(|partition| partition.partition);
        }
        state
    }
}

/// How long something is used again that took so long to make.
fn reuse_us(took_us: u64) -> u64 {
    took_us
        .saturating_mul(REUSE_FACTOR)
        .clamp(REUSE_US_MIN, REUSE_US_MAX)
}

/// All that one core says.
struct Said {
    core: Box<CoreAnswer>,
    groups: Vec<GroupsPiece>,
    partitions: Vec<PartitionsPiece>,
}

/// All that one core says; nothing if it leaves a question unanswered.
async fn ask_core(line: &mut AskLine) -> Option<Said> {
    let core = timeout(PATIENCE, line.ask(Ask::Core)).await.ok()?.ok()?;
    // Partitions come after groups: it hardly ever seems that a group has read more than there is.
    let groups = ask_groups(line, PATIENCE).await?;
    let mut partitions = Vec::new();
    let mut next = Some(TopicPartition::new(TopicId::NIL, PartitionIndex::new(0)));
    while let Some(from) = next {
        let asked = line.ask(|answer| Ask::Partitions { from, answer });
        let piece = timeout(PATIENCE, asked).await.ok()?.ok()?;
        next = piece.next;
        partitions.push(piece);
    }
    Some(Said {
        core,
        groups,
        partitions,
    })
}

fn add_topics(topics: &mut BTreeMap<TopicId, TopicState>, core: u16, piece: PartitionsPiece) {
    for topic in piece.topics {
        let known = topics.entry(topic.id).or_insert_with(|| TopicState {
            id: topic.id.to_string(),
            name: topic.name,
            partitions: Vec::new(),
        });
        let partitions = topic.partitions.iter();
        known
            .partitions
            .extend(partitions.map(|piece| partition_state(core, piece)));
    }
}

fn partition_state(core: u16, piece: &PartitionPiece) -> PartitionState {
    let traffic = piece.traffic;
    let mut state = PartitionState {
        partition: piece.index.get(),
        core,
        store: piece.store.get(),
        batches_in: traffic.batches_in,
        duplicates_in: traffic.duplicates_in,
        records_in: traffic.records_in,
        bytes_in: traffic.bytes_in,
        records_out: traffic.records_out,
        bytes_out: traffic.bytes_out,
        ..PartitionState::default()
    };
    if let Some(log) = &piece.log {
        state.is_online = log.is_online;
        state.log_start = log.offsets.log_start.get();
        state.high_watermark = log.offsets.high_watermark.get();
        state.log_end = log.offsets.log_end.get();
        state.size_bytes = log.size_bytes;
        state.segments = log.segments as u64;
        state.damage = log.damage as u64;
        state.leader_epoch = log.leader_epoch.get();
        state.compaction = log.compaction.map(|progress| CompactionState {
            upto: progress.upto.get(),
            clean_bytes: progress.clean_bytes,
            dirty_bytes: progress.dirty_bytes,
            is_running: progress.is_running,
            is_stopped: progress.is_stopped,
        });
    }
    let readers = piece.readers.iter().map(|(name, reader)| ReaderState {
        name: name.clone(),
        position: reader.position.get(),
        expired_unread: reader.expired_unread,
    });
    state.readers = readers.collect();
    state
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::mpsc;

    use corelane_storage::ring::{PREEMPT_TIMER, Ring, RingConfig, probe};
    use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};

    use super::*;
    use crate::admin::{AskSeat, asks};

    #[test]
    fn what_was_costly_is_used_longer_but_never_long() {
        assert_eq!(reuse_us(0), 100_000);
        assert_eq!(reuse_us(30_000), 300_000);
        assert_eq!(reuse_us(5_000_000), 1_000_000);
        assert_eq!(reuse_us(u64::MAX), 1_000_000);
    }

    #[test]
    fn cores_that_cannot_be_asked_are_silent() {
        let (lines, _seats) = asks(2);
        let mut gatherer = Gatherer::new(lines, Arc::default(), Clock::start());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("an event loop");
        assert_eq!(runtime.block_on(gatherer.silent()), [0, 1]);
        let state = runtime.block_on(gatherer.state(Phase::Serving));
        assert_eq!(state.silent_cores, [0, 1]);
        assert!(state.cores.is_empty());
    }

    /// A core whose thread does not come back from something, until it is let go.
    fn stuck_core() -> (RingAddress, mpsc::Sender<()>, ExecutorJoinHandle<()>) {
        let (told, addresses) = mpsc::channel();
        let (release, released) = mpsc::channel();
        let core = LocalExecutorBuilder::new(Placement::Unbound)
            .preempt_timer(PREEMPT_TIMER)
            .io_memory(64 * 1024)
            .spawn(move || async move {
                let features = probe().expect("a kernel that the broker runs on");
                let ring = Ring::start(RingConfig::default(), &features).expect("a ring");
                told.send(ring.address()).expect("the test waits");
                let _ = released.recv();
                ring.close().await;
            })
            .expect("an executor");
        (addresses.recv().expect("it starts"), release, core)
    }

    #[test]
    fn a_core_that_stands_still_is_found_out_and_forgiven() {
        let (address, release, stuck) = stuck_core();
        let (lines, mut seats) = asks(2);
        let serving = Serving {
            about: About::default(),
            addresses: vec![address.clone(), address],
        };
        let serving = Arc::new(OnceLock::from(serving));
        let mut gatherer = Gatherer::new(lines, serving, Clock::start());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("an event loop");
        // Core 0 answers, core 1 does not look at what it is asked.
        let mut answers = |seats: &mut [AskSeat], patience: u32| {
            runtime.block_on(async {
                let mut silent = pin!(gatherer.silent());
                for _ in 0..patience {
                    for seat in &mut *seats {
                        while let Ok(Ask::Ping(answer)) = seat.pop() {
                            let _ = answer.send(());
                        }
                    }
                    let poll = timeout(Duration::from_millis(10), &mut silent).await;
                    if let Ok(silent) = poll {
                        return silent;
                    }
                }
                panic!("the gatherer waits for longer than its patience");
            })
        };
        for _ in 0..6 {
            // The first four times it waits for the core, then there is no place for another question.
            assert_eq!(answers(&mut seats[..1], 100_000), [1]);
        }
        assert_eq!(answers(&mut seats, 100_000), [0_u16; 0]);
        drop(release);
        stuck.join().expect("no panic");
    }
}
