//! The store on the in-memory disk: what it promises, through crashes, errors and damage.

mod durability;
mod support;
