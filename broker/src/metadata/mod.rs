//! What the broker knows about its topics: the records of the metadata log, and the image they make.
//!
//! Owns the records' form, and the one `apply` that every core runs alike. Never writes the log,
//! and never decides what becomes a record: that is the controller's. Each core has an image of
//! its own.
//!
//! A change goes command → records → log → apply. What agrees on the log between brokers can stand
//! between the controller and `apply` without either of them knowing.

mod image;
mod record;
mod setting_table;
mod settings;
mod snapshot;

pub use image::{ApplyError, MetadataImage, Placement, Topic};
pub use record::{MetadataRecord, PLACEMENTS_PER_RECORD_MAX, RecordError};
pub(crate) use setting_table::{MESSAGE_TIMESTAMP_AFTER_MAX_MS, MESSAGE_TIMESTAMP_BEFORE_MAX_MS};
pub use settings::{DescribedSetting, EffectiveSettings, SettingSource, TopicSettings};

/// The topic that keeps consumer groups and their offsets.
pub const OFFSETS_TOPIC: &str = "__offsets";

/// Whether a topic is the broker's own: nobody else makes, changes or deletes it, or writes to it.
pub fn is_internal(name: &str) -> bool {
    name == OFFSETS_TOPIC
}

/// Producer ids are reserved so many at a time.
pub const PRODUCER_ID_BLOCK: u64 = 1000;

/// The newest form of records that this build writes and reads. A log of a newer level is refused.
pub const FEATURE_LEVEL: u16 = 1;
