//! What was known of a log when something was asked of it, against which the answer is held.

use corelane_protocol::request::{ListOffsetsEntry, ListOffsetsRequest, OffsetPosition};
use corelane_protocol::response::{ListOffsetsResponse, ListedOffset};
use corelane_protocol::{ApiError, ErrorCode, Offset, Request, TopicPartition};

use super::Context;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogAsked {
    pub(crate) partition: TopicPartition,
    /// When it was asked, µs.
    pub(crate) us: u64,
    /// The furthest log start that had been said.
    pub(crate) log_start: Offset,
    /// The offset after the last durable record.
    pub(crate) end: u64,
}

impl Context<'_> {
    /// What is known of a log, of which something is asked now.
    pub(crate) fn ask_of(&self, partition: TopicPartition) -> LogAsked {
        let keeping = &self.history.keeping;
        LogAsked {
            partition,
            us: self.now_us,
            log_start: keeping.log_start(partition),
            end: keeping.end(partition),
        }
    }

    /// The broker said where a log begins.
    pub(crate) fn log_begins(&mut self, asked: &LogAsked, log_start: Offset) {
        self.history.log_begins(self.now_us, asked, log_start);
    }
}

/// Looks up one offset.
pub(super) fn list(partition: TopicPartition, position: OffsetPosition) -> Request<'static> {
    let entries = vec![ListOffsetsEntry {
        partition,
        position,
    }];
    Request::ListOffsets(ListOffsetsRequest { entries })
}

/// The answer to `list`.
///
/// # Errors
/// The refusal.
pub(super) fn listed(mut response: ListOffsetsResponse) -> Result<ListedOffset, ApiError> {
    let nothing = || ApiError::new(ErrorCode::Internal, "an answer without an entry");
    let entry = response.entries.pop().ok_or_else(nothing)?;
    entry.result
}
