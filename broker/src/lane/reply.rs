//! Encodes answers into the outbox of their connection.
//!
//! Replies of one connection that are made within one round of events lie in one buffer and become
//! one send.

use corelane_protocol::frame::ResponseMeta;
use corelane_protocol::ids::CorrelationId;
use corelane_protocol::response::{FetchResponseHead, Response, encode_error};
use corelane_protocol::{ApiError, ErrorCode};
use corelane_storage::disk::Disk;
use corelane_storage::memory::{ChunkSlice, MemoryKind};

use super::parked::ClientRequest;
use super::reply_limits::{changes_nothing, is_overview};
use super::slab::Key;
use super::{Effect, Lane, ReplyPart};

/// API key, version and correlation id of a request whose header cannot be used.
type Peeked = (u16, u16, CorrelationId);

/// The frame that tells a client why its connection is not accepted.
pub fn refusal_frame(error: &ApiError) -> Vec<u8> {
    let mut out = Vec::new();
    encode_error(0, &ResponseMeta::default(), error, &mut out);
    out
}

impl<D: Disk> Lane<D> {
    /// Answers a request.
    pub(super) fn answer(&mut self, client: ClientRequest, response: &Response<'_>) {
        self.release_request(client);
        self.meters.entry_errors(client.api_key, response);
        self.write_reply(client, |meta, out| response.encode(meta, out));
    }

    /// Refuses a whole request.
    pub(super) fn answer_error(&mut self, client: ClientRequest, error: &ApiError) {
        self.release_request(client);
        self.meters.error(client.api_key, error.code);
        self.write_reply(client, |meta, out| {
            encode_error(client.api_key, meta, error, out)
        });
    }

    /// Answers a fetch: its head, then the batches as they lie in memory.
    pub(super) fn answer_fetch(
        &mut self,
        client: ClientRequest,
        head: &FetchResponseHead,
        batches: impl IntoIterator<Item = ReplyPart>,
    ) {
        self.release_request(client);
        self.meters.fetch_errors(head);
        let mut whole = false;
        let is_kept = self.write_reply(client, |meta, out| whole = head.encode_head(meta, out));
        if whole && is_kept {
            for part in batches {
                self.push_part(client.connection, part);
            }
        }
    }

    /// Refuses a frame that was not taken up.
    pub(super) fn refuse_frame(&mut self, key: Key, header: Peeked, error: &ApiError) {
        let (api_key, api_version, correlation_id) = header;
        let client = ClientRequest {
            connection: key,
            api_key,
            api_version,
            correlation_id,
            frame_bytes: 0,
            no_forward: false,
            taken_us: self.meters.now_us,
        };
        self.meters.error(api_key, error.code);
        self.write_reply(client, |meta, out| encode_error(api_key, meta, error, out));
    }

    /// Takes no further request of a connection, and closes it once its replies have left.
    pub(super) fn close_after_sending(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if connection.closing {
            return;
        }
        connection.closing = true;
        let parts = std::mem::take(&mut connection.outbox);
        let connection = key.into();
        if !parts.is_empty() {
            self.effects.push_back(Effect::Send { connection, parts });
        }
        self.effects.push_back(Effect::Close {
            connection,
            after_sending: true,
        });
    }

    /// What a request held until it was answered.
    fn release_request(&mut self, client: ClientRequest) {
        self.meters.answered(client.api_key, client.taken_us);
        let Some(connection) = self.connections.get_mut(client.connection) else {
            return;
        };
        connection.requests -= 1;
        connection.overviews -= u32::from(is_overview(client.api_key));
        connection.in_flight_bytes -= client.frame_bytes;
        self.in_flight_bytes -= client.frame_bytes;
        self.list_if_stalled(client.connection);
        self.admit_core_waiting();
        self.update_receiving(client.connection);
        self.note_answered(client.connection);
    }

    /// Writes a reply, or, where there is no memory for one that can be asked for again, that there is none. Whether
    /// it was the reply.
    fn write_reply(
        &mut self,
        client: ClientRequest,
        write: impl FnOnce(&ResponseMeta, &mut Vec<u8>),
    ) -> bool {
        let Some(connection) = self.connections.get_mut(client.connection) else {
            return false;
        };
        if connection.closing {
            return false;
        }
        let meta = ResponseMeta {
            api_version: client.api_version,
            correlation_id: client.correlation_id,
            throttle_ms: 0,
            credit_bytes: connection.credit_bytes(&self.config.limits),
        };
        if connection.outbox.is_empty() {
            self.to_send.push(client.connection);
        }
        if !matches!(connection.outbox.last(), Some(ReplyPart::Bytes(_))) {
            connection.outbox.push(ReplyPart::Bytes(Vec::new()));
        }
        let Some(ReplyPart::Bytes(out)) = connection.outbox.last_mut() else {
            unreachable!("a part of bytes was pushed if there was none");
        };
        let before = out.len();
        write(&meta, out);
        let is_kept =
            !changes_nothing(client.api_key) || out.len() - before <= self.ledger.available();
        if !is_kept {
            out.truncate(before);
            let problem = "the memory of this core is full of replies that nobody reads";
            let error = ApiError::new(ErrorCode::Overloaded, problem);
            encode_error(client.api_key, &meta, &error, out);
            out.shrink_to_fit();
        }
        let length = out.len() - before;
        self.count_reply(client.connection, length, length);
        is_kept
    }

    fn push_part(&mut self, key: Key, part: ReplyPart) {
        let length = part.as_slice().len();
        let own = match &part {
            ReplyPart::Bytes(_) => length,
            ReplyPart::Log(_) => 0,
        };
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if length > 0 && !connection.closing {
            connection.outbox.push(part);
            self.count_reply(key, length, own);
        }
    }

    /// Counts reply bytes, `own` of which were made for the reply and not for a log.
    fn count_reply(&mut self, key: Key, length: usize, own: usize) {
        let connection = self
            .connections
            .get_mut(key)
            .expect("looked up by the caller");
        connection.unsent_bytes += length as u64;
        connection.unsent_since_us.get_or_insert(self.meters.now_us);
        connection.ledger_bytes += own as u64;
        self.reply_bytes += length as u64;
        // What is to be answered is bounded when it is taken up; refusing here would lose answers.
        self.ledger.reserve_unbounded(MemoryKind::Reply, own);
    }
}

impl From<ChunkSlice> for ReplyPart {
    fn from(slice: ChunkSlice) -> Self {
        Self::Log(slice)
    }
}
