//! Metrics of the broker and its process.

use super::family_row;
use crate::admin::family::{Family, Kind, Unit};
use crate::admin::state::Phase;

pub(super) static BROKER: &[Family] = &[
    family_row!(
        "corelane_build_info",
        Gauge,
        None,
        ["version"],
        "Always 1; the version of the broker is a label",
        |b, s| {
            s.put(&[&b.state.version], 1);
        }
    ),
    family_row!(
        "corelane_ready",
        Gauge,
        None,
        [],
        "Whether the broker takes requests: 0 while it is about to stop",
        |b, s| {
            s.put_flag(&[], b.state.phase == Phase::Serving);
        }
    ),
    family_row!(
        "corelane_uptime",
        Gauge,
        Seconds,
        [],
        "Time since the broker was started",
        |b, s| {
            s.put(&[], b.state.taken_us);
        }
    ),
    family_row!("corelane_topics", Gauge, None, [], "Topics", |b, s| s
        .put(&[], b.state.topics.len() as u64)),
    family_row!(
        "corelane_partitions_without_series",
        Gauge,
        None,
        [],
        "Partitions that have no metrics of their own, because there are more than admin.partition_series_max",
        |b, s| {
            s.put(&[], b.partitions_without_series() as u64);
        }
    ),
    family_row!(
        "corelane_metadata_records",
        Counter,
        None,
        [],
        "Records of the metadata log, from the first one on",
        |b, s| {
            s.put(&[], b.state.metadata_records);
        }
    ),
    family_row!(
        "corelane_log_lines_lost",
        Counter,
        None,
        [],
        "Lines of the broker's own log that could not be written",
        |b, s| {
            s.put(&[], b.state.log_lines_lost);
        }
    ),
    family_row!(
        "corelane_cores_silent",
        Gauge,
        None,
        [],
        "Cores that did not answer; their metrics are missing",
        |b, s| {
            s.put(&[], b.state.silent_cores.len() as u64);
        }
    ),
    family_row!(
        "process_cpu",
        Counter,
        Seconds,
        [],
        "CPU time of the process",
        |b, s| s.put(&[], b.state.process.cpu_us)
    ),
    family_row!(
        "process_resident_memory",
        Gauge,
        Bytes,
        [],
        "Memory of the process that is resident",
        |b, s| {
            s.put(&[], b.state.process.resident_bytes);
        }
    ),
    family_row!(
        "process_open_fds",
        Gauge,
        None,
        [],
        "Open descriptors of the process",
        |b, s| s.put(&[], b.state.process.open_files)
    ),
    family_row!(
        "process_max_fds",
        Gauge,
        None,
        [],
        "Descriptors that the process may have open",
        |b, s| {
            s.put(&[], b.state.process.open_files_max);
        }
    ),
    family_row!(
        "process_start_time",
        Gauge,
        Seconds,
        [],
        "When the broker was started, in Unix time",
        |b, s| {
            s.put(&[], b.state.started_ms.unsigned_abs() * 1000);
        }
    ),
];
