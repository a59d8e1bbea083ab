//! The store on the in-memory disk: what it promises, through crashes, errors and damage.

mod compaction;
mod delete_records;
mod disk_full_places;
mod disk_reserve;
mod dump;
mod durability;
mod golden;
mod golden_kinds;
mod image_file;
mod leader_epochs;
mod leftovers;
mod lives;
mod many_partitions;
mod model;
mod producers;
mod read_ahead;
mod refusals;
mod retention;
mod retention_guard;
mod scrub;
mod straight;
mod support;
mod time_search;
mod torn_tail;
mod waiting_for_room;
mod weak_topics;
