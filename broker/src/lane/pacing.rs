//! Slows senders down to what the stores can write and other cores can take, instead of refusing what they
//! send.
//!
//! Who lacks room waits in a line, one for each store and for each other core's mailbox: a connection with
//! its next produce unread, which the client feels as a connection that takes no more bytes; or a batch that
//! was taken up already, since it came through another core or with batches for a store that has room. A
//! line is served in its order, so that batches of one connection never pass each other, and nobody is held
//! up by a store that it does not write to. Batches that wait count in the ledger, and those of other cores
//! against what a core may have outstanding here, which is what slows that core's clients down.
//!
//! Room that does not come back is waited for a while only, then the stores say why; on a disk that is known to be
//! full they say so at once.

use std::collections::{BTreeMap, VecDeque};

use corelane_protocol::frame::RequestHeader;
use corelane_protocol::request::{Acks, ProduceEntry};
use corelane_protocol::{ApiError, ApiKey, CoreId, ErrorCode, Request, TopicPartition};
use corelane_storage::disk::Disk;
use corelane_storage::memory::MemoryKind;

use super::forward::FORWARDED_ENTRY_BYTES;
use super::parked::ProduceWait;
use super::partitions::Home;
use super::slab::Key;
use super::{Lane, Now};

/// How long senders wait for room before they are refused, in µs.
const PATIENCE_US: u64 = 5_000_000;

/// How often room is looked for while senders wait, in µs, beside whenever a store says that there is some.
const CHECK_US: u64 = 500_000;

/// A batch for each so many bytes is reckoned with before a request is decoded.
const BATCH_BYTES_ASSUMED: u32 = 512;

/// What senders wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Bottleneck {
    /// Room in a store, by its place among those of this core.
    Store(usize),
    /// Room in the mailbox of another core.
    Mailbox(CoreId),
}

/// What may be appended without asking for room again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Grant {
    #[default]
    Nothing,
    /// It is the turn of a request in the line of this store.
    Turn(usize),
    /// Every store has room for the whole request.
    Everything,
}

#[derive(Debug)]
enum Waiter {
    Connection(Key),
    Batch(PacedBatch),
}

/// A batch that waits to be appended.
#[derive(Debug)]
struct PacedBatch {
    produce: Key,
    /// Its entry of the produce.
    index: u32,
    /// Its partition on this core.
    local: Key,
    partition: TopicPartition,
    resume: bool,
    acks: Acks,
    batch: Vec<u8>,
}

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Waiter>,
    /// Since when there has been no room, and when that was last found, monotonic µs.
    scarce_us: Option<(u64, u64)>,
    /// When to look again.
    check_us: Option<u64>,
}

/// The lines of a core, and whose turn it is.
#[derive(Debug)]
pub(super) struct Pacing {
    stores: Vec<Line>,
    /// By core number; only `waiting` is used.
    mailboxes: Vec<Line>,
    /// The connection that has come to the front of a line.
    turn: Option<(Key, Bottleneck)>,
    grant: Grant,
    /// Batches that wait, in all lines.
    batches: usize,
    /// Somebody may go on: the lines are served within this event.
    pub(super) look_again: bool,
}

impl Pacing {
    pub(super) fn new(stores: usize, cores: usize) -> Self {
        let lines = |count| (0..count).map(|_| Line::default()).collect();
        Self {
            stores: lines(stores),
            mailboxes: lines(cores),
            turn: None,
            grant: Grant::Nothing,
            batches: 0,
            look_again: false,
        }
    }

    pub(super) fn check_us(&self) -> Option<u64> {
        self.stores.iter().filter_map(|line| line.check_us).min()
    }

    fn line(&mut self, at: Bottleneck) -> &mut Line {
        match at {
            Bottleneck::Store(store) => &mut self.stores[store],
            Bottleneck::Mailbox(core) => &mut self.mailboxes[usize::from(core.get())],
        }
    }

