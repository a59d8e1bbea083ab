//! Applies metadata records on this core: the image, the partitions, and what the stores must do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use corelane_protocol::{ApiError, ErrorCode, Offset, PartitionIndex, TopicId, TopicPartition};
use corelane_storage::disk::Disk;

use super::meters::Traffic;
use super::partitions::{LocalPartition, LocalState, Place};
use super::slab::Key;
use super::{Effect, Lane, Mail, Now, StoreTask, TaskFailure, Topology};
use crate::metadata::{EffectiveSettings, MetadataImage, MetadataRecord, Topic, is_internal};
use corelane_storage::store::{LogConfig, LogState};

/// How long a store that had no room is left alone, in µs.
const RETRY_US: u64 = 1_000_000;

/// Records that are applied and that stores still follow.
#[derive(Default)]
pub(super) struct PendingRecords {
    tasks: u64,
    running: BTreeMap<u64, RunningTask>,
    /// By position: tasks that are running, and what failed.
    positions: BTreeMap<u64, (usize, Option<String>)>,
    /// What stores had no room for. Whoever asked was told, and it is tried again until there is.
    refused: Vec<RunningTask>,
    /// When it is tried again, monotonic µs.
    retry_us: Option<u64>,
}

/// Something that a store does because of records.
struct RunningTask {
    /// The position of the records, until their command was answered.
    position: Option<u64>,
    store: usize,
    task: StoreTask,
    /// The partitions that it makes.
    makes: Vec<Key>,
}

impl PendingRecords {
    /// Whether no store is at work. What one had no room for does not count.
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// When stores are to be asked again, monotonic µs.
    pub(super) fn retry_us(&self) -> Option<u64> {
        self.retry_us
    }
}

/// A topic with partitions that clients are not told of yet.
pub(super) struct Growing {
    /// How many they are told of.
    pub(super) shown: usize,
    /// The position of the records that made the others.
    position: u64,
}

/// Partitions that one store is to make.
#[derive(Default)]
struct Creations {
    wanted: Vec<(TopicPartition, LogConfig)>,
    keys: Vec<Key>,
}

/// The settings of a partition's log. One that is only compacted loses nothing by its age or size.
pub(super) fn log_config(settings: &EffectiveSettings) -> LogConfig {
    let policy = settings.cleanup_policy;
    let bound = |limit: Option<u64>| limit.filter(|_| policy.deletes());
    LogConfig {
        segment_bytes: settings.segment_bytes,
        flush_messages: settings.flush_messages,
        flush_ms: settings.flush_ms,
        batch_bytes_max: settings.max_message_bytes,
        segment_ms: Some(settings.segment_ms),
        retention_ms: bound(settings.retention_ms),
        retention_bytes: bound(settings.retention_bytes),
        guard: settings.guard.clone(),
        compaction: policy.compacts().then_some(settings.compaction),
    }
}

impl<D: Disk> Lane<D> {
    /// Takes over the image that the log added up to at start.
    pub(super) fn adopt_image(&mut self, image: MetadataImage) {
        for topic in image.topics() {
            let (places, made) = self.place_partitions(topic, 0);
            self.partitions.add_topic(topic.id, places);
            for key in made {
                self.partition_made(key, None);
            }
        }
        self.image = image;
        self.plan_store_clock();
        self.note_unfollowed();
    }

    /// What stores had no room for when they were made to hold what the image says: it is tried again at once.
    fn note_unfollowed(&mut self) {
        let mut missing: BTreeMap<usize, Creations> = BTreeMap::new();
        for (key, partition) in self.partitions.locals() {
            let store = &self.stores[partition.store];
            if store.unfit().is_none() && store.partition_handle(partition.id).is_none() {
                let creations = missing.entry(partition.store).or_default();
                let config = log_config(&partition.settings);
                creations.wanted.push((partition.id, config));
                creations.keys.push(key);
            }
        }
        let creations = missing.into_iter().map(|(store, creations)| {
            let task = StoreTask::CreatePartitions(creations.wanted);
            (store, task, creations.keys)
        });
        let mut tasks: Vec<_> = creations.collect();
        for (index, store) in self.stores.iter().enumerate() {
            let held = store.partitions();
            let mut gone: Vec<_> = held.iter().map(|partition| partition.topic).collect();
            gone.dedup();
            gone.retain(|topic| store.unfit().is_none() && self.image.topic(*topic).is_none());
            let deletions = gone.into_iter().map(StoreTask::DeleteTopic);
            tasks.extend(deletions.map(|task| (index, task, Vec::new())));
        }
        let pending = &mut self.pending_records;
        pending.refused = tasks
            .into_iter()
            .map(|(store, task, makes)| RunningTask {
                position: None,
                store,
                task,
                makes,
            })
            .collect();
        pending.retry_us = (!pending.refused.is_empty()).then_some(0);
    }

