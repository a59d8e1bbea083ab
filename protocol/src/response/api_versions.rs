//! ApiVersions: what the broker speaks, who it is, and its limits.

use uuid::Uuid;

use crate::ids::BrokerId;
use crate::wire::{DecodeError, Reader, Writer};

/// What a client needs to know before its first request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiVersionsResponse {
    /// The version of the broker's software.
    pub broker_version: String,
    /// The broker's number.
    pub broker_id: BrokerId,
    /// The cluster, made with its first data directory.
    pub cluster_id: Uuid,
    /// The requests that the broker answers.
    pub apis: Vec<SupportedApi>,
    /// The longest frame that the broker takes, bytes.
    pub frame_bytes_max: u32,
    /// The longest batch that the broker takes by default, bytes; topics may
    /// differ.
    pub batch_bytes_max: u32,
    /// Bytes of requests that one connection may have in flight.
    pub connection_in_flight_bytes_max: u32,
}

/// One request that the broker answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SupportedApi {
    /// The request's number.
    pub api_key: u16,
    /// The oldest version.
    pub version_min: u16,
    /// The newest version.
    pub version_max: u16,
}

impl ApiVersionsResponse {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            broker_version: r.string()?,
            broker_id: BrokerId::new(r.u32()?),
            cluster_id: r.uuid()?,
            apis: r.list(6, |r| {
                Ok(SupportedApi {
                    api_key: r.u16()?,
                    version_min: r.u16()?,
                    version_max: r.u16()?,
                })
            })?,
            frame_bytes_max: r.u32()?,
            batch_bytes_max: r.u32()?,
            connection_in_flight_bytes_max: r.u32()?,
        })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.text(&self.broker_version);
        w.u32(self.broker_id.get());
        w.uuid(self.cluster_id);
        w.list(&self.apis, |w, api| {
            w.u16(api.api_key);
            w.u16(api.version_min);
            w.u16(api.version_max);
        });
        w.u32(self.frame_bytes_max);
        w.u32(self.batch_bytes_max);
        w.u32(self.connection_in_flight_bytes_max);
    }
}
