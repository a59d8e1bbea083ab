//! Requests as bytes, and answers as they come.

use corelane_protocol::batch::{
    BatchBuilder, BatchBuilderConfig, DecompressLimit, RecordBatch, RecordRef,
};
use corelane_protocol::{
    AlignedBytes, ApiError, CorrelationId, LeaderEpoch, Offset, Request, RequestFlags, Response,
    ResponseHeader, Timestamp,
};

/// One answer, whole.
pub(crate) struct Reply {
    header: ResponseHeader,
    frame: Vec<u8>,
}

impl Reply {
    /// Cuts the next answer from the front of a stream.
    ///
    /// # Errors
    /// What is wrong with the stream.
    pub(crate) fn cut(stream: &mut Vec<u8>) -> Result<Option<Self>, String> {
        let header = ResponseHeader::parse(stream, u32::MAX).map_err(|error| error.to_string())?;
        let Some(header) = header else {
            return Ok(None);
        };
        let length = header.frame_length();
        if stream.len() < length {
            return Ok(None);
        }
        let rest = stream.split_off(length);
        let frame = std::mem::replace(stream, rest);
        Ok(Some(Self { header, frame }))
    }

    pub(crate) fn correlation(&self) -> u32 {
        self.header.correlation_id.get()
    }

    /// The answer, or the refusal of the whole request.
    ///
    /// # Errors
    /// What is wrong with its bytes.
    pub(crate) fn response(&self) -> Result<Result<Response<'_>, ApiError>, String> {
        let body = &self.frame[ResponseHeader::LEN..];
        Response::decode(&self.header, body).map_err(|error| error.to_string())
    }
}

/// The bytes of a request.
pub(crate) fn frame(correlation: u32, flags: RequestFlags, request: &Request<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    request
        .encode(CorrelationId::new(correlation), flags, &mut out)
        .expect("a request that fits");
    out
}

/// A batch of these values, each with its time.
pub(crate) fn batch(values: &[Vec<u8>], times: &[i64]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchBuilderConfig::default()).expect("a codec");
    for (value, time) in values.iter().zip(times) {
        let record = RecordRef {
            value: Some(value),
            timestamp: Timestamp::new(*time),
            ..RecordRef::default()
        };
        builder.try_push(record).expect("a small record");
    }
    builder.finish().expect("a batch").to_vec()
}

/// Hands every record of several stored batches to `each`. Returns the leader epoch of the last one.
///
/// # Errors
/// The first batch that is not sound: a consumer would refuse it.
pub(crate) fn records(
    mut bytes: &[u8],
    mut each: impl FnMut(Offset, Option<&[u8]>),
) -> Result<Option<LeaderEpoch>, String> {
    let mut last_epoch = None;
    while !bytes.is_empty() {
        let length = bytes.get(56..60).ok_or("a batch is cut off")?;
        let length = u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
        let batch = bytes.get(..length).ok_or("a batch is cut off")?;
        let batch = AlignedBytes::copy_of(batch);
        let batch = RecordBatch::parse(batch, &DecompressLimit::default());
        let batch = batch.map_err(|error| error.to_string())?;
        last_epoch = batch.stamp().map(|stamp| stamp.leader_epoch);
        for record in batch.records() {
            each(record.offset, record.value);
        }
        bytes = &bytes[length..];
    }
    Ok(last_epoch)
}
