//! The state of a broker as JSON: what `GET /v1/state` gives and `corelane top` reads.
//!
//! Plain data. Counters count from the broker's start; sizes are bytes, times microseconds unless a name says
//! otherwise. Fields are added, never given another meaning.

mod groups;

use corelane_storage::distribution::Distribution;
use serde::{Deserialize, Serialize};

pub use groups::{CoreGroupsState, GroupPartitionState, GroupState};

/// Whether the broker serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It recovers its stores.
    #[default]
    Starting,
    /// It serves.
    Serving,
    /// It ends in order: requests in flight are answered, no new ones taken.
    Draining,
}

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BrokerState {
    /// Version of the software.
    pub version: String,
    /// Number of the broker.
    pub broker_id: u32,
    /// Identity of the cluster.
    pub cluster_id: String,
    /// The address that clients start with.
    pub bootstrap: String,
    /// Whether it serves.
    pub phase: Phase,
    /// When it was started, Unix milliseconds.
    pub started_ms: i64,
    /// When this was taken, since the start: what rates are computed by.
    pub taken_us: u64,
    /// Log lines that could not be written.
    pub log_lines_lost: u64,
    /// Records of the metadata log.
    pub metadata_records: u64,
    /// The process as the kernel sees it.
    pub process: ProcessState,
    /// Cores that did not answer, by number; they are missing below.
    pub silent_cores: Vec<u16>,
    /// The cores that did, by number.
    pub cores: Vec<CoreState>,
    /// Their stores, by number.
    pub stores: Vec<StoreState>,
    /// Topics, by name.
    pub topics: Vec<TopicState>,
    /// Consumer groups, by name.
    #[serde(default)]
    pub groups: Vec<GroupState>,
}

/// The process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProcessState {
    /// CPU time of all threads.
    pub cpu_us: u64,
    /// Memory that is resident.
    pub resident_bytes: u64,
    /// Open descriptors.
    pub open_files: u64,
    /// Descriptors that may be open.
    pub open_files_max: u64,
}

/// A core.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CoreState {
    /// Its number.
    pub core: u16,
    /// CPU time of its thread.
    pub cpu_us: u64,
    /// Open connections.
    pub connections: u64,
    /// Connections that were accepted.
    pub connections_opened: u64,
    /// Connections that were refused.
    pub connections_refused: u64,
    /// Connections that were closed because a request was not finished in time.
    pub connections_timed_out: u64,
    /// Connections that were closed because the client did not read its replies in time.
    pub connections_unread: u64,
    /// Bytes received of clients.
    pub received_bytes: u64,
    /// Bytes sent to clients.
    pub sent_bytes: u64,
    /// Bytes of requests that are not answered.
    pub in_flight_bytes: u64,
    /// Bytes of replies that have not left, or are expected of the disk.
    pub reply_bytes: u64,
    /// Produces that wait, for a flush or for another core.
    pub waiting_produces: u64,
    /// Fetches that wait, for records, the disk or their client.
    pub waiting_fetches: u64,
    /// Each kind of request.
    pub requests: Vec<RequestState>,
    /// Each timed stage of produces and fetches.
    pub stages: Vec<StageState>,
    /// From making a reply to its leaving.
    pub sends: Counts,
    /// What is outstanding at each other core.
    pub mailboxes: Vec<MailboxState>,
    /// Requests that a mailbox had no room for.
    pub mailbox_refused: u64,
    /// Mail to other cores that they have not taken.
    pub mail_queued: u64,
    /// Connections and batches that wait for room in a store or a mailbox.
    pub paced_waiting: u64,
    /// Times that one began to.
    pub paced: u64,
    /// The most memory that it may reserve.
    pub memory_cap: u64,
    /// What is reserved, by use.
    pub memory: Vec<(String, u64)>,
    /// Partitions that it owns.
    pub partitions: u64,
    /// Consumer groups that it coordinates.
    #[serde(default)]
    pub groups: CoreGroupsState,
    /// Its io_uring.
    pub ring: RingState,
}

/// Requests of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RequestState {
    /// The kind.
    pub api: String,
    /// From taking one up to answering it.
    pub times: Counts,
    /// Answers, and entries of answers, that were errors: by the code's name.
    pub errors: Vec<(String, u64)>,
}

/// A part of the way of requests of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StageState {
    /// The kind of request.
    pub api: String,
    /// The stage.
    pub stage: String,
    /// How long it took.
    pub times: Counts,
}

