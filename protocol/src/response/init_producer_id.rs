//! InitProducerId: a number for an idempotent producer.

use crate::error::ApiError;
use crate::ids::{ProducerEpoch, ProducerId};
use crate::wire::{DecodeError, Reader, Writer};

/// The answer to InitProducerId.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitProducerIdResponse {
    /// Who the producer is, or why there is no number for it.
    pub result: Result<ProducerIdentity, ApiError>,
}

/// Who an idempotent producer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdentity {
    /// Its number, which nobody else has had or will have.
    pub producer_id: ProducerId,
    /// The epoch to begin with.
    pub producer_epoch: ProducerEpoch,
    /// How many of its last batches each partition knows again, at least. A producer that may have to send a batch
    /// again never has more of them unanswered in one partition.
    pub window: u32,
}

impl InitProducerIdResponse {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let result = r.result(|r| {
            Ok(ProducerIdentity {
                producer_id: ProducerId::new(r.u64()?),
                producer_epoch: ProducerEpoch::new(r.u16()?),
                window: r.u32()?,
            })
        })?;
        Ok(Self { result })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.result(&self.result, |w, identity| {
            w.u64(identity.producer_id.get());
            w.u16(identity.producer_epoch.get());
            w.u32(identity.window);
        });
    }
}
