//! What happens in a session, for the trace that a failing test prints.

use std::fmt;

use corelane_protocol::{Offset, TopicPartition};
use corelane_storage::store::{Progress, RecoveryReport};

/// Something that happened, as the clients and the watch see it.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Opened {
        store: usize,
        report: RecoveryReport,
    },
    NotOpened {
        store: usize,
        error: String,
    },
    Creating(TopicPartition),
    Created(TopicPartition),
    Deleting(TopicPartition),
    Deleted(TopicPartition),
    Appended {
        partition: TopicPartition,
        base: Offset,
        end: Offset,
        bytes: usize,
    },
    Refused {
        partition: TopicPartition,
        error: String,
    },
    Read {
        partition: TopicPartition,
        from: Offset,
        next: Offset,
    },
    DeletingRecords {
        partition: TopicPartition,
        before: Offset,
    },
    DeletedRecords {
        partition: TopicPartition,
        result: String,
    },
    Progress(Progress),
    Closed {
        store: usize,
        result: String,
    },
}

impl Event {
    /// Whether a store or partition was reported as out of service.
    pub(crate) fn is_failure(&self) -> bool {
        match self {
            Self::Opened { report, .. } => report.fenced.is_some() || !report.failed.is_empty(),
            Self::NotOpened { .. } | Self::Progress(Progress::Failed { .. }) => true,
            _ => false,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opened { store, report } => write!(f, "store {store} opened: {report}"),
            Self::NotOpened { store, error } => write!(f, "store {store} not opened: {error}"),
            Self::Creating(partition) => write!(f, "creating {partition}"),
            Self::Created(partition) => write!(f, "created {partition}"),
            Self::Deleting(partition) => write!(f, "deleting {partition}"),
            Self::Deleted(partition) => write!(f, "deleted {partition}"),
            Self::Appended {
                partition,
                base,
                end,
                bytes,
            } => {
                write!(f, "appended {partition} {base}..{end}, {bytes} bytes")
            }
            Self::Refused { partition, error } => write!(f, "refused {partition}: {error}"),
            Self::Read {
                partition,
                from,
                next,
            } => write!(f, "read {partition} {from}..{next}"),
            Self::DeletingRecords { partition, before } => {
                write!(f, "deleting records of {partition} before {before}")
            }
            Self::DeletedRecords { partition, result } => {
                write!(f, "deleted records of {partition}: {result}")
            }
            Self::Progress(Progress::Durable {
                partition,
                durable_end,
                high_watermark,
                ..
            }) => {
                write!(
                    f,
                    "durable {partition} to {durable_end}, readable to {high_watermark}"
                )
            }
            Self::Progress(Progress::Failed { partition, reason }) => match partition {
                Some(partition) => write!(f, "failed {partition}: {reason}"),
                None => write!(f, "a store failed: {reason}"),
            },
            Self::Progress(Progress::Unread { partition, unread }) => {
                write!(f, "unread {partition}: {unread:?}")
            }
            Self::Progress(Progress::Damaged { partition, reason }) => {
                write!(f, "damaged {partition}: {reason}")
            }
            Self::Closed { store, result } => write!(f, "store {store} closed: {result}"),
        }
    }
}
