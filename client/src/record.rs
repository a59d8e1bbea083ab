//! Records as they are given to a producer.
//!
//! Owns: the owned-or-borrowed record of `send` and the borrowed record of `send_batch`.
//! Never: encodes anything; the accumulator copies the bytes into a batch.

use std::borrow::Cow;

/// One record to send: where to, and what.
///
/// Bytes may be borrowed (`&[u8]`, `&str`) or owned (`Vec<u8>`, `String`); they are copied once, into
/// the batch. A record without a value is a tombstone: it says that its key was deleted.
///
/// ```
/// use corelane_client::Record;
/// let record = Record::to("orders").key("customer-7").value("3 apples").header("source", "shop");
/// assert_eq!(record.topic(), "orders");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    pub(crate) topic: Cow<'a, str>,
    pub(crate) partition: Option<u32>,
    pub(crate) key: Option<Cow<'a, [u8]>>,
    pub(crate) value: Option<Cow<'a, [u8]>>,
    pub(crate) headers: Vec<OwnedHeader<'a>>,
    pub(crate) timestamp_ms: Option<i64>,
}

/// The name and the value of a header.
type OwnedHeader<'a> = (Cow<'a, str>, Option<Cow<'a, [u8]>>);

impl<'a> Record<'a> {
    /// A record for `topic`, with neither key nor value yet.
    pub fn to(topic: impl Into<Cow<'a, str>>) -> Self {
        Self {
            topic: topic.into(),
            partition: None,
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp_ms: None,
        }
    }

    /// Sets the key. Records with one key go to one partition, in order.
    pub fn key(mut self, key: impl IntoBytes<'a>) -> Self {
        self.key = Some(key.into_bytes());
        self
    }

    /// Sets the value.
    pub fn value(mut self, value: impl IntoBytes<'a>) -> Self {
        self.value = Some(value.into_bytes());
        self
    }

    /// Sends to this partition (an index from 0), whatever the partitioner would choose.
    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Adds a header. A name may be given several times; order is kept.
    pub fn header(mut self, name: impl Into<Cow<'a, str>>, value: impl IntoBytes<'a>) -> Self {
        self.headers.push((name.into(), Some(value.into_bytes())));
        self
    }

    /// Adds a header whose value is null.
    pub fn null_header(mut self, name: impl Into<Cow<'a, str>>) -> Self {
        self.headers.push((name.into(), None));
        self
    }

    /// Sets the record's time, in milliseconds since the Unix epoch. Without it, the time at which
    /// the record enters the producer is taken.
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// The topic this record goes to.
    pub fn topic(&self) -> &str {
        &self.topic
    }
}

/// One record of a batch call, borrowed from the caller: no allocation for each record.
///
/// ```
/// use corelane_client::RecordRef;
/// let lines = ["a", "b"];
/// let records = lines.iter().map(|line| RecordRef::value(line.as_bytes()).key(b"k"));
/// # assert_eq!(records.count(), 2);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct RecordRef<'a> {
    pub(crate) partition: Option<u32>,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a [(&'a str, Option<&'a [u8]>)],
    pub(crate) timestamp_ms: Option<i64>,
}

impl<'a> RecordRef<'a> {
    /// A record with this value.
    #[inline]
    pub fn value(value: &'a [u8]) -> Self {
        Self {
            value: Some(value),
            ..Self::default()
        }
    }

    /// A record whose value is null: a tombstone.
    #[inline]
    pub fn tombstone() -> Self {
        Self::default()
    }

    /// Sets the key.
    #[inline]
    pub fn key(mut self, key: &'a [u8]) -> Self {
        self.key = Some(key);
        self
    }

    /// Sends to this partition (an index from 0), whatever the partitioner would choose.
    #[inline]
    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets the headers, in order.
    #[inline]
    pub fn headers(mut self, headers: &'a [(&'a str, Option<&'a [u8]>)]) -> Self {
        self.headers = headers;
        self
    }

    /// Sets the record's time, in milliseconds since the Unix epoch. Without it, the time of the
    /// call is taken.
    #[inline]
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// What the record counts against the producer's buffer, in bytes.
    #[inline]
    pub(crate) fn buffer_bytes(&self) -> usize {
        let header_bytes: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len) + HEADER_OVERHEAD_BYTES)
            .sum();
        self.key.map_or(0, <[u8]>::len)
            + self.value.map_or(0, <[u8]>::len)
            + header_bytes
            + RECORD_OVERHEAD_BYTES
    }
}

/// What the columns of a batch add for each record: ends of value and key, time, null marks.
const RECORD_OVERHEAD_BYTES: usize = 16;
/// What the columns of a batch add for each header: ends of name and value, null mark.
const HEADER_OVERHEAD_BYTES: usize = 12;

impl<'a> From<&'a [u8]> for RecordRef<'a> {
    #[inline]
    fn from(value: &'a [u8]) -> Self {
        Self::value(value)
    }
}

impl<'a> From<&'a str> for RecordRef<'a> {
    #[inline]
    fn from(value: &'a str) -> Self {
        Self::value(value.as_bytes())
    }
}

impl<'a> From<&'a Vec<u8>> for RecordRef<'a> {
    #[inline]
    fn from(value: &'a Vec<u8>) -> Self {
        Self::value(value)
    }
}

impl<'a> From<&'a String> for RecordRef<'a> {
    #[inline]
    fn from(value: &'a String) -> Self {
        Self::value(value.as_bytes())
    }
}

/// Bytes of a key, value or header value: borrowed or owned.
pub trait IntoBytes<'a> {
    /// The bytes, borrowed where they can be.
    fn into_bytes(self) -> Cow<'a, [u8]>;
}

impl<'a> IntoBytes<'a> for &'a [u8] {
    fn into_bytes(self) -> Cow<'a, [u8]> {
        Cow::Borrowed(self)
    }
}

impl<'a, const N: usize> IntoBytes<'a> for &'a [u8; N] {
    fn into_bytes(self) -> Cow<'a, [u8]> {
        Cow::Borrowed(self)
    }
}

impl<'a, const N: usize> IntoBytes<'a> for [u8; N] {
    fn into_bytes(self) -> Cow<'a, [u8]> {
        Cow::Owned(self.to_vec())
    }
}

impl<'a> IntoBytes<'a> for &'a str {
    fn into_bytes(self) -> Cow<'a, [u8]> {
        Cow::Borrowed(self.as_bytes())
    }
}

impl<'a> IntoBytes<'a> for &'a String {
    fn into_bytes(self) -> Cow<'a, [u8]> {
        Cow::Borrowed(self.as_bytes())
    }
}

impl<'a> IntoBytes<'a> for &'a Vec<u8> {
    fn into_bytes(self) -> Cow<'a, [u8]> {
        Cow::Borrowed(self)
    }
}

impl<'a> IntoBytes<'a> for String {
    fn into_bytes(self) -> Cow<'a, [u8]> {
        Cow::Owned(self.into_bytes())
    }
}

impl<'a> IntoBytes<'a> for Vec<u8> {
    fn into_bytes(self) -> Cow<'a, [u8]> {
        Cow::Owned(self)
    }
}

impl<'a> IntoBytes<'a> for Cow<'a, [u8]> {
    fn into_bytes(self) -> Cow<'a, [u8]> {
        self
    }
}
