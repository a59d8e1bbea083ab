//! Filling requests: the part of the engine that runs for every batch.
//!
//! Owns: taking batches out of accumulators while their link has room, and putting them together
//! into produce requests, one address at a time and each partition in turn.

use std::sync::Arc;
use std::time::Duration;

use corelane_protocol::batch::{BatchBuilder, Compression};

use super::accumulator::{Content, Pull, SealedBatch, SlotId};
use super::batch::{Batch, Body};
use super::engine::{Effect, Engine, RequestInFlight, SendEntry};
use super::link::{Link, LinkId};
use super::order::ConnectionNumber;
use crate::cluster::Route;

/// Batches with at most this many bytes of records are encoded at once where they are compressed;
/// larger ones on a thread that may block. Uncompressed ones cost a checksum only.
const INLINE_COMPRESS_BYTES_MAX: usize = 4 * 1024;

/// Batches of one partition that are compressed ahead of being sent.
const WAITING_MAX: usize = 4;

/// Entries of one produce request, far below what a broker refuses.
const REQUEST_ENTRIES_MAX: usize = 4 * 1024;

/// Bytes that a produce request takes beside its batches: header, table.
const REQUEST_OVERHEAD_BYTES: u64 = 64;

/// Whether a partition has more for the request after this one.
#[derive(Debug, PartialEq, Eq)]
enum More {
    Yes,
    No,
}

/// A request being put together.
struct Draft {
    connection: ConnectionNumber,
    entries: Vec<SendEntry>,
    bytes: u64,
    bytes_max: u64,
    room_bytes: u64,
}

impl Draft {
    /// Whether a batch of this size still fits. The first one may be larger than requests should be,
    /// and where the link is idle also larger than the window.
    fn fits(&self, bytes: u64, link_is_idle: bool) -> bool {
        if self.entries.is_empty() {
            return link_is_idle || self.bytes + bytes <= self.room_bytes;
        }
        self.bytes + bytes <= self.bytes_max && self.entries.len() < REQUEST_ENTRIES_MAX
    }
}

impl Engine {
    /// Queues a partition at its link, if it is not there yet, and sets its timer.
    pub(super) fn enqueue(&mut self, id: SlotId, now: Duration) {
        // Also if it cannot be queued now, or waits for its link: its deadlines count.
        self.set_timer(id, now);
        let Some(Some(state)) = self.slots.get_mut(id) else {
            return;
        };
        if let Some(index) = state.link.filter(|index| state.queued_at != Some(*index)) {
            state.queued_at = Some(index);
            self.links[index].queue.push_back(id);
        }
    }

    /// Sends what comes by this route, once what is in flight on another one is answered.
    pub(super) fn set_route(&mut self, id: SlotId, route: Option<Route>) {
        let link = route.as_ref().map(|route| self.link_to(&route.address));
        if let Some(Some(state)) = self.slots.get_mut(id) {
            state.link = link;
            state.route = route;
        }
    }

    fn link_to(&mut self, address: &Arc<str>) -> LinkId {
        let known = self.links.iter().position(|link| link.address == *address);
        known.unwrap_or_else(|| {
            self.links.push(Link::new(Arc::clone(address)));
            self.links.len() - 1
        })
    }

    /// Opens links that are needed, and fills requests while their windows have room.
    pub(super) fn fill_links(&mut self, now: Duration) {
        for index in 0..self.links.len() {
            if self.links[index].queue.is_empty() {
                continue;
            }
            if self.links[index].begin_opening(now) {
                let address = Arc::clone(&self.links[index].address);
                self.effects.push(Effect::Connect { address });
            }
            while self.fill_request(index, now) {}
        }
    }

    /// Sends one request on a link; false when there is nothing to send or no room.
    fn fill_request(&mut self, index: LinkId, now: Duration) -> bool {
        let Some((connection, room)) = self.links[index].room(now) else {
            return false;
        };
        if room == 0 {
            return false;
        }
        let mut draft = Draft {
            connection,
            entries: Vec::new(),
            bytes: REQUEST_OVERHEAD_BYTES,
            bytes_max: room.min(self.settings.request_bytes_max),
            room_bytes: room,
        };
        for _ in 0..self.links[index].queue.len() {
            let Some(id) = self.links[index].queue.pop_front() else {
                break;
            };
            let is_leftover = match &self.slots[id] {
                Some(state) => state.queued_at != Some(index),
                None => true,
            };
            if is_leftover {
                continue;
            }
            match self.fill_from(id, index, now, &mut draft) {
                More::Yes => {
                    self.links[index].queue.push_back(id);
                    break;
                }
                More::No => {
                    if let Some(state) = &mut self.slots[id] {
                        state.queued_at = None;
                    }
                    self.set_timer(id, now);
                }
            }
        }
        if draft.entries.is_empty() {
            return false;
        }
        self.send(index, draft);
        true
    }