/// Requests that were sent to another core and are not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MailboxState {
    /// That core.
    pub to: u16,
    /// Requests.
    pub requests: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The io_uring of a core.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RingState {
    /// Operations that the kernel has not completed.
    pub in_flight: u64,
    /// Turns of the driver.
    pub turns: u64,
    /// System calls of the driver.
    pub enters: u64,
    /// Times that it slept.
    pub parks: u64,
    /// Operations that were pushed.
    pub submitted: u64,
    /// Receives that ended for want of a buffer.
    pub buffers_exhausted: u64,
    /// How long the core's tasks kept the driver from its turn.
    pub turn_times: Counts,
}

/// A store.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StoreState {
    /// Its number.
    pub store: u16,
    /// The core that runs it.
    pub core: u16,
    /// Why it takes no appends, if it does not.
    pub fenced: Option<String>,
    /// Segments or the catalogue find no room on the disk.
    pub is_disk_full: bool,
    /// The disk has less room than the reserve.
    pub is_reserve_touched: bool,
    /// Partitions that it has.
    pub partitions: u64,
    /// Journal files that hold groups.
    pub journal_files_in_use: u64,
    /// Journal files that may take groups at once.
    pub journal_files_armed: u64,
    /// Journal files that it may grow to.
    pub journal_files_max: u64,
    /// Bytes of one of them.
    pub journal_file_bytes: u64,
    /// Bytes that a restart would replay.
    pub journal_replay_bytes: u64,
    /// Groups that are being written.
    pub groups_in_flight: u64,
    /// Bytes of batches that are due and in no group yet.
    pub waiting_bytes: u64,
    /// Sizes of groups, bytes.
    pub group_bytes: Counts,
    /// How long the first batch of each group waited for it.
    pub group_wait: Counts,
    /// How long the durable write of each group took.
    pub group_write: Counts,
    /// Parts of groups that went straight to segment files.
    pub straight_parts: u64,
    /// Bytes of them.
    pub straight_bytes: u64,
    /// Writes of tails to segment files.
    pub spills: u64,
    /// Bytes of them.
    pub spilled_bytes: u64,
    /// Segment files that are open.
    pub segment_handles: u64,
    /// Segment files that were read to find damage.
    pub scrubbed_segments: u64,
    /// Bytes of them.
    pub scrubbed_bytes: u64,
    /// Places that were found damaged.
    pub damage_found: u64,
    /// Passes of compaction over a partition.
    #[serde(default)]
    pub compaction_passes: u64,
    /// Bytes of segment files that compaction has read.
    #[serde(default)]
    pub compaction_read_bytes: u64,
    /// Bytes of segment files that it has written in their place.
    #[serde(default)]
    pub compaction_written_bytes: u64,
    /// Records that it has left out.
    #[serde(default)]
    pub compaction_records_removed: u64,
    /// Weak partitions that may have lost acknowledged records at the broker's start.
    pub weak_losses: u64,
    /// About what its partitions know of idempotent producers takes in memory, bytes.
    #[serde(default)]
    pub producers_bytes: u64,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TopicState {
    /// Its identity.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionState>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PartitionState {
    /// Its number.
    pub partition: u32,
    /// The core that serves it.
    pub core: u16,
    /// The store that holds it.
    pub store: u16,
    /// Whether it takes appends.
    pub is_online: bool,
    /// The first offset that is kept.
    pub log_start: u64,
    /// The end of what may be read.
    pub high_watermark: u64,
    /// The offset of the next record.
    pub log_end: u64,
    /// Bytes of its batches, on disk or in memory.
    pub size_bytes: u64,
    /// Its segments.
    pub segments: u64,
    /// Places in it that were found damaged.
    pub damage: u64,
    /// The leader epoch of what is appended to it.
    pub leader_epoch: u32,
    /// Its named readers, by name.
    pub readers: Vec<ReaderState>,
    /// Batches that were appended.
    pub batches_in: u64,
    /// Batches that idempotent producers sent again though they were appended.
    #[serde(default)]
    pub duplicates_in: u64,
    /// Records that were appended.
    pub records_in: u64,
    /// Bytes that were appended.
    pub bytes_in: u64,
    /// Records that fetches returned.
    pub records_out: u64,
    /// Bytes that fetches returned.
    pub bytes_out: u64,
    /// How far compaction has come with it; nothing where the topic is not compacted.
    #[serde(default)]
    pub compaction: Option<CompactionState>,
}

