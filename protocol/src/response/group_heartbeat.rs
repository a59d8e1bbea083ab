//! GroupHeartbeat: a member's generation, and what it may hold.

use super::{GroupAnswer, NamedPartitions};
use crate::ids::Generation;
use crate::wire::{DecodeError, Reader, Writer};

/// The answer to a heartbeat.
pub type GroupHeartbeatResponse = GroupAnswer<HeartbeatAnswer>;

/// What a member is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeartbeatAnswer {
    /// The member's generation, to be sent from here on.
    pub generation: Generation,
    /// When the next heartbeat is expected, in ms; sooner where partitions were let go.
    pub heartbeat_interval_ms: u32,
    /// All partitions that the member may hold now: others it has to let go, and to say so by its
    /// next heartbeat. `None` where it holds exactly these.
    pub assignment: Option<Vec<NamedPartitions>>,
}

impl GroupHeartbeatResponse {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::decode_with(r, |r| {
            Ok(HeartbeatAnswer {
                generation: Generation::new(r.u32()?),
                heartbeat_interval_ms: r.u32()?,
                assignment: r
                    .option(|r| r.list(NamedPartitions::BYTES_MIN, NamedPartitions::decode))?,
            })
        })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        self.encode_with(w, |w, answer| {
            w.u32(answer.generation.get());
            w.u32(answer.heartbeat_interval_ms);
            w.option(answer.assignment.as_ref(), |w, topics| {
                w.list(topics, |w, topic| topic.encode(w));
            });
        });
    }
}
