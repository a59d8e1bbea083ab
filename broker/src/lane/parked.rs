//! Requests that wait: for a flush, for records, for other cores, for the controller.
//!
//! Owns what is needed to answer each of them once. Never decides when that is.

use corelane_protocol::ids::CorrelationId;
use corelane_protocol::request::FetchEntry;
use corelane_protocol::response::{
    DeleteRecordsResponse, DescribeGroupResponse, DescribeTopicsResponse, FetchedEntryHead,
    ListGroupsResponse, ListOffsetsResponse, ProduceResponse, ReportPositionsResponse,
};
use corelane_protocol::{ApiError, ApiKey, CoreId, PartitionIndex, TopicId};
use corelane_storage::memory::ChunkSlice;
use corelane_storage::store::{Fetched, ReadError};
use std::collections::BTreeMap;

use super::ConnectionId;
use super::slab::Key;

/// Whom to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A client of this core.
    Client(ClientRequest),
    /// Another core, for a client of its own.
    Core {
        core: CoreId,
        token: u64,
        source: ConnectionId,
    },
    /// The consumer groups of a partition of the internal topic, which have handed so many batches to its log
    /// with this one.
    Groups { shard: PartitionIndex, batch: u64 },
}

/// A request of a client of this core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClientRequest {
    pub(super) connection: Key,
    pub(super) api_key: u16,
    pub(super) api_version: u16,
    pub(super) correlation_id: CorrelationId,
    /// Bytes of the request that are in flight until it is answered.
    pub(super) frame_bytes: u64,
    /// The client wants to hear of the owning core instead of being forwarded.
    pub(super) no_forward: bool,
    /// When it was taken up, monotonic µs.
    pub(super) taken_us: u64,
}

/// A produce of which some batches are not settled.
pub(super) struct ProduceWait {
    pub(super) origin: Origin,
    /// Batches that are not settled.
    pub(super) remaining: u32,
    /// When what is not settled counts as timed out, monotonic µs.
    pub(super) deadline_us: u64,
    /// What is not settled reads `TimedOut` here, so that it can be answered as it is.
    pub(super) response: ProduceResponse,
}

/// A fetch that waits for records, for the disk, or for replies to leave.
pub(super) struct FetchWait {
    pub(super) origin: Origin,
    pub(super) entries: Vec<FetchEntry>,
    /// The local partition of each entry; `None` where `heads` has an error from the start.
    pub(super) homes: Vec<Option<Key>>,
    pub(super) heads: Vec<FetchedEntryHead>,
    /// The batches read so far, in the order of the entries.
    pub(super) parts: Vec<ChunkSlice>,
    /// What entries from the cursor on have of the disk, by their index.
    pub(super) cold: BTreeMap<usize, ColdRead>,
    pub(super) min_bytes: usize,
    pub(super) max_bytes: usize,
    /// When it is answered with what there is, monotonic µs.
    pub(super) deadline_us: u64,
    /// The next entry to read.
    pub(super) cursor: usize,
    /// Bytes of `parts`.
    pub(super) bytes: usize,
    /// Answered as soon as every entry was read once: an entry has an error, came from the disk, or
    /// the time is over.
    pub(super) hasty: bool,
    pub(super) state: FetchState,
    /// When it began to wait for what it waits for, monotonic µs.
    pub(super) waits_since_us: u64,
    /// What `parts` hold of each partition, to be counted when it is answered: the records and the bytes.
    pub(super) read: Vec<(Key, u64, u64)>,
}

/// A disk read of one entry.
pub(super) enum ColdRead {
    /// It is out, or queued; so many reply bytes are expected of it.
    Out { expected_bytes: u64 },
    /// What it returned.
    Done(Result<Fetched, ReadError>),
}

/// Where a fetch is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FetchState {
    /// To be served within this event.
    Woken,
    /// Listed at its partitions and among the deadlines.
    Parked,
    /// So many disk reads are out, or queued.
    Reading { reads: usize },
    /// Listed at its connection until replies have left.
    Deferred,
}

/// A request that other cores, or the controller, answer in part.
pub(super) struct GatherWait {
    pub(super) client: ClientRequest,
    /// Answers that are missing.
    pub(super) remaining: u32,
    pub(super) kind: GatherKind,
}

/// What is gathered.
pub(super) enum GatherKind {
    ListOffsets(ListOffsetsResponse),
    DeleteRecords(DeleteRecordsResponse),
    ReportPositions(ReportPositionsResponse),
    /// The groups, or why some are not known.
    Groups(Result<ListGroupsResponse, ApiError>),
    /// A group, of which the ends of partitions are missing.
    Group(DescribeGroupResponse),
    Describe {
        response: DescribeTopicsResponse,
        /// Places of each topic in the response: a request may name it more than once.
        positions: BTreeMap<TopicId, Vec<usize>>,
    },
    /// The controller's answer to a change of topics.
    Topics(ApiKey),
}

/// A request that was forwarded to another core.
pub(super) struct ForwardWait {
    pub(super) to: CoreId,
    /// What it counts for in the mailbox.
    pub(super) mailbox_bytes: u64,
    /// When it was sent, monotonic µs.
    pub(super) sent_us: u64,
    pub(super) kind: ForwardKind,
}

/// Where the answer of a forwarded request goes.
pub(super) enum ForwardKind {
    /// These entries of a produce.
    Produce { produce: Key, entries: Vec<u32> },
    /// These entries of a fetch; the others' heads are as they will be sent.
    Fetch {
        client: ClientRequest,
        heads: Vec<FetchedEntryHead>,
        entries: Vec<u32>,
    },
    /// These entries of a gathered request; empty for a description.
    Gather { gather: Key, entries: Vec<u32> },
    /// A question about a consumer group.
    Group { client: ClientRequest },
}