/// How far compaction by key has come with a partition. Only closed segments are compacted and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CompactionState {
    /// Up to this offset the partition is compacted.
    pub upto: u64,
    /// Bytes of closed segments that are compacted.
    pub clean_bytes: u64,
    /// Bytes of closed segments that have come since: their share of both is compared with
    /// `min.cleanable.dirty.ratio`.
    pub dirty_bytes: u64,
    /// Whether it is being compacted.
    pub is_running: bool,
    /// Whether it is not compacted any more until the broker starts anew: the log says why.
    pub is_stopped: bool,
}

/// A named reader of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReaderState {
    /// Its name.
    pub name: String,
    /// The offset of the next record that it wants.
    pub position: u64,
    /// Records that were deleted before it had come so far, from the partition's beginning on.
    pub expired_unread: u64,
}

impl TopicState {
    /// A number of all its partitions together.
    #[must_use]
    pub fn sum(&self, of: impl Fn(&PartitionState) -> u64) -> u64 {
        self.partitions.iter().map(of).sum()
    }
}

/// How often values of each size came.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// The values' sum.
    pub sum: u64,
    /// The steps that have values, rising: the largest value that counts as the step's, and how many do.
    pub steps: Vec<(u64, u64)>,
}

impl From<&Distribution> for Counts {
    fn from(values: &Distribution) -> Self {
        Self {
            sum: values.sum(),
            steps: values.steps().collect(),
        }
    }
}

impl Counts {
    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.steps.iter().map(|(_, count)| count).sum()
    }

    /// How many values are above a bound, as far as the steps tell.
    #[must_use]
    pub fn above(&self, bound: u64) -> u64 {
        let above = self.steps.iter().filter(|(upto, _)| *upto > bound);
        above.map(|(_, count)| count).sum()
    }

    /// The largest value, rounded up to its step.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.steps.last().map_or(0, |(upto, _)| *upto)
    }

    /// The value that this share of all values does not exceed, rounded up to its step; nothing without values.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let wanted = (self.count() as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        let found = self.steps.iter().find(|(_, count)| {
            seen += count;
            seen >= wanted
        });
        found.map(|(upto, _)| *upto)
    }

    /// The values that came after an earlier state of the same counts.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut before = earlier.steps.iter().copied().peekable();
        let steps = self.steps.iter().filter_map(|(upto, count)| {
            while before.next_if(|(step, _)| step < upto).is_some() {}
            let known = before.next_if(|(step, _)| step == upto);
            let more = count.saturating_sub(known.map_or(0, |(_, count)| count));
            (more > 0).then_some((*upto, more))
        });
        Self {
            steps: steps.collect(),
            sum: self.sum.saturating_sub(earlier.sum),
        }
    }

    /// Adds the values of others.
    pub fn add(&mut self, others: &Self) {
        for (upto, count) in &others.steps {
            match self.steps.binary_search_by_key(upto, |(step, _)| *step) {
                Ok(found) => self.steps[found].1 += count,
                Err(place) => self.steps.insert(place, (*upto, *count)),
            }
        }
        self.sum += others.sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(steps: &[(u64, u64)]) -> Counts {
        Counts {
            sum: steps.iter().map(|(upto, count)| upto * count).sum(),
            steps: steps.to_vec(),
        }
    }

    #[test]
    fn quantiles_are_steps_that_hold_the_share() {
        let counts = counts(&[(10, 50), (20, 49), (900, 1)]);
        assert_eq!(counts.count(), 100);
        let quantiles = [0.0, 0.5, 0.51, 0.99, 1.0].map(|share| counts.quantile(share));
        assert_eq!(quantiles, [10, 10, 20, 20, 900].map(Some));
        assert_eq!((counts.above(10), counts.max()), (50, 900));
        assert_eq!(Counts::default().quantile(0.5), None);
    }

    #[test]
    fn later_counts_less_earlier_ones_are_what_came_between() {
        let earlier = counts(&[(10, 5), (40, 1)]);
        let later = counts(&[(10, 7), (20, 3), (40, 1), (80, 2)]);
        let between = later.since(&earlier);
        assert_eq!(between, counts(&[(10, 2), (20, 3), (80, 2)]));
        let mut sum = earlier.clone();
        sum.add(&between);
        assert_eq!(sum, later);
        // A broker that was started anew meanwhile has fewer: that is no negative number.
        assert_eq!(earlier.since(&later).count(), 0);
    }
}
