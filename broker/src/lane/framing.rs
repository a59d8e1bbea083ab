//! Cuts the byte stream of a connection into frames, and decides when a frame is taken up.
//!
//! A frame that lies wholly in the piece that was received is handled there; only what is cut by
//! the end of a piece is copied into the connection's own buffer, which is bounded by the length of
//! one frame and grows with what arrives.

use corelane_protocol::frame::{FrameError, RequestHeader};
use corelane_protocol::{ApiError, ErrorCode};
use corelane_storage::disk::Disk;
use corelane_storage::memory::MemoryKind;

use super::slab::Key;
use super::{ConnectionId, Effect, Lane, Now};

/// Empty input buffers that a core keeps, and the largest of them.
const SPARE_INPUTS_MAX: usize = 8;
const SPARE_INPUT_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Requests of one connection that are taken up before others have their turn: some 0.3 ms of small records.
const FRAMES_AT_ONCE: usize = 128;

impl<D: Disk> Lane<D> {
    /// A piece of a connection's stream was received. Returns how many of its bytes were taken in: all, or as many as
    /// whole requests that are many. Then the rest is to be given again, once other connections had their turn, and before
    /// anything that was received later.
    pub fn received(&mut self, now: Now, id: ConnectionId, bytes: &[u8]) -> usize {
        self.meters.begin_event(now);
        let key = id.key();
        let mut rest = bytes;
        let mut taken_in = bytes.len();
        while !rest.is_empty() {
            let Some(connection) = self.connections.get(key) else {
                break;
            };
            if connection.closing {
                break;
            }
            if connection.input.is_empty() {
                let (taken, has_more) = self.take_frames(now, key, rest, FRAMES_AT_ONCE);
                rest = &rest[taken..];
                if has_more {
                    taken_in -= rest.len();
                } else {
                    self.keep_input(key, rest);
                }
                break;
            }
            let wanted = self.wanted_input(key).min(rest.len());
            if !self.keep_input(key, &rest[..wanted]) {
                break;
            }
            rest = &rest[wanted..];
            self.take_kept_input(now, key);
        }
        self.meters.received_bytes += taken_in as u64;
        self.follow_frame(now, key);
        self.update_receiving(key);
        self.finish_event(now);
        taken_in
    }

    /// Takes up input of a connection that had to wait.
    pub(super) fn take_waiting_input(&mut self, now: Now, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.listed = false;
        if connection.stalled && !connection.closing {
            self.take_kept_input(now, key);
        }
        self.follow_frame(now, key);
        self.update_receiving(key);
    }

    /// Lists a connection whose input may have become possible to take up.
    pub(super) fn list_if_stalled(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && connection.stalled
            && !connection.listed
        {
            connection.listed = true;
            self.ready.push(key);
        }
    }

    /// Tells the shell to pause or to go on receiving.
    pub(super) fn update_receiving(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if connection.closing {
            return;
        }
        let on = connection.wants_input(&self.config.limits) && self.shutdown.is_none();
        if on != connection.receiving && !(on && corelane_storage::planted!(ReceiveNotResumed)) {
            connection.receiving = on;
            if on {
                connection.frame_debt.resumed();
            }
            self.effects.push_back(Effect::Receive {
                connection: key.into(),
                on,
            });
        }
    }

    /// Handles whole frames at the front of `bytes`, so many at most; how many bytes they were, and whether there may
    /// be more of them. All of `bytes` counts as handled once framing is lost.
    fn take_frames(&mut self, now: Now, key: Key, bytes: &[u8], most: usize) -> (usize, bool) {
        let mut taken = 0;
        for _ in 0..most {
            let rest = &bytes[taken..];
            let header = match RequestHeader::parse(rest, self.config.limits.frame_bytes_max) {
                Ok(Some(header)) => header,
                Ok(None) => return (taken, false),
                Err(error) => {
                    self.refuse_stream(key, rest, &error);
                    return (bytes.len(), false);
                }
            };
            let length = header.frame_length();
            if rest.len() < length || !self.may_take(now, key, &header, &rest[..length]) {
                return (taken, false);
            }
            self.dispatch(now, key, &header, &rest[..length]);
            self.pacing.end_turn();
            taken += length;
            if self
                .connections
                .get(key)
                .is_none_or(|connection| connection.closing)
            {
                return (bytes.len(), false);
            }
        }
        (taken, taken < bytes.len())
    }

