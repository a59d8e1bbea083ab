//! One client connection: its unfinished input, its unsent replies, and what it may still ask.
//!
//! Owns the framing of the byte stream and the counts behind credit. Never looks into a request.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use corelane_protocol::{CoreId, TopicPartition};

use super::effect::ReplyPart;
use super::frame_deadlines::FrameDebt;
use super::pacing::Bottleneck;
use super::reply_limits::Unmoved;
use super::slab::Key;
use crate::config::Limits;

/// Refused partitions that a connection may have at a time; a client that has more neither resumes
/// nor gives up, and is disconnected.
pub(super) const REFUSED_PARTITIONS_MAX: usize = 16_384;

/// So long after replies have left, in µs, the client has them, or will never have them.
const QUIET_US: u64 = 1_000_000;

/// One client connection.
pub(super) struct Connection {
    /// The client's address.
    pub(super) peer: SocketAddr,
    /// What was received and not taken up.
    pub(super) input: Input,
    /// What is missing of a frame that has begun, or of the first one.
    pub(super) frame_debt: FrameDebt,
    /// Whether a whole frame waits in `input` until others are answered or sent.
    pub(super) stalled: bool,
    /// Since when the next frame is whole, while it is not taken up, monotonic µs.
    pub(super) queued_us: Option<u64>,
    /// Whether the connection is listed to have its input taken up.
    pub(super) listed: bool,
    /// Whether the connection is queued until other connections' requests are answered.
    pub(super) waits_for_core: bool,
    /// The line in which the connection waits for room.
    pub(super) paced_at: Option<Bottleneck>,
    /// Requests taken up and not answered.
    pub(super) requests: u32,
    /// Bytes of those requests.
    pub(super) in_flight_bytes: u64,
    /// Replies that the shell has not taken yet.
    pub(super) outbox: Vec<ReplyPart>,
    /// Bytes of replies that have not left, in the outbox or in the shell.
    pub(super) unsent_bytes: u64,
    /// Since when replies wait to leave, as far as they do, monotonic µs.
    pub(super) unsent_since_us: Option<u64>,
    /// When reply bytes left last, monotonic µs.
    pub(super) sent_us: Option<u64>,
    /// The part of them that was made for replies, as opposed to log memory, still in the ledger.
    pub(super) ledger_bytes: u64,
    /// Replies that did not move when they were looked at.
    pub(super) unmoved: Option<Unmoved>,
    /// Requests about topics taken up and not answered.
    pub(super) overviews: u32,
    /// Bytes that fetches in the middle of a disk read may add to them.
    pub(super) expected_bytes: u64,
    /// Whether the shell was told to receive.
    pub(super) receiving: bool,
    /// No further request is taken up.
    pub(super) closing: bool,
    /// Partitions of which a produce was refused and that were not resumed.
    pub(super) refused: RefusedPartitions,
    /// Cores that requests were forwarded to.
    pub(super) forwarded_to: Vec<CoreId>,
    /// Fetches that wait: for data, for the disk, or for replies to leave.
    pub(super) fetches: BTreeSet<Key>,
    /// The part of them that waits for replies to leave.
    pub(super) deferred: Vec<Key>,
}

impl Connection {
    pub(super) fn new(peer: SocketAddr) -> Self {
        Self {
            peer,
            input: Input::default(),
            frame_debt: FrameDebt::default(),
            stalled: false,
            queued_us: None,
            listed: false,
            waits_for_core: false,
            paced_at: None,
            requests: 0,
            in_flight_bytes: 0,
            outbox: Vec::new(),
            unsent_bytes: 0,
            unsent_since_us: None,
            sent_us: None,
            ledger_bytes: 0,
            unmoved: None,
            overviews: 0,
            expected_bytes: 0,
            receiving: true,
            closing: false,
            refused: RefusedPartitions::default(),
            forwarded_to: Vec::new(),
            fetches: BTreeSet::new(),
            deferred: Vec::new(),
        }
    }

    /// Whether a request of so many bytes may be taken up now.
    pub(super) fn may_take(&self, frame_bytes: usize, limits: &Limits) -> bool {
        let fits = self.in_flight_bytes == 0
            || self.in_flight_bytes + frame_bytes as u64 <= limits.connection_in_flight_bytes_max;
        fits && self.requests < limits.connection_requests_max && self.may_reply(limits)
    }

    /// Whether replies leave fast enough for more of them to be made.
    pub(super) fn may_reply(&self, limits: &Limits) -> bool {
        self.unsent_bytes + self.expected_bytes < limits.connection_reply_bytes_max
    }

    /// Whether nothing is under way in either direction, as far as this side can know.
    pub(super) fn is_quiet(&self, now_us: u64) -> bool {
        let sent_long_ago = self.sent_us.is_none_or(|sent| now_us - sent >= QUIET_US);
        self.requests == 0 && self.unsent_bytes == 0 && self.input.is_empty() && sent_long_ago
    }

