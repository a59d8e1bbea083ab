//! Requests as bytes, and answers as they come.

use corelane_checker::Digest;
use corelane_protocol::batch::{
    BatchBuilder, BatchBuilderConfig, DecompressLimit, RecordBatch, RecordRef, RecordView,
};
use corelane_protocol::{
    AlignedBytes, ApiError, CorrelationId, LeaderEpoch, Offset, Request, RequestFlags, Response,
    ResponseHeader, Timestamp,
};

/// The header by which a record without a value is told from others.
const IDENTITY: &str = "id";

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

/// A record as a producer makes it: no other has the same bytes.
pub(crate) struct NewRecord {
    pub(crate) key: Option<Vec<u8>>,
    /// Its value, unless it deletes its key.
    pub(crate) identity: Vec<u8>,
    pub(crate) is_tombstone: bool,
}

impl NewRecord {
    pub(crate) fn content(&self) -> Digest {
        let value = (!self.is_tombstone).then_some(&*self.identity);
        content(self.key.as_deref(), value, Some(&self.identity))
    }
}

/// What tells a record from others: key and value, or key and identity if it has no value.
fn content(key: Option<&[u8]>, value: Option<&[u8]>, identity: Option<&[u8]>) -> Digest {
    match (key, value) {
        (Some(key), None) => {
            let named = [key, identity.unwrap_or_default()].join(&b'\n');
            Digest::of_record(Some(&named), None)
        }
        _ => Digest::of_record(key, value),
    }
}

fn content_of(record: &RecordView<'_>) -> Digest {
    let mut headers = record.headers();
    let identity = headers.find(|(name, _)| *name == IDENTITY);
    content(
        record.key,
        record.value,
        identity.and_then(|(_, value)| value),
    )
}

/// A batch of these records, each with its time.
pub(crate) fn batch(records: &[NewRecord], times: &[i64]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchBuilderConfig::default()).expect("a codec");
    for (new, time) in records.iter().zip(times) {
        let identity = [(IDENTITY, Some(&*new.identity))];
        let record = RecordRef {
            key: new.key.as_deref(),
            value: (!new.is_tombstone).then_some(&*new.identity),
            headers: if new.is_tombstone { &identity } else { &[] },
            timestamp: Timestamp::new(*time),
        };
        builder.try_push(record).expect("a small record");
    }
    builder.finish().expect("a batch").to_vec()
}

/// What an answer brought.
#[derive(Debug, Default)]
pub(crate) struct Served {
    /// The leader epoch of the last batch.
    pub(crate) last_epoch: Option<LeaderEpoch>,
    /// Where the next fetch begins.
    pub(crate) position: u64,
    /// Batches without records.
    pub(crate) hollow: u64,
    /// There is no record right before the position.
    pub(crate) ends_in_gap: bool,
}

/// Hands what the records of several stored batches hold to `each`, from an offset on.
///
/// # Errors
/// The first batch that is not sound, or that does not follow the one before: a consumer would refuse it.
pub(crate) fn records(
    mut bytes: &[u8],
    position: u64,
    mut each: impl FnMut(Offset, Digest),
) -> Result<Served, String> {
    let mut served = Served {
        position,
        ..Served::default()
    };
    let mut end = None;
    while !bytes.is_empty() {
        let length = bytes.get(56..60).ok_or("a batch is cut off")?;
        let length = u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
        let batch = bytes.get(..length).ok_or("a batch is cut off")?;
        let batch = AlignedBytes::copy_of(batch);
        let batch = RecordBatch::parse(batch, &DecompressLimit::default());
        let batch = batch.map_err(|error| error.to_string())?;
        served.last_epoch = batch.stamp().map(|stamp| stamp.leader_epoch);
        let (begins, ends) = (batch.base_offset(), batch.end_offset());
        let follows = match end {
            None => begins.get() <= position && ends.get() > position,
            Some(end) => begins == end,
        };
        if !follows {
            return Err(format!("a batch covers {begins} to {ends}, behind {end:?}"));
        }
        end = Some(ends);
        served.hollow += u64::from(batch.record_count() == 0);
        served.ends_in_gap = true;
        for record in batch.records() {
            if record.offset.get() >= position {
                each(record.offset, content_of(&record));
                served.ends_in_gap = record.offset.advance(1) < ends;
            }
        }
        served.position = ends.get();
        bytes = &bytes[length..];
    }
    Ok(served)
}