    /// Whether a whole frame may be taken up now. If not, the connection is stalled, and listed
    /// again when something changes.
    fn may_take(&mut self, now: Now, key: Key, header: &RequestHeader, frame: &[u8]) -> bool {
        let limits = &self.config.limits;
        let Some(connection) = self.connections.get(key) else {
            return false;
        };
        let replies_allow = self.replies_allow(connection, header);
        let connection = self.connections.get_mut(key).expect("just looked up");
        connection.queued_us.get_or_insert(now.monotonic_us);
        let in_flight_bytes = self.in_flight_bytes + frame.len() as u64;
        let core_has_room =
            self.in_flight_bytes == 0 || in_flight_bytes <= limits.core_in_flight_bytes_max;
        connection.stalled = true;
        if !replies_allow || !connection.may_take(frame.len(), limits) {
            return false;
        }
        if !core_has_room {
            if !connection.waits_for_core {
                connection.waits_for_core = true;
                self.core_waiting.push_back(key);
            }
            return false;
        }
        let stalled = self.is_paced(now, key, header, frame);
        let connection = self.connections.get_mut(key).expect("just looked up");
        connection.stalled = stalled;
        !stalled
    }

    /// After requests were answered: the next connection that waited for the core goes on.
    pub(super) fn admit_core_waiting(&mut self) {
        if self.in_flight_bytes < self.config.limits.core_in_flight_bytes_max
            && let Some(key) = self.core_waiting.pop_front()
        {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.waits_for_core = false;
            }
            self.list_if_stalled(key);
        }
    }

    /// Handles the whole frames of a connection's own buffer.
    fn take_kept_input(&mut self, now: Now, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let mut input = std::mem::take(&mut connection.input);
        let (taken, _) = self.take_frames(now, key, input.as_slice(), usize::MAX);
        input.consume(taken);
        let Some(connection) = self.connections.get_mut(key) else {
            self.ledger.release(MemoryKind::Receive, input.capacity());
            return;
        };
        let emptied = input.is_empty();
        connection.input = input;
        if emptied {
            connection.stalled = false;
            self.release_input(key);
        }
    }

    /// Bytes that complete the frame at the front of a connection's buffer, or its header; all
    /// that comes while the frame waits for its turn.
    fn wanted_input(&self, key: Key) -> usize {
        let connection = self.connections.get(key).expect("looked up by the caller");
        let input = connection.input.as_slice();
        let limit = self.config.limits.frame_bytes_max;
        match RequestHeader::parse(input, limit) {
            Ok(Some(header)) if input.len() < header.frame_length() => {
                header.frame_length() - input.len()
            }
            Ok(None) => RequestHeader::LEN - input.len(),
            _ => usize::MAX,
        }
    }

    /// Copies bytes into a connection's buffer. False if there is no memory for them: the
    /// connection is refused and closed then.
    fn keep_input(&mut self, key: Key, bytes: &[u8]) -> bool {
        let limit = self.config.limits.frame_bytes_max;
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        if bytes.is_empty() || connection.closing {
            return !connection.closing;
        }
        let input = &mut connection.input;
        if input.capacity() == 0
            && let Some(buffer) = self.spare_inputs.pop()
        {
            input.adopt(buffer);
        }
        let front = if input.is_empty() {
            bytes
        } else {
            input.as_slice()
        };
        // What is kept is the rest of one frame, or whatever comes while frames wait.
        let expected = match RequestHeader::parse(front, limit) {
            Ok(Some(header)) if front.len() < header.frame_length() => header.frame_length(),
            Ok(None) => RequestHeader::LEN,
            _ => usize::MAX,
        };
        let refused = RequestHeader::peek(front).unwrap_or_default();
        let (before, after) = (input.capacity(), input.capacity_for(bytes.len(), expected));
        if after > before {
            if self
                .ledger
                .reserve(MemoryKind::Receive, after - before)
                .is_err()
            {
                let problem = "the memory of this core is full of unfinished requests";
                self.refuse_frame(key, refused, &ApiError::new(ErrorCode::Overloaded, problem));
                self.close_after_sending(key);
                return false;
            }
            let connection = self.connections.get_mut(key).expect("just looked up");
            connection.input.grow(after);
            // The allocator may have given more than was asked for.
            let more = connection.input.capacity() - after;
            self.ledger.reserve_unbounded(MemoryKind::Receive, more);
        }
        let connection = self.connections.get_mut(key).expect("just looked up");
        connection.input.push(bytes);
        true
    }

    /// Gives the buffer of an empty input back.
    pub(super) fn release_input(&mut self, key: Key) {
        let connection = self
            .connections
            .get_mut(key)
            .expect("looked up by the caller");
        let buffer = connection.input.release();
        let capacity = buffer.capacity();
        if capacity == 0 {
            return;
        }
        if self.spare_inputs.len() < SPARE_INPUTS_MAX && capacity <= SPARE_INPUT_BYTES_MAX {
            self.spare_inputs.push(buffer);
        } else {
            self.ledger.release(MemoryKind::Receive, capacity);
        }
    }

    /// Answers a frame whose header cannot be used, and closes: where the next one begins is lost.
    fn refuse_stream(&mut self, key: Key, bytes: &[u8], error: &FrameError) {
        let header = RequestHeader::peek(bytes).unwrap_or_default();
        self.refuse_frame(key, header, &ApiError::new(error.code(), error.to_string()));
        self.close_after_sending(key);
    }
}
