//! Segment files: where a partition's log is kept.
//!
//! Owns their format, the walk over their batches and the open handles. Belongs to the core that runs the
//! store.

pub(crate) mod batches;
mod format;
mod handles;
pub(crate) mod walk;

pub use format::{
    SEGMENT_MAGIC, SEGMENT_VERSION, SegmentHeader, SegmentHeaderError, compacted_path,
    index_beside, index_path, parse_file_name, partition_dir, segment_path, topic_dir,
};

pub(crate) use handles::{HandleKey, SegmentHandles};
