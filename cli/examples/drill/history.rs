//! What the drill saw, given to the checker as it happens. The observers run in threads of their
//! own and share it under a lock; the order of its events is the order in which they took it.

use std::sync::{Arc, Mutex, MutexGuard};

use corelane_checker::{
    Checker, Digest, Event, ProducerNumber, ReaderNumber, RecordNumber, Rules, Verdict,
};
use corelane_protocol::ids::{Offset, PartitionIndex, TopicId, TopicPartition};

use super::input::Line;

/// The shared history of one drill on one topic.
#[derive(Clone, Debug)]
pub(crate) struct History(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    checker: Checker,
    readers: u32,
}

/// A line's place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) partition: u32,
    pub(crate) offset: u64,
}

impl History {
    pub(crate) fn new() -> Self {
        // All producers are idempotent: a line that is sent again is there once.
        let checker = Checker::new(Rules {
            no_duplicates: true,
            ..Rules::default()
        });
        Self(Arc::new(Mutex::new(Inner {
            checker,
            readers: 0,
        })))
    }

    /// A line is about to be handed to a producer. Lines are numbered from 0.
    pub(crate) fn sent(&self, number: u64, producer: u32, line: &Line) {
        let (key, value) = (line.key.as_bytes(), line.value.as_bytes());
        self.lock().checker.observe(Event::Sent {
            record: RecordNumber(number),
            producer: ProducerNumber(producer),
            key: Some(Digest::of_key(key)),
            content: Digest::of_record(Some(key), Some(value)),
        });
    }

    pub(crate) fn acknowledged(&self, number: u64, place: Place, durable: bool) {
        self.lock().checker.observe(Event::Acknowledged {
            record: RecordNumber(number),
            partition: partition(place.partition),
            offset: Offset::new(place.offset),
            durable,
        });
    }

    /// A reader begins at the start of these partitions.
    pub(crate) fn read_started(&self, partitions: impl Iterator<Item = u32>) -> ReaderNumber {
        let mut inner = self.lock();
        let reader = ReaderNumber(inner.readers);
        inner.readers += 1;
        for index in partitions {
            let partition = partition(index);
            inner.checker.observe(Event::ReadStarted {
                reader,
                partition,
                from: Offset::ZERO,
            });
        }
        reader
    }

    pub(crate) fn polled(
        &self,
        reader: ReaderNumber,
        place: Place,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) {
        self.lock().checker.observe(Event::Polled {
            reader,
            partition: partition(place.partition),
            offset: Offset::new(place.offset),
            content: Digest::of_record(key, value),
        });
    }

    /// The reader has come to the end of these partitions.
    pub(crate) fn read_ended(&self, reader: ReaderNumber, partitions: impl Iterator<Item = u32>) {
        let mut inner = self.lock();
        for index in partitions {
            inner.checker.observe(Event::ReadEnded {
                reader,
                partition: partition(index),
            });
        }
    }

    /// Judges everything seen. The observers must have ended.
    pub(crate) fn finish(self) -> Verdict {
        let inner = Arc::into_inner(self.0).expect("every observer has ended");
        inner
            .into_inner()
            .expect("no observer panicked")
            .checker
            .finish()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no observer panicked")
    }
}

fn partition(index: u32) -> TopicPartition {
    // The drill has one topic, so its identity does not matter to the checker.
    TopicPartition {
        topic: TopicId::from_bytes([0; 16]),
        partition: PartitionIndex::new(index),
    }
}
