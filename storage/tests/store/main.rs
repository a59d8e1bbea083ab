//! The store on the in-memory disk: what it promises, through crashes, errors and damage.

mod delete_records;
mod dump;
mod durability;
mod lives;
mod many_partitions;
mod model;
mod refusals;
mod support;
mod torn_tail;
mod waiting_for_room;
mod weak_topics;
