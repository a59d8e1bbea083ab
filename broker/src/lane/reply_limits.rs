//! What clients that do not read may cost: how much is answered before they do, and how long they have.
//!
//! Replies are made when their requests are taken up, so they are bounded there. An answer about topics or groups is
//! much larger than its question: a connection has one of them at a time, made or on its way. While a core holds many
//! replies, a connection with any of its own waits until they have left. What can be asked again is refused where
//! there is no memory for the answer. Whoever does not read for too long is closed, since what waits for it is
//! memory that others need.

use corelane_protocol::ApiKey;
use corelane_protocol::frame::RequestHeader;
use corelane_storage::disk::Disk;
use corelane_storage::memory::MemoryKind;

use super::connection::Connection;
use super::slab::Key;
use super::{ConnectionId, Effect, Lane, Now};

/// Own reply bytes of a connection that do not keep it from asking about topics: those of other requests.
const OWN_BYTES_FREE: u64 = 64 * 1024;

/// How often replies are looked at within the time that clients have.
const CHECKS_PER_TIMEOUT: u64 = 4;

/// Replies of a connection that are not known to move.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unmoved {
    /// Since when they have been seen like this, monotonic µs.
    since_us: u64,
    /// When bytes had left last by then.
    sent_us: Option<u64>,
}

/// Whether an answer is as long as the broker's topics or groups make it.
pub(super) fn is_overview(api_key: u16) -> bool {
    let known = ApiKey::from_u16(api_key);
    known.is_some_and(|api| {
        matches!(
            api,
            ApiKey::Metadata
                | ApiKey::DescribeTopics
                | ApiKey::ListGroups
                | ApiKey::DescribeGroup
                | ApiKey::FetchOffsets
        )
    })
}

/// Whether a request can be refused when it has been carried out, and asked again.
pub(super) fn changes_nothing(api_key: u16) -> bool {
    let known = ApiKey::from_u16(api_key);
    known.is_some_and(|api| {
        matches!(
            api,
            ApiKey::ApiVersions
                | ApiKey::Metadata
                | ApiKey::Fetch
                | ApiKey::ListOffsets
                | ApiKey::DescribeTopics
                | ApiKey::FetchOffsets
                | ApiKey::ListGroups
                | ApiKey::DescribeGroup
        )
    })
}

impl<D: Disk> Lane<D> {
    /// Whether replies allow a connection's next request. What holds it up is its own: it goes on when they leave
    /// or its questions are answered.
    pub(super) fn replies_allow(&self, connection: &Connection, header: &RequestHeader) -> bool {
        let own = connection.ledger_bytes;
        if is_overview(header.api_key) && (connection.overviews > 0 || own > OWN_BYTES_FREE) {
            return false;
        }
        own == 0 || self.ledger.in_use_of(MemoryKind::Reply) < self.ledger.cap() / 4
    }

    /// Has replies looked at later, while there are connections.
    pub(super) fn plan_reply_check(&mut self, now: Now) {
        if self.reply_check_us.is_none() && !self.connections.is_empty() {
            let period_us = self.reply_timeout_us() / CHECKS_PER_TIMEOUT;
            self.reply_check_us = Some(now.monotonic_us + period_us);
        }
    }

    fn reply_timeout_us(&self) -> u64 {
        u64::from(self.config.limits.reply_timeout_ms) * 1000
    }

    /// Closes connections whose replies have not moved for too long.
    pub(super) fn check_replies(&mut self, now: Now) {
        let (time, timeout_us) = (now.monotonic_us, self.reply_timeout_us());
        let mut stuck: Vec<Key> = Vec::new();
        let keys: Vec<Key> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            let connection = self.connections.get_mut(key).expect("just listed");
            if connection.unsent_bytes == 0 || connection.closing {
                connection.unmoved = None;
                continue;
            }
            let seen = Unmoved {
                since_us: time,
                sent_us: connection.sent_us,
            };
            let unmoved = connection.unmoved.get_or_insert(seen);
            if unmoved.sent_us != connection.sent_us {
                *unmoved = seen;
            } else if time - unmoved.since_us >= timeout_us {
                stuck.push(key);
            }
        }
        for key in stuck {
            let connection = self.connections.get_mut(key).expect("just listed");
            connection.closing = true;
            self.meters.connections_unread += 1;
            tracing::info!(
                core = %self.core,
                connection = %ConnectionId::from(key),
                peer = %connection.peer,
                bytes = connection.unsent_bytes,
                timeout_ms = self.config.limits.reply_timeout_ms,
                "closed: the client did not read its replies in time (limits.reply_timeout_ms)"
            );
            self.effects.push_back(Effect::Close {
                connection: key.into(),
                after_sending: false,
            });
        }
        self.reply_check_us = None;
        self.plan_reply_check(now);
    }
}
