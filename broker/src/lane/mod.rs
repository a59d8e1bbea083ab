//! One core of the broker: everything that it decides.
//!
//! Owns the core's connections, requests, partitions' waiters and mail. Never does I/O, never reads
//! a clock, and shares nothing: the shell of the same core reports events to it and carries out the
//! effects it hands back. Each core has one.

mod effect;
mod mail;
mod slab;
mod topology;

pub use effect::{ConnectionId, Effect, Now, ReplyPart};
pub use mail::{ForwardedBatch, ForwardedReply, ForwardedRequest, Mail};
pub use topology::Topology;
