//! Fetch: batches as they are stored.
//!
//! The body is a table of entries, then each entry's batches in the same order,
//! each at a multiple of 8 from the frame's first byte. A broker writes the
//! table with [`FetchResponseHead`] and sends the stored bytes after it as they
//! lie in memory; a client reads both as a [`FetchResponse`].

use super::CoreAddress;
use crate::api::ApiKey;
use crate::error::{ApiError, ErrorCode};
use crate::frame::{ResponseHeader, ResponseMeta};
use crate::ids::{LeaderEpoch, Offset, TopicPartition};
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// What was read, in the order of the request's entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchResponse<'a> {
    /// One for each partition.
    pub entries: Vec<FetchedEntry<'a>>,
}

/// What was read of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedEntry<'a> {
    /// The partition.
    pub partition: TopicPartition,
    /// The batches, or why there are none.
    pub result: Result<Fetched<'a>, ApiError>,
    /// The core that owns the partition, where that is not the one that the
    /// request came to.
    pub owner: Option<CoreAddress>,
}

/// A partition's batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched<'a> {
    /// The first offset that is not served yet.
    pub high_watermark: Offset,
    /// The first offset that is kept.
    pub log_start_offset: Offset,
    /// Where what the reader has read is not what the log holds, if it is not; then there are no batches.
    pub diverging: Option<DivergingEpoch>,
    /// Whole batches, one after the other; may be empty.
    pub batches: &'a [u8],
}

/// How far a reader agrees with a log that was cut back behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DivergingEpoch {
    /// The newest leader epoch of the log that is not beyond that of the reader's last record.
    pub epoch: LeaderEpoch,
    /// The offset after the last record of that epoch: what was read from there on is gone.
    pub end_offset: Offset,
}

/// The same without the batches, as a broker writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchResponseHead {
    /// One for each partition.
    pub entries: Vec<FetchedEntryHead>,
}

/// What was read of one partition, without the batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedEntryHead {
    /// The partition.
    pub partition: TopicPartition,
    /// The batches' length, or why there are none.
    pub result: Result<FetchedHead, ApiError>,
    /// The core that owns the partition, where that is not the one that the
    /// request came to.
    pub owner: Option<CoreAddress>,
}

/// The length of a partition's batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchedHead {
    /// The first offset that is not served yet.
    pub high_watermark: Offset,
    /// The first offset that is kept.
    pub log_start_offset: Offset,
    /// Bytes of the batches, a multiple of 8.
    pub batch_bytes: u32,
    /// See [`Fetched::diverging`].
    pub diverging: Option<DivergingEpoch>,
}

/// The fewest bytes of an entry: a partition, an error without message, no owner.
const ENTRY_BYTES_MIN: usize = 20 + 4 + 1;

impl<'a> FetchResponse<'a> {
    pub(super) fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let heads = r.list(ENTRY_BYTES_MIN, |r| {
            Ok(FetchedEntryHead {
                partition: r.topic_partition()?,
                result: r.result(FetchedHead::decode)?,
                owner: r.option(CoreAddress::decode)?,
            })
        })?;
        r.align()?;
        let mut entries = Vec::with_capacity(heads.len());
        for FetchedEntryHead {
            partition,
            result,
            owner,
        } in heads
        {
            let result = match result {
                Ok(head) => Ok(Fetched {
                    high_watermark: head.high_watermark,
                    log_start_offset: head.log_start_offset,
                    diverging: head.diverging,
                    batches: r.bytes(head.batch_bytes as usize)?,
                }),
                Err(error) => Err(error),
            };
            entries.push(FetchedEntry {
                partition,
                result,
                owner,
            });
        }
        Ok(Self { entries })
    }

    pub(super) fn head(&self) -> Result<FetchResponseHead, EncodeError> {
        let mut entries = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            let result = match &entry.result {
                Ok(fetched) => {
                    let length = fetched.batches.len();
                    let batch_bytes =
                        u32::try_from(length).map_err(|_| EncodeError::FrameTooLarge { length })?;
                    Ok(FetchedHead {
                        high_watermark: fetched.high_watermark,
                        log_start_offset: fetched.log_start_offset,
                        batch_bytes,
                        diverging: fetched.diverging,
                    })
                }
                Err(error) => Err(error.clone()),
            };
            let (partition, owner) = (entry.partition, entry.owner.clone());
            entries.push(FetchedEntryHead {
                partition,
                result,
                owner,
            });
        }
        Ok(FetchResponseHead { entries })
    }
}

impl FetchResponseHead {
    /// Bytes of batches that the caller sends after the head.
    pub fn raw_bytes(&self) -> usize {
        let read = self
            .entries
            .iter()
            .filter_map(|entry| entry.result.as_ref().ok());
        read.map(|fetched| fetched.batch_bytes as usize).sum()
    }

    /// Appends the frame up to the first batch and returns true; the caller
    /// sends the batches of each entry right after it, in order. A table that
    /// no frame can hold becomes an Internal error and false: nothing may be
    /// sent after it.
    pub fn encode_head(&self, meta: &ResponseMeta, out: &mut Vec<u8>) -> bool {
        let Err(error) = self.try_encode(meta, out) else {
            return true;
        };
        let error = ApiError::new(ErrorCode::Internal, error.to_string());
        super::encode_error(ApiKey::Fetch.as_u16(), meta, &error, out);
        false
    }

    pub(super) fn try_encode(
        &self,
        meta: &ResponseMeta,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let (api_key, raw_bytes) = (ApiKey::Fetch.as_u16(), self.raw_bytes());
        ResponseHeader::write_frame(out, api_key, meta, 0, raw_bytes, |w| {
            w.list(&self.entries, |w, entry| {
                w.topic_partition(entry.partition);
                w.result(&entry.result, |w, fetched| fetched.encode(w));
                w.option(entry.owner.as_ref(), |w, owner| owner.encode(w));
            });
            w.align();
        })
    }
}

impl FetchedHead {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (high_watermark, log_start_offset) = (r.offset()?, r.offset()?);
        let batch_bytes = r.u32()?;
        if !batch_bytes.is_multiple_of(8) {
            return Err(r.invalid("length of batches"));
        }
        let (epoch, end_offset) = (r.epoch_option()?, r.offset()?);
        let diverging = epoch.map(|epoch| DivergingEpoch { epoch, end_offset });
        if diverging.is_none() && end_offset > Offset::ZERO {
            return Err(r.invalid("end of no diverging epoch"));
        }
        Ok(Self {
            high_watermark,
            log_start_offset,
            batch_bytes,
            diverging,
        })
    }

    fn encode(&self, w: &mut Writer<'_>) {
        w.offset(self.high_watermark);
        w.offset(self.log_start_offset);
        w.u32(self.batch_bytes);
        let diverging = self.diverging;
        w.epoch_option(diverging.map(|diverging| diverging.epoch));
        w.offset(diverging.map_or(Offset::ZERO, |diverging| diverging.end_offset));
        if !self.batch_bytes.is_multiple_of(8) {
            w.fail(EncodeError::BatchNotPadded {
                length: self.batch_bytes as usize,
            });
        }
    }
}