    /// Applies the next records of the log; reports once the stores have followed.
    pub(super) fn apply_records(&mut self, position: u64, records: &[MetadataRecord]) {
        // Topics that are new or have more partitions, and the first of these.
        let mut grown = Vec::new();
        let mut tasks: Vec<(usize, StoreTask, Vec<Key>)> = Vec::new();
        for record in records {
            // The controller made the records from an equal image.
            self.image
                .apply(record)
                .expect("a record of the log fits the image before it");
            match record {
                MetadataRecord::TopicCreated { id, .. } => {
                    self.hidden.insert(*id, position);
                    self.partitions.add_topic(*id, Vec::new());
                    grown.push((*id, 0));
                }
                MetadataRecord::TopicExtended { id, .. } => {
                    let shown = self.partitions.places(*id).len();
                    self.growing.insert(*id, Growing { shown, position });
                    grown.push((*id, shown));
                }
                MetadataRecord::TopicDeleted { id } => self.remove_topic(*id, &mut tasks),
                MetadataRecord::TopicConfigChanged { id, .. } => self.follow_settings(*id),
                MetadataRecord::PartitionsPlaced { .. }
                | MetadataRecord::FeatureLevel { .. }
                | MetadataRecord::ProducerIdsReserved { .. } => {}
            }
        }
        assert_eq!(
            self.image.records_applied(),
            position,
            "no record is missing"
        );
        for (id, first) in grown {
            self.add_partitions(id, first, &mut tasks);
        }
        self.plan_store_clock();
        if tasks.is_empty() {
            return self.report_applied(position, None);
        }
        self.pending_records
            .positions
            .insert(position, (tasks.len(), None));
        for (store, task, makes) in tasks {
            self.begin_task(RunningTask {
                position: Some(position),
                store,
                task,
                makes,
            });
        }
    }

    fn begin_task(&mut self, running: RunningTask) {
        let pending = &mut self.pending_records;
        pending.tasks += 1;
        let token = pending.tasks;
        let (store, task) = (running.store, running.task.clone());
        pending.running.insert(token, running);
        self.effects
            .push_back(Effect::StoreTask { token, store, task });
    }

    /// Asks stores again for what they had no room for.
    pub(super) fn retry_tasks(&mut self) {
        self.pending_records.retry_us = None;
        for refused in std::mem::take(&mut self.pending_records.refused) {
            self.begin_task(refused);
        }
    }

    /// A store has done a task.
    pub fn store_task_done(&mut self, now: Now, token: u64, result: Result<(), TaskFailure>) {
        self.meters.begin_event(now);
        let running = self.pending_records.running.remove(&token);
        let mut running = running.expect("a task is reported once");
        let failure = result.as_ref().err().map(TaskFailure::to_string);
        for key in &running.makes {
            self.partition_made(*key, failure.clone());
        }
        let position = running.position.take();
        if matches!(result, Err(TaskFailure::DiskFull(_))) && self.is_still_wanted(&running) {
            let pending = &mut self.pending_records;
            pending.refused.push(running);
            pending.retry_us = Some(now.monotonic_us + RETRY_US);
        }
        if let Some(position) = position {
            self.task_followed(position, failure);
        }
        self.finish_event(now);
    }

