//! Metrics of stores: journal, segments, scrubbing, compaction.

use super::family_row;
use crate::admin::family::{Family, Kind, Unit};

pub(super) static STORES: &[Family] = &[
    family_row!(
        "corelane_store_in_service",
        Gauge,
        None,
        ["core", "store"],
        "1 while the store takes appends; 0 once it was fenced or could not be opened",
        |b, s| {
            s.each_store(b, |t| u64::from(t.fenced.is_none()));
        }
    ),
    family_row!(
        "corelane_store_disk_full",
        Gauge,
        None,
        ["core", "store"],
        "1 while segments or the catalogue find no room on the disk",
        |b, s| {
            s.each_store(b, |t| u64::from(t.is_disk_full));
        }
    ),
    family_row!(
        "corelane_store_reserve_touched",
        Gauge,
        None,
        ["core", "store"],
        "1 while less than log.disk_reserve_bytes is free on the disk",
        |b, s| {
            s.each_store(b, |t| u64::from(t.is_reserve_touched));
        }
    ),
    family_row!(
        "corelane_store_partitions",
        Gauge,
        None,
        ["core", "store"],
        "Partitions that the store has",
        |b, s| {
            s.each_store(b, |t| t.partitions);
        }
    ),
    family_row!(
        "corelane_journal_files",
        Gauge,
        None,
        ["core", "store", "state"],
        "Journal files. in_use: they hold groups; armed: they may take some at once",
        |b, s| {
            for store in &b.state.stores {
                let labels = [store.core.to_string(), store.store.to_string()];
                s.put(
                    &[&labels[0], &labels[1], "in_use"],
                    store.journal_files_in_use,
                );
                s.put(
                    &[&labels[0], &labels[1], "armed"],
                    store.journal_files_armed,
                );
            }
        }
    ),
    family_row!(
        "corelane_journal_files_max",
        Gauge,
        None,
        ["core", "store"],
        "Journal files that the store may grow to (journal.files_max)",
        |b, s| {
            s.each_store(b, |t| t.journal_files_max);
        }
    ),
    family_row!(
        "corelane_journal_capacity",
        Gauge,
        Bytes,
        ["core", "store"],
        "Bytes of all these files",
        |b, s| {
            s.each_store(b, |t| t.journal_files_max * t.journal_file_bytes);
        }
    ),
    family_row!(
        "corelane_journal_replay",
        Gauge,
        Bytes,
        ["core", "store"],
        "Bytes of the journal that a restart would replay",
        |b, s| {
            s.each_store(b, |t| t.journal_replay_bytes);
        }
    ),
    family_row!(
        "corelane_journal_waiting",
        Gauge,
        Bytes,
        ["core", "store"],
        "Bytes of batches that are due and in no group yet",
        |b, s| {
            s.each_store(b, |t| t.waiting_bytes);
        }
    ),
    family_row!(
        "corelane_journal_groups_in_flight",
        Gauge,
        None,
        ["core", "store"],
        "Groups that are being written",
        |b, s| {
            s.each_store(b, |t| t.groups_in_flight);
        }
    ),
    family_row!(
        "corelane_journal_group",
        Histogram,
        Bytes,
        ["core", "store"],
        "Sizes of groups",
        |b, s| s.each_store_counts(b, |t| &t.group_bytes)
    ),
    family_row!(
        "corelane_journal_group_wait",
        Histogram,
        Seconds,
        ["core", "store"],
        "How long the first batch of each group waited for it",
        |b, s| {
            s.each_store_counts(b, |t| &t.group_wait);
        }
    ),
    family_row!(
        "corelane_journal_flush",
        Histogram,
        Seconds,
        ["core", "store"],
        "How long the flushed write of each group took",
        |b, s| {
            s.each_store_counts(b, |t| &t.group_write);
        }
    ),
    family_row!(
        "corelane_store_straight_parts",
        Counter,
        None,
        ["core", "store"],
        "Large parts of groups that went straight to a segment file",
        |b, s| s.each_store(b, |t| t.straight_parts)
    ),
    family_row!(
        "corelane_store_straight",
        Counter,
        Bytes,
        ["core", "store"],
        "Bytes of them",
        |b, s| s.each_store(b, |t| t.straight_bytes)
    ),
    family_row!(
        "corelane_store_spills",
        Counter,
        None,
        ["core", "store"],
        "Times that a partition's tail was written to its segment file",
        |b, s| {
            s.each_store(b, |t| t.spills);
        }
    ),
    family_row!(
        "corelane_store_spilled",
        Counter,
        Bytes,
        ["core", "store"],
        "Bytes of them",
        |b, s| s.each_store(b, |t| t.spilled_bytes)
    ),
    family_row!(
        "corelane_store_segment_handles",
        Gauge,
        None,
        ["core", "store"],
        "Segment files that are open (log.open_files_max)",
        |b, s| {
            s.each_store(b, |t| t.segment_handles);
        }
    ),
    family_row!(
        "corelane_scrub_segments",
        Counter,
        None,
        ["core", "store"],
        "Closed segment files that were read to find damage",
        |b, s| {
            s.each_store(b, |t| t.scrubbed_segments);
        }
    ),
    family_row!(
        "corelane_scrub",
        Counter,
        Bytes,
        ["core", "store"],
        "Bytes of them",
        |b, s| s.each_store(b, |t| t.scrubbed_bytes)
    ),
    family_row!(
        "corelane_damage_found",
        Counter,
        None,
        ["core", "store"],
        "Places of segment files that were found damaged",
        |b, s| {
            s.each_store(b, |t| t.damage_found);
        }
    ),
    family_row!(
        "corelane_store_compaction_passes",
        Counter,
        None,
        ["core", "store"],
        "Times that a partition was compacted by key, or a part of its keys where they are too many for compaction.keys_bytes_max",
        |b, s| s.each_store(b, |t| t.compaction_passes)
    ),
    family_row!(
        "corelane_store_compaction_read",
        Counter,
        Bytes,
        ["core", "store"],
        "Bytes of segment files that compaction has read; compaction.bytes_per_second bounds how many in a second",
        |b, s| s.each_store(b, |t| t.compaction_read_bytes)
    ),
    family_row!(
        "corelane_store_compaction_written",
        Counter,
        Bytes,
        ["core", "store"],
        "Bytes of segment files that compaction has written in their place",
        |b, s| s.each_store(b, |t| t.compaction_written_bytes)
    ),
    family_row!(
        "corelane_store_compaction_records_removed",
        Counter,
        None,
        ["core", "store"],
        "Records that compaction has left out: later ones have their keys, or they deleted keys and their time was over",
        |b, s| s.each_store(b, |t| t.compaction_records_removed)
    ),
    family_row!(
        "corelane_store_weak_losses",
        Gauge,
        None,
        ["core", "store"],
        "Partitions with flush.messages or flush.ms that may have lost acknowledged records: the broker was not closed in \
         order before its start",
        |b, s| {
            s.each_store(b, |t| t.weak_losses);
        }
    ),
    family_row!(
        "corelane_store_producers",
        Gauge,
        Bytes,
        ["core", "store"],
        "About what the store's partitions know of idempotent producers takes in memory; producers.bytes_max bounds it",
        |b, s| {
            s.each_store(b, |t| t.producers_bytes);
        }
    ),
];
