//! Slows senders down to what the stores can write, instead of refusing what they send.
//!
//! While a store of this core has no room for a produce, the produce waits unread in its connection,
//! and so does everything behind it: the client feels it as a connection that takes no more bytes.
//! What comes through another core's mailbox is not held back, and is refused when there is no room.
//! Room that does not come back (a full disk) is waited for a while only, then the stores say why.

use corelane_protocol::ApiKey;
use corelane_storage::disk::Disk;

use super::{Lane, Now};

/// How long senders wait for room before they are refused, in µs.
const PATIENCE_US: u64 = 5_000_000;

/// How often room is looked for while senders wait, in µs, beside whenever a store reports progress.
const CHECK_US: u64 = 5_000;

/// A batch for each so many bytes is reckoned with before a request is decoded.
const BATCH_BYTES_ASSUMED: u32 = 512;

/// What is known of the stores' room.
#[derive(Debug, Default)]
pub(super) struct Pacing {
    /// Since when there has been none, and when that was last found, monotonic µs.
    scarce_us: Option<(u64, u64)>,
    /// When to look again.
    check_us: Option<u64>,
}

impl Pacing {
    /// Whether requests wait for room.
    pub(super) fn is_waiting(&self) -> bool {
        self.check_us.is_some()
    }

    pub(super) fn check_us(&self) -> Option<u64> {
        self.check_us
    }
}

impl<D: Disk> Lane<D> {
    /// Whether the stores have room for what a frame may hold.
    pub(super) fn has_room(&mut self, now: Now, api_key: u16, frame_bytes: usize) -> bool {
        if api_key != ApiKey::Produce.as_u16() {
            return true;
        }
        let bytes = u32::try_from(frame_bytes).expect("a frame's length has 32 bits");
        let batches = 1 + bytes / BATCH_BYTES_ASSUMED;
        if self
            .stores
            .iter()
            .all(|store| store.has_room(batches, frame_bytes))
        {
            self.pacing = Pacing::default();
            return true;
        }
        let time = now.monotonic_us;
        let since_us = match self.pacing.scarce_us {
            // Asked again within the patience: whoever was refused goes on being refused.
            Some((since_us, asked_us)) if time - asked_us <= PATIENCE_US => since_us,
            _ => time,
        };
        self.pacing.scarce_us = Some((since_us, time));
        if time - since_us > PATIENCE_US {
            return true;
        }
        self.pacing.check_us = Some(time + CHECK_US);
        false
    }

    /// Takes up what waits for room, in turn, as far as there is room now.
    pub(super) fn admit_paced(&mut self, now: Now) {
        if !self.pacing.is_waiting() {
            return;
        }
        self.pacing.check_us = None;
        while let Some(key) = self.core_waiting.pop_front() {
            let Some(connection) = self.connections.get_mut(key) else {
                continue;
            };
            connection.waits_for_core = false;
            self.take_waiting_input(now, key);
            if self
                .connections
                .get(key)
                .is_some_and(|connection| connection.waits_for_core)
            {
                break;
            }
        }
    }
}