    fn send(&mut self, index: LinkId, draft: Draft) {
        let request = self.next_request;
        self.next_request += 1;
        self.links[index].sent(draft.bytes);
        let entries = draft
            .entries
            .iter()
            .map(|entry| (entry.slot, entry.number))
            .collect();
        self.requests.insert(
            request,
            RequestInFlight {
                link: index,
                connection: draft.connection,
                bytes: draft.bytes,
                entries,
            },
        );
        self.effects.push(Effect::Send {
            connection: draft.connection,
            request,
            entries: draft.entries,
        });
    }

    /// Adds one partition's batches to a request, as far as its order and the room allow.
    fn fill_from(&mut self, id: SlotId, index: LinkId, now: Duration, draft: &mut Draft) -> More {
        loop {
            if !self.identify(id, now) {
                return More::No;
            }
            let Some(state) = &mut self.slots[id] else {
                return More::No;
            };
            if state.link != Some(index) || !state.order.may_send(now, draft.connection) {
                return More::No;
            }
            let Some(next) = state.order.peek(now, draft.connection) else {
                if !self.pull(id, now) {
                    return More::No;
                }
                continue;
            };
            let Some(length) = next.batch.bytes().map(|bytes| bytes.len()) else {
                // Being compressed. Those behind it can be compressed meanwhile.
                while self.pull(id, now) {}
                return More::No;
            };
            let topic_bytes_max = state.slot.lock().batch_bytes_max() as usize;
            if next.batch.is_too_large || length > topic_bytes_max {
                self.split_front(id);
                continue;
            }
            let size = length as u64 + SendEntry::TABLE_BYTES;
            if !draft.fits(size, self.links[index].is_idle()) {
                return More::Yes;
            }
            let (number, resume, sequence) = (next.number, next.resume, next.sequence);
            let batch = state.order.waiting_mut().next().expect("just shown");
            let bytes = batch.bytes_to_send(state.timestamp_type, sequence);
            let (bytes, record_count) = bytes.expect("just looked at");
            if let (Some(guess), Some(sequence)) = (batch.guess.take(), sequence) {
                state.slot.lock().correct(guess, sequence);
            }
            draft.bytes += size;
            draft.entries.push(SendEntry {
                slot: id,
                number,
                topic: state.topic_id,
                partition: state.slot.partition,
                resume,
                bytes,
            });
            state.order.sent(draft.connection, record_count);
        }
    }

    /// Takes one batch out of a partition's accumulator and encodes it, or has it encoded.
    fn pull(&mut self, id: SlotId, now: Duration) -> bool {
        let Some(state) = &mut self.slots[id] else {
            return false;
        };
        if state.order.waiting_count() >= WAITING_MAX {
            return false;
        }
        let partial = state.order.in_flight_count() < self.settings.partial_in_flight_max;
        let pull = Pull {
            linger: if self.pressed {
                Duration::ZERO
            } else {
                self.settings.linger
            },
            partial: partial && state.order.waiting_count() == 0,
        };
        let Some(sealed) = state.slot.lock().pull(now, pull) else {
            return false;
        };
        let deadline = sealed.ticket.opened_at + self.settings.delivery_timeout;
        let batch = self.begin(id, sealed);
        let state = self.slots[id].as_mut().expect("looked up above");
        state.order.push(batch, deadline);
        true
    }

    /// Encodes a batch, or has it encoded.
    pub(super) fn begin(&mut self, slot: SlotId, sealed: SealedBatch) -> Batch {
        let body = match sealed.content {
            Content::Encoded(bytes) => Body::Encoded(Arc::new(bytes)),
            Content::Records(builder) if is_cheap_to_encode(&builder) => {
                Body::Encoded(Arc::new(self.builders.encode(builder)))
            }
            Content::Records(builder) => {
                let encoding = self.next_encoding;
                self.next_encoding += 1;
                self.effects.push(Effect::Encode {
                    slot,
                    encoding,
                    builder,
                });
                Body::Encoding(encoding)
            }
        };
        Batch {
            ticket: sealed.ticket,
            body,
            is_too_large: false,
            guess: sealed.guess,
        }
    }
}

fn is_cheap_to_encode(builder: &BatchBuilder) -> bool {
    builder.config().compression == Compression::None
        || builder.estimated_bytes() <= INLINE_COMPRESS_BYTES_MAX
}

impl SendEntry {
    /// Bytes of an entry in a produce request's table.
    const TABLE_BYTES: u64 = 28;
}
