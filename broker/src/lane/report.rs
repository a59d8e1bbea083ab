//! What a lane says about itself to whoever watches it: copies of its numbers, in pieces of bounded size.
//!
//! Decides nothing and changes nothing. A piece is small enough to be one event of the core like others.

use corelane_protocol::{CoreId, PartitionIndex, StoreId, TopicId, TopicPartition};
use corelane_storage::disk::Disk;
use corelane_storage::distribution::Distribution;
use corelane_storage::memory::MemoryKind;
use corelane_storage::store::{PartitionMetrics, ReaderState, StoreMetrics};

use super::Lane;
use super::groups::GroupsMetrics;
use super::meters::Traffic;
use super::partitions::Place;

/// Partitions of this core that one piece holds.
const PIECE_PARTITIONS: usize = 256;

/// Places that are looked at for one piece, of partitions of this core and of others.
const PIECE_PLACES: usize = 4096;

/// Segments that are added up for one piece, a little more at most.
const PIECE_SEGMENTS: usize = 16_384;

/// A lane as it is now, and what it has done since its start. Plain data; sizes in bytes, times in µs.
#[derive(Debug, Clone)]
pub struct LaneMetrics {
    /// The core.
    pub core: CoreId,
    /// Open connections.
    pub connections: usize,
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
    /// Bytes of requests that were taken up and not answered.
    pub in_flight_bytes: u64,
    /// Bytes of replies that have not left, or are expected of the disk.
    pub reply_bytes: u64,
    /// Produces that wait, for a flush or for another core.
    pub waiting_produces: usize,
    /// Fetches that wait, for records, the disk or their client.
    pub waiting_fetches: usize,
    /// Each kind of request.
    pub requests: Vec<RequestMetrics>,
    /// Each timed stage: the request, the stage, the times.
    pub stages: Vec<(&'static str, &'static str, Distribution)>,
    /// From making a reply to its leaving.
    pub sends: Distribution,
    /// What is outstanding at each other core.
    pub mailboxes: Vec<MailboxMetrics>,
    /// Requests that a mailbox had no room for.
    pub mailbox_refused: u64,
    /// Connections and batches that wait for room in a store or a mailbox.
    pub paced_waiting: usize,
    /// Times that one began to.
    pub paced: u64,
    /// The most memory that the core may reserve.
    pub memory_cap: usize,
    /// What is reserved, by use.
    pub memory: Vec<(MemoryKind, usize)>,
    /// The core's stores.
    pub stores: Vec<StoreMetrics>,
    /// Topics that this core knows.
    pub topics: usize,
    /// Partitions that this core owns.
    pub partitions: usize,
    /// Consumer groups that this core coordinates.
    pub groups: GroupsMetrics,
    /// Records of the metadata log that are applied here.
    pub metadata_records: u64,
    /// Whether a shutdown has begun.
    pub is_shutting_down: bool,
}

/// What was asked in one kind of request.
#[derive(Debug, Clone)]
pub struct RequestMetrics {
    /// Its name.
    pub api: &'static str,
    /// From taking a request up to answering it.
    pub times: Distribution,
    /// Answers and entries of answers that were errors, by the code's name.
    pub errors: Vec<(String, u64)>,
}

/// Requests that were sent to another core and are not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailboxMetrics {
    /// That core.
    pub to: CoreId,
    /// Requests.
    pub requests: u32,
    /// What they count for.
    pub bytes: u64,
}

/// Some of a core's partitions, in the order of their ids.
#[derive(Debug, Clone, Default)]
pub struct PartitionsPiece {
    /// Their topics.
    pub topics: Vec<TopicPiece>,
    /// What to ask for next; nothing after the last piece.
    pub next: Option<TopicPartition>,
}

/// Some partitions of one topic.
#[derive(Debug, Clone)]
pub struct TopicPiece {
    /// The topic.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// Its partitions of this core, in rising order.
    pub partitions: Vec<PartitionPiece>,
}

/// One partition.
#[derive(Debug, Clone)]
pub struct PartitionPiece {
    /// Its number.
    pub index: PartitionIndex,
    /// Its store.
    pub store: StoreId,
    /// Its log; nothing while its store does not have it.
    pub log: Option<PartitionMetrics>,
    /// How far its named readers have come, by name.
    pub readers: Vec<(String, ReaderState)>,
    /// What it has taken in and given out.
    pub traffic: Traffic,
}

