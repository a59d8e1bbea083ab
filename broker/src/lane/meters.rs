//! What a lane counts and times.
//!
//! Owns numbers only: plain additions in memory of the lane's own, made where something happens. Nothing here is
//! shared, nothing allocates after the start, and nothing is decided by it. `report` copies it out.

use corelane_protocol::response::{FetchResponseHead, Response};
use corelane_protocol::{ApiError, ApiKey, ErrorCode};
use corelane_storage::distribution::Distribution;

use super::Now;

/// A part of a request's way that is timed by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// A whole produce waited until it was taken up: for its turn, for memory, for room in a store.
    ProduceQueue,
    /// Another core was asked for its part of a produce, and has answered.
    ProduceForward,
    /// A batch was in memory and not durable.
    ProduceFlush,
    /// A whole fetch waited until it was taken up.
    FetchQueue,
    /// Another core was asked for a fetch, and has answered.
    FetchForward,
    /// A fetch waited for records.
    FetchWait,
    /// The disk was read for a fetch.
    FetchDisk,
}

impl Stage {
    pub(super) const ALL: [Self; 7] = [
        Self::ProduceQueue,
        Self::ProduceForward,
        Self::ProduceFlush,
        Self::FetchQueue,
        Self::FetchForward,
        Self::FetchWait,
        Self::FetchDisk,
    ];

    /// The request, and the stage's name.
    pub(super) const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::ProduceQueue => ("Produce", "queue"),
            Self::ProduceForward => ("Produce", "forward"),
            Self::ProduceFlush => ("Produce", "flush"),
            Self::FetchQueue => ("Fetch", "queue"),
            Self::FetchForward => ("Fetch", "forward"),
            Self::FetchWait => ("Fetch", "wait"),
            Self::FetchDisk => ("Fetch", "disk"),
        }
    }
}

/// Requests of a number that the broker does not know are counted behind those that it knows.
const APIS: usize = ApiKey::ALL.len() + 1;

/// The errors that requests of one kind were answered with, by the order of `ErrorCode::ALL`.
type Errors = [u64; ErrorCode::ALL.len()];

/// A lane's numbers since its start.
pub(super) struct Meters {
    /// The time of the event that is being handled, monotonic µs.
    pub(super) now_us: u64,
    pub(super) connections_opened: u64,
    pub(super) connections_refused: u64,
    /// Connections that were closed because a client did not finish a request.
    pub(super) connections_timed_out: u64,
    /// Connections that were closed because a client did not read its replies.
    pub(super) connections_unread: u64,
    pub(super) received_bytes: u64,
    pub(super) sent_bytes: u64,
    /// Requests that another core's mailbox had no room for.
    pub(super) mailbox_refused: u64,
    /// Times that a connection or a batch began to wait for room in a store or a mailbox.
    pub(super) paced: u64,
    pub(super) groups: GroupMeters,
    /// From taking a request up to answering it.
    requests: Vec<Distribution>,
    errors: Vec<Errors>,
    stages: Vec<Distribution>,
    /// From making a reply, or sending what was before it, to its leaving.
    pub(super) sends: Distribution,
}

impl Meters {
    pub(super) fn new() -> Self {
        let times = |count: usize| (0..count).map(|_| Distribution::of_micros()).collect();
        Self {
            now_us: 0,
            connections_opened: 0,
            connections_refused: 0,
            connections_timed_out: 0,
            connections_unread: 0,
            received_bytes: 0,
            sent_bytes: 0,
            mailbox_refused: 0,
            paced: 0,
            groups: GroupMeters::default(),
            requests: times(APIS),
            errors: vec![[0; ErrorCode::ALL.len()]; APIS],
            stages: times(Stage::ALL.len()),
            sends: Distribution::of_micros(),
        }
    }

    /// An event begins: what it ends is timed by it.
    pub(super) fn begin_event(&mut self, now: Now) {
        self.now_us = now.monotonic_us;
    }

    /// A stage that began then has ended.
    pub(super) fn stage_done(&mut self, stage: Stage, began_us: u64) {
        let us = self.now_us.saturating_sub(began_us);
        self.stages[stage as usize].record(us);
    }

    /// A request that was taken up then is answered.
    pub(super) fn answered(&mut self, api_key: u16, taken_us: u64) {
        let us = self.now_us.saturating_sub(taken_us);
        self.requests[api_index(api_key)].record(us);
    }

    /// An answer, or one entry of it, is an error.
    pub(super) fn error(&mut self, api_key: u16, code: ErrorCode) {
        let found = ErrorCode::ALL.iter().position(|known| *known == code);
        let index = found.expect("every code is in the list");
        self.errors[api_index(api_key)][index] += 1;
    }

