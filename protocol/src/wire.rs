//! Bounded reading and writing of little-endian fields.
//!
//! Owns the rules that every body follows: text is a `u16` length and UTF-8, an
//! array is a `u32` count and its items, a choice is one byte, and nothing may
//! follow the last field. A count is held against the bytes that are there
//! before anything is reserved for it.

use uuid::Uuid;

use crate::error::{ApiError, ErrorCode};
use crate::ids::{LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicId, TopicPartition};

/// The most names (or settings) in one array of a request.
pub const NAMES_MAX: usize = 65_536;

/// Why bytes are not the message that they should be. Positions are bytes from
/// the start of the body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The body ends within a field.
    #[error("the body ends at {at}: {needed} bytes are needed, {left} are left")]
    Truncated {
        /// Where the field begins.
        at: usize,
        /// Bytes of the field.
        needed: usize,
        /// Bytes that are there.
        left: usize,
    },
    /// Bytes follow the last field.
    #[error("{left} bytes follow the last field, which ends at {at}")]
    Trailing {
        /// Where the last field ends.
        at: usize,
        /// Bytes after it.
        left: usize,
    },
    /// An array's count cannot fit into the rest of the body, or exceeds its limit.
    #[error("the array at {at} counts {count} items, where at most {at_most} can be")]
    CountTooLarge {
        /// Where the count stands.
        at: usize,
        /// The count.
        count: u32,
        /// The most that could be there.
        at_most: usize,
    },
    /// A text is not UTF-8.
    #[error("the text at {at} is not UTF-8")]
    NotUtf8 {
        /// Where the text begins.
        at: usize,
    },
    /// A field has a value outside of its range.
    #[error("the field at {at} is no valid {what}")]
    InvalidValue {
        /// Where the field ends.
        at: usize,
        /// What it should have been.
        what: &'static str,
    },
    /// No request has this number.
    #[error("no request has the API key {api_key}")]
    UnknownApi {
        /// The number.
        api_key: u16,
    },
    /// The request is known, this version of it is not.
    #[error("{api} is not spoken in version {version}, but in {first} to {last}")]
    UnknownVersion {
        /// The request.
        api: crate::api::ApiKey,
        /// The version asked for.
        version: u16,
        /// The oldest version that is known.
        first: u16,
        /// The newest version that is known.
        last: u16,
    },
}

impl DecodeError {
    /// The code with which a broker refuses such a request.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownApi { .. } => ErrorCode::UnsupportedApi,
            Self::UnknownVersion { .. } => ErrorCode::UnsupportedVersion,
            _ => ErrorCode::MalformedRequest,
        }
    }
}

impl From<DecodeError> for ApiError {
    fn from(error: DecodeError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// Why a message cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A text is longer than 65,535 bytes.
    #[error("a text of {length} bytes is too long for a request; at most 65535 fit")]
    TextTooLong {
        /// Bytes of the text.
        length: usize,
    },
    /// An array has more items than a message may carry.
    #[error("an array of {count} items is too long")]
    CountTooLarge {
        /// Its items.
        count: usize,
    },
    /// The whole frame would exceed `u32`.
    #[error("a frame of {length} bytes is too long")]
    FrameTooLarge {
        /// Bytes of the frame.
        length: usize,
    },
    /// A batch's length is not a multiple of 8.
    #[error("a batch of {length} bytes is not padded to a multiple of 8")]
    BatchNotPadded {
        /// Bytes of the batch.
        length: usize,
    },
}

/// Reads fields from the front of a slice.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from their start.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Bytes read so far.
    pub const fn position(&self) -> usize {
        self.position
    }