    /// How many more request bytes the client may have in flight.
    pub(super) fn credit_bytes(&self, limits: &Limits) -> u32 {
        let left = limits
            .connection_in_flight_bytes_max
            .saturating_sub(self.in_flight_bytes);
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    /// Whether to receive, given that it is received now or not: what is paused goes on only once
    /// half of the limits is free, so that a busy connection is not switched for every request.
    pub(super) fn wants_input(&self, limits: &Limits) -> bool {
        if self.stalled {
            return false;
        }
        let held = self.in_flight_bytes + self.input.len() as u64;
        let part = if self.receiving { 1 } else { 2 };
        // With nothing to answer only more input can help: an unfinished frame may be longer than
        // half of the limit.
        (self.in_flight_bytes == 0 || held < limits.connection_in_flight_bytes_max / part)
            && self.requests < limits.connection_requests_max.div_ceil(part as u32)
            && self.unsent_bytes + self.expected_bytes < limits.connection_reply_bytes_max / part
    }
}

/// Bytes of the stream that do not make a whole frame yet, or whose frames wait for their turn.
#[derive(Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
    start: usize,
}

impl Input {
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Bytes of memory that the input holds.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// The least capacity with which `more` bytes fit: doubling towards `expected`, the length of
    /// the frame as far as it is known, so that memory follows what arrives and not what a length
    /// field announces.
    pub(super) fn capacity_for(&self, more: usize, expected: usize) -> usize {
        let needed = self.bytes.len() + more;
        if needed <= self.bytes.capacity() {
            return self.bytes.capacity();
        }
        let doubled = (2 * self.bytes.capacity()).max(INPUT_BYTES_MIN);
        needed.max(doubled.min(self.start.saturating_add(expected)))
    }

    /// Takes a buffer, empty but with capacity, for an input that holds nothing.
    pub(super) fn adopt(&mut self, buffer: Vec<u8>) {
        debug_assert!(self.bytes.is_empty() && buffer.is_empty());
        self.bytes = buffer;
    }

    /// Grows to the capacity that [`Input::capacity_for`] gave.
    pub(super) fn grow(&mut self, capacity: usize) {
        self.bytes.reserve_exact(capacity - self.bytes.len());
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Drops bytes from the front.
    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        } else if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }

    /// Gives the buffer away, empty.
    pub(super) fn release(&mut self) -> Vec<u8> {
        debug_assert!(self.is_empty());
        self.start = 0;
        std::mem::take(&mut self.bytes)
    }
}

/// Least buffer for unfinished input, in bytes.
const INPUT_BYTES_MIN: usize = 1024;

/// Partitions of which a produce was refused with a retriable error: later ones are refused too,
/// until one says that it resumes, so that the order of a producer's batches survives its retries.
#[derive(Debug, Default)]
pub(super) struct RefusedPartitions(BTreeSet<TopicPartition>);

impl RefusedPartitions {
    pub(super) fn insert(&mut self, partition: TopicPartition) {
        self.0.insert(partition);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether a produce may go on; one that resumes always may.
    pub(super) fn admit(&mut self, partition: TopicPartition, resume: bool) -> bool {
        if self.0.is_empty() {
            return true;
        }
        if resume {
            self.0.remove(&partition);
            return true;
        }
        !self.0.contains(&partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_memory_follows_what_arrives() {
        let mut input = Input::default();
        assert_eq!(input.capacity_for(16, 8 << 20), 1024);
        input.grow(1024);
        input.push(&[7; 1000]);
        assert_eq!(input.capacity_for(100, 8 << 20), 2048);
        assert_eq!(input.capacity_for(100, 1500), 1500);
        assert_eq!(input.capacity_for(5000, 8 << 20), 6000);
    }

    #[test]
    fn consumed_input_makes_room() {
        let mut input = Input::default();
        input.push(&[1, 2, 3, 4, 5]);
        input.consume(2);
        assert_eq!(input.as_slice(), [3, 4, 5]);
        input.consume(1);
        assert_eq!(input.as_slice(), [4, 5]);
        input.push(&[6]);
        assert_eq!(input.as_slice(), [4, 5, 6]);
        input.consume(3);
        assert!(input.is_empty());
        assert!(input.release().capacity() >= 5);
    }

    #[test]
    fn refused_partitions_wait_for_a_resume() {
        use corelane_protocol::{PartitionIndex, TopicId};
        let [a, b] = [0, 1].map(|n| TopicPartition::new(TopicId::NIL, PartitionIndex::new(n)));
        let mut refused = RefusedPartitions::default();
        assert!(refused.admit(a, false));
        refused.insert(a);
        assert!(!refused.admit(a, false));
        assert!(refused.admit(b, false));
        assert!(refused.admit(a, true));
        assert!(refused.admit(a, false));
        assert_eq!(refused.len(), 0);
    }
}
