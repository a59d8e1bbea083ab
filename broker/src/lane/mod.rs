//! One core of the broker: everything that it decides.
//!
//! Owns the core's connections, requests, partitions' waiters and mail. Never does I/O, never reads
//! a clock, and shares nothing: the shell of the same core reports events to it and carries out the
//! effects it hands back. Each core has one.
//!
//! A request's way: `framing` cuts the stream into frames → `dispatch` decodes one and calls its
//! stage (`produce`, `fetch`, `log_requests`, `metadata`, `topics`) → what cannot be answered at once
//! is `parked`, or sent to its owner (`forward`) → `progress` of a store, mail (`receive_mail`) or
//! time (`deadlines`) settles it → `reply` encodes the answer into its connection's outbox, which
//! becomes one send for each round of events. What changes topics goes through `control` on the
//! controller's core and `records` on every core.

mod cold_reads;
mod connection;
mod control;
mod deadlines;
mod dispatch;
mod effect;
mod fetch;
mod forward;
mod found;
mod frame_deadlines;
mod framing;
mod gather;
mod groups;
mod init_producer;
mod log_requests;
mod mail;
mod membership;
mod metadata;
mod meters;
mod pacing;
mod parked;
mod partitions;
mod produce;
mod progress;
mod receive_mail;
mod reconcile;
mod records;
mod reply;
mod reply_limits;
mod report;
mod shutdown;
mod slab;
mod storage_errors;
mod times;
mod topics;
mod topology;
mod unfit;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use corelane_protocol::{CoreId, TopicId};
use corelane_storage::disk::Disk;
use corelane_storage::memory::Ledger;
use corelane_storage::store::{Progress, Store};

use crate::config::BrokerConfig;
use crate::controller::UnfitStores;
use crate::metadata::MetadataImage;
use connection::{Connection, RefusedPartitions};
use control::Control;
pub use effect::{
    ConnectionId, Effect, LogAnswer, LogTask, LogToken, Now, ReadToken, ReplyPart, StoreTask,
    TaskFailure,
};
use forward::Outbound;
pub use found::StoresFound;
use groups::Groups;
pub use groups::{
    GroupAnswered, GroupPiece, GroupPlace, GroupQuestion, GroupTopicPiece, GroupsMetrics,
    GroupsPiece,
};
use init_producer::ProducerIds;
use log_requests::LogRequests;
pub use mail::{ForwardedBatch, ForwardedReply, ForwardedRequest, Mail};
use meters::Meters;
pub use meters::{GroupMeters, Traffic};
use pacing::Pacing;
use parked::{FetchWait, ForwardWait, GatherWait, ProduceWait};
use partitions::Partitions;
pub use reconcile::{ReconcileError, Reconciled, reconcile};
use records::{Growing, PendingRecords};
pub use reply::refusal_frame;
pub use report::{
    LaneMetrics, MailboxMetrics, PartitionPiece, PartitionsPiece, RequestMetrics, TopicPiece,
};
use slab::{Key, Slab};
pub use topology::Topology;
pub use unfit::open_store;

/// What a lane is made of.
pub struct LaneParts<D: Disk> {
    /// The core.
    pub core: CoreId,
    /// The broker's configuration.
    pub config: Arc<BrokerConfig>,
    /// The broker's cores and stores.
    pub topology: Arc<Topology>,
    /// The stores of this core, in the order of [`Topology::stores_of`], reconciled with `image`.
    pub stores: Vec<Rc<Store<D>>>,
    /// What the stores of all cores are.
    pub found: StoresFound,
    /// The memory of this core.
    pub ledger: Rc<Ledger>,
    /// What the metadata log adds up to.
    pub image: MetadataImage,
    /// Makes ids of new topics that were never used before; called on the controller's core only.
    pub topic_ids: Box<dyn FnMut() -> TopicId>,
}

/// One core's deciding state.
pub struct Lane<D: Disk> {
    core: CoreId,
    config: Arc<BrokerConfig>,
    topology: Arc<Topology>,
    stores: Vec<Rc<Store<D>>>,
    /// Stores that are out of service, of all cores.
    unfit: UnfitStores,
    ledger: Rc<Ledger>,

    image: MetadataImage,
    /// Topics that are applied here and not yet on every core: clients are not told of them.
    hidden: BTreeMap<TopicId, u64>,
    /// Topics with partitions of which the same is true.
    growing: BTreeMap<TopicId, Growing>,
    partitions: Partitions,
    pending_records: PendingRecords,
    /// The controller; only its core has one.
    control: Option<Control>,

    connections: Slab<Connection>,
    /// Bytes of requests that were taken up and not answered, of all connections.
    in_flight_bytes: u64,
    /// Reply bytes that have not left or are expected of the disk, of all connections.
    reply_bytes: u64,
    /// Connections whose input is to be taken up within this event.
    ready: Vec<Key>,
    /// Connections that wait for other connections' requests to be answered.
    core_waiting: VecDeque<Key>,
    /// Those that wait for room in a store or a mailbox, and batches that do.
    pacing: Pacing,
    /// Connections with something in their outbox.
    to_send: Vec<Key>,
    /// Buffers for unfinished input, empty, to be used again.
    spare_inputs: Vec<Vec<u8>>,