    /// Connections and batches that wait.
    pub(super) fn waiting(&self) -> usize {
        let lines = self.stores.iter().chain(&self.mailboxes);
        lines.map(|line| line.waiting.len()).sum()
    }

    fn is_empty(&self) -> bool {
        let mut lines = self.stores.iter().chain(&self.mailboxes);
        lines.all(|line| line.waiting.is_empty())
    }

    /// The request that was granted something is over.
    pub(super) fn end_turn(&mut self) {
        self.grant = Grant::Nothing;
    }
}

impl<D: Disk> Lane<D> {
    /// Whether a connection's next request finds room where it goes. If not, the connection waits in a line.
    pub(super) fn is_paced(
        &mut self,
        now: Now,
        key: Key,
        header: &RequestHeader,
        frame: &[u8],
    ) -> bool {
        if header.api_key != ApiKey::Produce.as_u16() || self.shutdown.is_some() {
            return false;
        }
        if self.has_room_everywhere(frame.len()) {
            self.pacing.grant = Grant::Everything;
            return false;
        }
        let turn = self.pacing.turn.take_if(|(turn, _)| *turn == key);
        let turn = turn.map(|(_, at)| at);
        let connection = self.connections.get_mut(key);
        let connection = connection.expect("looked up by the caller");
        if turn.is_none() && connection.paced_at.is_some() {
            return true;
        }
        for (at, (batches, bytes)) in self.demand(header, frame) {
            let goes = match (at, turn) {
                (Bottleneck::Store(store), Some(turn)) if turn == at => {
                    self.pacing.grant = Grant::Turn(store);
                    self.has_room(now, store, batches, bytes)
                }
                // Its batches for this store wait there by themselves.
                (Bottleneck::Store(_), Some(_)) => true,
                (Bottleneck::Store(store), None) => {
                    self.pacing.stores[store].waiting.is_empty()
                        && self.has_room(now, store, batches, bytes)
                }
                // Whoever has waited once may go up to what a mailbox takes at all: two lines whose turns
                // never come together would be waited in for ever.
                (Bottleneck::Mailbox(to), Some(turn)) if turn != at => {
                    self.mailbox_takes(to, bytes as u64)
                }
                (Bottleneck::Mailbox(to), _) => {
                    (turn.is_some() || self.pacing.line(at).waiting.is_empty())
                        && self.mailbox_has_room(to, bytes as u64)
                }
            };
            if !goes {
                self.pacing.grant = Grant::Nothing;
                self.wait_in_line(key, at, turn == Some(at));
                return true;
            }
        }
        false
    }

    fn wait_in_line(&mut self, key: Key, at: Bottleneck, is_first: bool) {
        let connection = self.connections.get_mut(key);
        connection.expect("looked up by the caller").paced_at = Some(at);
        let waiting = &mut self.pacing.line(at).waiting;
        self.meters.paced += u64::from(!is_first);
        if is_first {
            waiting.push_front(Waiter::Connection(key));
        } else {
            waiting.push_back(Waiter::Connection(key));
        }
    }

    /// Whether nobody waits and all that a request may hold finds room wherever it goes.
    fn has_room_everywhere(&mut self, frame_bytes: usize) -> bool {
        let bytes = u32::try_from(frame_bytes).expect("a frame's length has 32 bits");
        let batches = 1 + bytes / BATCH_BYTES_ASSUMED;
        let mailbox_bytes = u64::from(bytes) + u64::from(batches) * FORWARDED_ENTRY_BYTES;
        let cores = self.topology.cores.iter();
        if !self.pacing.is_empty()
            || !self
                .stores
                .iter()
                .all(|store| store.has_room(batches, frame_bytes))
            || !cores
                .map(|address| address.core)
                .all(|to| self.mailbox_has_room(to, mailbox_bytes))
        {
            return false;
        }
        for line in &mut self.pacing.stores {
            line.scarce_us = None;
            line.check_us = None;
        }
        true
    }

