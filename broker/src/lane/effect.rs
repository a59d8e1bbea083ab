//! What a core wants done: the lane decides it, the shell does it.

use std::fmt;
use std::rc::Rc;

use corelane_protocol::{CoreId, Offset, PartitionIndex, Timestamp, TopicId, TopicPartition};
use corelane_storage::disk::Disk;
use corelane_storage::memory::ChunkSlice;

use super::mail::Mail;
use super::slab::Key;
use corelane_storage::store::{
    DeleteRecordsError, DiskRead, Fetched, LogConfig, Read, ReadError, Store, StoreError,
};

/// A connection of this core. The number of a closed one is not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    /// Its place in the core's table.
    pub index: u32,
    /// Counts the connections that had this place.
    pub generation: u32,
}

impl ConnectionId {
    /// No connection: the source of a request whose connection was closed.
    pub(super) const CLOSED: Self = Self {
        index: u32::MAX,
        generation: u32::MAX,
    };

    pub(super) const fn key(self) -> Key {
        Key {
            index: self.index,
            generation: self.generation,
        }
    }
}

impl From<Key> for ConnectionId {
    fn from(key: Key) -> Self {
        Self {
            index: key.index,
            generation: key.generation,
        }
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

/// The time, as the shell reads it once for each event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The wall clock, for append times.
    pub wall: Timestamp,
    /// A clock that never goes back, in microseconds from any beginning, for deadlines.
    pub monotonic_us: u64,
}

/// A piece of a reply.
#[derive(Debug, Clone)]
pub enum ReplyPart {
    /// Bytes made for this reply.
    Bytes(Vec<u8>),
    /// Batches as they lie in a log's memory.
    Log(ChunkSlice),
}

impl ReplyPart {
    /// The bytes to send.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Log(slice) => slice,
        }
    }
}

/// Names a disk read in the report of its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadToken {
    pub(super) fetch: Key,
    /// The entry of the fetch.
    pub(super) entry: usize,
}

/// Something for a store to do that takes a while.
#[derive(Debug, Clone)]
pub enum StoreTask {
    /// `Store::create_partitions`.
    CreatePartitions(Vec<(TopicPartition, LogConfig)>),
    /// `Store::delete_topic`.
    DeleteTopic(TopicId),
}

/// Why a disk did not do what a lane wanted of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskFailure {
    /// It is full, and nothing has changed: it may be tried again.
    #[error("{0}")]
    DiskFull(String),
    /// It failed. What it holds is looked at when the broker starts again.
    #[error("{0}")]
    Failed(String),
}

impl From<StoreError> for TaskFailure {
    fn from(error: StoreError) -> Self {
        if error.is_disk_full() {
            Self::DiskFull(error.to_string())
        } else {
            Self::Failed(error.to_string())
        }
    }
}

/// Names a task of a log in the report of its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogToken(pub(super) LogTaskOf);

/// What a task of a log is done for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogTaskOf {
    /// An entry of a request.
    Request { wait: Key, index: u32 },
    /// The consumer groups of this partition of the internal topic.
    Groups(PartitionIndex),
}

/// Something that is asked of one log and takes a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogTask {
    /// `Store::delete_records`.
    DeleteRecords {
        /// The partition.
        partition: TopicPartition,
        /// What is kept begins here.
        before: Offset,
    },
    /// `Store::offset_for_timestamp`.
    FindTime {
        /// The partition.
        partition: TopicPartition,
        /// The first record at or after this time is wanted.
        time: Timestamp,
    },
    /// `Store::read` and, where memory does not have it, `Store::read_disk`.
    Read {
        /// The partition.
        partition: TopicPartition,
        /// The first offset that is wanted.
        from: Offset,
        /// Bytes of batches, but for the first one, which is read however long it is.
        bytes_max: usize,
    },
}

/// What a log says to a [`LogTask`].
#[derive(Debug)]
pub enum LogAnswer {
    /// Where the log begins now.
    LogStart(Result<Offset, DeleteRecordsError>),
    /// The record, or that all are earlier.
    Found(Result<Option<(Offset, Timestamp)>, ReadError>),
    /// Batches.
    Read(Result<Fetched, ReadError>),
}

impl LogTask {
    /// Lets the store do it.
    pub async fn run<D: Disk>(self, store: &Rc<Store<D>>) -> LogAnswer {
        match self {
            Self::DeleteRecords { partition, before } => {
                LogAnswer::LogStart(store.delete_records(partition, before).await)
            }
            Self::FindTime { partition, time } => {
                LogAnswer::Found(store.offset_for_timestamp(partition, time).await)
            }
            Self::Read {
                partition,
                from,
                bytes_max,
            } => LogAnswer::Read(match store.read(partition, from, bytes_max, true) {
                Ok(Read::Ready(fetched)) => Ok(fetched),
                Ok(Read::Disk(read)) => store.read_disk(read).await,
                Err(error) => Err(error),
            }),
        }
    }
}

/// Something for the shell to do. Effects are done in the order in which they are polled, each
/// begun before the next; none is awaited before the lane is called again. An effect for a connection
/// that was reported closed since it was decided is ignored.
#[derive(Debug)]
pub enum Effect {
    /// Send these bytes, after everything sent to the connection before.
    Send {
        /// The connection.
        connection: ConnectionId,
        /// The bytes, in order; never empty.
        parts: Vec<ReplyPart>,
    },
    /// Close the connection and report it with `connection_closed`.
    Close {
        /// The connection.
        connection: ConnectionId,
        /// Whether what was handed over for it is sent first.
        after_sending: bool,
    },
    /// Stop or go on receiving. What was received already may still be reported.
    Receive {
        /// The connection.
        connection: ConnectionId,
        /// Whether to receive.
        on: bool,
    },
    /// Carry mail to another core.
    Mail {
        /// The core; never the lane's own.
        to: CoreId,
        /// The mail.
        mail: Mail,
    },
    /// Read from a store's disk with `Store::read_disk`, and report it with `read_done`.
    Read {
        /// Names the read in the report.
        token: ReadToken,
        /// The store, as an index into the stores that the lane was given.
        store: usize,
        /// What to read.
        read: DiskRead,
    },
    /// Let a store do a task of one log with `LogTask::run`, and report it with `log_task_done`. Tasks run side
    /// by side.
    LogTask {
        /// Names the task in the report.
        token: LogToken,
        /// The store, as an index into the stores that the lane was given.
        store: usize,
        /// The task.
        task: LogTask,
    },
    /// Let a store do something, and report it with `store_task_done`. Tasks of one store are done
    /// one after the other, in the order of these effects.
    StoreTask {
        /// Names the task in the report.
        token: u64,
        /// The store, as an index into the stores that the lane was given.
        store: usize,
        /// The task.
        task: StoreTask,
    },
    /// Append records to the metadata log in one piece, durably, and report it with
    /// `metadata_appended`. Only on the controller's core.
    AppendMetadata {
        /// Names the append in the report.
        token: u64,
        /// The encoded records.
        records: Vec<Vec<u8>>,
        /// Whether they make room on the disk, so that they may use what is kept for that.
        frees_room: bool,
    },
}