    /// Counts the errors among the entries of a response.
    pub(super) fn entry_errors(&mut self, api_key: u16, response: &Response<'_>) {
        match response {
            Response::Produce(response) => {
                let results = response.entries.iter().map(|entry| &entry.result);
                self.errors_of(api_key, results);
            }
            Response::ListOffsets(response) => {
                let results = response.entries.iter().map(|entry| &entry.result);
                self.errors_of(api_key, results);
            }
            Response::DeleteRecords(response) => {
                let results = response.entries.iter().map(|entry| &entry.result);
                self.errors_of(api_key, results);
            }
            Response::ReportPositions(response) => {
                let results = response.entries.iter().map(|entry| &entry.result);
                self.errors_of(api_key, results);
            }
            Response::CreateTopics(response) => {
                let results = response.topics.iter().map(|topic| &topic.result);
                self.errors_of(api_key, results);
            }
            Response::DeleteTopics(response) => {
                let results = response.topics.iter().map(|topic| &topic.result);
                self.errors_of(api_key, results);
            }
            Response::DescribeTopics(response) => {
                let results = response.topics.iter().map(|topic| &topic.result);
                self.errors_of(api_key, results);
            }
            Response::AlterTopicConfigs(response) => {
                let results = response.topics.iter().map(|topic| &topic.result);
                self.errors_of(api_key, results);
            }
            Response::CreatePartitions(response) => {
                let results = response.topics.iter().map(|topic| &topic.result);
                self.errors_of(api_key, results);
            }
            Response::InitProducerId(response) => {
                self.errors_of(api_key, [&response.result].into_iter());
            }
            Response::GroupHeartbeat(answer) => {
                self.errors_of(api_key, [&answer.result].into_iter())
            }
            Response::LeaveGroup(answer) | Response::DeleteGroup(answer) => {
                self.errors_of(api_key, [&answer.result].into_iter());
            }
            Response::FetchOffsets(answer) => self.errors_of(api_key, [&answer.result].into_iter()),
            Response::DescribeGroup(answer) => {
                self.errors_of(api_key, [&answer.result].into_iter())
            }
            Response::CommitOffsets(answer) => {
                self.errors_of(api_key, [&answer.result].into_iter());
                let entries = answer.result.iter().flatten();
                self.errors_of(api_key, entries.map(|entry| &entry.result));
            }
            Response::ApiVersions(_)
            | Response::Metadata(_)
            | Response::Fetch(_)
            | Response::ListGroups(_) => {}
        }
    }

    /// Counts the errors among the entries of a fetch's answer.
    pub(super) fn fetch_errors(&mut self, head: &FetchResponseHead) {
        let results = head.entries.iter().map(|entry| &entry.result);
        self.errors_of(ApiKey::Fetch.as_u16(), results);
    }

    fn errors_of<'a, T: 'a>(
        &mut self,
        api_key: u16,
        results: impl Iterator<Item = &'a Result<T, ApiError>>,
    ) {
        for error in results.filter_map(|result| result.as_ref().err()) {
            self.error(api_key, error.code);
        }
    }

    /// Each kind of request by its name: the times it took, and the errors that there were.
    pub(super) fn requests(
        &self,
    ) -> impl Iterator<Item = (&'static str, &Distribution, Vec<(ErrorCode, u64)>)> {
        let names = ApiKey::ALL.iter().map(|api| api.name()).chain(["unknown"]);
        let counts = self.requests.iter().zip(&self.errors);
        names.zip(counts).map(|(name, (times, errors))| {
            let errors = ErrorCode::ALL.iter().copied().zip(errors.iter().copied());
            (
                name,
                times,
                errors.filter(|(_, count)| *count > 0).collect(),
            )
        })
    }

    /// The times of each stage.
    pub(super) fn stages(&self) -> impl Iterator<Item = (Stage, &Distribution)> {
        Stage::ALL.iter().copied().zip(&self.stages)
    }
}

fn api_index(api_key: u16) -> usize {
    usize::from(api_key).min(APIS - 1)
}

/// What has happened to consumer groups since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GroupMeters {
    /// Changes of groups that raised their generation.
    pub generations: u64,
    /// Members that were removed because their session or their time to let go of partitions was over.
    pub members_expired: u64,
    /// Committed offsets that were accepted and are durable.
    pub commits: u64,
    /// Committed offsets that were refused.
    pub commits_refused: u64,
}

/// What one partition has taken in and given out since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Batches that were appended.
    pub batches_in: u64,
    /// Records of them.
    pub records_in: u64,
    /// Bytes of them, as they are stored.
    pub bytes_in: u64,
    /// Batches that idempotent producers sent again though they were appended.
    pub duplicates_in: u64,
    /// Records that fetches were answered with, from the offset that was asked for on.
    pub records_out: u64,
    /// Bytes that fetches were answered with.
    pub bytes_out: u64,
}