    produces: Slab<ProduceWait>,
    fetches: Slab<FetchWait>,
    /// Fetches to be served within this event.
    woken: Vec<Key>,
    /// When parked fetches are answered with what there is.
    fetch_deadlines: BTreeSet<(u64, Key)>,
    /// When connections are looked at that owed the rest of a frame.
    frame_checks: BTreeSet<(u64, Key)>,
    /// When connections are next looked at whose clients do not read.
    reply_check_us: Option<u64>,
    /// When produces are next checked for their deadlines.
    produce_check_us: Option<u64>,
    /// Disk reads that wait for others to finish.
    queued_reads: VecDeque<cold_reads::QueuedRead>,
    reads_in_flight: usize,
    gathers: Slab<GatherWait>,
    log_requests: LogRequests,
    groups: Groups,
    producer_ids: ProducerIds,
    forwards: Slab<ForwardWait>,
    /// What is outstanding at each core, by core number.
    outbound: Vec<Outbound>,
    /// Partitions refused to clients of other cores.
    foreign_refused: BTreeMap<(CoreId, ConnectionId), RefusedPartitions>,

    /// How stores are told the time.
    store_clock: deadlines::StoreClock,
    /// When a batch was last appended, or last found no room, monotonic µs.
    last_append_us: Option<u64>,
    meters: Meters,
    shutdown: Option<shutdown::Shutdown>,
    effects: VecDeque<Effect>,
    progress: Vec<Progress>,
}

impl<D: Disk> Lane<D> {
    /// A lane that serves what its image says.
    ///
    /// # Panics
    /// If `parts` contradict each other: a core that is not in the topology, other stores than the
    /// topology gives it, partitions in stores that do not exist.
    pub fn new(parts: LaneParts<D>) -> Self {
        let LaneParts {
            core,
            config,
            topology,
            stores,
            found,
            ledger,
            mut image,
            topic_ids,
        } = parts;
        let StoresFound { unfit, epochs } = found;
        for (partition, epoch) in epochs {
            image.set_leader_epoch(partition, epoch);
        }
        assert_eq!(
            topology.stores_of(core).count(),
            stores.len(),
            "a lane is given the stores of its core"
        );
        let cores = topology.cores.len();
        let stores_count = stores.len();
        let control = (core == Topology::CONTROLLER).then(|| Control::new(topic_ids));
        let mut lane = Self {
            core,
            config,
            topology,
            stores,
            unfit,
            ledger,
            image: MetadataImage::new(),
            hidden: BTreeMap::new(),
            growing: BTreeMap::new(),
            partitions: Partitions::new(),
            pending_records: PendingRecords::default(),
            control,
            connections: Slab::new(),
            in_flight_bytes: 0,
            reply_bytes: 0,
            ready: Vec::new(),
            core_waiting: VecDeque::new(),
            pacing: Pacing::new(stores_count, cores),
            to_send: Vec::new(),
            spare_inputs: Vec::new(),
            produces: Slab::new(),
            fetches: Slab::new(),
            woken: Vec::new(),
            fetch_deadlines: BTreeSet::new(),
            frame_checks: BTreeSet::new(),
            reply_check_us: None,
            produce_check_us: None,
            queued_reads: VecDeque::new(),
            reads_in_flight: 0,
            gathers: Slab::new(),
            log_requests: LogRequests::new(),
            groups: Groups::default(),
            producer_ids: ProducerIds::default(),
            forwards: Slab::new(),
            outbound: vec![Outbound::default(); cores],
            foreign_refused: BTreeMap::new(),
            store_clock: deadlines::StoreClock::default(),
            last_append_us: None,
            meters: Meters::new(),
            shutdown: None,
            effects: VecDeque::new(),
            progress: Vec::new(),
        };
        lane.adopt_image(image);
        lane
    }

    /// The core that this lane decides for.
    pub fn core(&self) -> CoreId {
        self.core
    }

    /// The metadata as this core has applied it.
    pub fn image(&self) -> &MetadataImage {
        &self.image
    }

    /// The next thing to do. The shell polls until there is none after every event.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        if let Some(effect) = self.effects.pop_front() {
            return Some(effect);
        }
        while let Some(key) = self.to_send.pop() {
            let Some(connection) = self.connections.get_mut(key) else {
                continue;
            };
            if connection.outbox.is_empty() {
                continue;
            }
            return Some(Effect::Send {
                connection: key.into(),
                parts: std::mem::take(&mut connection.outbox),
            });
        }
        None
    }

    /// Whether somebody waits for others' requests although there are none.
    fn may_admit_more(&self) -> bool {
        self.in_flight_bytes == 0 && !self.core_waiting.is_empty()
    }

    /// Ends every event: serves what it woke, and takes up input that it made room for.
    fn finish_event(&mut self, now: Now) {
        loop {
            if let Some(key) = self.woken.pop() {
                self.serve_woken(now, key);
            } else if let Some(key) = self.ready.pop() {
                self.take_waiting_input(now, key);
            } else if std::mem::take(&mut self.pacing.look_again) {
                self.serve_lines(now);
            } else if self.groups.topics_changed {
                self.follow_topics(now);
            } else if self.may_admit_more() {
                // Whoever was admitted last had nothing to be taken up after all.
                self.admit_core_waiting();
            } else {
                break;
            }
        }
        self.advance_shutdown();
    }
}