    /// Bytes not read yet.
    pub const fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// Ends reading.
    ///
    /// # Errors
    /// When bytes are left.
    pub const fn finish(self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing {
                at: self.position,
                left,
            }),
        }
    }

    /// The next `length` bytes, in place.
    ///
    /// # Errors
    /// When fewer are left; the same holds for every method below.
    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let left = self.remaining();
        if length > left {
            return Err(DecodeError::Truncated {
                at: self.position,
                needed: length,
                left,
            });
        }
        let field = &self.bytes[self.position..self.position + length];
        self.position += length;
        Ok(field)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let field = self.bytes(N)?;
        Ok(field.try_into().expect("the field has N bytes"))
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// Two bytes.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Two bytes, signed.
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        self.array().map(i16::from_le_bytes)
    }

    /// Eight bytes, signed.
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_le_bytes)
    }

    /// One byte, 0 or 1.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.invalid("yes or no")),
        }
    }

    /// Sixteen bytes, as RFC 9562 orders them.
    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        self.array().map(Uuid::from_bytes)
    }

    /// A topic's id.
    pub fn topic_id(&mut self) -> Result<TopicId, DecodeError> {
        self.array().map(TopicId::from_bytes)
    }

    /// A topic's id and a partition.
    pub fn topic_partition(&mut self) -> Result<TopicPartition, DecodeError> {
        let topic = self.topic_id()?;
        Ok(TopicPartition {
            topic,
            partition: PartitionIndex::new(self.u32()?),
        })
    }

    /// An offset, at most [`Offset::MAX`].
    pub fn offset(&mut self) -> Result<Offset, DecodeError> {
        let offset = Offset::new(self.u64()?);
        if offset > Offset::MAX {
            Err(self.invalid("offset"))
        } else {
            Ok(offset)
        }
    }

    /// A leader epoch; 2^32 - 1 for none.
    pub fn epoch_option(&mut self) -> Result<Option<LeaderEpoch>, DecodeError> {
        let epoch = self.u32()?;
        Ok((epoch != u32::MAX).then_some(LeaderEpoch::new(epoch)))
    }

    /// A time.
    pub fn timestamp(&mut self) -> Result<Timestamp, DecodeError> {
        self.i64().map(Timestamp::new)
    }

    /// Text: a `u16` length and UTF-8, in place.
    pub fn text(&mut self) -> Result<&'a str, DecodeError> {
        let length = usize::from(self.u16()?);
        let at = self.position;
        std::str::from_utf8(self.bytes(length)?).map_err(|_| DecodeError::NotUtf8 { at })
    }

    /// Text, copied.
    pub fn string(&mut self) -> Result<String, DecodeError> {
        self.text().map(str::to_owned)
    }

    /// An array's count, which `remaining` bytes can hold at `item_bytes_min`
    /// (at least 1) for each item.
    pub fn count(&mut self, item_bytes_min: usize) -> Result<usize, DecodeError> {
        self.count_up_to(item_bytes_min, usize::MAX)
    }

    /// An array: a `u32` count and so many times `item`, which takes at least
    /// `item_bytes_min` bytes.
    pub fn list<T>(
        &mut self,
        item_bytes_min: usize,
        item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        self.list_up_to(item_bytes_min, usize::MAX, item)
    }

    /// The same with at most `items_max` items.
    pub fn list_up_to<T>(
        &mut self,
        item_bytes_min: usize,
        items_max: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.count_up_to(item_bytes_min, items_max)?;
        let mut items = Vec::with_capacity(count.min(RESERVED_ITEMS_MAX));
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// An optional value: a byte 0, or a byte 1 and the value.
    pub fn option<T>(
        &mut self,
        value: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        Ok(if self.bool()? {
            Some(value(self)?)
        } else {
            None
        })
    }

    /// A result: a `u16` error code, then the value for 0, else the message. A
    /// code that this build does not know reads as [`ErrorCode::Internal`] with
    /// its number in the message.
    pub fn result<T>(
        &mut self,
        value: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Result<T, ApiError>, DecodeError> {
        match self.u16()? {
            0 => value(self).map(Ok),
            number => Ok(Err(api_error(number, self.text()?))),
        }
    }

    /// Skips zeros up to the next multiple of 8.
    pub fn align(&mut self) -> Result<(), DecodeError> {
        let padding = self.position.next_multiple_of(8) - self.position;
        if self.bytes(padding)?.iter().any(|byte| *byte != 0) {
            return Err(self.invalid("padding"));
        }
        Ok(())
    }

    /// The error for a field that was just read.
    pub const fn invalid(&self, what: &'static str) -> DecodeError {
        DecodeError::InvalidValue {
            at: self.position,
            what,
        }
    }

    fn count_up_to(
        &mut self,
        item_bytes_min: usize,
        items_max: usize,
    ) -> Result<usize, DecodeError> {
        let at = self.position;
        let count = self.u32()?;
        let at_most = (self.remaining() / item_bytes_min).min(items_max);
        if count as usize > at_most {
            return Err(DecodeError::CountTooLarge { at, count, at_most });
        }
        Ok(count as usize)
    }
}

/// Items for which a list reserves at once; longer lists grow as items arrive,
/// so that what is reserved follows what was read.
const RESERVED_ITEMS_MAX: usize = 256;

/// The error with this number, which is not 0.
pub(crate) fn api_error(number: u16, message: &str) -> ApiError {
    match ErrorCode::from_u16(number) {
        Some(code) => ApiError::new(code, message),
        None => ApiError::new(
            ErrorCode::Internal,
            format!("error {number}, which this version does not know: {message}"),
        ),
    }
}

/// Appends fields to a vector. The first failure is kept and reported by
/// [`Writer::finish`]; what follows it has no effect that counts.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    failed: Option<EncodeError>,
}

