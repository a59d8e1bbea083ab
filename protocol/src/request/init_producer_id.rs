//! InitProducerId: a number for an idempotent producer.

use crate::wire::{DecodeError, Reader, Writer};

/// Asks for a producer id that nobody has had before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InitProducerIdRequest;

impl InitProducerIdRequest {
    #[expect(
        clippy::unnecessary_wraps,
        reason = "read like every other request, of which this one has no fields"
    )]
    pub(super) const fn decode(_: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self)
    }

    pub(super) const fn encode(self, _: &mut Writer<'_>) {}
}
