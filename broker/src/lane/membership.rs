//! Connections come, send, and go.

use std::net::SocketAddr;

use corelane_protocol::{ApiError, ErrorCode};
use corelane_storage::disk::Disk;
use corelane_storage::memory::MemoryKind;

use super::connection::Connection;
use super::dispatch::shutting_down;
use super::parked::Origin;
use super::{ConnectionId, Effect, Lane, Mail, Now};

impl<D: Disk> Lane<D> {
    /// A client has connected.
    ///
    /// # Errors
    /// It cannot be served: the shell sends it [`super::refusal_frame`] and closes.
    pub fn connection_opened(
        &mut self,
        now: Now,
        peer: SocketAddr,
    ) -> Result<ConnectionId, ApiError> {
        self.meters.begin_event(now);
        if self.shutdown.is_some() {
            self.meters.connections_refused += 1;
            return Err(shutting_down());
        }
        let most = self.config.limits.connections_max as usize;
        if self.connections.len() >= most {
            self.meters.connections_refused += 1;
            return Err(ApiError::new(
                ErrorCode::TooManyConnections,
                format!("this core serves {most} connections already"),
            ));
        }
        self.meters.connections_opened += 1;
        let key = self.connections.insert(Connection::new(peer));
        self.follow_frame(now, key);
        self.plan_reply_check(now);
        Ok(key.into())
    }

    /// So many bytes of a connection's replies have left.
    pub fn sent(&mut self, now: Now, id: ConnectionId, bytes: usize) {
        self.meters.begin_event(now);
        let key = id.key();
        if let Some(connection) = self.connections.get_mut(key) {
            let bytes = bytes as u64;
            debug_assert!(
                bytes <= connection.unsent_bytes,
                "no more is sent than was handed over"
            );
            connection.unsent_bytes -= bytes;
            let next_us = (connection.unsent_bytes > 0).then_some(now.monotonic_us);
            let since_us = std::mem::replace(&mut connection.unsent_since_us, next_us);
            let waited_us = now.monotonic_us - since_us.unwrap_or(now.monotonic_us);
            self.meters.sends.record(waited_us);
            self.meters.sent_bytes += bytes;
            connection.sent_us = Some(now.monotonic_us);
            self.reply_bytes -= bytes;
            // What leaves first is not known to be of one kind or the other; in the end both are 0.
            let released = bytes.min(connection.ledger_bytes);
            connection.ledger_bytes -= released;
            self.ledger.release(MemoryKind::Reply, released as usize);
            if connection.may_reply(&self.config.limits) {
                let deferred = std::mem::take(&mut connection.deferred);
                self.wake_deferred(key, deferred);
            }
            self.list_if_stalled(key);
            self.update_receiving(key);
        }
        self.finish_event(now);
    }

    /// A connection is closed, by whomever: what still waits for it is dropped.
    pub fn connection_closed(&mut self, now: Now, id: ConnectionId) {
        self.meters.begin_event(now);
        let Some(connection) = self.connections.remove(id.key()) else {
            return;
        };
        if let Some(check_us) = connection.frame_debt.check_us {
            self.frame_checks.remove(&(check_us, id.key()));
        }
        if self.connections.is_empty() {
            self.reply_check_us = None;
        }
        self.in_flight_bytes -= connection.in_flight_bytes;
        self.reply_bytes -= connection.unsent_bytes + connection.expected_bytes;
        self.ledger
            .release(MemoryKind::Receive, connection.input.capacity());
        self.ledger
            .release(MemoryKind::Reply, connection.ledger_bytes as usize);
        for fetch in connection.fetches {
            self.drop_fetch(fetch);
        }
        self.drop_paced(
            |wait| matches!(wait.origin, Origin::Client(client) if client.connection == id.key()),
        );
        for to in connection.forwarded_to {
            self.effects.push_back(Effect::Mail {
                to,
                mail: Mail::SourceClosed { source: id },
            });
        }
        self.admit_core_waiting();
        self.finish_event(now);
    }

    /// Bytes of a connection's replies that have not left, for tests and metrics.
    pub fn unsent_bytes(&self, id: ConnectionId) -> u64 {
        self.connections
            .get(id.key())
            .map_or(0, |connection| connection.unsent_bytes)
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }
}