impl<'a> Writer<'a> {
    /// Appends to `out`; alignment counts from its present end.
    pub const fn new(out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        Self {
            out,
            start,
            failed: None,
        }
    }

    /// Bytes written so far.
    pub const fn length(&self) -> usize {
        self.out.len() - self.start
    }

    /// Ends writing. On failure `out` is as it was before.
    ///
    /// # Errors
    /// The first text or array that was too long.
    pub fn finish(self) -> Result<(), EncodeError> {
        match self.failed {
            None => Ok(()),
            Some(error) => {
                self.out.truncate(self.start);
                Err(error)
            }
        }
    }

    /// Keeps `error` unless there was one before.
    pub fn fail(&mut self, error: EncodeError) {
        self.failed.get_or_insert(error);
    }

    /// Bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.out.push(value);
    }

    /// Two bytes.
    pub fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    /// Four bytes.
    pub fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    /// Eight bytes.
    pub fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    /// Two bytes, signed.
    pub fn i16(&mut self, value: i16) {
        self.bytes(&value.to_le_bytes());
    }

    /// Eight bytes, signed.
    pub fn i64(&mut self, value: i64) {
        self.bytes(&value.to_le_bytes());
    }

    /// One byte, 0 or 1.
    pub fn bool(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    /// Sixteen bytes.
    pub fn uuid(&mut self, value: Uuid) {
        self.bytes(value.as_bytes());
    }

    /// A topic's id.
    pub fn topic_id(&mut self, value: TopicId) {
        self.bytes(value.as_bytes());
    }

    /// A topic's id and a partition.
    pub fn topic_partition(&mut self, value: TopicPartition) {
        self.topic_id(value.topic);
        self.u32(value.partition.get());
    }

    /// An offset.
    pub fn offset(&mut self, value: Offset) {
        self.u64(value.get());
    }

    /// See [`Reader::epoch_option`].
    pub fn epoch_option(&mut self, value: Option<LeaderEpoch>) {
        self.u32(value.map_or(u32::MAX, LeaderEpoch::get));
    }

    /// A time.
    pub fn timestamp(&mut self, value: Timestamp) {
        self.i64(value.get());
    }

    /// Text of at most 65,535 bytes.
    pub fn text(&mut self, text: &str) {
        match u16::try_from(text.len()) {
            Ok(length) => {
                self.u16(length);
                self.bytes(text.as_bytes());
            }
            Err(_) => self.fail(EncodeError::TextTooLong { length: text.len() }),
        }
    }

    /// Text for people, cut to 65,535 bytes.
    pub fn message(&mut self, text: &str) {
        let mut end = text.len().min(usize::from(u16::MAX));
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.text(&text[..end]);
    }

    /// An array's count.
    pub fn count(&mut self, count: usize) {
        match u32::try_from(count) {
            Ok(count) => self.u32(count),
            Err(_) => self.fail(EncodeError::CountTooLarge { count }),
        }
    }

    /// An array: its count and its items.
    pub fn list<T>(&mut self, items: &[T], mut item: impl FnMut(&mut Self, &T)) {
        self.count(items.len());
        for one in items {
            item(self, one);
        }
    }

    /// An array of a request, with at most [`NAMES_MAX`] items.
    pub fn names<T>(&mut self, items: &[T], item: impl FnMut(&mut Self, &T)) {
        if items.len() > NAMES_MAX {
            self.fail(EncodeError::CountTooLarge { count: items.len() });
        }
        self.list(items, item);
    }

    /// An optional value.
    pub fn option<T>(&mut self, value: Option<&T>, some: impl FnOnce(&mut Self, &T)) {
        self.bool(value.is_some());
        if let Some(value) = value {
            some(self, value);
        }
    }

    /// A result: code 0 and the value, or the code and its message.
    pub fn result<T>(&mut self, result: &Result<T, ApiError>, ok: impl FnOnce(&mut Self, &T)) {
        match result {
            Ok(value) => {
                self.u16(0);
                ok(self, value);
            }
            Err(error) => {
                self.u16(error.code.as_u16());
                self.message(&error.message);
            }
        }
    }

    /// Zeros up to the next multiple of 8.
    pub fn align(&mut self) {
        let padding = self.length().next_multiple_of(8) - self.length();
        self.bytes(&[0; 8][..padding]);
    }

    /// Overwrites four bytes that were written before, `at` bytes from the start.
    pub(crate) fn patch_u32(&mut self, at: usize, value: u32) {
        let at = self.start + at;
        self.out[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
}
