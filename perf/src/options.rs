//! The options of a load, each of which may be left open: those of the command line and the keys of scenario files.

use serde::Deserialize;

use crate::error::PerfError;
use crate::workload::{Acks, Compression, Kind, Payload, Workload};

/// What is asked for; `None` leaves what was there before.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Options {
    /// [`Workload::topic`].
    pub topic: Option<String>,
    /// [`Workload::partitions`].
    pub partitions: Option<u32>,
    /// [`Workload::connections`].
    pub connections: Option<u32>,
    /// [`Workload::record_size`].
    pub record_size: Option<u32>,
    /// [`Workload::batch_bytes`].
    pub batch_bytes: Option<u32>,
    /// [`Workload::in_flight_bytes`].
    pub in_flight_bytes: Option<u64>,
    /// [`Workload::linger_ms`].
    pub linger: Option<f64>,
    /// [`Workload::rate`].
    pub rate: Option<u64>,
    /// [`Workload::duration_s`].
    pub duration: Option<f64>,
    /// [`Workload::warm_up_s`].
    pub warm_up: Option<f64>,
    /// [`Workload::acks`].
    pub acks: Option<Acks>,
    /// [`Workload::fill_bytes`].
    pub fill_bytes: Option<u64>,
    /// [`Workload::keys`].
    pub keys: Option<u32>,
    /// [`Workload::payload`].
    pub payload: Option<Payload>,
    /// [`Workload::compression`].
    pub compression: Option<Compression>,
    /// [`Workload::idempotent`].
    pub idempotent: Option<bool>,
    /// [`Workload::stages`].
    pub stages: Option<bool>,
}

impl Options {
    /// Refuses options that a load of this kind has no use for.
    ///
    /// # Errors
    /// `Workload` with the option's name.
    pub fn check(&self, kind: Kind) -> Result<(), PerfError> {
        if self.fill_bytes.is_some() && kind != Kind::Consume {
            return Err(PerfError::Workload(format!(
                "only consume fills a topic: leave out --fill-bytes, which {} has no use for",
                kind.name()
            )));
        }
        Ok(())
    }

    /// The workload with what is asked for.
    #[must_use]
    pub fn apply(&self, workload: Workload) -> Workload {
        Workload {
            kind: workload.kind,
            topic: self.topic.clone().or(workload.topic),
            partitions: self.partitions.or(workload.partitions),
            connections: self.connections.unwrap_or(workload.connections),
            record_size: self.record_size.unwrap_or(workload.record_size),
            batch_bytes: self.batch_bytes.unwrap_or(workload.batch_bytes),
            in_flight_bytes: self.in_flight_bytes.unwrap_or(workload.in_flight_bytes),
            linger_ms: self.linger.unwrap_or(workload.linger_ms),
            rate: self.rate.or(workload.rate),
            duration_s: self.duration.unwrap_or(workload.duration_s),
            warm_up_s: self.warm_up.unwrap_or(workload.warm_up_s),
            acks: self.acks.unwrap_or(workload.acks),
            fill_bytes: self.fill_bytes.unwrap_or(workload.fill_bytes),
            keys: self.keys.or(workload.keys),
            payload: self.payload.unwrap_or(workload.payload),
            compression: self.compression.unwrap_or(workload.compression),
            idempotent: self.idempotent.unwrap_or(workload.idempotent),
            stages: self.stages.unwrap_or(workload.stages),
        }
    }
}
