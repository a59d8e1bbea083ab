//! A run's result from what was recorded of it.

use corelane_client::Durability;

use super::Measured;
use crate::error::PerfError;
use crate::manifest::{ClientSettings, Manifest, Pinning, Software, Topic};
use crate::recorder::Recorder;
use crate::result::{
    Consumed, DurabilityFrom, Pace, Percentiles, PerfResult, RESULT_VERSION, curve,
};
use crate::session::{Session, UsedTopic, unusual};
use crate::workload::Workload;

/// What a producer's buffer has at least, bytes: the client's default.
const BUFFER_BYTES_MIN: u64 = 32 << 20;

/// The buffer of each producer: more than what may be in flight, so that it is not what limits.
pub(super) fn buffer_bytes(workload: &Workload) -> u64 {
    let window = workload.in_flight_bytes.max(workload.batch_bytes.into());
    (2 * window).max(BUFFER_BYTES_MIN)
}

pub(super) fn manifest(
    session: &Session,
    workload: &Workload,
    topic: &UsedTopic,
    software: Software,
) -> Result<Manifest, PerfError> {
    let broker = session.broker()?;
    let pinned = if broker.embedded {
        "one core each"
    } else {
        "unknown"
    };
    Ok(Manifest {
        workload: workload.clone(),
        topic: Topic {
            name: topic.name.clone(),
            partitions: topic.partitions,
            made: topic.is_made,
            kept: true,
            settings: unusual(topic),
        },
        client: ClientSettings {
            buffer_bytes: buffer_bytes(workload),
            idempotent: workload.idempotent,
            library: format!("corelane-client {}", env!("CARGO_PKG_VERSION")),
        },
        pinning: Pinning {
            broker: pinned.to_owned(),
            client: "not pinned".to_owned(),
        },
        durability: String::new(),
        broker,
        software,
    })
}

/// No result without a durability, and none of nothing.
pub(super) fn require(
    durability: Option<(Durability, DurabilityFrom)>,
    recorder: &Recorder,
    workload: &Workload,
) -> Result<(Durability, DurabilityFrom), PerfError> {
    // Records that all came after the end are a result, and a bad one.
    let has_records = recorder.total().0 > 0 || !recorder.latency().is_empty();
    let nothing = |what: String| PerfError::NothingMeasured {
        what,
        first_error: recorder.first_error().map(str::to_owned),
    };
    let kind = workload.kind.name();
    match durability {
        Some(durability) if has_records => Ok(durability),
        Some(_) => Err(nothing(format!(
            "no record of {kind} came to its end between the warm-up and the end"
        ))),
        None => Err(nothing(format!("no record of {kind} was acknowledged"))),
    }
}

pub(super) fn result(
    workload: &Workload,
    recorder: &Recorder,
    measured: &Measured,
    (durability, durability_from): (Durability, DurabilityFrom),
    consumed: Option<Consumed>,
    manifest: Manifest,
) -> PerfResult {
    let (records, value_bytes) = recorder.total();
    let seconds = recorder.window().seconds();
    let latency = recorder.latency();
    PerfResult {
        version: RESULT_VERSION,
        kind: workload.kind,
        pace: if workload.is_open_loop() {
            Pace::Open
        } else {
            Pace::Closed
        },
        cut_short: measured.is_cut_short,
        seconds,
        records,
        value_bytes,
        throughput_mb_s: value_bytes as f64 / 1e6 / seconds,
        records_per_s: records as f64 / seconds,
        latency_us: Percentiles::of(&latency),
        service_time_us: Percentiles::of(recorder.service_times()),
        acknowledge_us: Percentiles::of(recorder.acknowledge_times()),
        durability,
        durability_from,
        errors: recorder.errors(),
        errors_by_kind: recorder.errors_by_kind().clone(),
        first_error: recorder.first_error().map(str::to_owned),
        broker_cpu_ns_per_record: measured.broker_cpu_ns_per_record,
        client_cpu_ns_per_record: measured.client_cpu_ns_per_record,
        consumed,
        latency_curve_us: curve(&latency),
        service_time_curve_us: curve(recorder.service_times()),
        series: recorder.series(),
        manifest,
        limit: None,
        stages: measured.stages.clone(),
        histograms: recorder.histograms().to_vec(),
        acknowledged: recorder.everything_acknowledged(),
    }
}
