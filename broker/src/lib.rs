//! The broker: connections, routing between cores, partitions, controller, configuration.
//!
//! Deciding code ([`config`], [`controller`], [`groups`], [`lane`], [`metadata`]) is plain state machines that
//! take time and input as arguments and hand out effects; it runs in tests without a kernel. The
//! shell around it owns sockets, rings and executors.

pub mod admin;
pub mod config;
pub mod controller;
pub mod groups;
mod io;
pub mod lane;
pub mod metadata;
pub mod runtime;
