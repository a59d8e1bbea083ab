//! Tables of a summary: columns that are named once, and so many rows at most.

use serde::Serialize;

use crate::admin::state::{GroupPartitionState, GroupState, PartitionState, TopicState};

/// Rows of a table; what is beyond is counted.
const ROWS_MAX: usize = 10_000;

/// Rows of numbers and names.
#[derive(Serialize)]
pub(super) struct Table<R> {
    columns: &'static [&'static str],
    rows: Vec<R>,
    /// Rows that there would be beyond those.
    left_out: u64,
}

/// The partitions of a topic or a group.
#[derive(Serialize)]
pub(super) struct Parts<'a, R> {
    pub(super) name: &'a str,
    pub(super) partitions: Table<R>,
}

impl<R> Table<R> {
    fn new<'a, T>(columns: &'static [&'static str], of: &'a [T], row: impl Fn(&'a T) -> R) -> Self {
        let shown = &of[..of.len().min(ROWS_MAX)];
        Self {
            columns,
            rows: shown.iter().map(row).collect(),
            left_out: (of.len() - shown.len()) as u64,
        }
    }

    /// The first of so many rows.
    pub(super) fn of_first(columns: &'static [&'static str], first: Vec<R>, count: usize) -> Self {
        Self {
            columns,
            left_out: (count - first.len()) as u64,
            rows: first,
        }
    }
}

const TOPIC_COLUMNS: [&str; 11] = [
    "name",
    "partitions",
    "partitions_offline",
    "damage",
    "records",
    "size_bytes",
    "records_in",
    "bytes_in",
    "records_out",
    "bytes_out",
    "compaction",
];

/// How far compaction has come: bytes that are compacted, bytes that have come since, how many partitions it works on,
/// and of how many it has stopped.
pub(super) type CompactionCell = Option<(u64, u64, u64, u64)>;

/// What partitions say of their compaction, added up; nothing where none is compacted.
fn compaction<'a>(partitions: impl IntoIterator<Item = &'a PartitionState>) -> CompactionCell {
    let progress = partitions.into_iter().filter_map(|it| it.compaction);
    progress.fold(None, |sum, it| {
        let (clean, dirty, running, stopped) = sum.unwrap_or_default();
        Some((
            clean + it.clean_bytes,
            dirty + it.dirty_bytes,
            running + u64::from(it.is_running),
            stopped + u64::from(it.is_stopped),
        ))
    })
}

#[rustfmt::skip]
pub(super) type TopicRow<'a> = (
    &'a str, u64, u64, u64, u64, u64, u64, u64, u64, u64, CompactionCell,
);

pub(super) fn topics(topics: &[TopicState]) -> Table<TopicRow<'_>> {
    Table::new(&TOPIC_COLUMNS, topics, topic_row)
}

fn topic_row(topic: &TopicState) -> TopicRow<'_> {
    (
        &topic.name,
        topic.partitions.len() as u64,
        topic.sum(|partition| u64::from(!partition.is_online)),
        topic.sum(|partition| partition.damage),
        topic.sum(|partition| partition.high_watermark.saturating_sub(partition.log_start)),
        topic.sum(|partition| partition.size_bytes),
        topic.sum(|partition| partition.records_in),
        topic.sum(|partition| partition.bytes_in),
        topic.sum(|partition| partition.records_out),
        topic.sum(|partition| partition.bytes_out),
        compaction(&topic.partitions),
    )
}

const PARTITION_COLUMNS: [&str; 16] = [
    "partition",
    "core",
    "store",
    "is_online",
    "log_start",
    "high_watermark",
    "log_end",
    "size_bytes",
    "segments",
    "damage",
    "leader_epoch",
    "records_in",
    "bytes_in",
    "records_out",
    "bytes_out",
    "compaction",
];

#[rustfmt::skip]
pub(super) type PartitionRow = (
    u32, u16, u16, bool, u64, u64, u64, u64, u64, u64, u32, u64, u64, u64, u64, CompactionCell,
);

pub(super) fn partitions(partitions: &[PartitionState]) -> Table<PartitionRow> {
    Table::new(&PARTITION_COLUMNS, partitions, |partition| {
        (
            partition.partition,
            partition.core,
            partition.store,
            partition.is_online,
            partition.log_start,
            partition.high_watermark,
            partition.log_end,
            partition.size_bytes,
            partition.segments,
            partition.damage,
            partition.leader_epoch,
            partition.records_in,
            partition.bytes_in,
            partition.records_out,
            partition.bytes_out,
            compaction([partition]),
        )
    })
}

const GROUP_COLUMNS: [&str; 10] = [
    "name",
    "core",
    "state",
    "generation",
    "members",
    "topics",
    "partitions",
    "lag",
    "lag_max",
    "lag_unknown",
];

pub(super) type GroupRow<'a> = (&'a str, u16, &'a str, u32, u64, u64, u64, u64, u64, u64);

pub(super) fn groups(groups: &[GroupState]) -> Table<GroupRow<'_>> {
    Table::new(&GROUP_COLUMNS, groups, group_row)
}

fn group_row(group: &GroupState) -> GroupRow<'_> {
    let lags = || {
        group
            .partitions
            .iter()
            .filter_map(|partition| partition.lag)
    };
    (
        &group.name,
        group.core,
        &group.state,
        group.generation,
        group.members,
        group.topics().count() as u64,
        group.partitions.len() as u64,
        lags().sum(),
        lags().max().unwrap_or(0),
        (group.partitions.len() - lags().count()) as u64,
    )
}

const GROUP_PARTITION_COLUMNS: [&str; 4] = ["topic", "partition", "committed", "lag"];

pub(super) type GroupPartitionRow<'a> = (&'a str, u32, u64, Option<u64>);

pub(super) fn group_partitions(partitions: &[GroupPartitionState]) -> Table<GroupPartitionRow<'_>> {
    Table::new(&GROUP_PARTITION_COLUMNS, partitions, |partition| {
        (
            partition.topic.as_str(),
            partition.partition,
            partition.committed,
            partition.lag,
        )
    })
}
