//! ApiVersions: the first exchange of a connection.

use crate::wire::{DecodeError, Reader, Writer};

/// Asks what the broker speaks, and says who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiVersionsRequest {
    /// What the client calls itself, for logs and metrics.
    pub client_name: String,
    /// The version of the client's software.
    pub client_version: String,
}

impl ApiVersionsRequest {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            client_name: r.string()?,
            client_version: r.string()?,
        })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.text(&self.client_name);
        w.text(&self.client_version);
    }
}
