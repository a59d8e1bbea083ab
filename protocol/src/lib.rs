//! The bytes that Corelane's clients and brokers exchange and keep.
//!
//! Owns identifiers, error codes, frames, requests, responses and the record
//! batch. `docs/wire.md` draws every byte. Nothing here does I/O, reads a clock
//! or draws a random number, and no module belongs to a core: everything is a
//! plain value, or a function of bytes.

#![forbid(unsafe_code)]

pub mod aligned;
pub mod api;
pub mod batch;
pub mod error;
pub mod frame;
pub mod hash;
pub mod ids;
pub mod request;
pub mod response;
pub mod wire;

pub use aligned::AlignedBytes;
pub use api::{ApiKey, versions};
pub use error::{ApiError, ErrorCode};
pub use frame::{
    FRAME_BYTES_MAX_DEFAULT, FrameError, RequestFlags, RequestHeader, ResponseHeader, ResponseMeta,
};
pub use hash::{murmur2, partition_for_key};
pub use ids::{
    BrokerId, CoreId, CorrelationId, Generation, LeaderEpoch, MemberId, Offset, PartitionIndex,
    ProducerEpoch, ProducerId, StoreId, Timestamp, TopicId, TopicName, TopicPartition,
};
pub use request::Request;
pub use response::Response;
pub use wire::{DecodeError, EncodeError};
