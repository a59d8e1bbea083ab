//! What is asked of a broker: plain data, checked before anything is sent.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::PerfError;
use crate::value::{NUMBER_BYTES, STAMPED_BYTES};

/// Which of the four loads it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Produces: as fast as acknowledgements allow, or at a rate.
    Produce,
    /// Reads a topic from its start, again and again until the time is over.
    Consume,
    /// Produces at a rate, without waiting for company: what a record waits for its acknowledgement.
    Latency,
    /// Produces at a rate and consumes at the same time: what a record takes from one end to the other.
    EndToEnd,
}

impl Kind {
    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Produce => "produce",
            Self::Consume => "consume",
            Self::Latency => "latency",
            Self::EndToEnd => "end-to-end",
        }
    }

    /// Whether latency is all that it is about, so that it has a rate in any case.
    const fn needs_rate(self) -> bool {
        matches!(self, Self::Latency | Self::EndToEnd)
    }
}

/// When the broker acknowledges, in Kafka's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Acks {
    /// At once, from memory.
    #[serde(rename = "0")]
    None,
    /// Once the leader has flushed.
    #[serde(rename = "1")]
    Leader,
    /// Once every in-sync replica has flushed.
    #[default]
    #[serde(rename = "all")]
    All,
}

impl From<Acks> for corelane_client::Acks {
    fn from(acks: Acks) -> Self {
        match acks {
            Acks::None => Self::None,
            Acks::Leader => Self::Leader,
            Acks::All => Self::All,
        }
    }
}

/// What values hold beside their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Payload {
    /// Bytes that no codec makes smaller.
    #[default]
    Random,
    /// Zeros.
    Zeros,
    /// Lines like those of a log.
    Text,
}

/// How the client compresses batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// With gzip.
    Gzip,
    /// With snappy.
    Snappy,
    /// With lz4.
    Lz4,
    /// With zstd.
    Zstd,
}

impl From<Compression> for corelane_client::Compression {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::None => Self::None,
            Compression::Gzip => Self::Gzip,
            Compression::Snappy => Self::Snappy,
            Compression::Lz4 => Self::Lz4,
            Compression::Zstd => Self::Zstd,
        }
    }
}

/// A load: what is sent or read, how fast, and for how long. The same workload can be run again and again, also in turns
/// with something else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Which load it is.
    pub kind: Kind,
    /// The topic, which is made if it is absent. Without a name a topic of the run's own is used, and deleted afterwards.
    pub topic: Option<String>,
    /// Partitions of the topic. `None`: those that it has, or 4 if it is made.
    pub partitions: Option<u32>,
    /// Producers, and consumers, that work at the same time. Each has a connection of its own to every core that it
    /// sends to or reads from.
    pub connections: u32,
    /// Bytes of each value.
    pub record_size: u32,
    /// Bytes at which a batch is full.
    pub batch_bytes: u32,
    /// Closed loop: value bytes of a producer that may wait for their acknowledgements. In any case what may be in flight
    /// on a connection.
    pub in_flight_bytes: u64,
    /// How long a batch that is not full waits for company, milliseconds.
    pub linger_ms: f64,
    /// Records a second, over all producers: an open loop. `None`: a closed loop.
    pub rate: Option<u64>,
    /// Seconds that are counted.
    pub duration_s: f64,
    /// Seconds of load before anything is counted.
    pub warm_up_s: f64,
    /// When the broker acknowledges.
    pub acks: Acks,
    /// Bytes of values that a topic without records is filled with before it is read.
    pub fill_bytes: u64,
    /// How many different keys records have; the key decides the partition. `None`: no keys.
    pub keys: Option<u32>,
    /// What values hold.
    pub payload: Payload,
    /// How batches are compressed.
    pub compression: Compression,
    /// Whether producers are idempotent, as the client's are unless told otherwise.
    #[serde(default = "yes")]
    pub idempotent: bool,
    /// Whether the broker is asked how long its stages took. That changes nothing of the load.
    #[serde(default)]
    pub stages: bool,
}

/// What holds where nothing is said of idempotence.
const fn yes() -> bool {
    true
}

/// Records a second of a load that needs a rate, unless another is given.
const RATE_DEFAULT: u64 = 5_000;
/// Partitions of a topic that is made, unless another number is given.
pub(crate) const PARTITIONS_DEFAULT: u32 = 4;

const PARTITIONS_MAX: u32 = 10_000;
const CONNECTIONS_MAX: u32 = 64;
const RECORD_SIZE_MAX: u32 = 64 << 20;
const BATCH_BYTES_MIN: u32 = 512;
const BATCH_BYTES_MAX: u32 = 64 << 20;
const IN_FLIGHT_BYTES_MAX: u64 = 1 << 30;
const LINGER_MS_MAX: f64 = 60_000.0;
const RATE_MAX: u64 = 100_000_000;
const SECONDS_MAX: f64 = 86_400.0;
const KEYS_MAX: u32 = 1_000_000;
const FILL_BYTES_MAX: u64 = 1 << 40;

