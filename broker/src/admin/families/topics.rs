//! Metrics of topics and partitions.

use super::family_row;
use crate::admin::family::{Family, Kind, Unit};

pub(super) static TOPICS: &[Family] = &[
    family_row!(
        "corelane_topic_partitions",
        Gauge,
        None,
        ["topic"],
        "Partitions of the topic",
        |b, s| s.each_topic(b, |_| 1)
    ),
    family_row!(
        "corelane_topic_partitions_offline",
        Gauge,
        None,
        ["topic"],
        "Partitions of the topic that take no appends",
        |b, s| {
            s.each_topic(b, |p| u64::from(!p.is_online));
        }
    ),
    family_row!(
        "corelane_topic_size",
        Gauge,
        Bytes,
        ["topic"],
        "Bytes of the topic's batches, on disk or in memory",
        |b, s| {
            s.each_topic(b, |p| p.size_bytes);
        }
    ),
    family_row!(
        "corelane_topic_batches_in",
        Counter,
        None,
        ["topic"],
        "Batches that were appended",
        |b, s| s.each_topic(b, |p| p.batches_in)
    ),
    family_row!(
        "corelane_topic_duplicate_batches_in",
        Counter,
        None,
        ["topic"],
        "Batches that idempotent producers sent again though they were appended, and that were acknowledged as before",
        |b, s| s.each_topic(b, |p| p.duplicates_in)
    ),
    family_row!(
        "corelane_topic_records_in",
        Counter,
        None,
        ["topic"],
        "Records that were appended",
        |b, s| s.each_topic(b, |p| p.records_in)
    ),
    family_row!(
        "corelane_topic_in",
        Counter,
        Bytes,
        ["topic"],
        "Bytes that were appended",
        |b, s| s.each_topic(b, |p| p.bytes_in)
    ),
    family_row!(
        "corelane_topic_records_out",
        Counter,
        None,
        ["topic"],
        "Records that fetches returned, from the offsets asked for on",
        |b, s| {
            s.each_topic(b, |p| p.records_out);
        }
    ),
    family_row!(
        "corelane_topic_out",
        Counter,
        Bytes,
        ["topic"],
        "Bytes that fetches returned",
        |b, s| s.each_topic(b, |p| p.bytes_out)
    ),
];

pub(super) static PARTITIONS: &[Family] = &[
    family_row!(
        "corelane_partition_online",
        Gauge,
        None,
        ["topic", "partition", "core"],
        "1 while the partition takes appends",
        |b, s| {
            s.each_partition(b, |p| u64::from(p.is_online));
        }
    ),
    family_row!(
        "corelane_partition_log_start_offset",
        Gauge,
        None,
        ["topic", "partition", "core"],
        "The first offset that is kept",
        |b, s| {
            s.each_partition(b, |p| p.log_start);
        }
    ),
    family_row!(
        "corelane_partition_high_watermark",
        Gauge,
        None,
        ["topic", "partition", "core"],
        "The end of what may be read",
        |b, s| {
            s.each_partition(b, |p| p.high_watermark);
        }
    ),
    family_row!(
        "corelane_partition_log_end_offset",
        Gauge,
        None,
        ["topic", "partition", "core"],
        "The offset of the next record",
        |b, s| {
            s.each_partition(b, |p| p.log_end);
        }
    ),
    family_row!(
        "corelane_partition_size",
        Gauge,
        Bytes,
        ["topic", "partition", "core"],
        "Bytes of the partition's batches, on disk or in memory",
        |b, s| {
            s.each_partition(b, |p| p.size_bytes);
        }
    ),
    family_row!(
        "corelane_partition_segments",
        Gauge,
        None,
        ["topic", "partition", "core"],
        "Segments, the one that is written to among them",
        |b, s| {
            s.each_partition(b, |p| p.segments);
        }
    ),
    family_row!(
        "corelane_partition_damage",
        Gauge,
        None,
        ["topic", "partition", "core"],
        "Places of the partition that were found damaged since the broker was started",
        |b, s| {
            s.each_partition(b, |p| p.damage);
        }
    ),
    family_row!(
        "corelane_partition_leader_epoch",
        Gauge,
        None,
        ["topic", "partition", "core"],
        "The leader epoch of what is appended: it grows when records may have been lost",
        |b, s| {
            s.each_partition(b, |p| u64::from(p.leader_epoch));
        }
    ),
    family_row!(
        "corelane_partition_records_in",
        Counter,
        None,
        ["topic", "partition", "core"],
        "Records that were appended",
        |b, s| {
            s.each_partition(b, |p| p.records_in);
        }
    ),
    family_row!(
        "corelane_partition_in",
        Counter,
        Bytes,
        ["topic", "partition", "core"],
        "Bytes that were appended",
        |b, s| {
            s.each_partition(b, |p| p.bytes_in);
        }
    ),
    family_row!(
        "corelane_partition_records_out",
        Counter,
        None,
        ["topic", "partition", "core"],
        "Records that fetches returned",
        |b, s| {
            s.each_partition(b, |p| p.records_out);
        }
    ),
    family_row!(
        "corelane_partition_out",
        Counter,
        Bytes,
        ["topic", "partition", "core"],
        "Bytes that fetches returned",
        |b, s| {
            s.each_partition(b, |p| p.bytes_out);
        }
    ),
];

pub(super) static READERS: &[Family] = &[
    family_row!(
        "corelane_reader_position",
        Gauge,
        None,
        ["topic", "partition", "core", "reader"],
        "The offset of the next record that the reader wants; 0 until it says so",
        |b, s| {
            s.each_reader(b, |_, r| r.position);
        }
    ),
    family_row!(
        "corelane_reader_lag",
        Gauge,
        None,
        ["topic", "partition", "core", "reader"],
        "Records that are kept and that the reader has not read",
        |b, s| {
            s.each_reader(b, |p, r| {
                p.high_watermark.saturating_sub(r.position.max(p.log_start))
            });
        }
    ),
    family_row!(
        "corelane_reader_expired_unread_records",
        Counter,
        None,
        ["topic", "partition", "core", "reader"],
        "Records that were deleted before the reader had read them; it counts through restarts",
        |b, s| {
            s.each_reader(b, |_, r| r.expired_unread);
        }
    ),
];
