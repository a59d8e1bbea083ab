//! What is logged of groups, and its bytes.
//!
//! All little-endian; text is `length u16` and UTF-8, a list `count u32` and its items, an option
//! a byte 0, or a byte 1 and the value. A key is `version u8` (1), `kind u8`, `group text`, then
//! what its kind adds:
//!
//! | kind | record | key adds |
//! |---|---|---|
//! | 1 | group | |
//! | 2 | member | `member 16 B` |
//! | 3 | offset | `topic 16 B`, `partition u32` |
//!
//! A value is `version u8` (1), then the fields of the key's kind:
//!
//! - group: `generation u32`, `target generation u32`, `assignor text`, `empty since` (option of
//!   `i64`, ms since 1970);
//! - member: `subscription` as in a heartbeat, `host text`, `generation u32`, `previous generation
//!   u32`, `away u8`, `assigned` and `revoking` (lists of `topic 16 B` and a list of
//!   `partition u32`);
//! - offset: `offset u64`, `leader epoch u32`, `time i64`, `metadata text`, as in an answer to
//!   FetchOffsets.
//!
//! A record without a value is a tombstone: what its key names is gone. Nothing follows the last
//! field, and an unknown version or kind is refused: the log was written by a newer version.

use corelane_protocol::request::{PartitionsOfTopic, Subscription};
use corelane_protocol::response::CommittedOffset;
use corelane_protocol::wire::{DecodeError, EncodeError, Reader, Writer};
use corelane_protocol::{Generation, MemberId, Timestamp, TopicPartition};

const VERSION: u8 = 1;
const GROUP: u8 = 1;
const MEMBER: u8 = 2;
const OFFSET: u8 = 3;

/// The last generation that is read; it leaves room to count on.
pub(super) const GENERATION_MAX: Generation = Generation::new(1 << 31);

/// A change of what is kept of groups. The newest record of a key counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupRecord {
    /// A group.
    Group {
        /// Its name.
        group: String,
        /// What is kept of it, or that it is gone.
        value: Option<GroupValue>,
    },
    /// A member of a group.
    Member {
        /// The group.
        group: String,
        /// The member.
        member: MemberId,
        /// What is kept of it, or that it is gone.
        value: Option<Box<MemberValue>>,
    },
    /// A committed offset.
    Offset {
        /// The group.
        group: String,
        /// The partition.
        partition: TopicPartition,
        /// What was committed, or that it is gone.
        value: Option<CommittedOffset>,
    },
}

/// What is kept of a group beside its members and offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupValue {
    /// Its generation.
    pub generation: Generation,
    /// The generation since which members are to hold what they are to hold now.
    pub target_generation: Generation,
    /// The name of the assignor in use.
    pub assignor: String,
    /// Since when it has had no members, by the wall clock.
    pub empty_since: Option<Timestamp>,
}

/// What is kept of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberValue {
    /// What it wants.
    pub subscription: Subscription,
    /// Where it connects from.
    pub host: String,
    /// Its generation.
    pub generation: Generation,
    /// The one before.
    pub previous: Generation,
    /// It has left, and will come back under its instance name.
    pub away: bool,
    /// What it may hold.
    pub assigned: Vec<PartitionsOfTopic>,
    /// What it has yet to let go.
    pub revoking: Vec<PartitionsOfTopic>,
}

/// Bytes that are not a record of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupRecordError {
    /// The record has a version that this build does not know.
    #[error(
        "group record of version {version}, this version reads {VERSION}; start a newer version"
    )]
    Version {
        /// The version.
        version: u8,
    },
    /// The record is of a kind that this build does not know.
    #[error("group record of kind {kind}, which this version does not know; start a newer version")]
    Kind {
        /// The kind.
        kind: u8,
    },
    /// The bytes of the key do not follow the layout.
    #[error("key of a group record: {0}")]
    Key(DecodeError),
    /// The bytes of the value do not follow the layout.
    #[error("value of a group record: {0}")]
    Value(DecodeError),
}

