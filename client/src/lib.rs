//! The Corelane client library: producer, consumer and admin, on tokio.
//!
//! A [`Client`] knows a cluster. From it come a [`Producer`], which sends records in batches and
//! gives a receipt for each; a [`Consumer`], which reads partitions from any offset; a
//! [`GroupConsumer`], which shares the partitions of topics with the other members of its group; and an
//! [`Admin`]. Every producer and consumer talks straight to the cores that own its partitions.
//!
//! ```no_run
//! use std::time::Duration;
//! use corelane_client::{Acks, Client, Record, Start};
//!
//! # async fn example() -> corelane_client::Result<()> {
//! let client = Client::connect("127.0.0.1:9500").await?;
//!
//! let producer = client.producer().acks(Acks::All).linger(Duration::from_millis(2)).build().await?;
//! let delivery = producer.send(Record::to("orders").key("7").value("3 apples")).await?;
//! let receipt = delivery.await?;
//! println!("offset {}, {}", receipt.offset, receipt.durability);
//!
//! let mut consumer = client.consumer().assign([("orders", 0)], Start::Earliest).build().await?;
//! while let Some(records) = consumer.next().await? {
//!     for record in records.iter() {
//!         println!("{} {:?}", record.offset(), record.value());
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The members of a group read each partition once between them, and commit how far they have come:
//!
//! ```no_run
//! use corelane_client::{Client, OffsetReset};
//!
//! # async fn example(mut stop: tokio::sync::oneshot::Receiver<()>) -> corelane_client::Result<()> {
//! let client = Client::connect("127.0.0.1:9500").await?;
//! let group = client.group("billing").topics(["orders"]).offset_reset(OffsetReset::Earliest);
//! let mut member = group.join().await?;
//! loop {
//!     tokio::select! {
//!         _ = &mut stop => break,
//!         records = member.next() => {
//!             for record in &records? {
//!                 println!("{}-{} {:?}", record.topic(), record.partition(), record.value());
//!             }
//!             // They count as processed when the next ones are asked for.
//!         }
//!     }
//! }
//! // What was processed is committed, and the others get the partitions at once.
//! member.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Code that decides (batching, order through retries, flow control, fetch positions, membership) is sans-IO:
//! it takes events and the time, and says what to do. Thin tasks around it own sockets and clocks.

#![forbid(unsafe_code)]

mod admin;
mod backoff;
mod client;
mod cluster;
mod connection;
mod consumer;
mod error;
mod group;
mod offsets;
mod producer;
mod record;
mod reports;

pub use corelane_protocol::batch::Compression;
pub use corelane_protocol::request::Acks;
pub use corelane_protocol::response::{ConfigSource, Durability, GroupState, PartitionState};
pub use corelane_protocol::{ApiError, ErrorCode, MemberId, TopicId};

pub use self::admin::{
    Admin, BrokerDescription, ClusterDescription, ConfigEntry, DeleteUpTo, GroupDescription,
    GroupListing, GroupMemberDescription, GroupPartitionDescription, NewTopic, OffsetListing,
    OffsetSpec, PartitionDescription, ReaderDescription, TopicAlteration, TopicDescription,
    TopicListing,
};
pub use self::client::{Client, ClientBuilder};
pub use self::connection::ConnectionEvent;
pub use self::consumer::{
    ConsumedRecord, Consumer, ConsumerBuilder, OffsetReset, OnTruncation, Records, RecordsIter,
    Start,
};
pub use self::error::{Error, ErrorKind, Result};
pub use self::group::{
    CommittedOffset, GroupBuilder, GroupConsumer, OffsetToCommit, PartitionPosition, PendingCommit,
    Rebalance, RebalanceListener,
};
pub use self::producer::{
    BatchDelivery, BatchOutcome, Delivery, PartitionFn, PartitionInput, Partitioner, Producer,
    ProducerBuilder, Receipt, TrySendError,
};
pub use self::record::{IntoBytes, Record, RecordRef};