    /// A task of the records at `position` was done, or failed for now.
    fn task_followed(&mut self, position: u64, problem: Option<String>) {
        let entry = self.pending_records.positions.get_mut(&position);
        let (remaining, failure) = entry.expect("its tasks were counted");
        *remaining -= 1;
        if failure.is_none() {
            *failure = problem;
        }
        if *remaining == 0 {
            let failure = failure.take();
            self.pending_records.positions.remove(&position);
            self.report_applied(position, failure);
        }
    }

    /// Whether a task that could not be done is to be done later: not what was meant for a topic that is
    /// deleted by now.
    fn is_still_wanted(&self, task: &RunningTask) -> bool {
        match &task.task {
            StoreTask::DeleteTopic(_) => true,
            StoreTask::CreatePartitions(_) => {
                let mut makes = task.makes.iter();
                makes.any(|key| self.partitions.local(*key).is_some())
            }
        }
    }

    fn report_applied(&mut self, position: u64, failure: Option<String>) {
        if self.core == Topology::CONTROLLER {
            self.core_applied(position, failure);
        } else {
            self.post(
                Topology::CONTROLLER,
                Mail::MetadataApplied { position, failure },
            );
        }
    }

    /// Every core has applied these records: clients may know of the topics and partitions.
    pub(super) fn show_topics(&mut self, position: u64) {
        self.hidden.retain(|_, created| *created > position);
        self.growing
            .retain(|_, growing| growing.position > position);
        self.groups.topics_changed = true;
    }

    /// Takes in a topic's partitions from `first` on, and lets stores make those of this core.
    fn add_partitions(
        &mut self,
        id: TopicId,
        first: usize,
        tasks: &mut Vec<(usize, StoreTask, Vec<Key>)>,
    ) {
        let topic = self.image.topic(id).expect("it has just grown").clone();
        let (places, made) = self.place_partitions(&topic, first);
        self.partitions.add_places(id, places);
        let mut stores: BTreeMap<usize, Creations> = BTreeMap::new();
        for key in made {
            let partition = self.partitions.local(key).expect("just placed");
            let creations = stores.entry(partition.store).or_default();
            let config = log_config(&partition.settings);
            creations.wanted.push((partition.id, config));
            creations.keys.push(key);
        }
        for (store, creations) in stores {
            let task = StoreTask::CreatePartitions(creations.wanted);
            tasks.push((store, task, creations.keys));
        }
    }

    /// A topic's settings have changed: from here on they apply to its partitions on this core. What was
    /// appended before is answered as was promised when it came.
    fn follow_settings(&mut self, id: TopicId) {
        let topic = self.image.topic(id).expect("just changed");
        let settings = topic.effective(&self.config);
        for key in self.partitions.local_keys_of(id) {
            let partition = self.partitions.local_mut(key).expect("just listed");
            partition.settings = settings.clone();
            let store = &self.stores[partition.store];
            // A store that is out of service, or could not make the partition, has nothing to follow with.
            let configured = store.configure(partition.id, log_config(&settings));
            if let Err(error) = configured {
                tracing::warn!(partition = %partition.id, %error, "settings are not followed");
            }
        }
    }

    fn remove_topic(&mut self, id: TopicId, tasks: &mut Vec<(usize, StoreTask, Vec<Key>)>) {
        self.hidden.remove(&id);
        self.growing.remove(&id);
        self.groups.topics_changed = true;
        let mut stores = Vec::new();
        let removed = self.partitions.remove_topic(id);
        let mut refused = std::mem::take(&mut self.pending_records.refused);
        refused.retain(|task| self.is_still_wanted(task));
        self.pending_records.refused = refused;
        for partition in removed {
            if !stores.contains(&partition.store) {
                stores.push(partition.store);
            }
            let error = ApiError::new(ErrorCode::UnknownTopic, "the topic was deleted");
            for waiting in partition.produces {
                self.settle_produce(waiting.produce, waiting.entry, Err(error.clone()));
                self.finish_produce(waiting.produce);
            }
            for fetch in partition.fetches {
                self.unpark_fetch(fetch);
            }
        }
        for store in stores {
            // A store that is out of service hears of it when it comes back: it is opened, and has a topic
            // that the metadata does not know.
            if self.stores[store].unfit().is_none() {
                tasks.push((store, StoreTask::DeleteTopic(id), Vec::new()));
            }
        }
    }

