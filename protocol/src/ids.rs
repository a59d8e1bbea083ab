//! Identifiers: one type per kind of number, so that an offset is never taken
//! for an epoch.
//!
//! Owns their ranges and their text forms. Never does free arithmetic: an
//! offset only advances, or is measured against an earlier one.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// Defines a newtype over an integer with `new`, `get` and `Display`.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($inner);

        impl $name {
            /// Wraps the number.
            pub const fn new(value: $inner) -> Self {
                Self(value)
            }

            /// The number itself.
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number! {
    /// A partition's number within its topic, from 0.
    PartitionIndex(u32)
}
number! {
    /// The term of a partition's leader; it grows with every election.
    LeaderEpoch(u32)
}
number! {
    /// A broker's number within its cluster.
    BrokerId(u32)
}
number! {
    /// A core's number within its broker, from 0; not the kernel's CPU number.
    CoreId(u16)
}
number! {
    /// A store's number within its data directory, from 0.
    StoreId(u16)
}
number! {
    /// What a client puts into a request so that it knows its response again.
    CorrelationId(u32)
}
number! {
    /// The number of an idempotent producer, given by the cluster.
    ProducerId(u64)
}
number! {
    /// The incarnation of an idempotent producer.
    ProducerEpoch(u16)
}
number! {
    /// The generation of a consumer group: every change of what its members should hold raises it.
    Generation(u32)
}
number! {
    /// Milliseconds since the Unix epoch.
    Timestamp(i64)
}

impl Generation {
    /// Of a member that has not joined yet.
    pub const NONE: Self = Self(0);
}

impl ProducerId {
    /// A producer that is not idempotent.
    pub const NONE: Self = Self(u64::MAX);
}

impl ProducerEpoch {
    /// A producer that is not idempotent.
    pub const NONE: Self = Self(u16::MAX);
}

/// The position of a record in its partition. Offsets stay below 2^63, so that
/// an offset plus the records of one batch never overflows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(u64);

impl Offset {
    /// The first offset of every partition.
    pub const ZERO: Self = Self(0);
    /// The largest offset that is accepted from the wire or from disk.
    pub const MAX: Self = Self(i64::MAX as u64);

    /// Wraps the number.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The offset `records` later.
    ///
    /// # Panics
    /// When the sum exceeds `u64`, which offsets below [`Offset::MAX`] and
    /// batches of at most 2^32 records cannot reach.
    #[must_use]
    pub const fn advance(self, records: u64) -> Self {
        match self.0.checked_add(records) {
            Some(value) => Self(value),
            None => panic!("an offset advanced beyond 2^64"),
        }
    }

    /// The number of offsets from `earlier` to `self`.
    ///
    /// # Panics
    /// When `earlier` is later than `self`; compare first where that may be.
    #[must_use]
    pub const fn distance_from(self, earlier: Self) -> u64 {
        match self.0.checked_sub(earlier.0) {
            Some(distance) => distance,
            None => panic!("the distance to a later offset was asked"),
        }
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The identity of a topic. A topic that is deleted and made again under the
/// same name has another id.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(Uuid);

impl TopicId {
    /// No topic's id: the value of an unstamped batch.
    pub const NIL: Self = Self(Uuid::nil());

    /// Wraps the UUID.
    pub const fn new(value: Uuid) -> Self {
        Self(value)
    }

    /// The UUID itself.
    pub const fn get(self) -> Uuid {
        self.0
    }

    /// The UUID's bytes, in the order of RFC 9562 (as they are written).
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The id with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.hyphenated(), f)
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({})", self.0.hyphenated())
    }
}

impl FromStr for TopicId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self)
    }
}

/// The identity of a member of a consumer group, chosen by the client for as long as the member
/// lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(Uuid);

impl MemberId {
    /// The id with these bytes, in the order of RFC 9562.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Wraps the UUID.
    pub const fn new(value: Uuid) -> Self {
        Self(value)
    }

    /// The UUID itself.
    pub const fn get(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.hyphenated(), f)
    }
}

/// One partition of one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition within the topic.
    pub partition: PartitionIndex,
}

impl TopicPartition {
    /// The partition `partition` of `topic`.
    pub const fn new(topic: TopicId, partition: PartitionIndex) -> Self {
        Self { topic, partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// The most bytes of a topic's name, as in Kafka.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

/// A valid topic name: 1 to 249 of `[A-Za-z0-9._-]`, neither `.` nor `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(String);

/// Why a text is not a topic name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicNameError {
    /// The name has no characters.
    #[error("a topic name must not be empty")]
    Empty,
    /// The name is longer than [`TOPIC_NAME_BYTES_MAX`].
    #[error("a topic name has at most {TOPIC_NAME_BYTES_MAX} characters, this one has {length}")]
    TooLong {
        /// Bytes of the name.
        length: usize,
    },
    /// The name is `.` or `..`.
    #[error("a topic cannot be named '.' or '..'")]
    Dots,
    /// A character that is not allowed.
    #[error("{character:?} is not allowed in a topic name; use letters, digits, '.', '_' and '-'")]
    Character {
        /// The first such character.
        character: char,
    },
}

impl TopicName {
    /// Checks the name.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn new(name: impl Into<String>) -> Result<Self, TopicNameError> {
        let name = name.into();
        if name.is_empty() {
            return Err(TopicNameError::Empty);
        }
        if name.len() > TOPIC_NAME_BYTES_MAX {
            return Err(TopicNameError::TooLong { length: name.len() });
        }
        if name == "." || name == ".." {
            return Err(TopicNameError::Dots);
        }
        let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        match name.chars().find(|c| !allowed(c)) {
            Some(character) => Err(TopicNameError::Character { character }),
            None => Ok(Self(name)),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, owned.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<str> for TopicName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for TopicName {
    type Err = TopicNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_follow_kafkas_rules() {
        for good in ["a", "orders", "A.b_c-9", "...", &"x".repeat(249)] {
            assert_eq!(
                TopicName::new(good).map(TopicName::into_string),
                Ok(good.to_owned())
            );
        }
        assert_eq!(TopicName::new(""), Err(TopicNameError::Empty));
        assert_eq!(TopicName::new("."), Err(TopicNameError::Dots));
        assert_eq!(TopicName::new(".."), Err(TopicNameError::Dots));
        assert_eq!(
            TopicName::new("x".repeat(250)),
            Err(TopicNameError::TooLong { length: 250 })
        );
        for (bad, character) in [("a/b", '/'), ("a b", ' '), ("é", 'é'), ("a\0", '\0')] {
            assert_eq!(
                TopicName::new(bad),
                Err(TopicNameError::Character { character })
            );
        }
    }

    #[test]
    fn offsets_advance_and_measure() {
        let start = Offset::new(5);
        assert_eq!(start.advance(7), Offset::new(12));
        assert_eq!(start.advance(7).distance_from(start), 7);
        assert_eq!(
            Offset::MAX.advance(u64::from(u32::MAX)).get(),
            (1 << 63) - 1 + ((1 << 32) - 1)
        );
    }

    #[test]
    fn topic_ids_read_as_they_are_written() {
        let id = TopicId::from_bytes(*b"0123456789abcdef");
        assert_eq!(id.to_string(), "30313233-3435-3637-3839-616263646566");
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}