impl GroupRecord {
    /// The key's bytes.
    pub fn key(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut w = Writer::new(&mut out);
        w.u8(VERSION);
        match self {
            Self::Group { group, .. } => {
                w.u8(GROUP);
                w.text(group);
            }
            Self::Member { group, member, .. } => {
                w.u8(MEMBER);
                w.text(group);
                w.uuid(member.get());
            }
            Self::Offset {
                group, partition, ..
            } => {
                w.u8(OFFSET);
                w.text(group);
                w.topic_partition(*partition);
            }
        }
        finished(w.finish());
        out
    }

    /// The value's bytes; `None` for a tombstone.
    pub fn value(&self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let mut w = Writer::new(&mut out);
        w.u8(VERSION);
        match self {
            Self::Group { value, .. } => value.as_ref()?.encode(&mut w),
            Self::Member { value, .. } => value.as_ref()?.encode(&mut w),
            Self::Offset { value, .. } => value.as_ref()?.encode(&mut w),
        }
        finished(w.finish());
        Some(out)
    }

    /// Reads a record.
    ///
    /// # Errors
    /// Bytes that are not a record of this version.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Self, GroupRecordError> {
        let mut r = Reader::new(key);
        check_version(r.u8().map_err(GroupRecordError::Key)?)?;
        let kind = r.u8().map_err(GroupRecordError::Key)?;
        if ![GROUP, MEMBER, OFFSET].contains(&kind) {
            return Err(GroupRecordError::Kind { kind });
        }
        let group = r.string().map_err(GroupRecordError::Key)?;
        let record = match kind {
            GROUP => Self::Group {
                group,
                value: read_value(value, GroupValue::decode)?,
            },
            MEMBER => Self::Member {
                group,
                member: MemberId::new(r.uuid().map_err(GroupRecordError::Key)?),
                value: read_value(value, MemberValue::decode)?.map(Box::new),
            },
            _ => Self::Offset {
                group,
                partition: r.topic_partition().map_err(GroupRecordError::Key)?,
                value: read_value(value, CommittedOffset::decode)?,
            },
        };
        r.finish().map_err(GroupRecordError::Key)?;
        Ok(record)
    }
}

impl GroupValue {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            generation: read_generation(r)?,
            target_generation: read_generation(r)?,
            assignor: r.string()?,
            empty_since: r.option(|r| r.timestamp())?,
        })
    }

    fn encode(&self, w: &mut Writer<'_>) {
        w.u32(self.generation.get());
        w.u32(self.target_generation.get());
        w.text(&self.assignor);
        w.option(self.empty_since.as_ref(), |w, time| w.timestamp(*time));
    }
}

impl MemberValue {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            subscription: Subscription::decode(r)?,
            host: r.string()?,
            generation: read_generation(r)?,
            previous: read_generation(r)?,
            away: r.bool()?,
            assigned: read_partitions(r)?,
            revoking: read_partitions(r)?,
        })
    }

    fn encode(&self, w: &mut Writer<'_>) {
        self.subscription.encode(w);
        w.text(&self.host);
        w.u32(self.generation.get());
        w.u32(self.previous.get());
        w.bool(self.away);
        w.list(&self.assigned, |w, of| of.encode(w));
        w.list(&self.revoking, |w, of| of.encode(w));
    }
}

fn check_version(version: u8) -> Result<(), GroupRecordError> {
    match version {
        VERSION => Ok(()),
        version => Err(GroupRecordError::Version { version }),
    }
}

fn read_value<T>(
    value: Option<&[u8]>,
    decode: impl FnOnce(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Option<T>, GroupRecordError> {
    let Some(bytes) = value else {
        return Ok(None);
    };
    let mut r = Reader::new(bytes);
    check_version(r.u8().map_err(GroupRecordError::Value)?)?;
    let value = decode(&mut r).map_err(GroupRecordError::Value)?;
    r.finish().map_err(GroupRecordError::Value)?;
    Ok(Some(value))
}

fn read_generation(r: &mut Reader<'_>) -> Result<Generation, DecodeError> {
    let generation = Generation::new(r.u32()?);
    if generation > GENERATION_MAX {
        return Err(r.invalid("generation"));
    }
    Ok(generation)
}

fn read_partitions(r: &mut Reader<'_>) -> Result<Vec<PartitionsOfTopic>, DecodeError> {
    r.list(PartitionsOfTopic::BYTES_MIN, PartitionsOfTopic::decode)
}

fn finished(result: Result<(), EncodeError>) {
    result.expect("texts and lists were held against their limits before they were kept");
}