    /// The places of a topic's partitions from `first` on, and the keys of those that this core owns.
    fn place_partitions(&mut self, topic: &Topic, first: usize) -> (Vec<Place>, Vec<Key>) {
        let settings = topic.effective(&self.config);
        let mine: Vec<_> = self.topology.stores_of(self.core).collect();
        let mut made = Vec::new();
        let mut places = Vec::with_capacity(topic.partitions.len() - first);
        for (index, placement) in (0..).zip(&topic.partitions).skip(first) {
            let core = self.topology.core_of(placement.store);
            let core = core.expect("partitions are placed in stores that exist");
            if core != self.core {
                places.push(Place::Remote(core));
                continue;
            }
            let store = mine.iter().position(|store| *store == placement.store);
            let key = self.partitions.add_local(LocalPartition {
                id: TopicPartition::new(topic.id, PartitionIndex::new(index)),
                is_internal: is_internal(topic.name.as_str()),
                store: store.expect("the store is one of this core's"),
                handle: None,
                leader_epoch: placement.leader_epoch,
                settings: settings.clone(),
                state: LocalState::Creating,
                log_start: Offset::ZERO,
                produces: VecDeque::new(),
                fetches: BTreeSet::new(),
                traffic: Traffic::default(),
            });
            made.push(key);
            places.push(Place::Local(key));
        }
        (places, made)
    }

    /// A partition's store has it, or could not make it.
    fn partition_made(&mut self, key: Key, failure: Option<String>) {
        let Some(partition) = self.partitions.local_mut(key) else {
            return;
        };
        let store = &self.stores[partition.store];
        if failure.is_none() {
            // Settings may have changed while the store had no room for the partition. One that it does not
            // have is reported below.
            let _ = store.configure(partition.id, log_config(&partition.settings));
        }
        partition.state = match failure {
            Some(problem) => LocalState::Failed(problem),
            None => match store.describe(partition.id) {
                Ok(description) => {
                    partition.handle = store.partition_handle(partition.id);
                    partition.log_start = description.offsets.log_start;
                    match description.state {
                        LogState::Online => LocalState::Online,
                        LogState::Failed(reason) => LocalState::Failed(reason.to_string()),
                    }
                }
                Err(error) => LocalState::Failed(error.to_string()),
            },
        };
        self.groups.topics_changed |= partition.is_internal;
    }

    /// Whether, how long and how often stores are told the time follows from the topics.
    fn plan_store_clock(&mut self) {
        let settings = self
            .image
            .topics()
            .map(|topic| topic.effective(&self.config));
        self.store_clock
            .follow(settings.map(|settings| settings.flush_ms));
    }
}

#[cfg(test)]
mod tests {
    use corelane_storage::store::CompactionConfig;

    use super::*;
    use crate::config::BrokerConfig;
    use crate::metadata::TopicSettings;

    #[test]
    fn the_policy_says_whether_a_log_is_deleted_from_and_compacted() {
        let config = |policy: &str| {
            let pairs = [
                ("cleanup.policy", policy),
                ("retention.ms", "1000"),
                ("retention.bytes", "5000"),
                ("min.compaction.lag.ms", "70"),
                ("delete.retention.ms", "80"),
                ("min.cleanable.dirty.ratio", "0.9"),
            ];
            let settings = TopicSettings::parse(pairs).expect("valid settings");
            let config = log_config(&settings.effective(&BrokerConfig::default()));
            (
                config.retention_ms,
                config.retention_bytes,
                config.compaction,
            )
        };
        let compaction = Some(CompactionConfig {
            min_lag_ms: 70,
            delete_retention_ms: 80,
            dirty_ratio_min: 900,
        });
        assert_eq!(config("delete"), (Some(1000), Some(5000), None));
        assert_eq!(config("compact"), (None, None, compaction));
        let both = (Some(1000), Some(5000), compaction);
        assert_eq!(config("compact,delete"), both);
    }
}
