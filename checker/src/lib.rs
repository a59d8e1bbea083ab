//! The history checker: given what was sent, acknowledged, refused and polled, it says whether a
//! broker that keeps its promises could have produced that history.
//!
//! It owns the rules of the promise and nothing else: it never talks to a broker, reads no clock
//! and does no I/O, so the process drills and the simulated runs are judged by the same code.
//! It runs on no core of a broker.
//!
//! A history is fed event by event, in the order in which things happened to the observer:
//!
//! ```
//! use corelane_checker::{Checker, Digest, Event, ProducerNumber, ReaderNumber, RecordNumber, Rules};
//! use corelane_protocol::ids::{Offset, PartitionIndex, TopicId, TopicPartition};
//!
//! let partition = TopicPartition { topic: TopicId::from_bytes([7; 16]), partition: PartitionIndex::new(0) };
//! let content = Digest::of_record(Some(b"key"), Some(b"value"));
//! let (record, reader) = (RecordNumber(0), ReaderNumber(0));
//! let mut checker = Checker::new(Rules::default());
//! checker.observe(Event::Sent { record, producer: ProducerNumber(0), key: Some(Digest::of_key(b"key")), content });
//! checker.observe(Event::Acknowledged { record, partition, offset: Offset::new(0), durable: true });
//! checker.observe(Event::ReadStarted { reader, partition, from: Offset::new(0) });
//! checker.observe(Event::Polled { reader, partition, offset: Offset::new(0), content });
//! checker.observe(Event::ReadEnded { reader, partition });
//! assert!(checker.finish().holds());
//! ```

mod checker;
mod compaction;
mod digest;
mod event;
mod numbered;
mod order;
mod partition;
mod reader;
mod verdict;
mod violation;

pub use checker::{Checker, Rules};
pub use digest::Digest;
pub use event::{Event, OwnerNumber, ProducerNumber, ReaderNumber, RecordNumber};
pub use verdict::{Counts, Verdict};
pub use violation::Violation;