    /// What a produce asks of each bottleneck: batches and bytes. Nothing of a request that cannot be read.
    fn demand(&self, header: &RequestHeader, frame: &[u8]) -> BTreeMap<Bottleneck, (u32, usize)> {
        let mut demand: BTreeMap<_, (u32, usize)> = BTreeMap::new();
        let body = &frame[RequestHeader::LEN..];
        let request = Request::decode(header.api_key, header.api_version, body);
        let Ok(Request::Produce(request)) = request else {
            return demand;
        };
        for entry in &request.entries {
            let (at, bytes) = match self.partitions.find(entry.partition) {
                Home::Local(key) => {
                    let local = self.partitions.local(key).expect("just found");
                    (Bottleneck::Store(local.store), entry.batch.len())
                }
                Home::Remote(core) if !header.flags.no_forward() => {
                    let bytes = entry.batch.len() + FORWARDED_ENTRY_BYTES as usize;
                    (Bottleneck::Mailbox(core), bytes)
                }
                _ => continue,
            };
            let (batches, sum) = demand.entry(at).or_default();
            // What a journal never has room for at once waits for it piece by piece.
            if *batches == 0 || *sum + bytes <= self.config.journal.file_bytes as usize / 2 {
                *batches += 1;
                *sum += bytes;
            }
        }
        demand
    }

    /// Whether a store has room, or has had none for so long that it should say why.
    fn has_room(&mut self, now: Now, store: usize, batches: u32, bytes: usize) -> bool {
        let line = &mut self.pacing.stores[store];
        if self.stores[store].has_room(batches, bytes) {
            line.scarce_us = None;
            return true;
        }
        let time = now.monotonic_us;
        let since_us = match line.scarce_us {
            // Asked again within the patience: whoever was refused goes on being refused.
            Some((since_us, asked_us)) if time - asked_us <= 2 * PATIENCE_US => since_us,
            _ => time,
        };
        line.scarce_us = Some((since_us, time));
        if time - since_us > PATIENCE_US {
            return true;
        }
        line.check_us = Some((time + CHECK_US).min(since_us + PATIENCE_US + 1));
        // A store that makes room has to be told the time.
        self.last_append_us = Some(time);
        false
    }

    /// Whether a batch of a request that was taken up may be appended now.
    pub(super) fn may_append(&mut self, now: Now, store: usize, bytes: usize) -> bool {
        match self.pacing.grant {
            Grant::Everything => true,
            Grant::Turn(turn) if turn == store => self.has_room(now, store, 1, bytes),
            _ => {
                self.pacing.stores[store].waiting.is_empty() && self.has_room(now, store, 1, bytes)
            }
        }
    }

    /// Lets a batch of a request that was taken up wait for room.
    ///
    /// # Errors
    /// There is no memory to keep it.
    pub(super) fn pace_batch(
        &mut self,
        store: usize,
        local: Key,
        produce: Key,
        index: u32,
        acks: Acks,
        entry: &ProduceEntry<'_>,
    ) -> Result<(), ApiError> {
        let length = entry.batch.len();
        if self.ledger.reserve(MemoryKind::Receive, length).is_err() {
            let problem = "the memory of this core is full of batches that wait for their store";
            return Err(ApiError::new(ErrorCode::Overloaded, problem));
        }
        if self.pacing.grant == Grant::Turn(store) {
            // What follows it in the request must not pass it.
            self.pacing.grant = Grant::Nothing;
        }
        self.pacing.batches += 1;
        self.meters.paced += 1;
        let batch = PacedBatch {
            produce,
            index,
            local,
            partition: entry.partition,
            resume: entry.resume,
            acks,
            batch: entry.batch.to_vec(),
        };
        self.pacing.stores[store]
            .waiting
            .push_back(Waiter::Batch(batch));
        Ok(())
    }

