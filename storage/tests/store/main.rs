//! The store on the in-memory disk: what it promises, through crashes, errors and damage.

mod dump;
mod durability;
mod lives;
mod model;
mod support;
mod torn_tail;
