//! The record batch: the same bytes in the producer, on the wire, on disk, in
//! the replica and in the consumer.
//!
//! Owns the layout (`docs/wire.md` draws it), its checks, the builder and the
//! reader. A batch is 48 bytes that the broker stamps, a header of 64 bytes
//! that the producer writes, and a columnar payload, zero padded to a multiple
//! of 8. The CRC covers what the producer wrote, the stamp has a checksum of
//! its own, so that a broker assigns offsets without touching the payload.
//! Never re-encodes a batch, and never decompresses one on a broker's behalf,
//! but for compaction (`compact`), which writes without some of its records
//! what is in the log already.

mod archive;
mod builder;
mod bytes;
mod column;
mod columns;
mod compact;
mod compression;
mod error;
mod header;
mod layout;
mod record;
mod retain;
mod sequence;
mod split;
mod stamp;
mod validate;

pub use builder::{BatchBuilder, BatchBuilderConfig, BuildError, PushError, RecordRef};
pub use bytes::BatchBytes;
pub use compact::{CompactError, Retained, extend_to, hollow};
pub use compression::{
    Compression, DecompressLimit, UNCOMPRESSED_BYTES_MAX_DEFAULT, UnknownCompression,
};
pub use error::{BatchError, RecordBatchError};
pub use header::{BatchHeader, BatchTimes, TimestampType, set_producer, set_timestamp_type};
pub use layout::{
    BATCH_ALIGN, ENCODING_COLUMNAR, HEADER_LEN, MAGIC, PREFIX_LEN, STAMP_LEN, VERSION,
};
pub use record::{Headers, RecordBatch, RecordView, Records};
pub use retain::retain;
pub use sequence::{SEQUENCES, advance_sequence, sequence_distance};
pub use split::{Batches, batches};
pub use stamp::{Stamp, is_padding};
pub use validate::{BATCH_BYTES_MAX_DEFAULT, BatchLimits, validate, verify_crc};

#[cfg(test)]
mod compact_tests;
#[cfg(test)]
mod in_place_tests;
#[cfg(test)]
mod tests;