    /// Serves every line as far as there is room now.
    pub(super) fn serve_lines(&mut self, now: Now) {
        for store in 0..self.stores.len() {
            self.serve_line(now, Bottleneck::Store(store));
        }
        for core in 0..self.topology.cores.len() {
            let core = self.topology.cores[core].core;
            self.serve_line(now, Bottleneck::Mailbox(core));
        }
    }

    fn serve_line(&mut self, now: Now, at: Bottleneck) {
        self.pacing.line(at).check_us = None;
        while let Some(waiter) = self.pacing.line(at).waiting.pop_front() {
            let stays = match (waiter, at) {
                (Waiter::Connection(key), _) => self.serve_connection(now, key, at),
                (Waiter::Batch(batch), Bottleneck::Store(store)) => {
                    self.serve_batch(now, store, batch)
                }
                (Waiter::Batch(_), Bottleneck::Mailbox(_)) => {
                    unreachable!("batches wait for stores only")
                }
            };
            if stays {
                break;
            }
        }
    }

    /// Whether the connection is in front of the line again.
    fn serve_connection(&mut self, now: Now, key: Key, at: Bottleneck) -> bool {
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        connection.paced_at = None;
        self.pacing.turn = Some((key, at));
        self.take_waiting_input(now, key);
        self.pacing.turn = None;
        let front = self.pacing.line(at).waiting.front();
        matches!(front, Some(Waiter::Connection(front)) if *front == key)
    }

    /// Whether the batch is in front of the line again.
    fn serve_batch(&mut self, now: Now, store: usize, batch: PacedBatch) -> bool {
        if !self.has_room(now, store, 1, batch.batch.len()) {
            self.pacing.stores[store]
                .waiting
                .push_front(Waiter::Batch(batch));
            return true;
        }
        self.let_go(&batch);
        let wait = self.produces.get(batch.produce);
        let origin = wait
            .expect("batches of an answered produce are dropped")
            .origin;
        let entry = ProduceEntry {
            partition: batch.partition,
            resume: batch.resume,
            batch: &batch.batch,
        };
        if self.partitions.local(batch.local).is_some() {
            let (produce, index, local) = (batch.produce, batch.index, batch.local);
            self.append(now, produce, index, local, origin, batch.acks, &entry);
        } else {
            let error = ApiError::new(ErrorCode::UnknownTopic, "the topic was deleted");
            self.settle_produce(batch.produce, batch.index, Err(error));
        }
        self.finish_produce(batch.produce);
        false
    }

    /// Drops the batches of produces that nobody waits for any more: those that were answered, and those
    /// that `is_closed` picks. What follows on a closed connection must not pass what was refused, and
    /// nothing was promised of either.
    pub(super) fn drop_paced(&mut self, is_closed: impl Fn(&ProduceWait) -> bool) {
        if self.pacing.batches == 0 {
            return;
        }
        for store in 0..self.pacing.stores.len() {
            let waiting = std::mem::take(&mut self.pacing.stores[store].waiting);
            let (dropped, kept): (VecDeque<_>, _) =
                waiting.into_iter().partition(|waiter| match waiter {
                    Waiter::Connection(_) => false,
                    Waiter::Batch(batch) => self.produces.get(batch.produce).is_none_or(&is_closed),
                });
            self.pacing.stores[store].waiting = kept;
            for waiter in dropped {
                let Waiter::Batch(batch) = waiter else {
                    unreachable!("only batches are picked");
                };
                self.let_go(&batch);
                let error = ErrorCode::ProduceOrder.into();
                self.settle_produce(batch.produce, batch.index, Err(error));
                self.finish_produce(batch.produce);
            }
        }
        self.pacing.look_again = true;
    }

    fn let_go(&mut self, batch: &PacedBatch) {
        self.pacing.batches -= 1;
        self.ledger.release(MemoryKind::Receive, batch.batch.len());
    }
}
