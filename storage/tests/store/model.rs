//! What a store was told and what it acknowledged, to hold it to after a crash.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use corelane_protocol::{Offset, TopicPartition};
use corelane_storage::store::ReadError;

use crate::support::{Store, payloads, read_all};

/// Whether a partition should be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Its creation was asked for, and not acknowledged.
    Creating,
    Created,
    /// Its deletion was asked for, and not acknowledged.
    Deleting,
    Deleted,
}

#[derive(Clone, Debug)]
pub(crate) struct ModelLog {
    pub(crate) presence: Presence,
    /// Base offset, offset after the last record, and the producer's bytes.
    pub(crate) batches: Vec<(u64, u64, Vec<u8>)>,
    pub(crate) acknowledged: u64,
}

/// What is known of every partition that ever was.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) logs: BTreeMap<TopicPartition, ModelLog>,
}

pub(crate) type SharedModel = Rc<RefCell<Model>>;

impl Model {
    pub(crate) fn creating(&mut self, of: TopicPartition) {
        let log = ModelLog {
            presence: Presence::Creating,
            batches: Vec::new(),
            acknowledged: 0,
        };
        self.logs.insert(of, log);
    }

    pub(crate) fn set(&mut self, of: TopicPartition, presence: Presence) {
        self.logs.get_mut(&of).expect("it is known").presence = presence;
    }

    pub(crate) fn with(&self, presence: Presence) -> Vec<TopicPartition> {
        let found = self.logs.iter().filter(|(_, log)| log.presence == presence);
        found.map(|(of, _)| *of).collect()
    }

    pub(crate) fn appended(&mut self, to: TopicPartition, base: u64, end: u64, batch: &[u8]) {
        let log = self.logs.get_mut(&to).expect("it is known");
        assert_eq!(
            log.batches.last().map_or(0, |(_, end, _)| *end),
            base,
            "{to}: offsets follow each other"
        );
        log.batches.push((base, end, batch[48..].to_vec()));
    }

    /// Takes over what the store says is durable, as a client would that heard everything.
    pub(crate) fn acknowledge(&mut self, store: &Store) {
        for (of, log) in &mut self.logs {
            if let Ok(offsets) = store.offsets(*of) {
                assert!(
                    offsets.durable_end.get() >= log.acknowledged,
                    "{of}: the durable end went back"
                );
                assert!(offsets.durable_end <= offsets.log_end);
                log.acknowledged = offsets.durable_end.get();
            }
        }
    }

    /// Holds a reopened store to what it promised, and takes its state over.
    pub(crate) async fn verify(&mut self, store: &Rc<Store>, what: &str) {
        let there = store.partitions();
        for of in &there {
            let log = self
                .logs
                .get(of)
                .unwrap_or_else(|| panic!("{what}: {of} was never created"));
            assert_ne!(log.presence, Presence::Deleted, "{what}: {of} came back");
        }
        for (of, log) in &mut self.logs {
            if !there.contains(of) {
                assert_ne!(log.presence, Presence::Created, "{what}: {of} is gone");
                log.presence = Presence::Deleted;
                continue;
            }
            log.presence = Presence::Created;
            let read = read_all(store, *of, Offset::new(0), 30_000).await;
            let read = read.unwrap_or_else(|error: ReadError| panic!("{what}: {of}: {error}"));
            log.check(&payloads(&read), &format!("{what}: {of}"));
            let end = store
                .offsets(*of)
                .expect("it is there")
                .high_watermark
                .get();
            assert_eq!(
                log.batches.last().map_or(0, |(_, end, _)| *end),
                end,
                "{what}: {of}"
            );
            log.acknowledged = end;
        }
    }
}

impl ModelLog {
    /// What was read must be what was sent, at least as far as it was acknowledged; the rest is forgotten.
    fn check(&mut self, read: &[(u64, Vec<u8>)], what: &str) {
        assert!(
            read.len() <= self.batches.len(),
            "{what}: {} batches, {} were sent",
            read.len(),
            self.batches.len()
        );
        for ((base, payload), (sent_base, _, sent)) in read.iter().zip(&self.batches) {
            assert_eq!(base, sent_base, "{what}: an offset moved");
            assert!(payload == sent, "{what}: offset {base} has another content");
        }
        self.batches.truncate(read.len());
        let end = self.batches.last().map_or(0, |(_, end, _)| *end);
        assert!(
            end >= self.acknowledged,
            "{what}: acknowledged to {}, only {end} is there",
            self.acknowledged
        );
    }
}