impl Workload {
    /// A load with the defaults of its kind.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            topic: None,
            partitions: None,
            connections: 1,
            record_size: 1000,
            batch_bytes: 64 * 1024,
            in_flight_bytes: 8 << 20,
            linger_ms: 0.0,
            rate: kind.needs_rate().then_some(RATE_DEFAULT),
            duration_s: 10.0,
            warm_up_s: 1.0,
            acks: Acks::All,
            fill_bytes: 256_000_000,
            keys: None,
            payload: Payload::Random,
            compression: Compression::None,
            idempotent: yes(),
            stages: false,
        }
    }

    /// Whether latency counts from fixed times, whatever the broker does.
    #[must_use]
    pub fn is_open_loop(&self) -> bool {
        self.rate.is_some()
    }

    /// How long it is counted.
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.duration_s)
    }

    /// How long it is not counted before.
    pub(crate) fn warm_up(&self) -> Duration {
        Duration::from_secs_f64(self.warm_up_s)
    }

    /// How long a batch waits.
    pub(crate) fn linger(&self) -> Duration {
        Duration::from_secs_f64(self.linger_ms / 1e3)
    }

    /// Refuses what cannot work.
    ///
    /// # Errors
    /// `Workload`, with the option's name and what it may be.
    pub fn check(&self) -> Result<(), PerfError> {
        let refuse = |what: String| Err(PerfError::Workload(what));
        let bounded = |name: &str, value: f64, min: f64, max: f64| {
            if (min..=max).contains(&value) {
                return Ok(());
            }
            refuse(format!("--{name} is {value}, and has to be {min} to {max}"))
        };
        if let Some(partitions) = self.partitions {
            bounded("partitions", partitions.into(), 1.0, PARTITIONS_MAX.into())?;
        }
        bounded(
            "connections",
            self.connections.into(),
            1.0,
            CONNECTIONS_MAX.into(),
        )?;
        bounded(
            "record-size",
            self.record_size.into(),
            NUMBER_BYTES as f64,
            RECORD_SIZE_MAX.into(),
        )?;
        bounded(
            "batch-bytes",
            self.batch_bytes.into(),
            BATCH_BYTES_MIN.into(),
            BATCH_BYTES_MAX.into(),
        )?;
        bounded("linger", self.linger_ms, 0.0, LINGER_MS_MAX)?;
        bounded("duration", self.duration_s, 0.01, SECONDS_MAX)?;
        bounded("warm-up", self.warm_up_s, 0.0, SECONDS_MAX)?;
        bounded(
            "in-flight-bytes",
            self.in_flight_bytes as f64,
            self.record_size.into(),
            IN_FLIGHT_BYTES_MAX as f64,
        )?;
        bounded(
            "fill-bytes",
            self.fill_bytes as f64,
            self.record_size.into(),
            FILL_BYTES_MAX as f64,
        )?;
        if let Some(keys) = self.keys {
            bounded("keys", keys.into(), 1.0, KEYS_MAX.into())?;
        }
        match (self.kind, self.rate) {
            (Kind::Consume, Some(_)) => {
                return refuse(
                    "consume has no rate: it reads as fast as it can; leave out --rate".into(),
                );
            }
            (Kind::Latency | Kind::EndToEnd, None) => {
                return refuse(format!("{} needs a --rate", self.kind.name()));
            }
            (_, Some(rate)) => bounded("rate", rate as f64, 1.0, RATE_MAX as f64)?,
            (_, None) => {}
        }
        if self.kind == Kind::EndToEnd && (self.record_size as usize) < STAMPED_BYTES {
            return refuse(format!(
                "end-to-end records carry the time at which they were sent: --record-size has to be at least {STAMPED_BYTES}"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Kind; 4] = [Kind::Produce, Kind::Consume, Kind::Latency, Kind::EndToEnd];

    #[test]
    fn the_defaults_work_and_only_latency_has_a_rate() {
        for kind in KINDS {
            let workload = Workload::new(kind);
            workload.check().unwrap();
            assert_eq!(workload.is_open_loop(), kind.needs_rate());
        }
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        type Change = fn(&mut Workload);
        let changes: [(&str, Kind, Change); 15] = [
            ("keys", Kind::Produce, |w| w.keys = Some(0)),
            ("keys", Kind::Latency, |w| w.keys = Some(1_000_001)),
            ("partitions", Kind::Produce, |w| w.partitions = Some(0)),
            ("partitions", Kind::Produce, |w| w.partitions = Some(10_001)),
            ("connections", Kind::Produce, |w| w.connections = 0),
            ("connections", Kind::Produce, |w| w.connections = 65),
            ("record-size", Kind::Produce, |w| w.record_size = 7),
            ("batch-bytes", Kind::Produce, |w| w.batch_bytes = 511),
            ("in-flight-bytes", Kind::Produce, |w| {
                w.in_flight_bytes = 999
            }),
            ("linger", Kind::Produce, |w| w.linger_ms = -1.0),
            ("duration", Kind::Produce, |w| w.duration_s = 0.0),
            ("duration", Kind::Produce, |w| w.duration_s = f64::NAN),
            ("rate", Kind::Consume, |w| w.rate = Some(5)),
            ("rate", Kind::Latency, |w| w.rate = Some(0)),
            ("record-size", Kind::EndToEnd, |w| w.record_size = 15),
        ];
        for (name, kind, change) in changes {
            let mut workload = Workload::new(kind);
            change(&mut workload);
            let error = workload.check().unwrap_err().to_string();
            assert!(error.contains(&format!("--{name}")), "{error}");
        }
    }
}
