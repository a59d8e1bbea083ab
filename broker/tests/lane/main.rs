//! The deciding code of a broker, several cores of it, without a kernel: disks in memory, a
//! deterministic executor, mail and sockets carried by hand.

mod altering;
mod backpressure;
mod client;
mod cold_reads;
mod compacting;
mod conversation;
mod failures;
mod fetching;
mod forwarding;
mod framing;
mod group_metrics;
mod groups;
mod half_frames;
mod leader_epochs;
mod ledger;
mod limits;
mod log_requests;
mod metrics;
mod pacing;
mod producers;
mod producing;
mod readers;
mod restart;
mod scrubbing;
mod shutdown;
mod storm;
mod topics;
mod unfit;
mod world;
