//! What a client is told when a store refuses.

use corelane_protocol::{ApiError, ErrorCode};

use corelane_storage::producers::SequenceError;
use corelane_storage::store::{
    AppendError, DeleteRecordsError, PartitionError, ReadError, ReportError, StoreError,
};

pub(super) fn append_error(error: AppendError) -> ApiError {
    let code = match error {
        AppendError::Batch(error) => return error.into(),
        AppendError::UnknownPartition(_) | AppendError::PartitionGone => {
            ErrorCode::UnknownPartition
        }
        AppendError::Sequence(error) => match error {
            SequenceError::OutOfOrder { .. } => ErrorCode::OutOfOrderSequence,
            SequenceError::UnknownProducer { .. } => ErrorCode::UnknownProducer,
            SequenceError::Fenced { .. } => ErrorCode::ProducerFenced,
            SequenceError::LongAgo => ErrorCode::DuplicateSequence,
        },
        AppendError::ProducersFull { .. } => ErrorCode::ProducerLimit,
        AppendError::MemoryFull(_) | AppendError::JournalFull => ErrorCode::Overloaded,
        AppendError::DiskFull => ErrorCode::DiskFull,
        AppendError::PartitionFailed(_) | AppendError::StorageFailed(_) => ErrorCode::StorageFailed,
        AppendError::Closing => ErrorCode::ShuttingDown,
    };
    ApiError::new(code, error.to_string())
}

pub(super) fn read_error(error: &ReadError) -> ApiError {
    let code = match error {
        ReadError::UnknownPartition(_) | ReadError::PartitionGone => ErrorCode::UnknownPartition,
        ReadError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        ReadError::Corrupt(_) => ErrorCode::CorruptData,
        ReadError::PartitionFailed(_) | ReadError::Io { .. } => ErrorCode::StorageFailed,
        ReadError::MemoryFull(_) => ErrorCode::Overloaded,
    };
    ApiError::new(code, error.to_string())
}

pub(super) fn delete_records_error(error: &DeleteRecordsError) -> ApiError {
    let code = match error {
        DeleteRecordsError::UnknownPartition(_) => ErrorCode::UnknownPartition,
        DeleteRecordsError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        DeleteRecordsError::PartitionFailed(_) => ErrorCode::StorageFailed,
        DeleteRecordsError::Store(StoreError::Closed) => ErrorCode::ShuttingDown,
        DeleteRecordsError::Store(_) => ErrorCode::StorageFailed,
    };
    ApiError::new(code, error.to_string())
}

pub(super) fn report_error(error: &ReportError) -> ApiError {
    let code = match error {
        ReportError::UnknownPartition(_) => ErrorCode::UnknownPartition,
        ReportError::UnknownReader(_) => ErrorCode::InvalidRequest,
        ReportError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        ReportError::PartitionFailed(_) => ErrorCode::StorageFailed,
    };
    ApiError::new(code, error.to_string())
}

pub(super) fn partition_error(error: &PartitionError) -> ApiError {
    let PartitionError::Unknown(_) = error;
    ApiError::new(ErrorCode::UnknownPartition, error.to_string())
}