impl<D: Disk> Lane<D> {
    /// The lane's numbers, without those of its partitions.
    pub fn metrics(&self) -> LaneMetrics {
        let meters = &self.meters;
        let others = self.outbound.iter().zip(&self.topology.cores);
        LaneMetrics {
            core: self.core,
            connections: self.connections.len(),
            connections_opened: meters.connections_opened,
            connections_refused: meters.connections_refused,
            connections_timed_out: meters.connections_timed_out,
            connections_unread: meters.connections_unread,
            received_bytes: meters.received_bytes,
            sent_bytes: meters.sent_bytes,
            in_flight_bytes: self.in_flight_bytes,
            reply_bytes: self.reply_bytes,
            waiting_produces: self.produces.len(),
            waiting_fetches: self.fetches.len(),
            requests: meters.requests().map(request_metrics).collect(),
            stages: meters.stages().map(stage_metrics).collect(),
            sends: meters.sends.clone(),
            mailboxes: others
                .filter(|(_, address)| address.core != self.core)
                .map(|(outbound, address)| outbound.metrics(address.core))
                .collect(),
            mailbox_refused: meters.mailbox_refused,
            paced_waiting: self.pacing.waiting(),
            paced: meters.paced,
            memory_cap: self.ledger.cap(),
            memory: MemoryKind::ALL
                .iter()
                .map(|kind| (*kind, self.ledger.in_use_of(*kind)))
                .collect(),
            stores: self.stores.iter().map(|store| store.metrics()).collect(),
            topics: self.image.topic_count(),
            partitions: self.partitions.local_count(),
            groups: self.groups_metrics(),
            metadata_records: self.image.records_applied(),
            is_shutting_down: self.shutdown.is_some(),
        }
    }

    /// Some of the core's partitions, from this one on in the order of their ids. Those that clients are not told
    /// of yet are left out.
    pub fn partition_metrics(&self, from: TopicPartition) -> PartitionsPiece {
        let mut piece = PartitionsPiece::default();
        let (mut places_left, mut segments_left) = (PIECE_PLACES, PIECE_SEGMENTS);
        let mut partitions_left = PIECE_PARTITIONS;
        for (id, places) in self.partitions.topics_from(from.topic) {
            let Some(topic) = self
                .image
                .topic(id)
                .filter(|_| !self.hidden.contains_key(&id))
            else {
                continue;
            };
            let first = if id == from.topic {
                from.partition.get() as usize
            } else {
                0
            };
            let mut partitions = Vec::new();
            let shown = places.iter().take(self.shown_partitions(topic));
            for (index, place) in (0..).zip(shown).skip(first) {
                let index = PartitionIndex::new(index);
                if places_left == 0 || partitions_left == 0 || segments_left == 0 {
                    piece.next = Some(TopicPartition::new(id, index));
                    break;
                }
                places_left -= 1;
                if let Place::Local(key) = place {
                    let found = self.partition_piece(index, *key);
                    let segments = found.log.map_or(0, |log| log.segments);
                    segments_left = segments_left.saturating_sub(segments);
                    partitions_left -= 1;
                    partitions.push(found);
                }
            }
            if !partitions.is_empty() {
                piece.topics.push(TopicPiece {
                    id,
                    name: topic.name.to_string(),
                    partitions,
                });
            }
            if piece.next.is_some() {
                break;
            }
        }
        piece
    }

    fn partition_piece(&self, index: PartitionIndex, key: super::slab::Key) -> PartitionPiece {
        let local = self.partitions.local(key).expect("a place names it");
        let store = &self.stores[local.store];
        PartitionPiece {
            index,
            store: store.id(),
            log: store.partition_metrics(local.id),
            readers: store.reader_states(local.id),
            traffic: local.traffic,
        }
    }
}

fn request_metrics(
    (api, times, errors): (
        &'static str,
        &Distribution,
        Vec<(corelane_protocol::ErrorCode, u64)>,
    ),
) -> RequestMetrics {
    let errors = errors.into_iter();
    RequestMetrics {
        api,
        times: times.clone(),
        errors: errors
            .map(|(code, count)| (format!("{code:?}"), count))
            .collect(),
    }
}

fn stage_metrics(
    (stage, times): (super::meters::Stage, &Distribution),
) -> (&'static str, &'static str, Distribution) {
    let (api, stage) = stage.names();
    (api, stage, times.clone())
}

const _: fn() = || {
    fn moves_between_threads<T: Send + 'static>() {}
    moves_between_threads::<LaneMetrics>();
    moves_between_threads::<PartitionsPiece>();
};
